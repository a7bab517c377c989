"""Render check: do the INRs of a set still render what they were fitted to.

Shape letters: N INRs, P points, O values.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from inr_factory.errors import IntegrityError, UsageError
from inr_factory.generation.augmentation import Drawn
from inr_factory.generation.execution.content_check import read_contents
from inr_factory.generation.execution.signal_reading import read_signal
from inr_factory.generation.maintenance.integrity_check import Fault
from inr_factory.generation.signals import Field, Signal, SignalError, Source
from inr_factory.generation.sources.changed_views import change_of_row
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.metrics import psnr_of_mse
from inr_factory.storage.manifest import Manifest, ShardEntry, ViewKey
from inr_factory.storage.shard_contents import different_objects, shard_contents
from inr_factory.storage.shards import ShardReader

# A root mean square error computed again, in other batches, on another device or with shifted phases, may differ by
# rounding: by this share and this amount.
RMSE_RTOL, RMSE_ATOL = 1e-3, 1e-5
CHUNK_VALUES = 2**24


@dataclass(frozen=True)
class RenderReport:
    """Stored INRs rendered again.

    Attributes:
        inrs: how many.
        max_psnr_gap: largest difference from the PSNR that the shards say, in dB.
        median_psnr: in dB.
    """

    inrs: int
    max_psnr_gap: float
    median_psnr: float


def render_shards(
    root: Path, manifest: Manifest, source: Source, on_shard: Callable[[ShardEntry], None] | None = None
) -> tuple[RenderReport, list[Fault]]:
    """Render every stored INR at its signal's points and compare its loss with the one stored.

    A shard has a fault if an INR's loss differs by more than rounding explains, or its object is not in the source.
    """
    index_of = {item.object_id: index for index, item in enumerate(source.items)}
    faults, gaps, levels = [], [0.0], []
    for entry in manifest.shards:
        try:
            shard = ShardReader(root, entry, check=False)
            inrs = INRBatch.from_flat(shard.spec, torch.from_numpy(np.array(shard.column("weights"))))
            signals = [
                _signal(source, index_of, object_id, entry.view, change_of_row(source, shard, row))
                for row, object_id in enumerate(shard.object_ids)
            ]
            keys = [ViewKey(object_id, entry.view) for object_id in shard.object_ids]
            contents = read_contents(source, [index_of[key.object_id] for key in keys], keys, signals)
            if changed := different_objects(shard_contents(shard.path), contents):
                raise IntegrityError(f"{entry.path} was fitted to another content of {changed[0]} than the source has")
            loss = mean_squared_errors(inrs, signals).numpy()
            peak = torch.tensor([signal.peak for signal in signals])
            stored = shard.column("loss")
            rendered, recorded = (
                psnr_of_mse(torch.from_numpy(np.maximum(x, 1e-20)), peak).numpy() for x in (loss, stored)
            )
            levels.append(rendered)
            gaps.append(float(np.abs(rendered - recorded).max(initial=0.0)))
            gap = np.abs(np.sqrt(loss) - np.sqrt(stored))
            wrong = np.flatnonzero(~(gap <= RMSE_RTOL * np.sqrt(stored) + RMSE_ATOL))
            if wrong.size:
                row = int(wrong[0])
                raise IntegrityError(
                    f"{entry.path}: {wrong.size} INRs do not render what they were fitted to; row {row} "
                    f"({shard.object_ids[row]}) has {rendered[row]:.2f} dB, the shard says {recorded[row]:.2f}"
                )
        except (IntegrityError, UsageError) as error:
            faults.append(Fault(entry.path, str(error)))
        if on_shard is not None:
            on_shard(entry)
    median = float(np.median(np.concatenate(levels))) if any(map(len, levels)) else float("nan")
    return RenderReport(sum(map(len, levels)), max(gaps), median), faults


def mean_squared_errors(inrs: INRBatch, signals: list[Signal]) -> Tensor:
    """(N,) mean squared error of each INR at the points of its signal, in pieces that fit into memory."""
    if not signals:
        return torch.empty(0)
    if not _share_coords(signals):
        pairs = ((inrs.select(slice(i, i + 1)), signal) for i, signal in enumerate(signals))
        return torch.stack(
            [
                (as_targets(inr(signal.coords)[0], signal.field) - signal.targets).square().mean()
                for inr, signal in pairs
            ]
        )
    coords, targets = signals[0].coords, torch.stack([signal.targets for signal in signals])
    size = max(1, CHUNK_VALUES // (len(coords) * inrs.spec.widest))
    parts = [
        (inrs.select(slice(start, start + size))(coords) - targets[start : start + size]).square().mean(dim=(1, 2))
        for start in range(0, len(inrs), size)
    ]
    return torch.cat(parts)


def as_targets(values: Tensor, field: Field) -> Tensor:
    """INR outputs in the terms of their targets: for occupancies the probability of the logit."""
    return torch.sigmoid(values) if field == "occupancy" else values


def _share_coords(signals: list[Signal]) -> bool:
    return all(signal.coords is signals[0].coords for signal in signals)


def _signal(source: Source, index_of: dict[str, int], object_id: str, view: int, drawn: Drawn) -> Signal:
    if object_id not in index_of:
        raise IntegrityError(f"{source.name} has no object {object_id}; is --data-root the one of the set?")
    try:
        return read_signal(source, index_of[object_id], view, drawn)
    except SignalError as error:
        raise IntegrityError(f"{object_id} can no longer be read: {error}") from None
