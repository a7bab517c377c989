"""Warps: known changes of an INR's coordinates, through its first layer.

Shape letters: N INRs, I coordinates. Every warp is affine, and exact up to float32 rounding.
"""

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Generator, Tensor

from inr_factory.errors import UsageError
from inr_factory.inr.batch import INRBatch
from inr_factory.learning.option_strings import Option, check_number, check_word

AXES = ("x", "y", "z")


def change_coordinates(inrs: INRBatch, matrix_NII: Tensor, offset_NI: Tensor) -> INRBatch:
    """New INRs f'(x) = f(A x + t), for A matrix (N, I, I) and t offset (N, I), so that f'(A^-1 (x - t)) = f(x).

    W_0 becomes W_0 A and b_0 becomes b_0 + W_0 t.
    """
    first = inrs.weights[0]
    weights = (torch.bmm(first, matrix_NII), *inrs.weights[1:])
    biases = (inrs.biases[0] + torch.bmm(first, offset_NI[:, :, None])[:, :, 0], *inrs.biases[1:])
    return replace(inrs, weights=weights, biases=biases)


class Warp(Option):
    """A random change of coordinates. Whoever needs to undo it calls `draw` and `change_coordinates` apart."""

    def draw(self, inrs: INRBatch, generator: Generator) -> tuple[Tensor, Tensor]:
        """matrix (N, I, I) and offset (N, I), an own draw for every INR: the new one is f(matrix x + offset)."""
        raise NotImplementedError

    def __call__(self, inrs: INRBatch, generator: Generator) -> INRBatch:
        return change_coordinates(inrs, *self.draw(inrs, generator))


@dataclass(frozen=True)
class Rotate2D(Warp):
    """Rotate 2-D INRs about the origin by an angle uniform in ± degrees."""

    name: ClassVar[str] = "rotate2d"
    degrees: float = 30.0

    def __post_init__(self) -> None:
        check_number(self, "degrees", 0, 180)

    def draw(self, inrs: INRBatch, generator: Generator) -> tuple[Tensor, Tensor]:
        if inrs.spec.in_dim != 2:
            raise UsageError(f"rotate2d turns INRs of 2 coordinates, got {inrs.spec}; for 3 there is rotate3d")
        return _plane_rotation(inrs, generator, self.degrees, 0, 1), _no_offset(inrs)


@dataclass(frozen=True)
class Rotate3D(Warp):
    """Rotate 3-D INRs about the axis x, y or z by an angle uniform in ± degrees, or uniformly over all of SO(3).

    axis "any" means SO(3), from uniform unit quaternions (Shoemake 1992), and takes no other degrees than 180.
    """

    name: ClassVar[str] = "rotate3d"
    axis: Literal["x", "y", "z", "any"] = "z"
    degrees: float = 180.0

    def __post_init__(self) -> None:
        check_word(self, "axis")
        check_number(self, "degrees", 0, 180)
        if self.axis == "any" and self.degrees != 180:
            raise UsageError(f"rotate3d: axis any covers all rotations, got degrees {self.degrees:g}; name x, y or z")

    def draw(self, inrs: INRBatch, generator: Generator) -> tuple[Tensor, Tensor]:
        if inrs.spec.in_dim != 3:
            raise UsageError(f"rotate3d turns INRs of 3 coordinates, got {inrs.spec}; for 2 there is rotate2d")
        if self.axis == "any":
            return _any_rotation(inrs, generator), _no_offset(inrs)
        axis = AXES.index(self.axis)
        return _plane_rotation(inrs, generator, self.degrees, (axis + 1) % 3, (axis + 2) % 3), _no_offset(inrs)


@dataclass(frozen=True)
class Translate(Warp):
    """Move each coordinate by an offset uniform in ± max_shift; an image is 2 wide. Exact, through the first layer."""

    name: ClassVar[str] = "translate"
    max_shift: float = 0.25

    def __post_init__(self) -> None:
        check_number(self, "max_shift", 0, 100)

    def draw(self, inrs: INRBatch, generator: Generator) -> tuple[Tensor, Tensor]:
        size = inrs.spec.in_dim
        return identity(inrs, size), uniform(inrs, generator, size, -self.max_shift, self.max_shift)


