"""Metrics of classifiers: confusion and calibration.

Shape letters: N predictions, C classes.
"""

import torch
from torch import Tensor


def confusion_matrix(predicted: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """(C, C) counts, rows the true class and columns the predicted one, of predicted and labels (N,)."""
    return torch.bincount(labels * num_classes + predicted, minlength=num_classes**2).view(num_classes, num_classes)


def calibration(probabilities: Tensor, labels: Tensor, num_bins: int = 10) -> list[tuple[float, float, int]]:
    """(mean confidence, accuracy, count) of the predictions in each of num_bins equal bins of confidence, empty bins
    left out, of probabilities (N, C) and labels (N,). Guo et al., ICML 2017."""
    confidence, predicted = probabilities.max(dim=1)
    right = (predicted == labels).double()
    bin_of = (confidence * num_bins).long().clamp(max=num_bins - 1)
    rows = []
    for number in sorted(set(bin_of.tolist())):
        inside = bin_of == number
        rows.append((float(confidence[inside].double().mean()), float(right[inside].mean()), int(inside.sum())))
    return rows


def calibration_error(bins: list[tuple[float, float, int]]) -> float:
    """Expected calibration error: the mean distance of confidence from accuracy over all predictions."""
    total = sum(count for _, _, count in bins)
    return sum(count * abs(confidence - right) for confidence, right, count in bins) / total
