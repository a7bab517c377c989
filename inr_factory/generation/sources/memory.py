"""Objects in memory as a source: images, or coordinates with values, and their labels.

Shape letters: N objects, P points, I coordinates and O values of a point, H and W pixels, C channels.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from inr_factory.errors import UsageError, did_you_mean, shorten
from inr_factory.generation.signal_stack import SignalStack, as_index
from inr_factory.generation.signals import Item, Signal
from inr_factory.inr.arguments import as_tensor
from inr_factory.inr.pixel_grid import pixel_grid
from inr_factory.storage.target_values import column_of
from inr_factory.storage.targets import TargetColumn

MAX_CHANNELS = 16  # of an image; more are a volume, or spectra
MAX_CLASSES = 100_000  # that labels alone may ask for
FINEST = 1e-5  # range of values as a share of the largest: 84 steps of float32


@dataclass(frozen=True)
class MemorySource:
    """N objects in memory as a Source: points (P, I), shared, or (N, P, I), and values (N, P, O).

    `facts` are those of every object, as height and width of images; `peak` is the range of the values, for PSNR.
    """

    coords: Tensor
    values: Tensor
    peak: float
    facts: dict[str, int]
    labels: tuple[int, ...] = ()
    classes: tuple[str, ...] = ("object",)
    name: str = "arrays"
    version: str = "1"
    licence: str = "unknown"
    targets: tuple[TargetColumn, ...] = ()

    @property
    def in_dim(self) -> int:
        return self.coords.shape[-1]

    @property
    def out_dim(self) -> int:
        return self.values.shape[-1]

    @cached_property
    def items(self) -> tuple[Item, ...]:
        labels = self.labels or (0,) * len(self.values)
        return tuple(
            Item(f"{index:06d}", label, None, {column.name: column.value(index) for column in self.targets})
            for index, label in enumerate(labels)
        )

    @property
    def target_units(self) -> dict[str, str]:
        return {column.name: column.unit for column in self.targets}

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits over points, values, labels and classes."""
        labels = [item.label for item in self.items]
        facts = (tuple(self.coords.shape), tuple(self.values.shape), self.peak, labels, self.classes)
        digest = hashlib.sha256(repr(facts).encode())
        digest.update(self.coords.contiguous().numpy().data)
        digest.update(self.values.contiguous().numpy().data)
        return digest.hexdigest()[:16]

    def signal(self, index: int, view: int = 0) -> Signal:
        return self.stack[index]

    def signal_stack(self, indices: Sequence[int], view: int = 0) -> SignalStack:
        return self.stack[as_index(np.array(indices))]

    @property
    def stack(self) -> SignalStack:
        """The signals of all objects."""
        return SignalStack(self.coords, self.values, peak=self.peak, facts=self.facts)


def image_source(
    images: ArrayLike | Tensor, value_range: tuple[float, float] | None = None
) -> tuple[MemorySource, float]:
    """Images (N, H, W) or (N, H, W, C) as a source, and the middle of their range; UsageError for other arrays.

    `value_range` are the values that become 0 and 1; by default 0 to 255 for uint8 and 0 to 1 for floats.
    """
    pixels = as_tensor(images, "images").detach().cpu()
    listed = "uint8" if not hasattr(images, "dtype") and np.asarray(images).dtype == np.uint8 else "float"
    dtype = getattr(images, "dtype", listed)
    kind = str(getattr(dtype, "name", dtype)).removeprefix("torch.")  # of numpy without the order of bytes
    shape = tuple(pixels.shape)
    if len(shape) == 4 and shape[3] > 4 >= shape[1]:
        raise UsageError(f"images must be (N, H, W, C), got {shape}; move the channels last")
    if len(shape) not in (3, 4) or 0 in shape:
        remedy = "; give one image as images[None]" if len(shape) == 2 else ""
        raise UsageError(f"images must be (N, H, W) or (N, H, W, C), got {shape}{remedy}")
    if len(shape) == 3 and shape[2] in (3, 4) and shape[1] > 4:
        raise UsageError(
            f"images must be (N, H, W) or (N, H, W, C), got {shape}, which looks like one image; give images[None], or "
            "images[..., None] if its columns are really so few"
        )
    if len(shape) == 4 and shape[3] > MAX_CHANNELS:
        raise UsageError(
            f"images must be (N, H, W, C) with at most {MAX_CHANNELS} channels, got {shape}; give volumes as coords and values"
        )
    if value_range is None and kind != "uint8" and "float" not in kind:
        raise UsageError(
            f"images must be uint8 from 0 to 255, or floats from 0 to 1, got {kind}; value_range=(0, largest) says what "
            "becomes 0 and 1"
        )
    low, high = finite_range(pixels, "images")
    first, last = checked_range(value_range) or ((0, 255) if kind == "uint8" else (0, 1))
    if low < first or high > last:
        raise UsageError(
            f"{kind} images must be from {first:g} to {last:g}, got {low:g} to {high:g}; value_range=(low, high) says what "
            "becomes 0 and 1"
        )
    pixels = pixels.float()
    if value_range is not None:
        pixels = ((pixels.double() - first) / (last - first)).float()
    elif kind == "uint8":
        pixels = pixels / 255
    height, width = shape[1:3]
    values = pixels.reshape(len(pixels), height * width, -1).contiguous()
    return MemorySource(pixel_grid(height, width), values, 1.0, {"height": height, "width": width}), 0.5


