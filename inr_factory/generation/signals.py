"""Signals: what one INR says where, the collections that give them, and the pixel grid."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from functools import lru_cache
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor


class SignalError(ValueError):
    """One object has no signal (broken, oversized, empty file); the others go on and it is quarantined."""


Field = Literal["values", "sdf", "occupancy", "udf"]


@dataclass(frozen=True)
class Truth:
    """What is known of a shape beside what it is fitted to, for measuring how well an INR stands for it.

    coords (Q, I) are points that no fit sees and targets (Q, O) what an INR should say there, in the terms of the
    signal's field; surface (S, I) are points on the shape itself. All in the coordinates of the signal.
    """

    coords: Tensor
    targets: Tensor
    surface: Tensor


@dataclass(frozen=True)
class Signal:
    """What one INR is fitted to: targets (P, O) at coords (P, I), coords in [-1, 1].

    `peak` is the range of the targets, by which PSNR = 10 log10(peak² / MSE) is measured. `facts` are numbers
    about this object that its row in the shard keeps (height and width of an image, scale and centre of a shape).
    `field` says what the targets are: plain values, signed distances (negative inside), occupancies (1 inside,
    0 outside) or unsigned distances; a `truth` is there for shapes.
    Signals that share a grid share the coords tensor itself, which the engines use.
    """

    coords: Tensor
    targets: Tensor
    peak: float = 1.0
    facts: Mapping[str, int | float] = dataclass_field(default_factory=dict)
    field: Field = "values"
    truth: Truth | None = None

    def __post_init__(self) -> None:
        if self.coords.dim() != 2 or self.targets.dim() != 2 or len(self.coords) != len(self.targets):
            raise SignalError(
                f"coords {tuple(self.coords.shape)} and targets {tuple(self.targets.shape)} do not pair up"
            )
        if len(self.coords) == 0:
            raise SignalError("it has no points")
        # numpy takes a tenth of torch's time for arrays of this size, of which there are as many as objects.
        if not np.isfinite(self.targets.numpy()).all() or not np.isfinite(self.coords.numpy()).all():
            raise SignalError("it has values that are NaN or infinite")


@dataclass(frozen=True)
class Item:
    """One object of a collection: a stable name, its class, and the collection's own split, if it has one."""

    object_id: str
    label: int
    split: str | None


class Source(Protocol):
    """A collection of objects that INRs are fitted to. Write your own in thirty lines: see examples/own_source.py.

    `fingerprint` changes whenever the content may have changed. `signal(index, view)` gives the signal of `items[index]`
    for a view (most sources give the same for all) or raises SignalError with the reason why there is none.
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

    def signal(self, index: int, view: int = 0) -> Signal: ...


@lru_cache(maxsize=64)
def pixel_grid(height: int, width: int) -> Tensor:
    """Pixel positions, (height * width, 2) as (x, y), row by row from the top left; the corners lie at ±1.

    linspace(-1, 1) on both axes, as Navon et al. (2023) place them; one pixel alone lies at 0. Calls with the
    same size return the same tensor: do not write into it.
    """
    y, x = (torch.linspace(-1, 1, side) if side > 1 else torch.zeros(1) for side in (height, width))
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).reshape(-1, 2)
