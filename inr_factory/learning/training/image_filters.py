"""Filters: what an editor learns to do to what INRs show.

Shape letters: N INRs, O outputs, H height, W width.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn import functional as F

from inr_factory.errors import UsageError
from inr_factory.inr.batch import INRBatch
from inr_factory.learning.option_strings import Option, check_integer, check_number, parse_option
from inr_factory.learning.transforms.coordinate import rotate2d
from inr_factory.learning.transforms.intensity import contrast, invert


class ImageFilter(Option):
    """A filter: N INRs of images -> what their edits have to show on a pixel grid, (N, H, W, O).

    It changes the pixels (N, O, H, W) that the INRs render; or INRs have its edit exactly, and those are rendered.
    """

    def __call__(self, inrs: INRBatch, height: int, width: int) -> Tensor:
        edited = self.exact(inrs)
        if edited is not None:
            return edited.images(height, width)
        return self.pixels(inrs.images(height, width).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)

    def pixels(self, images: Tensor) -> Tensor:
        raise NotImplementedError

    def exact(self, inrs: INRBatch) -> INRBatch | None:
        """The INRs that show the filtered images, where a change of weights is known that makes them."""
        return None


@dataclass(frozen=True)
class _Window(ImageFilter):
    """A filter over windows of size x size pixels around each; size is odd, 1 to 99."""

    size: int = 3

    def __post_init__(self) -> None:
        check_integer(self, "size", 1, 99)
        if self.size % 2 == 0:
            raise UsageError(f"{self.name}: size must be odd, so that windows have a middle, got {self.size}")


@dataclass(frozen=True)
class Dilate(_Window):
    """The largest value of each window, as cv2.dilate with a kernel of ones, once: published as an edit of INRs."""

    name: ClassVar[str] = "dilate"

    def pixels(self, images: Tensor) -> Tensor:
        return F.max_pool2d(images, self.size, stride=1, padding=self.size // 2)


@dataclass(frozen=True)
class Erode(_Window):
    """The smallest value of each window."""

    name: ClassVar[str] = "erode"

    def pixels(self, images: Tensor) -> Tensor:
        return -F.max_pool2d(-images, self.size, stride=1, padding=self.size // 2)


@dataclass(frozen=True)
class Blur(_Window):
    """The mean of the pixels of each window that lie in the image."""

    name: ClassVar[str] = "blur"

    def pixels(self, images: Tensor) -> Tensor:
        return F.avg_pool2d(images, self.size, stride=1, padding=self.size // 2, count_include_pad=False)


@dataclass(frozen=True)
class Contrast(ImageFilter):
    """Values times a factor about a pivot: exact."""

    name: ClassVar[str] = "contrast"
    factor: float = 1.5
    pivot: float = 0.5

    def __post_init__(self) -> None:
        check_number(self, "factor", 0, 100)
        check_number(self, "pivot", -100, 100)

    def exact(self, inrs: INRBatch) -> INRBatch:
        return contrast(inrs, self.factor, self.pivot)


@dataclass(frozen=True)
class Invert(ImageFilter):
    """1 minus the values: exact."""

    name: ClassVar[str] = "invert"

    def exact(self, inrs: INRBatch) -> INRBatch:
        return invert(inrs)


@dataclass(frozen=True)
class Rotate(ImageFilter):
    """Turns the picture counter-clockwise about its centre: exact. Corners show what INRs have beyond the image."""

    name: ClassVar[str] = "rotate"
    degrees: float = 30.0

    def __post_init__(self) -> None:
        check_number(self, "degrees", -360, 360)

    def exact(self, inrs: INRBatch) -> INRBatch:
        return rotate2d(inrs, self.degrees)


FILTERS: Mapping[str, type[ImageFilter]] = {kind.name: kind for kind in (Dilate, Erode, Blur, Contrast, Invert, Rotate)}


def parse_filter(text: str) -> ImageFilter:
    """The filter of a text such as "dilate:size=3". Raises UsageError for another name, key or value."""
    return parse_option(text, FILTERS, "filter")
