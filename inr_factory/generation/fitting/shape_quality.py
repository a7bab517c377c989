"""Shape quality: how well INRs represent shapes, as columns of their shard next to the PSNR.

Shape letters: N INRs, Q held-out points.
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
    """Measure INRs of shapes at the held-out points of their signals.

    Args:
        inrs: N INRs.
        signals: Their N signals.

    Returns:
        Columns (N,) float64, NaN where a measure is not defined for the field; no columns for plain values.

        - iou: intersection over union of the insides at the held-out points (sdf, occupancy), in [0, 1];
        - distance_error: mean absolute error of the distance there, both clamped as the targets (sdf, udf), in the
          unit of the coordinates;
        - chamfer: mean of the distances from the INR's surface (marching cubes) to the shape's and back, in that unit.
    """
    if not any(signal.truth for signal in signals):
        return {}
    rows = [_measure(inrs.select(slice(row, row + 1)), signal) for row, signal in enumerate(signals)]
    columns = np.array(rows, dtype=np.float64).T
    return dict(zip(QUALITIES, columns, strict=True))


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
