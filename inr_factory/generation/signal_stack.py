"""Signal stack: the signals of many objects as arrays, which need no Python object each.

Shape letters: N signals, P points, I coordinates, O values.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from dataclasses import field as dataclass_field
from typing import overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from inr_factory.generation.signals import Field, Signal

Rows = slice | NDArray[np.int64]


@dataclass(frozen=True)
class SignalStack(Sequence[Signal]):
    """N signals with the same number of points, peak, facts and field. A sequence of `Signal`s, which it makes on demand.

    A `Source` of many small objects has a method `signal_stack(indices, view)`, which gives the signals of a shard, or
    None where `signal` has to be called for each.

    Args:
        coords: Points in [-1, 1], (P, I), shared, or (N, P, I).
        values: (N, P, O), float32; or uint8 from 0 to `white`.
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


def fact_columns(signals: Sequence[Signal], rows: Sequence[int]) -> dict[str, NDArray[np.generic]]:
    """A column for each fact that some of the signals have, with those of the signals at the rows."""
    if isinstance(signals, SignalStack):
        return {name: np.array([fact] * len(rows)) for name, fact in sorted(signals.facts.items())}
    names = sorted({name for signal in signals for name in signal.facts})
    return {name: np.array([signals[row].facts[name] for row in rows]) for name in names}


def variances(signals: Sequence[Signal]) -> NDArray[np.float64]:
    """(N,) variance of each signal's targets: their mean squared distance from the best constant, one for each value.

    It is exactly 0 where the targets are constant.
    """
    if isinstance(signals, SignalStack):
        values = divided(signals.values, signals.white).double().numpy()
        with np.errstate(invalid="ignore"):
            away = values - values[:, :1]  # a constant leaves zeros, its mean could differ from it
            return np.asarray(away.var(axis=1).mean(axis=1))
    return np.array([variances(stack_signals([signal], True))[0] for signal in signals], dtype=np.float64)


def inside_shares(signals: Sequence[Signal]) -> dict[str, NDArray[np.float64]]:
    """For signals with an inside (sdf, occupancy) a column `inside`: the share of their points that lie within."""
    if not len(signals) or signals[0].field not in ("sdf", "occupancy"):
        return {}
    insides = (signal.targets < 0 if signal.field == "sdf" else signal.targets > 0.5 for signal in signals)
    return {"inside": np.array([float(inside.float().mean()) for inside in insides])}


def stack_signals(signals: Sequence[Signal], shared_coords: bool) -> SignalStack:
    """Signals with the same number of points and field as a stack; its peak and facts are those of the first."""
    if isinstance(signals, SignalStack):
        return signals
    first = signals[0]
    coords = first.coords if shared_coords else torch.stack([signal.coords for signal in signals])
    values = torch.stack([signal.targets for signal in signals])
    return SignalStack(coords, values, peak=first.peak, facts=first.facts, field=first.field)


def as_index(rows: NDArray[np.int64]) -> Rows:
    """Rows as a slice where each follows the one before: no copies by it."""
    if len(rows) and (np.diff(rows) == 1).all():
        return slice(int(rows[0]), int(rows[-1]) + 1)
    return rows
