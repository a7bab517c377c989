"""Surface metrics: how well an INR represents a shape: overlap and distances.

Q points, S and R surface points.
"""

import torch
from torch import Tensor

from inr_factory.generation.geometry.level_set import batches_inrs

PAIRS = 2**24  # of points, whose differences a GPU holds at once


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


def nearest_distances(points: Tensor, others: Tensor) -> Tensor:
    """(S,) from each of points (S, 3) to the nearest of others (R, 3), of which there is at least one.

    A tree of the others finds the nearest on a CPU. A GPU, on which this has not run yet, compares all pairs.
    """
    finite = bool(points.isfinite().all() & others.isfinite().all())
    if batches_inrs(points.device) or not finite:
        parts = torch.split(points, max(1, PAIRS // len(others)))
        return torch.cat([(part[:, None] - others).square_().sum(dim=2).amin(dim=1).sqrt() for part in parts])
    from scipy.spatial import cKDTree

    ranks = [1, 2][: len(others)]
    distances, nearest = cKDTree(others.numpy(), balanced_tree=False).query(points.numpy(), k=ranks)
    result = _pair_distances(points[:, None], others[torch.from_numpy(nearest)]).view(len(points), -1).amin(dim=1)
    # Two as near as float32 resolves, or one only: one that the tree did not list may come out as nearer.
    tied = torch.from_numpy(distances[:, -1] <= distances[:, 0] * (1 + 1e-6))
    result[tied] = _pair_distances(points[tied], others).amin(dim=1)
    return result


def chamfer(points_a: Tensor, points_b: Tensor) -> Tensor:
    """Chamfer distance of two clouds, (): the mean of both mean distances to the nearest point of the other.

    Not squared, in the unit of the points. NaN where a cloud is empty.
    """
    if len(points_a) == 0 or len(points_b) == 0:
        return points_a.new_tensor(float("nan"))
    return (nearest_distances(points_a, points_b).mean() + nearest_distances(points_b, points_a).mean()) / 2


def fscore(precision: float, recall: float) -> float:
    """The harmonic mean of two shares; 0 where both are 0."""
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _pair_distances(points: Tensor, others: Tensor) -> Tensor:
    """(..., S, R) distances of points (..., S, 3) from others (..., R, 3)."""
    # Products of matrices would lose small distances.
    return torch.cdist(points, others, compute_mode="donot_use_mm_for_euclid_dist")
