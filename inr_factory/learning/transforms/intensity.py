"""Intensity transforms: known changes of an INR's values, through its last layer.

Each is affine and exact up to float32 rounding. The functions make one chosen change, the classes draw changes at
random. Shape letters: N INRs, O values.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor

from inr_factory.errors import UsageError
from inr_factory.inr.batch import INRBatch
from inr_factory.learning.option_strings import check_number
from inr_factory.learning.transforms.call_arguments import numbers_of, require_batch
from inr_factory.learning.transforms.random_transform import (
    AffineTransform,
    identity,
    no_offset,
    random_sign,
    uniform,
)


def brightness(inrs: INRBatch, offset: float | Tensor) -> INRBatch:
    """Add an offset to all values of each INR.

    Args:
        inrs: N INRs.
        offset: One number or (N,); images have values in [0, 1].

    Returns:
        N new INRs.

    Raises:
        UsageError: For offsets of another shape.
    """
    offset_N1 = _column("brightness", inrs, offset, "offset")
    return change_values(inrs, *_shifted(inrs, offset_N1))


def contrast(inrs: INRBatch, factor: float | Tensor, pivot: float = 0.5) -> INRBatch:
    """Stretch the values of each INR about a pivot: y becomes pivot + factor (y - pivot).

    Args:
        inrs: N INRs.
        factor: One number or (N,). Above 1 the contrast rises, 0 leaves the pivot alone.
        pivot: The value that stays; 0.5 is the middle of an image's range.

    Returns:
        N new INRs.

    Raises:
        UsageError: For factors of another shape.
    """
    factor_N1 = _column("contrast", inrs, factor, "factor")
    return change_values(inrs, *_stretched(inrs, factor_N1, float(numbers_of(inrs, pivot, "pivot", ""))))


def invert(inrs: INRBatch, pivot: float = 0.5) -> INRBatch:
    """Mirror the values of each INR at a pivot: y becomes 2 pivot - y.

    Args:
        inrs: N INRs.
        pivot: The value that stays; with 0.5 an image becomes its negative.

    Returns:
        N new INRs.

    Raises:
        UsageError: For anything but an INRBatch.
    """
    factor_N1 = _column("invert", inrs, -1.0, "factor")
    return change_values(inrs, *_stretched(inrs, factor_N1, float(numbers_of(inrs, pivot, "pivot", ""))))


def change_values(inrs: INRBatch, matrix_NOO: Tensor, offset_NO: Tensor) -> INRBatch:
    """New INRs f'(x) = M f(x) + o, for M matrix (N, O, O) and o offset (N, O).

    f(x) includes output_bias, which stays as it is in the spec.
    """
    bias = inrs.spec.output_bias
    last = torch.bmm(matrix_NOO, inrs.weights[-1])
    shift = torch.bmm(matrix_NOO, (inrs.biases[-1] + bias)[:, :, None])[:, :, 0] + (offset_NO - bias)
    return replace(inrs, weights=(*inrs.weights[:-1], last), biases=(*inrs.biases[:-1], shift))


class IntensityTransform(AffineTransform):
    """A random change of values: the new INR is matrix f(x) + offset."""

    def change(self, inrs: INRBatch, matrix_NKK: Tensor, offset_NK: Tensor) -> INRBatch:
        return change_values(inrs, matrix_NKK, offset_NK)


@dataclass(frozen=True, kw_only=True)
class Contrast(IntensityTransform):
    """Stretch values about a pivot by a random factor, as `contrast` does.

    Args:
        low: The smallest factor, 0 to 1000.
        high: The largest factor, low to 1000; factors are uniform in [low, high].
        pivot: The value that stays; 0.5 is the middle of an image's range.

    Raises:
        UsageError: For values outside their ranges.
    """

    name: ClassVar[str] = "contrast"
    low: float = 0.8
    high: float = 1.2
    pivot: float = 0.5

    def __post_init__(self) -> None:
        check_number(self, "low", 0, 1e3)
        check_number(self, "high", self.low, 1e3)
        check_number(self, "pivot", -1e6, 1e6)

    def draw(self, inrs: INRBatch, generator: Generator) -> tuple[Tensor, Tensor]:
        return _stretched(inrs, uniform(inrs, generator, 1, self.low, self.high), self.pivot)


@dataclass(frozen=True, kw_only=True)
class Brightness(IntensityTransform):
    """Add a random offset to all values, as `brightness` does.

    Args:
        max_shift: The offset is uniform in ± max_shift, 0 to 1000.

    Raises:
        UsageError: For values outside their ranges.
    """

    name: ClassVar[str] = "brightness"
    max_shift: float = 0.1

    def __post_init__(self) -> None:
        check_number(self, "max_shift", 0, 1e3)

    def draw(self, inrs: INRBatch, generator: Generator) -> tuple[Tensor, Tensor]:
        return _shifted(inrs, uniform(inrs, generator, 1, -self.max_shift, self.max_shift))


@dataclass(frozen=True, kw_only=True)
class Invert(IntensityTransform):
    """Mirror the values of random INRs at a pivot, as `invert` does: y becomes 2 pivot - y.

    Args:
        probability: How likely each INR is mirrored, in [0, 1].
        pivot: The value that stays; 0.5 is the middle of an image's range.

    Raises:
        UsageError: For values outside their ranges.
    """

    name: ClassVar[str] = "invert"
    probability: float = 0.5
    pivot: float = 0.5

    def __post_init__(self) -> None:
        check_number(self, "probability", 0, 1)
        check_number(self, "pivot", -1e6, 1e6)

    def draw(self, inrs: INRBatch, generator: Generator) -> tuple[Tensor, Tensor]:
        return _stretched(inrs, random_sign(inrs, generator, self.probability), self.pivot)


@dataclass(frozen=True, kw_only=True)
class MixChannels(IntensityTransform):
    """Replace a share of every colour channel by a random average of the three. Grey stays grey.

    Args:
        strength: The share, in [0, 1].

    Raises:
        UsageError: For values outside their ranges.
    """

    name: ClassVar[str] = "mix_channels"
    strength: float = 0.2

    def __post_init__(self) -> None:
        check_number(self, "strength", 0, 1)

    def draw(self, inrs: INRBatch, generator: Generator) -> tuple[Tensor, Tensor]:
        size = inrs.spec.out_dim
        if size != 3:
            raise UsageError(f"mix_channels needs INRs of 3 values, red, green and blue, got {inrs.spec}")
        # Exponential draws, normalised, are uniform over all averages.
        unit = uniform(inrs, generator, size * size, 0, 1).view(-1, size, size)
        share = -torch.log1p(-unit).clamp(max=-1e-30)
        average = share / share.sum(dim=2, keepdim=True)
        return (1 - self.strength) * identity(inrs, size) + self.strength * average, no_offset(inrs, size)


def _column(name: str, inrs: INRBatch, value: Any, what: str) -> Tensor:
    """(N, 1): a user's numbers, one or (N,), in the INRs' dtype."""
    require_batch(inrs, name)
    return numbers_of(inrs, value, what, "", "N").to(inrs.dtype).expand(len(inrs))[:, None]


def _shifted(inrs: INRBatch, offset_N1: Tensor) -> tuple[Tensor, Tensor]:
    """matrix (N, O, O) and offset (N, O) that add an offset."""
    return identity(inrs, inrs.spec.out_dim), offset_N1.expand(-1, inrs.spec.out_dim)


def _stretched(inrs: INRBatch, factor_N1: Tensor, pivot: float) -> tuple[Tensor, Tensor]:
    """matrix (N, O, O) and offset (N, O) that multiply values about a pivot."""
    size = inrs.spec.out_dim
    return identity(inrs, size) * factor_N1[:, :, None], ((1 - factor_N1) * pivot).expand(-1, size)
