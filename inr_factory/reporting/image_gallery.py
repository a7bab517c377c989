"""Image gallery: chooses stored INRs and renders them with their sources.

Shape letters: H height, W width, O values of a pixel.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from inr_factory.errors import UsageError, did_you_mean
from inr_factory.generation.execution.content_check import refuse_changed
from inr_factory.generation.signals import SignalError, Source
from inr_factory.generation.sources.changed_views import change_of_row, changed_signal, describe_change
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.pixel_grid import pixel_grid
from inr_factory.reporting.number_format import format_explained
from inr_factory.storage.manifest import SPLITS, Manifest, ShardEntry
from inr_factory.storage.shards import ShardReader

MOST_SHARDS = 64  # of which `show` reads the classes


def choose_views(
    root: Path, manifest: Manifest, count: int, split: str | None, objects: Sequence[str]
) -> list[tuple[ShardEntry, int]]:
    """(shard, row) of the INRs to show: all views of the named objects, otherwise `count` of the first view, of as many
    classes as there are.

    Raises UsageError for an empty set or split, an unknown split, and an object that the set does not have.
    """
    if split not in (None, *SPLITS):
        raise UsageError(f"unknown split {split!r}; {did_you_mean(split, SPLITS)}")
    entries = [entry for entry in manifest.shards if split in (None, entry.split) and entry.rows]
    if not entries:
        raise UsageError(
            f"{root} has no INR{f' of split {split}' if split else ''} to show; run inr-factory status {root}"
        )
    if not objects:
        entries = [entry for entry in entries if entry.view == entries[0].view]
        return _of_each_class(root, entries, count, len(manifest.classes))
    ids = {entry: ShardReader(root, entry, check=False).object_ids for entry in entries}
    chosen = [(entry, rows.index(name)) for name in objects for entry, rows in ids.items() if name in rows]
    for name in objects:
        if not any(name in rows for rows in ids.values()):
            raise UsageError(f"{root} has no INR of object {name!r}; {did_you_mean(name, list(ids[entries[0]])[:50])}")
    return chosen


def _of_each_class(
    root: Path, entries: Sequence[ShardEntry], count: int, num_classes: int
) -> list[tuple[ShardEntry, int]]:
    """`count` INRs in the order of their classes, equally many of each class, of a bounded number of shards."""
    found: dict[int, list[tuple[ShardEntry, int]]] = {}
    enough = -(-count // max(1, num_classes))
    for number in np.random.default_rng(0).permutation(len(entries))[:MOST_SHARDS]:
        labels = np.asarray(ShardReader(root, entries[number], check=False).column("label"))
        for label in np.unique(labels).tolist():
            rows = np.flatnonzero(labels == label)
            spread = np.unique(np.linspace(0, len(rows) - 1, count).round().astype(int))
            found.setdefault(label, []).extend((entries[number], int(row)) for row in rows[spread])
        if sum(len(rows) >= enough for rows in found.values()) >= min(count, max(1, num_classes)):
            break
    kept = np.linspace(0, len(found) - 1, min(count, len(found))).round().astype(int)
    classes = [sorted(found)[at] for at in kept]
    # Every class's first INR before any class's second.
    turns = sorted((turn, label) for label in classes for turn in range(len(found[label])))[:count]
    return [found[label][turn] for label, turn in sorted((label, turn) for turn, label in turns)]


@dataclass(frozen=True)
class Reconstruction:
    """An INR's image (H, W, O), and the image it was fitted to, if that is at hand; values in [0, 1]. `change` says by
    what `source.augment` changed it."""

    object_id: str
    class_name: str
    label: int
    view: int
    psnr: float
    explained: float | None
    change: str
    inr: NDArray[np.float32]
    source: NDArray[np.float32] | None

    @property
    def measures(self) -> tuple[str, ...]:
        """PSNR, and the share of the variance explained."""
        explained = () if self.explained is None else (format_explained(self.explained).removesuffix(" explained"),)
        return (f"{self.psnr:.1f} dB", *explained)


def reconstruct(
    root: Path,
    manifest: Manifest,
    chosen: Sequence[tuple[ShardEntry, int]],
    source: Source | None,
    on_note: Callable[[str], None] = lambda _: None,
) -> list[Reconstruction]:
    """The chosen INRs rendered on the pixel grid of their images, with their sources if `source` is given.

    `on_note` gets a line for an INR without its source.
    """
    index_of = {item.object_id: index for index, item in enumerate(source.items)} if source else {}
    reconstructions = []
    for entry, row in chosen:
        shard = ShardReader(root, entry, check=True)
        if missing := {"height", "width"}.difference(shard.column_names):
            raise UsageError(f"{root} does not say the {' and '.join(sorted(missing))} of its images, so none is drawn")
        facts = {name: int(shard.column(name)[row]) for name in ("height", "width", "view", "label")}
        shape = (facts["height"], facts["width"], shard.spec.out_dim)
        inr = INRBatch.from_flat(shard.spec, torch.from_numpy(np.array(shard.column("weights")[row : row + 1])))
        image = inr(pixel_grid(*shape[:2])).numpy().reshape(shape)
        object_id = shard.object_ids[row]
        original = None
        try:
            if source is not None and object_id in index_of:
                drawn = change_of_row(source, shard, row)
                signal = changed_signal(source, index_of[object_id], entry.view, drawn)
                pixels = signal.targets.numpy().reshape(shape)
                refuse_changed(source, index_of[object_id], shard, row)
                original = pixels
        except (SignalError, ValueError) as error:
            on_note(f"without the source of {object_id}, view {facts['view']}: {error}")
        explained = float(shard.column("explained")[row]) if "explained" in shard.column_names else None
        reconstructions.append(
            Reconstruction(
                object_id, manifest.classes[facts["label"]], facts["label"], facts["view"],
                float(shard.column("psnr")[row]), explained, describe_change(shard, row), image, original,
            )
        )  # fmt: skip
    return reconstructions
