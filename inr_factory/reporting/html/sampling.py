"""Sampling: the stored INRs that the report measures. Bounded and seeded, so its time does not grow with the set.

Shape letters: N rows, D parameters of one INR.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from inr_factory.generation.fitting.shape_quality import MEASURES
from inr_factory.inr.batch import INRBatch
from inr_factory.storage.manifest import Manifest, ShardEntry
from inr_factory.storage.shards import ShardReader

MOST_SHARDS = 400  # whose columns are read
MOST_PAIRS = 400  # objects whose weights are read, two views each
MOST_NUMBERS = 2**24  # parameters in memory, 64 MB
MOST_GROUPS = 16  # blocks of objects that they come from
MOST_STEPS = 1000  # of a search for an object that has not been chosen

RowLocations = Sequence[tuple[ShardEntry, int]]


@dataclass(frozen=True)
class Rows:
    """N stored INRs of some shards: number of the shard, row in it, label and PSNR in dB; `quality` by its name."""

    entries: tuple[ShardEntry, ...]
    shard: NDArray[np.int64]
    row: NDArray[np.int64]
    label: NDArray[np.int64]
    psnr: NDArray[np.float64]
    quality: Mapping[str, NDArray[np.float64]]

    def __len__(self) -> int:
        return len(self.row)

    @property
    def measure(self) -> str:
        """The most telling measure: iou for shapes that have it, otherwise psnr."""
        return "iou" if "iou" in self.quality else "psnr"

    @property
    def measured(self) -> NDArray[np.float64]:
        return self.quality.get(self.measure, self.psnr)

    def locations(self, numbers: NDArray[np.integer]) -> list[tuple[ShardEntry, int]]:
        return [(self.entries[self.shard[at]], int(self.row[at])) for at in numbers]


def read_rows(root: Path, entries: Sequence[ShardEntry], seed: int, most: int = MOST_SHARDS) -> Rows:
    """The rows of at most `most` shards: half of them those with the lowest PSNR, the others drawn by the seed."""
    filled = [entry for entry in entries if entry.rows]
    if len(filled) > most:
        order = sorted(range(len(filled)), key=lambda at: (filled[at].psnr.min if filled[at].psnr else 0, at))  # type: ignore[union-attr]
        lowest = order[: most // 2]
        others = np.random.default_rng(seed).choice(order[most // 2 :], most - len(lowest), replace=False)
        filled = [filled[at] for at in sorted([*lowest, *others.tolist()])]
    shards = [ShardReader(root, entry, check=False) for entry in filled]
    names = [name for name in MEASURES if shards and all(name in shard.column_names for shard in shards)]
    measured = {name: _joined(shards, name, np.float64) for name in names}
    return Rows(
        tuple(filled),
        np.repeat(np.arange(len(shards)), [len(shard) for shard in shards]),
        np.concatenate([np.arange(len(shard)) for shard in shards] or [np.empty(0, np.int64)]),
        _joined(shards, "label", np.int64),
        _joined(shards, "psnr", np.float64),
        {name: column for name, column in measured.items() if not np.isnan(column).all()},
    )


def _joined(shards: Sequence[ShardReader], name: str, kind: type) -> NDArray[Any]:
    return np.concatenate([np.asarray(shard.column(name), dtype=kind) for shard in shards] or [np.empty(0, kind)])


def worst_and_ordinary(root: Path, rows: Rows, worst: int, ordinary: int) -> tuple[RowLocations, RowLocations]:
    """The worst INRs, in order, and others from the 10th to the 90th percentile. No object is chosen twice."""
    order = np.lexsort((np.arange(len(rows)), np.nan_to_num(rows.measured, nan=-np.inf)))
    shards: dict[int, ShardReader] = {}
    seen: set[bytes] = set()

    def next_new(start: int) -> int | None:
        """The first rank from `start` on whose object has not been chosen."""
        for rank in range(start, min(start + MOST_STEPS, len(order))):
            number = int(rows.shard[order[rank]])
            if number not in shards:
                shards[number] = ShardReader(root, rows.entries[number], check=False)
            name = bytes(shards[number].column("object_id")[rows.row[order[rank]]])
            if name not in seen:
                seen.add(name)
                return rank
        return None

    first, middle = list[int](), list[int]()
    while len(first) < worst and (rank := next_new(first[-1] + 1 if first else 0)) is not None:
        first.append(rank)
    for share in np.linspace(0.1, 0.9, ordinary):
        if (rank := next_new(int(share * len(order)))) is not None:
            middle.append(rank)
    return rows.locations(order[np.array(first, int)]), rows.locations(order[np.array(sorted(middle), int)])


@dataclass(frozen=True)
class Sample:
    """INRs of different objects with their labels (N,); `other` has another view of the first of them, if there is one.

    `views` are the two views' numbers.
    """

    inrs: INRBatch
    label: NDArray[np.int64]
    other: INRBatch | None
    views: tuple[int, ...]


def draw_sample(root: Path, manifest: Manifest, entries: Sequence[ShardEntry], seed: int) -> Sample | None:
    """Objects from seeded blocks, as many as MOST_PAIRS and MOST_NUMBERS allow; None where there are no INRs.

    The first view is the one with most INRs, the second the next; objects without it come last.
    """
    filled = [entry for entry in entries if entry.rows]
    if not filled:
        return None
    rows_of_view = {view: sum(e.rows for e in filled if e.view == view) for view in {e.view for e in filled}}
    views = tuple(sorted(rows_of_view, key=lambda view: (-rows_of_view[view], view))[:2])
    most = max(2, min(MOST_PAIRS, MOST_NUMBERS // (2 * manifest.siren_spec.num_parameters)))
    blocks = {(e.split, e.block, e.view): e for e in filled if e.view in views}
    groups = sorted({key[:2] for key in blocks if key[2] == views[0]})
    random = np.random.default_rng(seed)
    groups = [groups[at] for at in random.permutation(len(groups))[:MOST_GROUPS]]
    parts: list[tuple[NDArray[Any], NDArray[Any], NDArray[Any] | None]] = []
    for at, group in enumerate(groups):
        left = most - sum(len(labels) for _, labels, _ in parts)
        share = -(-left // (len(groups) - at))
        pair = [blocks.get((*group, view)) for view in views]
        parts += _draw_block(root, pair, share, random)
    parts.sort(key=lambda part: part[2] is None)
    spec = manifest.siren_spec
    inrs = INRBatch.from_flat(spec, torch.from_numpy(np.concatenate([weights for weights, _, _ in parts])))
    others = [other for _, _, other in parts if other is not None and len(other)]
    other = INRBatch.from_flat(spec, torch.from_numpy(np.concatenate(others))) if others else None
    return Sample(inrs, np.concatenate([labels for _, labels, _ in parts]), other, views)


def _draw_block(
    root: Path, pair: Sequence[ShardEntry | None], most: int, random: np.random.Generator
) -> list[tuple[NDArray[Any], NDArray[Any], NDArray[Any] | None]]:
    """Weights (K, D) and labels (K,) of at most `most` objects of a block; those with a second view come first, with
    its weights."""
    assert pair[0] is not None
    first = ShardReader(root, pair[0], check=False)
    names = np.asarray(first.column("object_id"))
    chosen = np.sort(random.permutation(len(names))[:most])
    second = ShardReader(root, pair[1], check=False) if len(pair) > 1 and pair[1] is not None else None
    second_row = {name: row for row, name in enumerate(np.asarray(second.column("object_id")))} if second else {}
    both = np.array([names[row] in second_row for row in chosen], bool)

    def read(shard: ShardReader, rows: Any) -> NDArray[Any]:
        return np.array(shard.column("weights")[rows])

    parts: list[tuple[NDArray[Any], NDArray[Any], NDArray[Any] | None]] = []
    labels = np.asarray(first.column("label"))
    if second is not None and both.any():
        paired = chosen[both]
        parts.append((read(first, paired), labels[paired], read(second, [second_row[names[row]] for row in paired])))
    if not both.all():
        parts.append((read(first, chosen[~both]), labels[chosen[~both]], None))
    return parts
