"""Surface metrics: how well an INR represents a shape: overlap, distances, and the surface of its field.

Q points, S surface points, V vertices and F triangles.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from inr_factory.errors import needs_extra
from inr_factory.generation.signals import Field
from inr_factory.inr.batch import INRBatch

CHUNK = 65_536  # points evaluated at once
# The value of an INR on the surface, by field; INRs of occupancies give logits. An unsigned distance does not cross
# zero: a shell around the surface replaces it, so far off that the kink, which an INR smooths, tears no holes.
LEVELS: dict[Field, float] = {"values": 0.5, "sdf": 0.0, "occupancy": 0.0, "udf": 0.02}


def is_inside(values: Tensor, field: Field) -> Tensor:
    """Mask of the values of an INR, or targets, that mean inside; for unsigned distances, inside the shell (LEVELS)."""
    level = LEVELS[field]
    return values > level if field in ("occupancy", "values") else values < level


def iou(predicted_inside: Tensor, true_inside: Tensor) -> Tensor:
    """Intersection over union of bool masks (..., Q) -> (...). Two empty ones agree: 1."""
    both = (predicted_inside & true_inside).sum(dim=-1)
    either = (predicted_inside | true_inside).sum(dim=-1)
    return torch.where(either > 0, both / either.clamp(min=1), 1.0)


def mean_distance_error(predicted: Tensor, targets: Tensor, clamp: float | None = None) -> Tensor:
    """Mean absolute error of distances (..., Q) -> (...), in their unit; both are clamped to ± clamp first."""
    if clamp is not None:
        predicted, targets = predicted.clamp(-clamp, clamp), targets.clamp(-clamp, clamp)
    return (predicted - targets).abs().mean(dim=-1)


def nearest_distances(points: Tensor, others: Tensor, chunk: int = 1024) -> Tensor:
    """(S,) from each of points (S, 3) to the nearest of others (R, 3)."""
    exact = "donot_use_mm_for_euclid_dist"  # products of matrices lose small distances
    return torch.cat([torch.cdist(part, others, compute_mode=exact).amin(dim=1) for part in torch.split(points, chunk)])


def chamfer(points_a: Tensor, points_b: Tensor) -> float:
    """Chamfer distance of two clouds: the mean of both mean distances to the nearest point of the other.

    Not squared, in the unit of the points. NaN where a cloud is empty.
    """
    if len(points_a) == 0 or len(points_b) == 0:
        return float("nan")
    a_to_b, b_to_a = nearest_distances(points_a, points_b).mean(), nearest_distances(points_b, points_a).mean()
    return float(a_to_b + b_to_a) / 2


def field_grid(inr: INRBatch, resolution: int) -> Tensor:
    """(resolution,) * 3 values of one INR with one output, at even steps of x, y and z over [-1, 1]."""
    assert (len(inr), inr.spec.in_dim, inr.spec.out_dim) == (1, 3, 1)
    axis = torch.linspace(-1, 1, resolution, device=inr.device, dtype=inr.dtype)
    values = torch.empty(resolution**3, device=inr.device, dtype=inr.dtype)
    with torch.no_grad():
        for start in range(0, resolution**3, CHUNK):
            rows = torch.arange(start, min(start + CHUNK, resolution**3), device=inr.device)
            steps = (rows // resolution**2, rows // resolution % resolution, rows % resolution)
            values[rows] = inr(torch.stack([axis[step] for step in steps], dim=1))[0, :, 0]
    return values.reshape(resolution, resolution, resolution)


def extract_surface(
    inr: INRBatch, resolution: int = 128, level: float | None = None, field: Field = "sdf"
) -> tuple[Tensor, Tensor]:
    """Extract a level set of one INR by marching cubes (Lewiner et al. 2003).

    Args:
        inr: One INR (N = 1) that maps 3 coordinates to 1 value.
        resolution: Grid points along each axis of [-1, 1]³.
        level: Value on the surface; None is that of the field, see LEVELS.
        field: What the values of the INR are.

    Returns:
        Vertices (V, 3) in [-1, 1] and triangles (F, 3), counter-clockwise from outside. The surface ends at the
        faces of the cube. Empty tensors where the INR does not cross the level or is not finite.
    """
    with needs_extra("shapes"):
        from skimage.measure import marching_cubes

    values = field_grid(inr, resolution).float().cpu().numpy()
    level = LEVELS[field] if level is None else level
    if not np.isfinite(values).all() or not values.min() < level < values.max():
        return torch.empty(0, 3), torch.empty(0, 3, dtype=torch.long)
    downhill = "descent" if field in ("sdf", "udf") else "ascent"  # scikit-image's name for values that rise outward
    surface: Any = marching_cubes
    vertices, faces, _, _ = surface(values, level, gradient_direction=downhill)
    coords = torch.from_numpy(np.ascontiguousarray(vertices, np.float32)) * (2 / (resolution - 1)) - 1
    return coords, torch.from_numpy(np.ascontiguousarray(faces, np.int64))
