"""Image gallery: chooses stored INRs and renders them with their sources."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from inr_factory.errors import UsageError, did_you_mean
from inr_factory.generation.execution.content_check import refuse_changed
from inr_factory.generation.signals import SignalError, Source
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.pixel_grid import pixel_grid
from inr_factory.reporting.number_format import format_explained
from inr_factory.reporting.plots import Reconstruction
from inr_factory.storage.manifest import SPLITS, Manifest, ShardEntry
from inr_factory.storage.shards import ShardReader


def choose_views(
    root: Path, manifest: Manifest, count: int, split: str | None, objects: Sequence[str]
) -> list[tuple[ShardEntry, int]]:
    """(shard, row) of the INRs to show: all views of the named objects, otherwise `count` spread evenly over a view.

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
        numbers = np.linspace(0, sum(entry.rows for entry in entries) - 1, count).round().astype(int)
        ends = np.cumsum([entry.rows for entry in entries])
        return [
            (entries[shard], int(number - ends[shard] + entries[shard].rows))
            for number in dict.fromkeys(numbers.tolist())
            for shard in [int(np.searchsorted(ends, number, side="right"))]
        ]
    ids = {entry: ShardReader(root, entry, check=False).object_ids for entry in entries}
    chosen = [(entry, rows.index(name)) for name in objects for entry, rows in ids.items() if name in rows]
    for name in objects:
        if not any(name in rows for rows in ids.values()):
            raise UsageError(f"{root} has no INR of object {name!r}; {did_you_mean(name, list(ids[entries[0]])[:50])}")
    return chosen


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
        name = manifest.classes[facts["label"]]
        title = f"{object_id[-18:]}\n{name[:14]}, view {facts['view']}\n{shard.column('psnr')[row]:.1f} dB"
        if "explained" in shard.column_names:
            title += f"\n{format_explained(float(shard.column('explained')[row]))}"
        original = None
        try:
            if source is not None and object_id in index_of:
                pixels = source.signal(index_of[object_id]).targets.numpy().reshape(shape)
                refuse_changed(source, index_of[object_id], shard, row)
                original = pixels
        except (SignalError, ValueError) as error:
            on_note(f"without the source of {object_id}, view {facts['view']}: {error}")
        reconstructions.append(Reconstruction(title, image, original))
    return reconstructions
