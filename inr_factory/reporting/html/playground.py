"""Playground: a few INRs of a set as text, weights included, which playground.js evaluates in a browser.

Pairs of INRs are aligned here, so that the browser only mixes weights. Shape letters: N INRs, D parameters of one INR.
"""

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from inr_factory.errors import UsageError, printable
from inr_factory.generation.geometry.level_set import LEVELS, field_grid, is_inside
from inr_factory.generation.signals import Field, Source
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.spec import SirenSpec
from inr_factory.learning.alignment.weight_matching import Match, align, finest_match, relative_distance
from inr_factory.reporting.html.png_data_uri import image_uri
from inr_factory.reporting.html.renderings import can_draw, smaller
from inr_factory.reporting.html.sampling import RowLocations
from inr_factory.reporting.image_gallery import reconstruct
from inr_factory.reporting.shape_gallery import field_of
from inr_factory.storage.manifest import Manifest, ShardEntry
from inr_factory.storage.shards import ShardReader

MOST_IMAGES, MOST_SHAPES = 8, 3
MOST_NUMBERS = 2**16  # of all INRs in a page, 0.35 MB as text
GRID = 12  # points along each side of the cube that measure the range of a shape's values

Fields = dict[str, Any]


@dataclass(frozen=True)
class StoredINR:
    """One INR, a batch of one, and what the set says of it; `size` is (height, width) of its image."""

    inr: INRBatch
    entry: ShardEntry
    row: int
    object_id: str
    class_name: str
    size: tuple[int, int] | None
    field: Field


def make_playground(root: Path, manifest: Manifest, locations: RowLocations, source: Source | None) -> Fields:
    """What playground.js reads: INRs, for images also pairs of them with aligned copies.

    Args:
        root: folder of the set.
        manifest: of the set.
        locations: stored INRs to choose from, the preferred ones first; other classes come before a second of one.
        source: gives the pixels that INRs of images were fitted to; None leaves them out.

    Returns:
        `inrs`, `pairs`, and `obstacle`: why there is nothing to play with, or None.
    """
    spec = manifest.siren_spec
    most = MOST_NUMBERS // spec.num_parameters
    try:
        can_draw(root, manifest, locations)
        if not most:
            raise UsageError(f"an INR of {spec.num_parameters:,} numbers is too large for a page")
        stored = [_read(root, manifest, *location) for location in locations]
        stored = _of_different_classes([each for each in stored if bool(each.inr.flatten().isfinite().all())])
        if not stored:
            raise UsageError("there is no INR to show")
    except UsageError as error:
        return {"inrs": [], "pairs": [], "obstacle": str(error)}
    if spec.in_dim == 3:
        return {"inrs": [_shape(each) for each in stored[: min(most, MOST_SHAPES)]], "pairs": [], "obstacle": None}
    copies = 2 + len(shown_matches(spec))  # in a pair
    chosen = stored[: min(MOST_IMAGES, max(1, most - 2 * copies))]
    pairs = list(_pairs(root, manifest, chosen))[: (most - len(chosen)) // copies]
    return {"inrs": _images(root, manifest, chosen, source), "pairs": pairs, "obstacle": None}


def shown_matches(spec: SirenSpec) -> tuple[Match, ...]:
    """The ways of alignment that a pair shows: that over all symmetries, of sines also that without phases."""
    finest = finest_match(spec)
    return ("signed", "phase") if finest == "phase" else (finest,)


def _read(root: Path, manifest: Manifest, entry: ShardEntry, row: int) -> StoredINR:
    shard = ShardReader(root, entry, check=False)
    weights = torch.from_numpy(np.array(shard.column("weights")[row : row + 1]))
    has_size = {"height", "width"} <= set(shard.column_names)
    return StoredINR(
        INRBatch.from_flat(shard.spec, weights),
        entry,
        row,
        shard.object_ids[row],
        manifest.classes[int(shard.column("label")[row])],
        (int(shard.column("height")[row]), int(shard.column("width")[row])) if has_size else None,
        field_of(shard),
    )


def _of_different_classes(stored: list[StoredINR]) -> list[StoredINR]:
    """The first of each class, then the others."""
    firsts: dict[str, StoredINR] = {}
    for each in stored:
        firsts.setdefault(each.class_name, each)
    return [*firsts.values(), *(each for each in stored if each is not firsts[each.class_name])]


def _other_view(root: Path, manifest: Manifest, one: StoredINR) -> StoredINR | None:
    """Another view of the same object, if the set has one."""
    block = (one.entry.split, one.entry.block)
    for entry in manifest.shards:
        if (entry.split, entry.block) == block and entry.view != one.entry.view and (root / entry.path).exists():
            names = ShardReader(root, entry, check=False).object_ids
            if one.object_id in names:
                return _read(root, manifest, entry, names.index(one.object_id))
    return None


def _encoded(inr: INRBatch) -> str:
    """Flat weights, float32, little-endian, as base64."""
    return base64.b64encode(inr.flatten().numpy().astype("<f4").tobytes()).decode()


def _fields(one: StoredINR) -> Fields:
    size = {} if one.size is None else {"height": one.size[0], "width": one.size[1]}
    return {"spec": one.inr.spec.to_dict(), "weights": _encoded(one.inr), **size}


def _images(root: Path, manifest: Manifest, chosen: Sequence[StoredINR], source: Source | None) -> list[Fields]:
    shown = reconstruct(root, manifest, [(each.entry, each.row) for each in chosen], source)
    sources = [None if each.source is None else image_uri(smaller(each.source)) for each in shown]
    return [
        _fields(each) | {"name": printable(each.class_name), "source": pixels}
        for each, pixels in zip(chosen, sources, strict=True)
    ]


def _shape(one: StoredINR) -> Fields:
    """A shape with the level of its surface, 1 or -1 for values inside above or below it, and where colours end."""
    level = LEVELS[one.field]
    distance = (field_grid(one.inr, GRID) - level).abs()
    return _fields(one) | {
        "name": printable(one.class_name),
        "level": level,
        "inside": 1 if bool(is_inside(torch.tensor(level + 1), one.field)) else -1,
        "reach": float(distance.quantile(0.9)) or 1.0,
    }


def _pairs(root: Path, manifest: Manifest, chosen: Sequence[StoredINR]) -> Iterator[Fields]:
    """Two views of one object and views of two objects, each as stored and aligned in the ways of the activation."""
    first = chosen[0]
    if (other := _other_view(root, manifest, first)) and bool(other.inr.flatten().isfinite().all()):
        yield _pair(f"Two views of one object ({printable(first.class_name)})", first, other)
    if len(chosen) > 1:
        yield _pair(f"{printable(first.class_name)} to {printable(chosen[1].class_name)}", first, chosen[1])


def _pair(title: str, a: StoredINR, b: StoredINR) -> Fields:
    copies = {"as fitted": b.inr} | {match: align(b.inr, a.inr, match) for match in shown_matches(a.inr.spec)}
    ways = [
        {"match": name, "weights": _encoded(copy), "distance": float(relative_distance(copy, a.inr))}
        for name, copy in copies.items()
    ]
    return _fields(a) | {"title": title, "ways": ways}
