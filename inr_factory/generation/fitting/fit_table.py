"""Fit table: the fits of many signals as columns, which engines write into, and what becomes of those that fail.

Shape letters: N signals, M of them that one call of an engine fits, K of them that stop together, D parameters of one
INR.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from inr_factory.generation.fit_config import FitConfig
from inr_factory.generation.fitting.initial_values import seed_of
from inr_factory.generation.fitting.stopping import psnr_of, target_of
from inr_factory.generation.fitting.tally import OnProgress, Tally
from inr_factory.generation.signal_stack import as_index
from inr_factory.generation.signals import Signal
from inr_factory.inr.spec import SirenSpec
from inr_factory.storage.manifest import ViewKey


@dataclass(frozen=True)
class FitBatch:
    """Signals with the same number of points, which one call of an engine fits.

    Attributes:
        rows: (M,) int64, their rows in the table.
        signals: The M signals.
        shared_coords: Whether all have one coords tensor.
    """

    rows: NDArray[np.int64]
    signals: Sequence[Signal]
    shared_coords: bool

    def __len__(self) -> int:
        return len(self.rows)


class FitTable:
    """The fits of N signals, one a row. An engine calls `stop` with fits that stopped, and `step` after every step.

    Args:
        spec: Architecture of all INRs.
        keys: N keys, which give the seeds.
        peaks: (N,), ranges of the targets.
        config: Fitting configuration of the recipe.
        run_seed: Seed of the whole run.
        on_progress: Called by `step` with the tally so far.
        variances: (N,), those of the targets, 0 for constants; None where nobody asks for `explained`.

    Attributes:
        seeds: (N,) int64, of the present attempts: an engine starts a fit at `initial_weights` of its seed.
        flat: (N, D) float32 on the CPU, the weights of fits that stopped.
        loss: (N,) float32, their mean squared error over all points.
        psnr: (N,) float64 in dB, of these weights; the best of the attempts where all failed.
        explained: (N,) float64, share of the targets' variance that they explain; NaN for constants.
        steps: (N,) int32, updates made.
        reached: (N,) bool, whether they reached their target.
        failures: By row, why a fit failed in all attempts.
        on_stop: Called with the rows, weights and losses of `stop` before they are recorded; may raise.
    """

    def __init__(
        self,
        spec: SirenSpec,
        keys: Sequence[ViewKey],
        peaks: NDArray[np.float64],
        config: FitConfig,
        run_seed: int,
        on_progress: OnProgress | None = None,
        variances: NDArray[np.float64] | None = None,
    ) -> None:
        count = len(keys)
        self.variances = np.full(count, np.nan) if variances is None else variances
        self.keys, self.peaks, self.config, self.run_seed, self.on_progress = keys, peaks, config, run_seed, on_progress
        targets = {peak: target_of(config, peak) for peak in set(peaks.tolist())}
        self.targets = np.array([math.inf if targets[peak] is None else targets[peak] for peak in peaks.tolist()])
        self.seeds = np.array([seed_of(key, config, run_seed) for key in keys], dtype=np.int64)
        self.attempts = np.zeros(count, dtype=np.int32)
        self.flat = torch.from_numpy(
            np.empty((count, spec.num_parameters), dtype=np.float32)
        )  # numpy takes large pages
        self.loss = np.full(count, np.nan, dtype=np.float32)
        self.psnr = np.full(count, -np.inf)
        self.explained = np.full(count, np.nan)
        self.steps = np.zeros(count, dtype=np.int32)
        self.reached = np.zeros(count, dtype=bool)
        self.failures: dict[int, str] = {}
        self.tally = Tally()
        self.on_stop: Callable[[NDArray[np.int64], Tensor, Sequence[float]], None] | None = None

    def stop(
        self, rows: NDArray[np.int64], flat: Tensor, losses: Sequence[float], steps: Sequence[int]
    ) -> NDArray[np.int64]:
        """Record fits that stopped; one that diverged or ended below the floor starts its next attempt, if it has one.

        Args:
            rows: (K,), their rows.
            flat: (K, D), their weights on any device.
            losses: (K,), mean squared errors over all points, as float32 has them.
            steps: (K,), updates made in this attempt.

        Returns:
            The rows to start again, with the seeds of their next attempts.
        """
        if self.on_stop is not None:
            self.on_stop(rows, flat, losses)
        psnr = np.array(
            [
                psnr_of(loss, peak) if math.isfinite(loss) else -math.inf
                for loss, peak in zip(losses, self.peaks[rows].tolist(), strict=True)
            ]
        )
        reached = psnr >= self.targets[rows]
        explained, floor = explained_variance(losses, self.variances[rows]), self.config.floor_explained
        shown = np.full(len(rows), True) if floor is None else explained >= floor
        good = (reached | (psnr >= self.config.floor_psnr)) & shown
        # Another attempt that reaches its target ends at the same error, and nothing explains a constant.
        again = ~good & ~reached & (shown | (self.variances[rows] > 0))
        again &= self.attempts[rows] + 1 < self.config.attempts
        self.psnr[rows] = np.where(good, psnr, np.maximum(self.psnr[rows], psnr))
        self.loss[rows], self.steps[rows], self.reached[rows] = losses, steps, reached
        self.explained[rows] = explained
        index = as_index(rows)
        self.flat[index] = flat if isinstance(index, slice) else flat.cpu()  # a slice copies from any device
        for row in rows[~good & ~again].tolist():
            self.failures[row] = self._failure_reason(row)
        for row in rows[again].tolist():
            self.attempts[row] += 1
            self.seeds[row] = seed_of(self.keys[row], self.config, self.run_seed, int(self.attempts[row]))
        done, num_good = len(rows) - int(again.sum()), int(good.sum())
        self.tally = self.tally.plus(Tally(done, num_good, float(psnr[good].sum())))
        return rows[again]

    def step(self, updated: int) -> None:
        """Count a step of the engine, which updated so many INRs, or INR-steps; may raise to end the fit."""
        self.tally = self.tally.plus(Tally(steps=updated))
        if self.on_progress is not None:
            self.on_progress(self.tally)

    def _failure_reason(self, row: int) -> str:
        times = f"in each of {self.config.attempts} attempts" if self.config.attempts > 1 else "in its only attempt"
        best = self.psnr[row]
        if not math.isfinite(best):
            return f"the fit diverged {times}"
        if self.config.floor_explained is not None and self.variances[row] == 0:
            return f"its signal is constant, fit.floor_explained asks for {self.config.floor_explained:g}"
        if best >= self.config.floor_psnr or self.reached[row]:
            return (
                f"the fit explains {self.explained[row]:.2g} of its signal's variance at {best:.1f} dB, fit.floor_explained "
                f"asks for {self.config.floor_explained:g}; raise fit.target_psnr or fit.steps"
            )
        return f"the fit stayed below {self.config.floor_psnr:g} dB {times}; the best reached {best:.1f} dB"


def explained_variance(losses: ArrayLike, variances: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N,) share of the targets' variance that fits explain: 1 - MSE / variance; NaN where the targets are constant.

    1 is a perfect fit; 0 or less is no better than the best constant. It is the coefficient of determination R².
    """
    variances = np.where(variances > 0, variances, np.nan)
    return np.asarray(1 - np.asarray(losses, dtype=np.float64) / variances)


FitEngine = Callable[[SirenSpec, FitBatch, FitConfig, torch.device, FitTable], None]
"""Fits a batch of signals on a device and reports to the table: the fits that stop, and every step."""
