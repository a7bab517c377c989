"""Quality: how well INRs of shapes stand for them, as columns of their shard beside the PSNR.

Shape letters: N INRs, Q points that no fit has seen.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from inr_factory.generation.geometry.surface_metrics import (
    chamfer,
    extract_surface,
    iou,
    is_inside,
    mean_distance_error,
)
from inr_factory.generation.signals import Signal
from inr_factory.inr.batch import INRBatch

QUALITIES = ("iou", "distance_error", "chamfer")
SURFACE_RESOLUTION = 64


@torch.no_grad()
def measure_quality(inrs: INRBatch, signals: Sequence[Signal]) -> dict[str, NDArray[np.float64]]:
    """Columns (N,), by what the signals are; none for plain values, NaN where a measure has no meaning.

    - iou: overlap of inside and outside at the points kept apart (sdf, occupancy), 1 for the same;
    - distance_error: mean absolute error of the distance there, both clamped as the targets were (sdf, udf), in the
      unit of the coordinates;
    - chamfer: from the INR's surface (marching cubes) to the shape's and back, the mean of both, in that unit.
    """
    if not any(signal.truth for signal in signals):
        return {}
    rows = [_measure(inrs.select(slice(at, at + 1)), signal) for at, signal in enumerate(signals)]
    return {name: np.array([row[at] for row in rows], dtype=np.float64) for at, name in enumerate(QUALITIES)}


def _measure(inr: INRBatch, signal: Signal) -> tuple[float, float, float]:
    truth, overlap, error = signal.truth, float("nan"), float("nan")
    if truth is None:
        return overlap, error, float("nan")
    values = inr(truth.coords)[0]
    if signal.field in ("sdf", "occupancy"):
        inside = (is_inside(part, signal.field)[:, 0] for part in (values, truth.targets))
        overlap = float(iou(*inside))
    if signal.field in ("sdf", "udf"):
        clamp = signal.peak / 2 if signal.field == "sdf" else signal.peak
        error = float(mean_distance_error(values[:, 0], truth.targets[:, 0], clamp))
    vertices, _ = extract_surface(inr, SURFACE_RESOLUTION, field=signal.field)
    return overlap, error, chamfer(vertices, truth.surface)
