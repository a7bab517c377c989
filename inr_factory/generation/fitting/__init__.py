"""Fitting: many INRs at once, each to its own signal, by one of several engines behind `fit_views`.

Engines: `reference` (torch.func, any device), the yardstick for correctness; `fused`, one kernel that makes all steps of
an INR near its core: compiled C on the CPU, about ten times as fast, and Triton on an NVIDIA GPU (sine INRs, there up to
three hidden layers of 64). `auto` picks the fastest that supports the spec on the device; `none` fits nothing.

Shape letters: N INRs, D parameters of one INR, P points, O values.
"""

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from inr_factory.errors import UsageError
from inr_factory.generation.fitting import fused_cpu, fused_cuda
from inr_factory.generation.fitting.initial_values import Starts
from inr_factory.generation.fitting.reference import fit_reference
from inr_factory.generation.fitting.slots import Fit, Job, in_own_order
from inr_factory.generation.recipe import FitConfig
from inr_factory.generation.signals import Signal
from inr_factory.inr.batch import INRBatch, start_values
from inr_factory.inr.spec import SirenSpec
from inr_factory.storage.manifest import Quarantined, ViewKey
from inr_factory.storage.shards import STATUS

_log = logging.getLogger(__name__)


class Tally(NamedTuple):
    """How far a fit is: INRs done, those of them that are good with the sum of their PSNRs in dB, and INR-steps."""

    done: int = 0
    good: int = 0
    psnr_sum: float = 0.0
    steps: int = 0

    def plus(self, other: "Tally", sign: int = 1) -> "Tally":
        done, good = self.done + sign * other.done, self.good + sign * other.good
        return Tally(done, good, self.psnr_sum + sign * other.psnr_sum, self.steps + sign * other.steps)

    def minus(self, other: "Tally") -> "Tally":
        return self.plus(other, -1)


OnProgress = Callable[[Tally], None]
"""Called after every step."""


@dataclass(frozen=True)
class FittedViews:
    """INRs on the CPU and how their fits ended, in the order of the keys; what failed is in `failures` only.

    seeds (N,) int64 are those of the attempts that made them; psnr (N,) in dB and loss (N,) the mean squared error
    of these very weights; steps (N,) the updates made; status (N,) as `shards.STATUS` names it.
    """

    keys: tuple[ViewKey, ...]
    inrs: INRBatch
    seeds: NDArray[np.int64]
    psnr: NDArray[np.float32]
    loss: NDArray[np.float32]
    steps: NDArray[np.int32]
    status: NDArray[np.int8]
    failures: tuple[Quarantined, ...]


def fit_views(
    spec: SirenSpec,
    keys: Sequence[ViewKey],
    signals: Sequence[Signal],
    config: FitConfig,
    run_seed: int,
    device: torch.device | str = "cpu",
    on_progress: OnProgress | None = None,
) -> FittedViews:
    """Fit one INR to each signal, from the start values of its key.

    Adam, or the setting that `config.optimizer` names, on the mean squared error over all points (for occupancies, on
    the cross-entropy); with `batch_points` each step takes some of them in turn. Each INR stops by itself, before the
    update after which it would have reached its target, or after `steps` updates. One that diverges or ends below
    `floor_psnr` begins again with the seed of its next attempt; after `attempts` it is a failure. INRs do not influence
    each other: on a CPU the result for a key is bit-identical whatever else is fitted with it. Raises UsageError for
    signals of other dimensions than the spec's, and for an engine that cannot fit this spec on this device.
    """
    if len(keys) != len(signals):
        raise UsageError(f"each key needs its signal, got {len(keys)} keys and {len(signals)} signals")
    for key, signal in zip(keys, signals, strict=True):
        dims = (signal.coords.shape[1], signal.targets.shape[1])
        if dims != (spec.in_dim, spec.out_dim):
            raise UsageError(f"{key.object_id} maps {dims[0]} to {dims[1]} values; this INR is {spec}")

    if config.engine == "none":
        return _start_values_alone(spec, keys, run_seed, on_progress)
    fits: dict[int, Fit] = {}
    tally = Tally()

    def report(finished: Sequence[Fit], updated: int) -> None:
        nonlocal tally
        fits.update((fit.index, fit) for fit in finished)
        good = [fit.psnr for fit in finished if not fit.failure]
        tally = tally.plus(Tally(len(finished), len(good), sum(good), updated))
        if on_progress is not None:
            on_progress(tally)

    if config.batch_points is not None:
        signals = [
            in_own_order(signal, key.seed(run_seed)) if len(signal.coords) > config.batch_points else signal
            for key, signal in zip(keys, signals, strict=True)
        ]
    place = torch.device(device)
    fused = fused_cpu.fit_fused if place.type == "cpu" else fused_cuda.fit_fused
    engine = fused if engine_name(config, place, spec) == "fused" else fit_reference
    start = Starts(spec, keys, signals, config, run_seed)
    with _precision(config):
        for jobs in _alike(signals):
            engine(spec, jobs, start, config, place, report)
    return _gather(spec, keys, [fits[index] for index in range(len(keys))], run_seed)