def checked_range(value_range: Any) -> tuple[float, float] | None:
    """A `value_range` that a user gave; UsageError unless it is two finite numbers, low below high."""
    if value_range is None:
        return None
    limits = as_tensor(value_range, "value_range", "R", R=2).double().tolist()
    if not (limits[0] < limits[1] and math.isfinite(limits[1] - limits[0])):
        raise UsageError(f"value_range must be two finite numbers, low below high, got {value_range}")
    _check_float32(limits[0], limits[1], "value_range goes")
    return limits[0], limits[1]


def _check_float32(low: float, high: float, what: str) -> None:
    """Raise UsageError where float32 has few steps between two numbers that differ."""
    if 0 < high - low < FINEST * max(abs(low), abs(high)):
        raise UsageError(f"{what} from {low:.12g} to {high:.12g}, too close for float32; subtract the mean")


def point_source(
    coords: ArrayLike | Tensor | None, values: ArrayLike | Tensor | None, value_range: tuple[float, float] | None = None
) -> tuple[MemorySource, float]:
    """Points (P, I) or (N, P, I) with values (N, P, O) as a source, and the middle of their range.

    `value_range` is the range of possible values, whose width is the peak of PSNR; by default that of the given values.
    """
    if coords is None or values is None:
        given = "neither" if coords is values else "coords alone" if values is None else "values alone"
        raise UsageError(f"fit takes images, or coords and values; got {given}")
    exact = as_tensor(values, "values", "N P O").detach().cpu()
    targets = exact.float().contiguous()
    N, P, _ = targets.shape
    points = as_tensor(coords, "coords", "P I", "N P I", N=N, P=P).detach().cpu().float().contiguous()
    if 0 in targets.shape or 0 in points.shape:
        raise UsageError(f"coords and values must not be empty, got {tuple(points.shape)} and {tuple(targets.shape)}")
    first, last = finite_range(points, "coords")
    if min(first, -last) < -1 - 1e-6:
        raise UsageError(f"coords must lie in [-1, 1], got {first:g} to {last:g}; shift and divide them")
    low, high = finite_range(targets, "values")
    if limits := checked_range(value_range):
        if low < limits[0] or high > limits[1]:
            raise UsageError(f"values go from {low:g} to {high:g}, beyond value_range {limits[0]:g} to {limits[1]:g}")
        low, high = limits
    _check_float32(*finite_range(exact, "values"), "values go")
    if low == high:
        raise UsageError(f"values are all {low:g}; there is nothing to fit")
    return MemorySource(points, targets, high - low, {}), (low + high) / 2


def finite_range(tensor: Tensor, name: str) -> tuple[float, float]:
    """The smallest and the largest value; UsageError where one is NaN or infinite."""
    if not tensor.isfinite().all():
        raise UsageError(f"{name} has values that are NaN or infinite")
    return float(tensor.min()), float(tensor.max())


def check_labels(
    labels: ArrayLike | Tensor | None, classes: Sequence[str] | None, count: int
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Labels of `count` objects and names of the classes; UsageError where they do not match."""
    if isinstance(classes, str | Set | Mapping):
        raise UsageError(f"classes must be a list of names in the order of the labels, got {shorten(classes)}")
    if labels is None:
        if classes is not None and len(classes) != 1:
            raise UsageError(f"classes names {len(classes)} classes, but labels are missing; give labels ({count},)")
        return (0,) * count, tuple(classes or ("object",))
    words = np.asarray(labels) if isinstance(labels, list | tuple | np.ndarray) else None
    if words is not None and words.dtype.kind == "U" and words.ndim == 1:
        classes = sorted(set(words.tolist())) if classes is None else list(classes)
        if unknown := set(words.tolist()) - set(classes):
            raise UsageError(
                f"labels has {min(unknown)!r}, which is not in classes; give its name there, or leave classes out"
            )
        labels = [classes.index(word) for word in words.tolist()]
    numbers = as_tensor(labels, "labels", "N", N=count)
    if not torch.equal(numbers, numbers.round()):
        raise UsageError("labels must be whole numbers, the class of each object; got fractions")
    low, high = int(numbers.min()), int(numbers.max())
    if classes is None and high >= max(MAX_CLASSES, count):
        raise UsageError(f"labels go up to {high:,}, which asks for as many classes; number the classes from 0")
    names = tuple(map(str, range(high + 1) if classes is None else classes))
    if low < 0 or high >= len(names):
        raise UsageError(f"labels must be from 0 to {len(names) - 1}, for {len(names)} classes; got {low} to {high}")
    return tuple(int(number) for number in numbers.tolist()), names


def target_columns(
    targets: Mapping[str, Any] | None, units: Mapping[str, str] | None, count: int
) -> tuple[TargetColumn, ...]:
    """The targets of `count` objects; UsageError where they are no columns of one value for each."""
    targets, units = targets or {}, units or {}
    for given, what in ((targets, "targets"), (units, "target_units")):
        if not isinstance(given, Mapping):
            raise UsageError(f"{what} must be a mapping by name, got {shorten(given)}")
    if unknown := [name for name in units if name not in targets]:
        raise UsageError(
            f"target_units names {shorten(unknown[0])}, which is no target; {did_you_mean(str(unknown[0])[:100], targets)}"
        )
    columns = tuple(column_of(name, values, unit=units.get(name, "")) for name, values in targets.items())
    for column in columns:
        if len(column.values) != count:
            raise UsageError(
                f"the target {column.name} has {len(column.values):,} values for {count:,} objects; give one for each"
            )
    return columns
