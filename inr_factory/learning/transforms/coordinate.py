"""Coordinate transforms: known changes of what an INR shows, through the coordinates of its first layer.

Each is affine and exact up to float32 rounding. The functions make one chosen change, the classes draw changes at
random. Shape letters: N INRs, I coordinates.
"""

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Generator, Tensor

from inr_factory.errors import UsageError, shorten
from inr_factory.inr.batch import INRBatch
from inr_factory.learning.option_strings import check_flag, check_number, check_word
from inr_factory.learning.transforms.call_arguments import numbers_of, require_batch
from inr_factory.learning.transforms.random_transform import (
    AffineTransform,
    identity,
    no_offset,
    random_sign,
    uniform,
)

AXES = ("x", "y", "z")


def rotate2d(inrs: INRBatch, degrees: float | Tensor = 30.0) -> INRBatch:
    """Turn the picture that each INR shows counter-clockwise about its centre.

    Args:
        inrs: N INRs of 2 coordinates.
        degrees: The angle, one number or (N,); negative angles turn clockwise.

    Returns:
        N new INRs.

    Raises:
        UsageError: For INRs of another number of coordinates, or angles of another shape.
    """
    _require_in_dim("rotate2d", inrs, 2)
    angle = torch.deg2rad(numbers_of(inrs, degrees, "degrees", "", "N"))
    return change_coordinates(inrs, _plane_rotation(inrs, angle, 0, 1))


def rotate3d(inrs: INRBatch, degrees: float | Tensor = 30.0, axis: str = "z") -> INRBatch:
    """Turn the shape that each INR describes about an axis, by the right-hand rule.

    Args:
        inrs: N INRs of 3 coordinates.
        degrees: The angle, one number or (N,). Seen from the tip of the axis, positive angles turn counter-clockwise.
        axis: "x", "y" or "z".

    Returns:
        N new INRs.

    Raises:
        UsageError: For INRs of another number of coordinates, angles of another shape, or an unknown axis.
    """
    _require_in_dim("rotate3d", inrs, 3)
    number = _axis_number("rotate3d", inrs, axis)
    angle = torch.deg2rad(numbers_of(inrs, degrees, "degrees", "", "N"))
    return change_coordinates(inrs, _plane_rotation(inrs, -angle, (number + 1) % 3, (number + 2) % 3))


def scale(inrs: INRBatch, factor: float | Tensor) -> INRBatch:
    """Enlarge what each INR shows about the origin: new INRs f'(x) = f(x / factor).

    Args:
        inrs: N INRs.
        factor: One number, (I,) for each coordinate, or (N, I); not 0. Factor 2 shows everything twice as large.

    Returns:
        N new INRs.

    Raises:
        UsageError: For factors that are 0 or not finite, or of another shape.
    """
    require_batch(inrs, "scale")
    factors = numbers_of(inrs, factor, "factor", "", "I", "N I")
    if not bool((factors != 0).all()):
        raise UsageError(f"factor must not be 0, got {factor!r}")
    factor_NI = factors.expand(len(inrs), inrs.spec.in_dim)
    return change_coordinates(inrs, identity(inrs, inrs.spec.in_dim) / factor_NI[:, None, :])


def translate(inrs: INRBatch, offset: float | Tensor) -> INRBatch:
    """Move what each INR shows: new INRs f'(x) = f(x - offset).

    Args:
        inrs: N INRs.
        offset: One number for all coordinates, (I,), or (N, I). An image is 2 wide and high, x points right and y down.

    Returns:
        N new INRs.

    Raises:
        UsageError: For offsets of another shape.
    """
    require_batch(inrs, "translate")
    offset_NI = numbers_of(inrs, offset, "offset", "", "I", "N I").expand(len(inrs), inrs.spec.in_dim)
    return change_coordinates(inrs, identity(inrs, inrs.spec.in_dim), -offset_NI)


def reflect(inrs: INRBatch, axis: str = "x") -> INRBatch:
    """Mirror what each INR shows by negating one coordinate.

    Args:
        inrs: N INRs.
        axis: "x" mirrors images left to right, "y" top to bottom; "z" for INRs of 3 coordinates.

    Returns:
        N new INRs.

    Raises:
        UsageError: For an axis that the INRs do not have.
    """
    number = _axis_number("reflect", inrs, axis)
    return change_coordinates(inrs, _reflection(inrs, number, -1.0))


