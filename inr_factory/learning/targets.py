"""Targets: what a network learns, as floats: labels as probabilities of classes, one-hot and smoothed.

Shape letters: N INRs, C classes.
"""

import torch
from torch import Tensor

from inr_factory.errors import UsageError


def one_hot(labels: Tensor, num_classes: int) -> Tensor:
    """Turn labels into one-hot targets.

    Args:
        labels: (N,) integers in [0, num_classes).
        num_classes: C.

    Returns:
        Targets (N, C) float32 on the labels' device.
    """
    return (labels[:, None] == torch.arange(num_classes, device=labels.device)).float()


def as_targets(said: Tensor, num_classes: int) -> Tensor:
    """Targets of what a data set says of its INRs: labels (N,) one-hot (N, C); values (N, K) as they are."""
    return one_hot(said, num_classes) if said.dim() == 1 else said


def smooth_labels(targets: Tensor, smoothing: float = 0.1) -> Tensor:
    """Mix targets with the uniform distribution: (1 - smoothing) targets + smoothing / C (Szegedy et al. 2016).

    Args:
        targets: (N, C) floats, of which each row sums to 1.
        smoothing: A number in [0, 1].

    Returns:
        New targets (N, C) of the same dtype.

    Raises:
        UsageError: For targets of another shape or dtype, or a smoothing outside its range.
    """
    if targets.dim() != 2 or not targets.is_floating_point():
        raise UsageError(f"targets must be (N, C) floats, got {tuple(targets.shape)} of {targets.dtype}; one-hot them")
    if not 0 <= smoothing <= 1:
        raise UsageError(f"smoothing must be a number from 0 to 1, got {smoothing!r}")
    return (1 - smoothing) * targets + smoothing / targets.shape[1]