@dataclass(frozen=True)
class Scale(Warp):
    """Multiply the coordinates by a factor uniform in [low, high], one for all axes or one an axis.

    A factor above 1 makes what the INR shows smaller.
    """

    name: ClassVar[str] = "scale"
    low: float = 0.8
    high: float = 1.2
    per_axis: bool = False

    def __post_init__(self) -> None:
        check_number(self, "low", 1e-3, 1e3)
        check_number(self, "high", self.low, 1e3)

    def draw(self, inrs: INRBatch, generator: Generator) -> tuple[Tensor, Tensor]:
        size = inrs.spec.in_dim
        factor = uniform(inrs, generator, size if self.per_axis else 1, self.low, self.high)
        return identity(inrs, size) * factor[:, None, :], _no_offset(inrs)


@dataclass(frozen=True)
class Reflect(Warp):
    """Negate one coordinate with `probability`; axis x mirrors images left to right."""

    name: ClassVar[str] = "reflect"
    axis: Literal["x", "y", "z"] = "x"
    probability: float = 0.5

    def __post_init__(self) -> None:
        check_word(self, "axis")
        check_number(self, "probability", 0, 1)

    def draw(self, inrs: INRBatch, generator: Generator) -> tuple[Tensor, Tensor]:
        axis = AXES.index(self.axis)
        if axis >= inrs.spec.in_dim:
            raise UsageError(f"{self} needs INRs of at least {axis + 1} coordinates, got {inrs.spec}")
        matrix = identity(inrs, inrs.spec.in_dim)
        matrix[:, axis, axis] = random_sign(inrs, generator, self.probability)[:, 0]
        return matrix, _no_offset(inrs)


def uniform(inrs: INRBatch, generator: Generator, size: int, low: float, high: float) -> Tensor:
    """(N, size), uniform in [low, high)."""
    unit = torch.rand(len(inrs), size, generator=generator, device=generator.device, dtype=inrs.dtype)
    return low + (high - low) * unit


def random_sign(inrs: INRBatch, generator: Generator, probability: float) -> Tensor:
    """(N, 1): -1 with `probability`, else 1."""
    return 1 - 2 * (uniform(inrs, generator, 1, 0, 1) < probability).to(inrs.dtype)


def identity(inrs: INRBatch, size: int) -> Tensor:
    """(N, size, size), free to be written."""
    return torch.eye(size, device=inrs.device, dtype=inrs.dtype).repeat(len(inrs), 1, 1)


def _no_offset(inrs: INRBatch) -> Tensor:
    return torch.zeros(len(inrs), inrs.spec.in_dim, device=inrs.device, dtype=inrs.dtype)


def _plane_rotation(inrs: INRBatch, generator: Generator, degrees: float, first: int, second: int) -> Tensor:
    """(N, I, I): turns axis `first` towards axis `second` by an angle uniform in ± degrees."""
    limit = math.radians(degrees)
    angle = uniform(inrs, generator, 1, -limit, limit)[:, 0]
    matrix = identity(inrs, inrs.spec.in_dim)
    matrix[:, first, first] = matrix[:, second, second] = angle.cos()
    matrix[:, second, first] = angle.sin()
    matrix[:, first, second] = -angle.sin()
    return matrix


def _any_rotation(inrs: INRBatch, generator: Generator) -> Tensor:
    """(N, 3, 3): rotations uniform over SO(3), from uniform unit quaternions."""
    quaternion = torch.randn(len(inrs), 4, generator=generator, device=generator.device, dtype=inrs.dtype)
    w, x, y, z = torch.nn.functional.normalize(quaternion).unbind(dim=1)
    rows = [
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    ]
    return torch.stack([torch.stack(row, dim=1) for row in rows], dim=1)
