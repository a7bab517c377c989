"""PSNR: how closely values, such as images that INRs render, match their targets."""

import math
from typing import Any

import torch
from torch import Tensor

from inr_factory.errors import UsageError
from inr_factory.inr.arguments import as_tensor


def psnr(a: Any, b: Any, data_range: float = 1.0) -> float:
    """Compare two arrays by their peak signal-to-noise ratio in dB.

    Args:
        a: values of any shape, tensor or numpy array.
        b: values of the same shape.
        data_range: the distance from the least to the greatest possible value: 1 for images in [0, 1], 255 for uint8.

    Returns:
        10 log10(data_range² / mse) over all elements; infinity for equal arrays.

    Raises:
        UsageError: for shapes that differ or are empty, a data range that is not positive, or uint8 values whose data
            range is left at 1.
    """
    first, second = as_tensor(a, "a"), as_tensor(b, "b")
    if first.shape != second.shape or first.numel() == 0:
        raise UsageError(f"psnr compares arrays of one shape, got {tuple(first.shape)} and {tuple(second.shape)}")
    if not (math.isfinite(data_range) and data_range > 0):
        raise UsageError(f"data_range must be a positive number, got {data_range!r}")
    if data_range == 1 and any(str(getattr(value, "dtype", "")).endswith("uint8") for value in (a, b)):
        raise UsageError("psnr got uint8 values with data_range 1; give data_range=255, or values in [0, 1]")
    return float(psnr_of_mse((first.double() - second.to(first.device).double()).square().mean(), data_range))


def psnr_of_mse(mse: Tensor, peak: Tensor | float = 1.0) -> Tensor:
    """Convert mean squared errors of any shape to dB: 10 log10(peak² / mse)."""
    peak = torch.as_tensor(peak, dtype=mse.dtype, device=mse.device)
    return 10 * torch.log10(peak**2 / mse)
