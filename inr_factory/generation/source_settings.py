"""Source settings: the `source` of a recipe, which names a collection of images or shapes and says how it is read."""

import math
import re
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from inr_factory.errors import shorten
from inr_factory.generation.augmentation import (
    IMAGE_CHANGES,
    SHAPE_CHANGES,
    Change,
    ShapeRotate,
    ShapeScale,
    parse_changes,
)
from inr_factory.generation.section import LARGEST, Integer, Number, Section

Side = Annotated[Integer, Field(ge=1, le=8192)]
Share = Annotated[Number, Field(ge=0, le=1)]
Spread = Annotated[Number, Field(gt=0, le=1)]
ShapeField = Literal["sdf", "occupancy", "udf", "root_udf"]


class ImageSource(Section):
    """Which images. `size` crops to its aspect ratio and resizes; `mode` None keeps the collection's.

    Of an image_folder, `background` is what shows through transparent parts: a colour's name, "#rrggbb", a grey from 0
    to 1, or red, green and blue from 0 to 1. `value_range` gives the stored values that become 0 and 1 (as [0, 4095]
    for 12-bit greys); others are clipped. None means 0 to 255 in 8-bit files, 0 to 65535 in greys of more bits, and 0
    to 1 in floating-point files.

    `augment` changes the images of training views from 1 on: flip, crop, resized_crop, rotate (see docs/images.md).
    `table` is the path, below the data root, of a table of labels for an image_folder.
    """

    collection: Literal["digits", "fashion_mnist", "mnist", "cifar10", "image_folder"]
    size: Side | tuple[Side, Side] | None = None
    mode: Literal["grey", "rgb"] | None = None
    background: str | float | tuple[float, float, float] = "white"
    value_range: tuple[float, float] | None = None
    augment: tuple[str, ...] = ()
    table: str | None = Field(default=None, min_length=1)
    max_pixels: Integer = Field(default=64_000_000, ge=1, le=LARGEST)
    max_points: Integer = Field(default=65_536, ge=1, le=LARGEST)

    @property
    def dims(self) -> tuple[int, int]:
        """Coordinates and values of a point, 3 values where only the files know."""
        grey = self.mode == "grey" or (self.mode is None and self.collection in ("digits", "fashion_mnist", "mnist"))
        return 2, 1 if grey else 3

    @property
    def changes(self) -> tuple[Change, ...]:
        """Those of `augment`."""
        return parse_changes(self.augment, IMAGE_CHANGES)

    @field_validator("augment", mode="before")
    @classmethod
    def _check_augment(cls, given: Any) -> list[str]:
        return [str(change) for change in parse_changes(given, IMAGE_CHANGES)]

    @field_validator("background", mode="before")
    @classmethod
    def _check_background(cls, given: Any) -> Any:
        levels = given if isinstance(given, list | tuple) and len(given) == 3 else [given]
        is_levels = all(
            isinstance(level, int | float) and not isinstance(level, bool) and 0 <= level <= 1 for level in levels
        )
        if not is_levels and not (isinstance(given, str) and re.fullmatch("[A-Za-z]+|#[0-9A-Fa-f]{6}", given)):
            raise ValueError(
                "expected the name of a colour, '#rrggbb' in quotes (a bare # begins a comment), a grey from 0 to 1, or "
                f"[red, green, blue] from 0 to 1, got {shorten(given)}"
            )
        return given

    @field_validator("value_range", mode="after")
    @classmethod
    def _check_range(cls, given: tuple[float, float] | None) -> tuple[float, float] | None:
        if given is not None and not (given[0] < given[1] and math.isfinite(given[1] - given[0])):
            raise ValueError(
                f"expected [low, high], two finite numbers with low below high, got {shorten(list(given))}"
            )
        return given

    @model_validator(mode="after")
    def _check_folder(self) -> "ImageSource":
        for key, unset in (("background", "white"), ("value_range", None)):
            if self.collection != "image_folder" and getattr(self, key) != unset:
                raise ValueError(f"{key} is for image_folder; the images of {self.collection} are opaque bytes")
        if self.table is not None and self.collection != "image_folder":
            raise ValueError(f"table is for image_folder; {self.collection} has labels of its own")
        return self


