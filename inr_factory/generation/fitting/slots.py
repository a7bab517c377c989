"""Lanes: which INR is fitted where in a fixed batch; a lane whose INR is done takes the next one.

Shape letters: D parameters of one INR.
"""

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from inr_factory.generation.recipe import FitConfig
from inr_factory.generation.signals import Signal

Start = Callable[[int, int], Tensor]
"""Start values (D,) of the signal of an index, for an attempt counted from 0."""


@dataclass(frozen=True)
class Job:
    """A signal to fit; `index` is its place among the signals. Jobs with shared_coords have one coords tensor."""

    index: int
    signal: Signal
    shared_coords: bool


@dataclass(frozen=True)
class Fit:
    """How the fit of one signal ended: flat (D,) on the CPU, and the reason in `failure` if it is of no use."""

    index: int
    attempt: int
    flat: Tensor
    loss: float
    psnr: float
    steps: int
    reached: bool
    failure: str = ""


OnStep = Callable[[Sequence[Fit], int], None]
"""Called after every step with the fits that it finished and the number of INRs that it updated."""


@dataclass
class Lane:
    """What one place of the batch works on."""

    job: Job
    attempt: int = 0
    steps: int = 0
    best_psnr: float = -math.inf

    def due(self, config: FitConfig) -> bool:
        """Whether the loss over all points has to be known now."""
        return self.steps >= config.steps or self.steps % steps_around(self.job.signal, config) == 0

    def goes_on(self, loss: float, config: FitConfig) -> bool:
        """Whether another step is due, which is then counted. The loss is looked at only where it is due."""
        if not self.due(config):
            self.steps += 1
            return True
        target = target_of(config, self.job.signal.peak)
        reached = target is not None and psnr_of(loss, self.job.signal.peak) >= target
        if not math.isfinite(loss) or reached or self.steps >= config.steps:
            return False
        self.steps += 1
        return True

    def conclude(self, loss: float, flat_D: Tensor, config: FitConfig) -> Fit | None:
        """The fit of a lane that stands still; None if it is bad and the lane has another attempt, now begun."""
        finite = math.isfinite(loss)
        psnr = psnr_of(loss, self.job.signal.peak) if finite else -math.inf
        self.best_psnr = max(self.best_psnr, psnr)
        target = target_of(config, self.job.signal.peak)
        reached = finite and target is not None and psnr >= target
        failure = "" if reached or psnr >= config.floor_psnr else _reason(self, config)
        if failure and self.attempt + 1 < config.attempts:
            self.attempt, self.steps = self.attempt + 1, 0
            return None
        best = self.best_psnr if failure else psnr
        return Fit(self.job.index, self.attempt, flat_D.cpu().clone(), loss, best, self.steps, reached, failure)


class Lanes:
    """A fixed number of lanes fed from a queue of jobs. Idle lanes (None) go on computing what nobody reads."""

    def __init__(self, jobs: Sequence[Job], config: FitConfig) -> None:
        self.config = config
        self.waiting = deque(jobs)
        # Never a batch of one: its sums are ordered differently.
        count = max(2, min(config.lanes, len(jobs)))
        self.lanes: list[Lane | None] = [self._next() for _ in range(count)]

    def _next(self) -> Lane | None:
        return Lane(self.waiting.popleft()) if self.waiting else None

    def __len__(self) -> int:
        return len(self.lanes)

    @property
    def busy(self) -> bool:
        return any(lane is not None for lane in self.lanes)

    def settle(self, losses: Sequence[float], flat: Tensor) -> tuple[list[Fit], list[int], int]:
        """Judge the weights (N, D) of all lanes by their losses over all points: the fits that are over, the places that begin anew.

        The other lanes count one step, whose update the engine makes next; the third result is their number.
        """
        finished: list[Fit] = []
        refill: list[int] = []
        updated = 0
        for place, lane in enumerate(self.lanes):
            if lane is None:
                continue
            if lane.goes_on(losses[place], self.config):
                updated += 1
                continue
            fit = lane.conclude(losses[place], flat[place], self.config)
            if fit is not None:
                finished.append(fit)
                self.lanes[place] = self._next()
            if self.lanes[place] is not None:
                refill.append(place)
        return finished, refill, updated


def steps_around(signal: Signal, config: FitConfig) -> int:
    """How many steps take every point once."""
    return -(-len(signal.coords) // config.batch_points) if config.batch_points else 1


def in_own_order(signal: Signal, seed: int) -> Signal:
    """The signal with its points in an order that hangs on the seed alone, from which steps take them in turn."""
    keys = np.random.Philox(key=seed).random_raw(len(signal.coords))
    order = torch.from_numpy(np.argsort(keys, kind="stable"))
    return replace(signal, coords=signal.coords[order], targets=signal.targets[order])


def psnr_of(loss: float, peak: float) -> float:
    """10 log10(peak² / loss) in dB, at most 200, so that a loss of 0 gives a number; NaN for NaN."""
    return min(200.0, 10 * math.log10(peak * peak / max(loss, 1e-300))) if loss < math.inf else math.nan


def target_of(config: FitConfig, peak: float) -> float | None:
    """The PSNR (dB) at which a fit is good enough; `target_error` counts more than `target_psnr`."""
    return 20 * math.log10(peak / config.target_error) if config.target_error else config.target_psnr


def stop_loss(config: FitConfig, peak: float) -> float:
    """The largest float32 loss at which `psnr_of` says that the target is reached; -1 where none is.

    For engines that compare losses on their own, so that they stop where the rule above does.
    """
    target = target_of(config, peak)
    if target is None or psnr_of(0.0, peak) < target:
        return -1.0
    above = np.float32(math.inf)
    loss = np.float32(peak * peak * 10 ** (-target / 10))
    while psnr_of(float(loss), peak) < target:
        loss, above = np.nextafter(loss, np.float32(-1)), loss
    while loss < above and psnr_of(float(np.nextafter(loss, above)), peak) >= target:
        loss = np.nextafter(loss, above)
    return float(loss)


def _reason(lane: Lane, config: FitConfig) -> str:
    times = f"in each of {config.attempts} attempts" if config.attempts > 1 else "in its only attempt"
    if not math.isfinite(lane.best_psnr):
        return f"the fit diverged {times}"
    return f"the fit stayed below {config.floor_psnr:g} dB {times}; the best reached {lane.best_psnr:.1f} dB"
