"""Tones: known changes of an INR's values, through its last layer.

Shape letters: N INRs, O values. Every change is affine, and exact up to float32 rounding.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Generator, Tensor

from inr_factory.errors import UsageError
from inr_factory.inr.batch import INRBatch
from inr_factory.learning.option_strings import Option, check_number
from inr_factory.learning.transforms.coordinate import identity, random_sign, uniform


def change_values(inrs: INRBatch, matrix_NOO: Tensor, offset_NO: Tensor) -> INRBatch:
    """New INRs f'(x) = M f(x) + o, for M matrix (N, O, O) and o offset (N, O).

    f(x) is the whole value, output_bias included, which stays as it is in the spec.
    """
    bias = inrs.spec.output_bias
    last = torch.bmm(matrix_NOO, inrs.weights[-1])
    shift = torch.bmm(matrix_NOO, (inrs.biases[-1] + bias)[:, :, None])[:, :, 0] + (offset_NO - bias)
    return replace(inrs, weights=(*inrs.weights[:-1], last), biases=(*inrs.biases[:-1], shift))


class Tone(Option):
    """A random change of values. Whoever needs to undo it calls `draw` and `change_values` apart."""

    def draw(self, inrs: INRBatch, generator: Generator) -> tuple[Tensor, Tensor]:
        """matrix (N, O, O) and offset (N, O), an own draw for every INR: the new one is matrix f(x) + offset."""
        raise NotImplementedError

    def __call__(self, inrs: INRBatch, generator: Generator) -> INRBatch:
        return change_values(inrs, *self.draw(inrs, generator))


@dataclass(frozen=True)
class Contrast(Tone):
    """Stretch values about `pivot`, the middle of their range, by a factor uniform in [low, high]."""

    name: ClassVar[str] = "contrast"
    low: float = 0.8
    high: float = 1.2
    pivot: float = 0.5

    def __post_init__(self) -> None:
        check_number(self, "low", 0, 1e3)
        check_number(self, "high", self.low, 1e3)
        check_number(self, "pivot", -1e6, 1e6)

    def draw(self, inrs: INRBatch, generator: Generator) -> tuple[Tensor, Tensor]:
        size = inrs.spec.out_dim
        factor = uniform(inrs, generator, 1, self.low, self.high)
        return identity(inrs, size) * factor[:, :, None], ((1 - factor) * self.pivot).expand(-1, size)


@dataclass(frozen=True)
class Brightness(Tone):
    """Add an amount uniform in ± max_shift to all values."""

    name: ClassVar[str] = "brightness"
    max_shift: float = 0.1

    def __post_init__(self) -> None:
        check_number(self, "max_shift", 0, 1e3)

    def draw(self, inrs: INRBatch, generator: Generator) -> tuple[Tensor, Tensor]:
        size = inrs.spec.out_dim
        return identity(inrs, size), uniform(inrs, generator, 1, -self.max_shift, self.max_shift).expand(-1, size)


@dataclass(frozen=True)
class Invert(Tone):
    """Mirror values at `pivot`, the middle of their range, with `probability`: y becomes 2 pivot - y."""

    name: ClassVar[str] = "invert"
    probability: float = 0.5
    pivot: float = 0.5

    def __post_init__(self) -> None:
        check_number(self, "probability", 0, 1)
        check_number(self, "pivot", -1e6, 1e6)

    def draw(self, inrs: INRBatch, generator: Generator) -> tuple[Tensor, Tensor]:
        size = inrs.spec.out_dim
        sign = random_sign(inrs, generator, self.probability)
        return identity(inrs, size) * sign[:, :, None], ((1 - sign) * self.pivot).expand(-1, size)


@dataclass(frozen=True)
class MixChannels(Tone):
    """Replace the share `strength` of every colour channel by a random average of the three. Grey stays grey."""

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
        offset = torch.zeros(len(inrs), size, device=inrs.device, dtype=inrs.dtype)
        return (1 - self.strength) * identity(inrs, size) + self.strength * average, offset