class ShapeSource(Section):
    """Which meshes or point clouds, and at which points their distance is sampled.

    A shape is centred at the origin and scaled until it touches, from within, the sphere of radius `radius` or the cube
    of side 2 `radius`; the INR is defined on [-1, 1]. All lengths are in these coordinates. Each pair of `near` is
    (share of the `num_points` points, standard deviation): those points lie off the surface by a Gaussian on each axis.
    The others are uniform in the cube [-1, 1]. Distances are clamped to `clamp`. With `views_resample` each view has
    other points; else views differ by their initialization alone. `num_truth` points (half uniform, half near the
    surface) and `num_surface` points on the surface are used only to measure the fits.

    `field` None means signed distances for meshes, unsigned ones for point clouds, for LDraw, whose parts are not
    closed, and for ModelNet: in half of its files each face has a twin of opposite orientation, so that there is no
    inside. `root_udf` is the square root of the clamped unsigned distance, by which an INR shows a surface more
    exactly. Where the field is signed, a mesh is refused if for more than `max_ambiguous` of the points off its surface
    its holes leave open whether they are inside.

    The share `curvature` of the points of `near` follows the curvature of a mesh: they lie off its edges, drawn by length
    times angle. The others are uniform over the area. None means 0.25 for signed distances and 0 for other fields, and
    is 0 in recipes of versions 1 and 2.

    `table` is the path, below the data root, of a table of labels for a mesh_folder or point_folder. With `measure` each
    row says the area of its mesh, and the volume, NaN where the mesh is not closed, in the unit of the coords.
    """

    collection: Literal["modelnet40", "modelnet10", "ldraw40", "mesh_folder", "point_folder", "primitives"]
    field: ShapeField | None = None
    fit_to: Literal["sphere", "cube"] = "sphere"
    radius: Number = Field(default=0.9, gt=0, le=1)
    clamp: Number = Field(default=0.1, gt=0, le=4)
    num_points: Integer = Field(default=20_000, ge=1, le=10_000_000)
    near: tuple[tuple[Share, Spread], ...] = ((0.5, 0.01), (0.3, 0.05))
    curvature: Share | None = None
    views_resample: bool = False
    augment: tuple[str, ...] = ()
    table: str | None = Field(default=None, min_length=1)
    measure: bool = False
    num_truth: Integer = Field(default=10_000, ge=2, le=10_000_000)
    num_surface: Integer = Field(default=2_500, ge=1, le=10_000_000)
    max_ambiguous: Number = Field(default=0.25, ge=0, le=1)
    max_faces: Integer = Field(default=1_000_000, ge=1, le=LARGEST)  # triangles of a mesh, points of a cloud
    max_bytes: Integer = Field(default=256 * 2**20, ge=1, le=LARGEST)  # of a file
    per_class: Integer = Field(default=50, ge=1, le=1_000_000)  # objects of each class of primitives

    dims: ClassVar[tuple[int, int]] = (3, 1)

    @property
    def natural_field(self) -> ShapeField:
        """`field`, with None resolved."""
        return self.field or ("sdf" if self.collection in ("mesh_folder", "primitives") else "udf")

    @property
    def signed(self) -> bool:
        """Whether the field says what is inside."""
        return self.natural_field in ("sdf", "occupancy")

    @property
    def changes(self) -> tuple[Change, ...]:
        """Those of `augment`."""
        return parse_changes(self.augment, SHAPE_CHANGES)

    @field_validator("augment", mode="before")
    @classmethod
    def _check_augment(cls, given: Any) -> list[str]:
        return [str(change) for change in parse_changes(given, SHAPE_CHANGES)]

    @model_validator(mode="after")
    def _check(self) -> "ShapeSource":
        for change in self.changes:
            if isinstance(change, ShapeRotate) and self.fit_to == "cube":
                raise ValueError("augment: a rotated shape may leave the cube; rotate needs fit_to sphere")
            if isinstance(change, ShapeScale) and change.high * self.radius > 1:
                raise ValueError(
                    f"augment: scale {change.high:g} of radius {self.radius:g} leaves [-1, 1]; choose less"
                )
        if sum(share for share, _ in self.near) > 1 + 1e-9:
            raise ValueError(f"the shares of near add up to {sum(share for share, _ in self.near):g}, at most 1")
        if self.table is not None and self.collection not in ("mesh_folder", "point_folder"):
            raise ValueError(f"table is for mesh_folder and point_folder; {self.collection} has labels of its own")
        if self.measure and self.collection == "point_folder":
            raise ValueError("measure is for meshes; clouds of points have neither area nor volume")
        if self.curvature and self.collection == "point_folder":
            raise ValueError("curvature is for meshes; clouds of points have no edges")
        if self.collection == "point_folder" and self.signed:
            raise ValueError(f"clouds of points have no inside, so their field is udf or root_udf, not {self.field}")
        return self


class OwnSource(Section):
    """Objects of a Source written in Python and given to `fit_dataset`; a recipe cannot name its code."""

    collection: Literal["own"]
    dims: ClassVar[tuple[int, int]] = (2, 1)  # where the Source is not at hand


SOURCES = (ImageSource, ShapeSource, OwnSource)
