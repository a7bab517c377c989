"""Slots: continuous batching of fits. A slot whose INR is finished takes the next request from the queue.

Shape letters: N slots, D parameters of one INR.
"""

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from inr_factory.generation.fitting.stopping import psnr_of, reached_target
from inr_factory.generation.recipe import FitConfig
from inr_factory.generation.signals import Signal

Initializer = Callable[[int, int], Tensor]
"""Initial values (D,) for the signal of an index and an attempt counted from 0."""


@dataclass(frozen=True)
class FitRequest:
    """A signal to fit and its index among the signals. Requests with shared_coords have one coords tensor."""

    index: int
    signal: Signal
    shared_coords: bool


@dataclass(frozen=True)
class FinishedFit:
    """How the fit of one signal ended: flat (D,) on the CPU; `failure` is the reason if it is of no use, else empty."""

    index: int
    attempt: int
    flat: Tensor
    loss: float
    psnr: float
    steps: int
    reached: bool
    failure: str = ""


OnStep = Callable[[Sequence[FinishedFit], int], None]
"""Called after every step with the fits that it finished and the number of INRs that it updated."""


@dataclass
class Slot:
    """The request that one slot of the batch fits, and its attempts and steps so far."""

    request: FitRequest
    attempt: int = 0
    steps: int = 0
    best_psnr: float = -math.inf

    def needs_loss(self, config: FitConfig) -> bool:
        """Whether the stopping rule needs the loss over all points before the next step."""
        return self.steps >= config.steps or self.steps % steps_per_epoch(self.request.signal, config) == 0

    def continues(self, loss: float, config: FitConfig) -> bool:
        """Whether the fit takes another step, which is then counted. Ignores the loss where `needs_loss` is false."""
        if self.needs_loss(config):
            reached = reached_target(loss, self.request.signal.peak, config)
            if not math.isfinite(loss) or reached or self.steps >= config.steps:
                return False
        self.steps += 1
        return True

    def finish(self, loss: float, flat: Tensor, config: FitConfig) -> FinishedFit | None:
        """The fit of a slot that has stopped; None where it failed and the next attempt begins.

        Args:
            loss: Mean squared error over all points.
            flat: Weights (D,), copied to the CPU.
            config: Fitting configuration of the recipe.
        """
        finite, peak = math.isfinite(loss), self.request.signal.peak
        psnr = psnr_of(loss, peak) if finite else -math.inf
        self.best_psnr = max(self.best_psnr, psnr)
        reached = finite and reached_target(loss, peak, config)
        failure = "" if reached or psnr >= config.floor_psnr else _failure_reason(self, config)
        if failure and self.attempt + 1 < config.attempts:
            self.attempt, self.steps = self.attempt + 1, 0
            return None
        best = self.best_psnr if failure else psnr
        return FinishedFit(
            self.request.index, self.attempt, flat.cpu().clone(), loss, best, self.steps, reached, failure
        )


class BatchSlots:
    """A fixed number of slots fed from a queue of requests. Idle slots (None) still compute; nobody reads them."""

    def __init__(self, requests: Sequence[FitRequest], config: FitConfig) -> None:
        self.config = config
        self.waiting = deque(requests)
        # Never a batch of one: its sums are ordered differently.
        count = max(2, min(config.lanes, len(requests)))
        self.slots: list[Slot | None] = [self._next() for _ in range(count)]

    def _next(self) -> Slot | None:
        return Slot(self.waiting.popleft()) if self.waiting else None

    def __len__(self) -> int:
        return len(self.slots)

    @property
    def busy(self) -> bool:
        return any(slot is not None for slot in self.slots)

    def advance(self, losses: Sequence[float], flat: Tensor) -> tuple[list[FinishedFit], list[int], int]:
        """Apply the stopping rule to all slots by their losses over all points; flat (N, D) are their weights.

        Returns:
            The fits that finished; the slots to fill with new initial values; the number of slots that take a step,
            whose update the engine makes next.
        """
        finished: list[FinishedFit] = []
        refill: list[int] = []
        updated = 0
        for index, slot in enumerate(self.slots):
            if slot is None:
                continue
            if slot.continues(losses[index], self.config):
                updated += 1
                continue
            fit = slot.finish(losses[index], flat[index], self.config)
            if fit is not None:
                finished.append(fit)
                self.slots[index] = self._next()
            if self.slots[index] is not None:
                refill.append(index)
        return finished, refill, updated


def steps_per_epoch(signal: Signal, config: FitConfig) -> int:
    """Number of steps that use every point once."""
    return -(-len(signal.coords) // config.batch_points) if config.batch_points else 1


def shuffle_points(signal: Signal, seed: int) -> Signal:
    """The signal with its points in an order that depends on the seed alone; steps take them in this order."""
    keys = np.random.Philox(key=seed).random_raw(len(signal.coords))
    order = torch.from_numpy(np.argsort(keys, kind="stable"))
    return replace(signal, coords=signal.coords[order], targets=signal.targets[order])


def _failure_reason(slot: Slot, config: FitConfig) -> str:
    times = f"in each of {config.attempts} attempts" if config.attempts > 1 else "in its only attempt"
    if not math.isfinite(slot.best_psnr):
        return f"the fit diverged {times}"
    return f"the fit stayed below {config.floor_psnr:g} dB {times}; the best reached {slot.best_psnr:.1f} dB"
