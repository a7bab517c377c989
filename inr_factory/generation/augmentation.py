"""Augmentation of signals: the changes that `source.augment` names, and the numbers that they draw for a view.

A change is written `name:key=value,key=value`. What it draws is kept in columns of the view's row, which make the changed
signal again. Shape letters: O values of a pixel, H height, W width.
"""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, Field, ValidationError, model_validator

from inr_factory.errors import describe_fault, did_you_mean, shorten
from inr_factory.generation.section import Integer, Number, Section
from inr_factory.inr.stable_hash import seeded

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

Drawn = Mapping[str, int | float]  # a number by its column, whose name has the prefix shards.CHANGE
Share = Annotated[Number, Field(ge=0, le=1)]
Matrix = list[list[float]]  # (3, 3)


class Change(BaseModel):
    """A kind of change with its settings. A subclass for images has `image`, one for shapes `matrix`."""

    model_config = Section.model_config
    name: ClassVar[str]

    @property
    def neutral(self) -> dict[str, int | float]:
        """The numbers that change nothing."""
        raise NotImplementedError

    def draw(self, rng: "np.random.Generator") -> list[int | float]:
        """The numbers of one view, in the order of `neutral`."""
        raise NotImplementedError

    def image(self, image: "Tensor", drawn: Drawn, v2: Any) -> "Tensor":
        """An image (O, H, W) in [0, 1], changed; `v2` is torchvision.transforms.v2."""
        raise NotImplementedError

    def matrix(self, drawn: Drawn) -> Matrix:
        """What the points of a shape are multiplied by, as columns."""
        raise NotImplementedError

    def __str__(self) -> str:
        """With all settings: a recipe names its defaults, which may change."""
        return f"{self.name}:" + ",".join(f"{key}={str(value).removesuffix('.0')}" for key, value in self)


class Flip(Change):
    """Mirror left to right (axis x) or top to bottom (y), with a probability."""

    name: ClassVar[str] = "flip"
    axis: Literal["x", "y"] = "x"
    probability: Share = 0.5

    @property
    def neutral(self) -> dict[str, int | float]:
        return {f"flip_{self.axis}": 0}

    def draw(self, rng: "np.random.Generator") -> list[int | float]:
        return [int(rng.random() < self.probability)]

    def image(self, image: "Tensor", drawn: Drawn, v2: Any) -> "Tensor":
        flipped: Tensor = (v2.functional.hflip if self.axis == "x" else v2.functional.vflip)(image)
        return flipped


class Crop(Change):
    """Move by whole pixels, up to `padding` along each axis: torchvision's RandomCrop of a padded image."""

    name: ClassVar[str] = "crop"
    padding: Annotated[Integer, Field(ge=1, le=8192)] = 2
    fill: Share = 0.0

    @property
    def neutral(self) -> dict[str, int | float]:
        return {"shift_x": 0, "shift_y": 0}

    def draw(self, rng: "np.random.Generator") -> list[int | float]:
        return [int(shift) for shift in rng.integers(-self.padding, self.padding + 1, 2)]

    def image(self, image: "Tensor", drawn: Drawn, v2: Any) -> "Tensor":
        padded, (left, top) = v2.functional.pad(image, [self.padding], fill=self.fill), drawn.values()
        cropped: Tensor = v2.functional.crop(
            padded, self.padding - int(top), self.padding - int(left), *image.shape[1:]
        )
        return cropped


class ResizedCrop(Change):
    """Cut out a part of at least `scale` of the area and enlarge it: torchvision's RandomResizedCrop.

    Its width over its height is that of the image times a factor from 1 / `ratio` to `ratio`.
    """

    name: ClassVar[str] = "resized_crop"
    scale: Annotated[Number, Field(gt=0, le=1)] = 0.6
    ratio: Annotated[Number, Field(ge=1, le=100)] = 4 / 3

    @property
    def neutral(self) -> dict[str, int | float]:
        return {"crop_left": 0.0, "crop_top": 0.0, "crop_width": 1.0, "crop_height": 1.0}

    def draw(self, rng: "np.random.Generator") -> list[int | float]:
        area, factor = rng.uniform(self.scale, 1), math.exp(rng.uniform(-1, 1) * math.log(self.ratio))
        width, height = min(1.0, math.sqrt(area * factor)), min(1.0, math.sqrt(area / factor))
        return [rng.uniform(0, 1 - width), rng.uniform(0, 1 - height), width, height]

    def image(self, image: "Tensor", drawn: Drawn, v2: Any) -> "Tensor":
        sides = [(image.shape[2], *list(drawn.values())[::2]), (image.shape[1], *list(drawn.values())[1::2])]
        (left, width), (top, height) = (
            (min(round(start * side), side - size), size)
            for side, start, share in sides
            for size in [max(1, round(share * side))]
        )
        resized: Tensor = v2.functional.resized_crop(image, top, left, height, width, list(image.shape[1:]))
        return resized


class Rotate(Change):
    """Turn by up to `degrees`, counter-clockwise where positive: torchvision's RandomRotation, bilinear."""

    name: ClassVar[str] = "rotate"
    degrees: Annotated[Number, Field(gt=0, le=180)] = 15.0
    fill: Share = 0.0

    @property
    def neutral(self) -> dict[str, int | float]:
        return {"rotate": 0.0}

    def draw(self, rng: "np.random.Generator") -> list[int | float]:
        return [rng.uniform(-self.degrees, self.degrees)]

    def image(self, image: "Tensor", drawn: Drawn, v2: Any) -> "Tensor":
        bilinear = v2.InterpolationMode.BILINEAR
        rotated: Tensor = v2.functional.rotate(image, drawn["rotate"], interpolation=bilinear, fill=self.fill)
        return rotated


