"""Slots: continuous batching of fits. A slot whose INR is finished takes the next signal from the queue.

Shape letters: N slots, D parameters of one INR.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from inr_factory.generation.fit_config import FitConfig
from inr_factory.generation.fitting.fit_table import FitBatch, FitTable
from inr_factory.generation.fitting.optimizers import LOOKS
from inr_factory.generation.fitting.stopping import reached_target
from inr_factory.generation.signals import Signal


@dataclass
class Slot:
    """The signal that one slot of the batch fits, its row in the table, and the steps of this attempt so far."""

    row: int
    signal: Signal
    steps: int = 0

    def needs_loss(self, config: FitConfig) -> bool:
        """Whether the stopping rule needs the loss over all points before the next step."""
        return self.steps >= config.steps or self.steps % steps_between_looks(self.signal, config) == 0

    def continues(self, loss: float, config: FitConfig) -> bool:
        """Whether the fit takes another step, which is then counted. Ignores the loss where `needs_loss` is false."""
        if self.needs_loss(config):
            reached = reached_target(loss, self.signal.peak, config)
            if not math.isfinite(loss) or reached or self.steps >= config.steps:
                return False
        self.steps += 1
        return True


class BatchSlots:
    """A fixed number of slots fed from a queue of signals. Idle slots (None) still compute; nobody reads them."""

    def __init__(self, batch: FitBatch, config: FitConfig, fits: FitTable) -> None:
        self.config, self.fits = config, fits
        self.waiting = iter(zip(batch.rows.tolist(), batch.signals, strict=True))
        # Never a batch of one: its sums are ordered differently.
        count = max(2, min(config.lanes, len(batch)))
        self.slots: list[Slot | None] = [self._next() for _ in range(count)]

    def _next(self) -> Slot | None:
        following = next(self.waiting, None)
        return Slot(*following) if following else None

    def __len__(self) -> int:
        return len(self.slots)

    @property
    def busy(self) -> bool:
        return any(slot is not None for slot in self.slots)

    def advance(self, losses: Sequence[float], flat: Tensor) -> tuple[list[int], int]:
        """Apply the stopping rule to all slots by their losses over all points; flat (N, D) are their weights.

        Returns:
            The slots to fill with new initial values, and the number of slots that take a step, whose update the
            engine makes next.
        """
        busy = [(at, slot) for at, slot in enumerate(self.slots) if slot is not None]
        stopped = [(at, slot) for at, slot in busy if not slot.continues(losses[at], self.config)]
        if stopped:
            at = [index for index, _ in stopped]
            rows = np.array([slot.row for _, slot in stopped])
            steps = [slot.steps for _, slot in stopped]
            again = set(self.fits.stop(rows, flat[at], [losses[index] for index in at], steps).tolist())
            for index, slot in stopped:
                self.slots[index] = replace(slot, steps=0) if slot.row in again else self._next()
        refill = [index for index, _ in stopped if self.slots[index] is not None]
        return refill, len(busy) - len(stopped)


def steps_between_looks(signal: Signal, config: FitConfig) -> int:
    """Number of steps that use every point once; with muon, four times that many, unless it is one."""
    epoch = -(-len(signal.coords) // config.batch_points) if config.batch_points else 1
    return epoch * LOOKS if config.optimizer == "muon" and epoch > 1 else epoch


def shuffle_points(signal: Signal, seed: int) -> Signal:
    """The signal with its points in an order that depends on the seed alone; steps take them in this order."""
    keys = np.random.Philox(key=seed).random_raw(len(signal.coords))
    order = torch.from_numpy(np.argsort(keys, kind="stable"))
    return replace(signal, coords=signal.coords[order], targets=signal.targets[order])
