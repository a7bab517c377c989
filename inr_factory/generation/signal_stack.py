"""Signal stack: the signals of many objects as arrays, which need no Python object each.

Shape letters: N signals, P points, I coordinates, O values.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from dataclasses import field as dataclass_field
from typing import Protocol, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from inr_factory.generation.signals import Field, Signal, Source

Rows = slice | NDArray[np.int64]


@dataclass(frozen=True)
class SignalStack(Sequence[Signal]):
    """N signals with the same number of points, peak, facts and field. A sequence of `Signal`s, which it makes on demand.

    Args:
        coords: Points in [-1, 1], (P, I), shared, or (N, P, I).
        values: (N, P, O), float32, finite; or uint8 from 0 to `white`.
        white: Targets are float32 values divided by it.
        peak, facts, field: As `Signal` has them, the same for all.
    """

    coords: Tensor
    values: Tensor
    white: int = 1
    peak: float = 1.0
    facts: Mapping[str, int | float] = dataclass_field(default_factory=dict)
    field: Field = "values"

    @property
    def shared_coords(self) -> bool:
        return self.coords.dim() == 2

    def __len__(self) -> int:
        return len(self.values)

    @overload
    def __getitem__(self, index: int) -> Signal: ...
    @overload
    def __getitem__(self, index: Rows) -> "SignalStack": ...
    def __getitem__(self, index: int | Rows) -> "Signal | SignalStack":
        """One signal, or a stack of those at a slice, which are views, or at an array of rows."""
        if isinstance(index, slice | np.ndarray):
            coords = self.coords if self.shared_coords else self.coords[index]
            return replace(self, coords=coords, values=self.values[index])
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        coords = self.coords if self.shared_coords else self.coords[index]
        return Signal(coords, divided(self.values[index], self.white), self.peak, self.facts, self.field)


class StackSource(Source, Protocol):
    """A source of many small objects that has all signals of a shard at once, much sooner than one by one."""

    def signals(self, indices: Sequence[int], view: int = 0) -> SignalStack | None:
        """What `signal` gives for each of the items; None where it has to be called for each."""
        ...


def divided(values: Tensor, white: int) -> Tensor:
    """Values over white, float32, with the same bits on every device."""
    values = values.float()
    # By a tensor: on a GPU torch multiplies by the reciprocal of a number.
    return values if white == 1 else values / torch.full((), white, dtype=torch.float32, device=values.device)


def select_signals(signals: Sequence[Signal], rows: Rows) -> Sequence[Signal]:
    """The signals at a slice or an array of rows, of a stack or of any other sequence."""
    if isinstance(signals, SignalStack):
        return signals[rows]
    return signals[rows] if isinstance(rows, slice) else [signals[row] for row in rows]


def stack_signals(signals: Sequence[Signal], shared_coords: bool) -> SignalStack:
    """Signals with the same number of points and field as a stack; its peak and facts are those of the first."""
    if isinstance(signals, SignalStack):
        return signals
    first = signals[0]
    coords = first.coords if shared_coords else torch.stack([signal.coords for signal in signals])
    values = torch.stack([signal.targets for signal in signals])
    return SignalStack(coords, values, peak=first.peak, facts=first.facts, field=first.field)