def change_coordinates(inrs: INRBatch, matrix_NII: Tensor, offset_NI: Tensor | None = None) -> INRBatch:
    """New INRs f'(x) = f(A x + t), for A matrix (N, I, I) and t offset (N, I), so that f'(A^-1 (x - t)) = f(x).

    W_0 becomes W_0 A and b_0 becomes b_0 + W_0 t. With a positional encoding, A may only negate coordinates: the columns
    of W_0 for coordinates and their sines change signs. Raises UsageError for other changes of such INRs.
    """
    first, bias = inrs.weights[0], inrs.biases[0]
    if inrs.spec.frequencies:
        sign_NE = _encoded_signs(inrs, matrix_NII, offset_NI)
        return replace(inrs, weights=(first * sign_NE[:, None, :], *inrs.weights[1:]))
    if offset_NI is not None:
        bias = bias + torch.bmm(first, offset_NI.to(inrs.dtype)[:, :, None])[:, :, 0]
    weights = (torch.bmm(first, matrix_NII.to(inrs.dtype)), *inrs.weights[1:])
    return replace(inrs, weights=weights, biases=(bias, *inrs.biases[1:]))


class CoordinateTransform(AffineTransform):
    """A random change of coordinates: the new INR is f(matrix x + offset)."""

    def change(self, inrs: INRBatch, matrix_NKK: Tensor, offset_NK: Tensor) -> INRBatch:
        return change_coordinates(inrs, matrix_NKK, offset_NK)


@dataclass(frozen=True, kw_only=True)
class Rotate2D(CoordinateTransform):
    """Rotate INRs of 2 coordinates about the origin by a random angle, as `rotate2d` does.

    Args:
        degrees: The angle is uniform in ± degrees, 0 to 180.

    Raises:
        UsageError: For values outside their ranges.
    """

    name: ClassVar[str] = "rotate2d"
    degrees: float = 30.0

    def __post_init__(self) -> None:
        check_number(self, "degrees", 0, 180)

    def draw(self, inrs: INRBatch, generator: Generator) -> tuple[Tensor, Tensor]:
        _require_in_dim("rotate2d", inrs, 2)
        return _plane_rotation(inrs, _random_angle(inrs, generator, self.degrees), 0, 1), no_offset(
            inrs, inrs.spec.in_dim
        )


