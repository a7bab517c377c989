"""Signals: what one INR is fitted to, and the collections that give them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from inr_factory.inr.arguments import as_tensor
from inr_factory.inr.regular_files import open_regular
from inr_factory.inr.stable_hash import content_digest


class SignalError(ValueError):
    """One object has no signal (broken, oversized, empty file). It goes into quarantine; the other objects are fitted."""


Field = Literal["values", "sdf", "occupancy", "udf", "root_udf"]


@dataclass(frozen=True)
class Truth:
    """Held-out points of a shape, for measuring how well an INR represents it. All in the coordinates of the signal.

    Attributes:
        coords: Points (Q, I) that no fit uses.
        targets: Values (Q, O) of the signal's field there.
        surface: Points (S, I) on the shape, uniform over its area.
        shape: Makes the shape itself, a `Mesh` or its points (S, 3) float64; None if there is none but `surface`.
    """

    coords: Tensor
    targets: Tensor
    surface: Tensor
    shape: Callable[[], Any] | None = None


@dataclass(frozen=True)
class Signal:
    """What one INR is fitted to: targets at coords. Tensors or numpy arrays.

    Signals on one grid should share the coords tensor itself: engines then store it once.

    Args:
        coords: Points (P, I) in [-1, 1].
        targets: Values (P, O) at the points.
        peak: Range of the targets, for PSNR = 10 log10(peak² / MSE).
        facts: Numbers about this object that its row in the shard keeps, such as height and width of an image or
            scale and centre of a shape.
        field: What the targets are: plain values, signed distances (negative inside), occupancies (1 inside,
            0 outside), unsigned distances or their square roots.
        truth: Held-out points, for shapes.
        content: Digest of the file that this was read from (`stable_hash.content_digest`), to find files that change
            between the fits of two views; None where unknown.

    Raises:
        SignalError: There are no points, coords and targets differ in their number, or values are not finite.
        UsageError: coords or targets are no arrays of numbers.
    """

    coords: Tensor
    targets: Tensor
    peak: float = 1.0
    facts: Mapping[str, int | float] = dataclass_field(default_factory=dict)
    field: Field = "values"
    truth: Truth | None = None
    content: int | None = None

    def __post_init__(self) -> None:
        for name in ("coords", "targets"):
            value = getattr(self, name)
            plain = isinstance(value, Tensor) and value.dtype == torch.float32 and not value.requires_grad
            if not plain or value.device.type != "cpu":
                object.__setattr__(self, name, as_tensor(value, name, dtype=torch.float32).detach().cpu())
        if self.coords.dim() != 2 or self.targets.dim() != 2 or len(self.coords) != len(self.targets):
            raise SignalError(
                f"coords {tuple(self.coords.shape)} and targets {tuple(self.targets.shape)} do not pair up"
            )
        if len(self.coords) == 0:
            raise SignalError("it has no points")
        # numpy takes a tenth of torch's time for arrays of this size, and every object has two.
        if not np.isfinite(self.targets.numpy()).all() or not np.isfinite(self.coords.numpy()).all():
            raise SignalError("it has values that are NaN or infinite")


def file_content(path: str) -> int:
    """The digest of the bytes of an object's file. Raises SignalError where it cannot be read."""
    try:
        with open_regular(path) as file:
            return content_digest(file)
    except OSError as error:
        raise SignalError(f"cannot be read: {error.strerror}") from error


@dataclass(frozen=True)
class Item:
    """One object of a collection.

    Args:
        object_id: Stable name, unique in the collection; seeds and splits depend on it.
        label: Index of its class in `Source.classes`.
        split: "train", "val" or "test" where the collection defines splits, else None.
        targets: What else the object stands for, by name: a number, a word (class), a list of words (labels) or of
            numbers (vector). All objects of a collection have the same names.
    """

    object_id: str
    label: int
    split: str | None
    targets: Mapping[str, Any] = dataclass_field(default_factory=dict, hash=False)


class Source(Protocol):
    """A collection of objects that INRs are fitted to. examples/own_source.py defines one in thirty lines.

    A Source may also have `content(index) -> bytes | str | int`: what `items[index]` is read from, or a digest of it.
    A set keeps it for each object, and refuses an object whose content has changed. Raises SignalError if it is gone.
    `target_units`, a mapping of names to texts, gives the units of `Item.targets`.

    Attributes:
        name: Name of the collection, kept in the manifest with `version` and `licence`.
        in_dim: Number of coordinates of a point.
        out_dim: Number of values at a point.
        classes: Names of the classes, by label.
        items: All objects, always in the same order.
        fingerprint: Text that changes whenever the content may have changed.
    """

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...

    @property
    def licence(self) -> str: ...

    @property
    def in_dim(self) -> int: ...

    @property
    def out_dim(self) -> int: ...

    @property
    def classes(self) -> tuple[str, ...]: ...

    @property
    def items(self) -> Sequence[Item]: ...

    @property
    def fingerprint(self) -> str: ...

    def signal(self, index: int, view: int = 0) -> Signal:
        """Return the signal of `items[index]` for a view; most sources ignore the view.

        Raises:
            SignalError: The object has no signal; the message is the reason that goes into quarantine.
        """
        ...
