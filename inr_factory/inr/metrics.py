"""PSNR: how closely values, such as images that INRs render, match their targets."""

import math
from typing import Any

import numpy as np
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
        UsageError: for shapes that differ or are empty, single numbers (of a mean squared error the PSNR is
            `psnr_of_mse`), a data range that is not positive, or values that clearly have another range.
    """
    first, second = as_tensor(a, "a").detach(), as_tensor(b, "b").detach()
    if second.dim() == 0:
        raise UsageError(
            "psnr compares two arrays of values, got a single number; psnr_of_mse(mse, peak) of "
            "inr_factory.inr.metrics converts a mean squared error"
        )
    if first.shape != second.shape or first.numel() == 0:
        raise UsageError(f"psnr compares arrays of one shape, got {tuple(first.shape)} and {tuple(second.shape)}")
    is_number = isinstance(data_range, int | float | np.number | np.ndarray | Tensor) and np.size(data_range) == 1
    if isinstance(data_range, bool) or not is_number:
        raise UsageError(f"data_range must be a number, got {type(data_range).__name__}")
    data_range = float(data_range)
    if not (math.isfinite(data_range) and data_range > 0):
        raise UsageError(f"data_range must be a positive number, got {data_range:g}")
    for name, values in (("a", first), ("b", second)):
        if not values.isfinite().all():
            raise UsageError(f"{name} has values that are NaN or infinite")
    # An image lies in its range; what an INR renders may leave it a little.
    spans = [float(values.max() - values.min()) for values in (first, second)]
    highest = max(float(first.max()), float(second.max()))
    kinds = {str(getattr(value, "dtype", "")).removeprefix("torch.") for value in (a, b)}
    whole = data_range == 1 and ("uint8" in kinds or ("int" in str(kinds) and highest > 1))
    fractions = data_range >= 255 and "int" not in str(kinds) and highest <= 1 and max(spans) > 0.5
    if min(spans) > 1.5 * data_range or whole or fractions:
        raise UsageError(
            f"psnr got {' and '.join(sorted(kinds - {''}) or ['values'])} up to {highest:g} with data_range {data_range:g}; "
            "give data_range=255 for uint8, the range of others, or values in [0, 1]"
        )
    return float(psnr_of_mse((first.double() - second.to(first.device).double()).square().mean(), data_range))


def psnr_of_mse(mse: Tensor, peak: Tensor | float = 1.0) -> Tensor:
    """Convert mean squared errors of any shape to dB: 10 log10(peak² / mse)."""
    peak = torch.as_tensor(peak, dtype=mse.dtype, device=mse.device)
    return 10 * torch.log10(peak**2 / mse)