@dataclass(frozen=True, kw_only=True)
class Rotate3D(CoordinateTransform):
    """Rotate INRs of 3 coordinates about an axis, or uniformly over all of SO(3).

    Args:
        axis: "x", "y", "z", or "any" for SO(3), from uniform unit quaternions (Shoemake 1992).
        degrees: The angle is uniform in ± degrees, 0 to 180; axis "any" takes 180 only.

    Raises:
        UsageError: For values outside their ranges.
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
        _require_in_dim("rotate3d", inrs, 3)
        if self.axis == "any":
            return _any_rotation(inrs, generator), no_offset(inrs, inrs.spec.in_dim)
        axis, angle_N = AXES.index(self.axis), _random_angle(inrs, generator, self.degrees)
        return _plane_rotation(inrs, angle_N, (axis + 1) % 3, (axis + 2) % 3), no_offset(inrs, inrs.spec.in_dim)


@dataclass(frozen=True, kw_only=True)
class Translate(CoordinateTransform):
    """Move what an INR shows along each coordinate by a random offset, as `translate` does.

    Args:
        max_shift: Offsets are uniform in ± max_shift, 0 to 100; an image is 2 wide and high.

    Raises:
        UsageError: For values outside their ranges.
    """

    name: ClassVar[str] = "translate"
    max_shift: float = 0.25

    def __post_init__(self) -> None:
        check_number(self, "max_shift", 0, 100)

    def draw(self, inrs: INRBatch, generator: Generator) -> tuple[Tensor, Tensor]:
        size = inrs.spec.in_dim
        return identity(inrs, size), uniform(inrs, generator, size, -self.max_shift, self.max_shift)


@dataclass(frozen=True, kw_only=True)
class Scale(CoordinateTransform):
    """Multiply the coordinates by a random factor: f'(x) = f(u x), which `scale(inrs, 1 / u)` does, too.

    A factor u above 1 makes what the INR shows smaller.

    Args:
        low: The smallest factor, 0.001 to 1000.
        high: The largest factor, low to 1000; u is uniform in [low, high].
        per_axis: Draw a factor for each coordinate instead of one for all.

    Raises:
        UsageError: For values outside their ranges.
    """

    name: ClassVar[str] = "scale"
    low: float = 0.8
    high: float = 1.2
    per_axis: bool = False

    def __post_init__(self) -> None:
        check_number(self, "low", 1e-3, 1e3)
        check_number(self, "high", self.low, 1e3)
        check_flag(self, "per_axis")

    def draw(self, inrs: INRBatch, generator: Generator) -> tuple[Tensor, Tensor]:
        size = inrs.spec.in_dim
        factor = uniform(inrs, generator, size if self.per_axis else 1, self.low, self.high)
        return identity(inrs, size) * factor[:, None, :], no_offset(inrs, inrs.spec.in_dim)


@dataclass(frozen=True, kw_only=True)
class Reflect(CoordinateTransform):
    """Negate one coordinate of random INRs, as `reflect` does.

    Args:
        axis: "x" mirrors images left to right, "y" top to bottom; "z" for INRs of 3 coordinates.
        probability: How likely each INR is mirrored, in [0, 1].

    Raises:
        UsageError: For values outside their ranges.
    """

    name: ClassVar[str] = "reflect"
    axis: Literal["x", "y", "z"] = "x"
    probability: float = 0.5

    def __post_init__(self) -> None:
        check_word(self, "axis")
        check_number(self, "probability", 0, 1)

    def draw(self, inrs: INRBatch, generator: Generator) -> tuple[Tensor, Tensor]:
        axis = _axis_number("reflect", inrs, self.axis)
        return _reflection(inrs, axis, random_sign(inrs, generator, self.probability)[:, 0]), no_offset(
            inrs, inrs.spec.in_dim
        )


def _encoded_signs(inrs: INRBatch, matrix_NII: Tensor, offset_NI: Tensor | None) -> Tensor:
    """(N, E): -1 for what a change of coordinates negates of the positional encoding; see forward_pass.encode."""
    spec, sign_NI = inrs.spec, matrix_NII.diagonal(dim1=1, dim2=2).to(inrs.dtype)
    moved = offset_NI is not None and bool(offset_NI.any())
    if moved or not bool((matrix_NII == torch.diag_embed(sign_NI.sign())).all() & sign_NI.all()):
        raise UsageError(
            f"of INRs with a positional encoding only reflections of coordinates are exact, got another change of {spec}; "
            "take reflect, or fit INRs with frequencies 0"
        )
    encoded = [sign_NI] * spec.coordinates + [sign_NI, torch.ones_like(sign_NI)] * spec.frequencies
    return torch.cat(encoded, dim=1)


def _axis_number(name: str, inrs: INRBatch, axis: str) -> int:
    require_batch(inrs, name)
    known = AXES[: inrs.spec.in_dim]
    if not isinstance(axis, str) or axis not in known:
        raise UsageError(f"{name}: axis must be one of {', '.join(known)} for {inrs.spec}, got {shorten(axis)}")
    return AXES.index(axis)


def _require_in_dim(name: str, inrs: INRBatch, in_dim: int) -> None:
    require_batch(inrs, name)
    if inrs.spec.in_dim != in_dim:
        other = f"; for {inrs.spec.in_dim} use rotate{inrs.spec.in_dim}d" if inrs.spec.in_dim in (2, 3) else ""
        raise UsageError(f"{name} turns INRs of {in_dim} coordinates, got {inrs.spec}{other}")


def _reflection(inrs: INRBatch, axis: int, sign: float | Tensor) -> Tensor:
    matrix = identity(inrs, inrs.spec.in_dim)
    matrix[:, axis, axis] = sign
    return matrix


def _random_angle(inrs: INRBatch, generator: Generator, degrees: float) -> Tensor:
    """(N,) radians, uniform in ± degrees."""
    limit = math.radians(degrees)
    return uniform(inrs, generator, 1, -limit, limit)[:, 0]


def _plane_rotation(inrs: INRBatch, angle: Tensor, first: int, second: int) -> Tensor:
    """(N, I, I), for angle () or (N,): turns axis `first` towards axis `second`, and so what an INR shows the other way."""
    matrix = identity(inrs, inrs.spec.in_dim)
    cos, sin = angle.cos().to(inrs.dtype), angle.sin().to(inrs.dtype)
    matrix[:, first, first] = matrix[:, second, second] = cos
    matrix[:, second, first] = sin
    matrix[:, first, second] = -sin
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