def _start_values_alone(
    spec: SirenSpec, keys: Sequence[ViewKey], run_seed: int, on_progress: OnProgress | None
) -> FittedViews:
    """What the engine that fits nothing makes: 0 steps to 0 dB."""
    seeds = [key.seed(run_seed) for key in keys]
    zeros = np.zeros(len(keys))
    if on_progress is not None:
        on_progress(Tally(len(keys), len(keys)))
    return FittedViews(
        keys=tuple(keys),
        inrs=start_values(spec, seeds),
        seeds=np.array(seeds, dtype=np.int64),
        psnr=zeros.astype(np.float32),
        loss=np.ones(len(keys), dtype=np.float32),
        steps=zeros.astype(np.int32),
        status=np.full(len(keys), STATUS["ran all steps"], dtype=np.int8),
        failures=(),
    )


def engine_name(
    config: FitConfig, device: torch.device | str, spec: SirenSpec
) -> Literal["reference", "fused", "none"]:
    """The engine that `fit_views` uses. Raises UsageError where the one asked for cannot do this."""
    if config.engine in ("reference", "none"):
        return config.engine
    kind = torch.device(device).type
    if kind == "cpu":
        obstacle = fused_cpu.obstacle(spec)
    elif kind == "cuda":
        obstacle = "fit.scope is not built into it" if config.scope else fused_cuda.obstacle(spec)
    else:
        obstacle = f"it runs on the CPU and on NVIDIA GPUs, not on {kind}"
    if not obstacle:
        return "fused"
    if config.engine == "fused":
        raise UsageError(f"fit.engine fused cannot do this: {obstacle}; take fit.engine=auto")
    _tell_once(obstacle)
    return "reference"


@lru_cache
def _tell_once(obstacle: str) -> None:
    """One line a process for each reason: what the cache holds has been said."""
    _log.warning("fitting with the slower reference engine, since the fused one cannot do this: %s", obstacle)


def _alike(signals: Sequence[Signal]) -> Iterator[list[Job]]:
    """Jobs in groups that one batch can hold: the same number of points and, where it is one tensor, the same grid.

    Objects with points of their own share a batch if their number is the same.
    """
    grids: dict[int, int] = {}
    for signal in signals:
        grids[id(signal.coords)] = grids.get(id(signal.coords), 0) + 1

    def kind(index: int) -> tuple[int, int]:
        coords = signals[index].coords
        return len(coords), id(coords) if grids[id(coords)] > 1 else 0

    # By size, then by first appearance: the order must not hang on where a tensor lies in memory.
    first: dict[tuple[int, int], int] = {}
    for index in range(len(signals)):
        first.setdefault(kind(index), index)
    order = sorted(range(len(signals)), key=lambda index: (first[kind(index)], index))
    for (_, grid), indices in groupby(order, key=kind):
        yield [Job(index, signals[index], shared_coords=grid != 0) for index in indices]


def _gather(spec: SirenSpec, keys: Sequence[ViewKey], fits: Sequence[Fit], run_seed: int) -> FittedViews:
    good = [fit for fit in fits if not fit.failure]
    flat = torch.stack([fit.flat for fit in good]) if good else torch.empty(0, spec.num_parameters)
    return FittedViews(
        keys=tuple(keys[fit.index] for fit in good),
        inrs=INRBatch.from_flat(spec, flat),
        seeds=np.array([keys[fit.index].seed(run_seed, fit.attempt) for fit in good], dtype=np.int64),
        psnr=np.array([fit.psnr for fit in good], dtype=np.float32),
        loss=np.array([fit.loss for fit in good], dtype=np.float32),
        steps=np.array([fit.steps for fit in good], dtype=np.int32),
        status=np.array(
            [STATUS["reached target_psnr" if fit.reached else "ran all steps"] for fit in good], dtype=np.int8
        ),
        failures=tuple(
            Quarantined(
                object_id=keys[fit.index].object_id,
                view=keys[fit.index].view,
                reason=fit.failure,
                psnr=_round(fit.psnr),
            )
            for fit in fits
            if fit.failure
        ),
    )


def _round(psnr: float) -> float | None:
    return round(psnr, 3) if np.isfinite(psnr) else None


@contextlib.contextmanager
def _precision(config: FitConfig) -> Iterator[None]:
    """TF32 on a GPU only where it is asked for."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if config.tf32 else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
