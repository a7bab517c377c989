"""Metrics: how well INRs render and how well classifiers read."""

import torch
from torch import Tensor


def psnr(mse: Tensor, peak: Tensor | float = 1.0) -> Tensor:
    """Peak signal-to-noise ratio in dB, 10 log10(peak² / mse), for mse and peak of any shape."""
    peak = torch.as_tensor(peak, dtype=mse.dtype, device=mse.device)
    return 10 * torch.log10(peak**2 / mse)


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Share of rows of logits (N, C) whose largest entry is at labels (N,)."""
    return float((logits.argmax(dim=1) == labels).float().mean())


def confusion_matrix(predicted: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """(C, C) counts, rows the true class and columns the predicted one, of predicted and labels (N,)."""
    return torch.bincount(labels * num_classes + predicted, minlength=num_classes**2).view(num_classes, num_classes)