class ShapeFlip(Flip):
    """Mirror a shape by negating a coordinate, with a probability."""

    axis: Literal["x", "y", "z"] = "x"  # type: ignore[assignment]

    def matrix(self, drawn: Drawn) -> Matrix:
        return _diagonal([-1.0 if axis == self.axis else 1.0 for axis in "xyz"])


class ShapeRotate(Change):
    """Turn a shape about an axis by up to `degrees`, by the right-hand rule, or uniformly over all rotations (any).

    Its numbers are the rotation vector, in degrees.
    """

    name: ClassVar[str] = "rotate"
    axis: Literal["x", "y", "z", "any"] = "z"
    degrees: Annotated[Number, Field(gt=0, le=180)] = 180.0

    @model_validator(mode="after")
    def _check(self) -> "ShapeRotate":
        if self.axis == "any" and self.degrees != 180:
            raise ValueError(f"axis any covers all rotations, got degrees {self.degrees:g}; name x, y or z")
        return self

    @property
    def neutral(self) -> dict[str, int | float]:
        return {"rotate_x": 0.0, "rotate_y": 0.0, "rotate_z": 0.0}

    def draw(self, rng: "np.random.Generator") -> list[int | float]:
        if self.axis != "any":
            angle = rng.uniform(-self.degrees, self.degrees)
            return [angle if axis == self.axis else 0.0 for axis in "xyz"]
        from scipy.spatial.transform import Rotation

        vector: list[int | float] = Rotation.from_quat(rng.standard_normal(4)).as_rotvec(degrees=True).tolist()
        return vector

    def matrix(self, drawn: Drawn) -> Matrix:
        from scipy.spatial.transform import Rotation

        matrix: Matrix = Rotation.from_rotvec(list(drawn.values()), degrees=True).as_matrix().tolist()
        return matrix


class ShapeScale(Change):
    """Multiply a shape by a factor from `low` to `high`."""

    name: ClassVar[str] = "scale"
    low: Annotated[Number, Field(ge=0.1, le=10)] = 0.8
    high: Annotated[Number, Field(ge=0.1, le=10)] = 1.0

    @model_validator(mode="after")
    def _check(self) -> "ShapeScale":
        if self.low > self.high:
            raise ValueError(f"low must be at most high, got {self.low:g} and {self.high:g}")
        return self

    @property
    def neutral(self) -> dict[str, int | float]:
        return {"scale": 1.0}

    def draw(self, rng: "np.random.Generator") -> list[int | float]:
        return [rng.uniform(self.low, self.high)]

    def matrix(self, drawn: Drawn) -> Matrix:
        return _diagonal([float(drawn["scale"])] * 3)


def _diagonal(values: list[float]) -> Matrix:
    return [[value if row == column else 0.0 for column in range(3)] for row, value in enumerate(values)]


IMAGE_CHANGES: dict[str, type[Change]] = {kind.name: kind for kind in (Flip, Crop, ResizedCrop, Rotate)}
SHAPE_CHANGES: dict[str, type[Change]] = {kind.name: kind for kind in (ShapeFlip, ShapeRotate, ShapeScale)}


def parse_changes(given: Any, known: Mapping[str, type[Change]]) -> tuple[Change, ...]:
    """The changes of a list of texts, or of one text `a+b`; ValueError, in one line, for what they cannot be."""
    texts = given.split("+") if isinstance(given, str) else [] if given is None else given
    if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"expected changes as text, such as flip+{list(known)[1]} or a list, got {shorten(given)}")
    changes = tuple(_parse_change(text, known) for text in texts)
    columns = [next(iter(change.neutral)) for change in changes]
    for number, change in enumerate(changes):
        if columns[number] in columns[:number]:
            raise ValueError(f"{change.name} is given twice; a row keeps one draw of it")
    return changes


def _parse_change(text: str, known: Mapping[str, type[Change]]) -> Change:
    name, colon, rest = (part.strip() for part in text.partition(":"))
    if name not in known:
        raise ValueError(f"unknown change {name!r}; {did_you_mean(name, known)}")
    kind = known[name]
    pairs = [[part.strip() for part in pair.partition("=")] for pair in rest.split(",")] if colon else []
    if not all(key and equals and value for key, equals, value in pairs):
        raise ValueError(f"write {name}:key=value, got {text!r}; its keys are {', '.join(kind.model_fields)}")
    try:
        return kind.model_validate({key: value for key, _, value in pairs})
    except ValidationError as error:
        fault = error.errors()[0]
        reason = describe_fault(".".join(map(str, fault["loc"])), fault)
        hint = f"; {did_you_mean(str(fault['loc'][-1]), kind.model_fields)}" if "forbidden" in fault["type"] else ""
        raise ValueError(f"{name}: {reason}{hint}") from None


def draw_changes(
    changes: tuple[Change, ...], seed: int, object_id: str, view: int, split: str
) -> dict[str, int | float]:
    """The numbers of a view: views from 1 on of train are changed, view 0 and the other splits are not.

    They depend on the arguments alone, those of one change not on the others.
    """
    drawn: dict[str, int | float] = {}
    for change in changes:
        numbers = change.neutral
        if split == "train" and view > 0:
            rng = seeded("augment", next(iter(numbers)), seed, object_id, view)
            numbers = dict(zip(numbers, change.draw(rng), strict=True))
        drawn |= numbers
    return drawn


def active_changes(changes: tuple[Change, ...], drawn: Drawn) -> list[tuple[Change, Drawn]]:
    """The changes that change something, with the numbers of each."""
    parts = [(change, {name: drawn[name] for name in change.neutral}) for change in changes]
    return [(change, numbers) for change, numbers in parts if numbers != change.neutral]
