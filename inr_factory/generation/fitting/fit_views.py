"""Fit views: fits many INRs at once, each to its own signal, by the engine that the configuration asks for.

Shape letters: N INRs, D parameters of one INR, P points, I coordinates, O values.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from numpy.typing import NDArray

from inr_factory.errors import UsageError
from inr_factory.generation.fitting.engines import choose_engine
from inr_factory.generation.fitting.initial_values import InitialValues
from inr_factory.generation.fitting.slots import FinishedFit, FitRequest, shuffle_points
from inr_factory.generation.fitting.tally import OnProgress, Tally
from inr_factory.generation.recipe import FitConfig
from inr_factory.generation.signals import Signal
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.initialization import initialize
from inr_factory.inr.spec import SirenSpec
from inr_factory.storage.manifest import Quarantined, ViewKey
from inr_factory.storage.shards import STATUS

COLUMNS = ("seeds", "psnr", "loss", "steps", "status")  # of FittedViews, one entry for each INR


@dataclass(frozen=True)
class FittedViews:
    """INRs on the CPU and how their fits ended, in the order of the keys; failed fits are in `failures` only.

    Attributes:
        keys: N keys of the fits that did not fail.
        inrs: Their N INRs.
        seeds: (N,) int64, of the attempts that made them.
        psnr: (N,) float32 in dB, of these very weights.
        loss: (N,) float32, their mean squared error.
        steps: (N,) int32, updates made.
        status: (N,) int8 as `shards.STATUS` names it.
        failures: Objects and views that failed in all attempts, with the reason.
    """

    keys: tuple[ViewKey, ...]
    inrs: INRBatch
    seeds: NDArray[np.int64]
    psnr: NDArray[np.float32]
    loss: NDArray[np.float32]
    steps: NDArray[np.int32]
    status: NDArray[np.int8]
    failures: tuple[Quarantined, ...]

    def select(self, keys: Sequence[ViewKey]) -> "FittedViews":
        """The fits of these keys, in their order."""
        row_of = {key: row for row, key in enumerate(self.keys)}
        rows = np.array([row_of[key] for key in keys if key in row_of], dtype=np.int64)
        failure_of = {ViewKey(failure.object_id, failure.view): failure for failure in self.failures}
        return FittedViews(
            keys=tuple(self.keys[row] for row in rows),
            inrs=self.inrs.select(torch.from_numpy(rows)),
            failures=tuple(failure_of[key] for key in keys if key in failure_of),
            **{name: getattr(self, name)[rows] for name in COLUMNS},
        )

    @classmethod
    def cat(cls, parts: Sequence["FittedViews"]) -> "FittedViews":
        """The fits of several calls with one spec, one after the other."""
        return cls(
            keys=tuple(key for part in parts for key in part.keys),
            inrs=INRBatch.cat([part.inrs for part in parts]),
            failures=tuple(failure for part in parts for failure in part.failures),
            **{name: np.concatenate([getattr(part, name) for part in parts]) for name in COLUMNS},
        )


def fit_views(
    spec: SirenSpec,
    keys: Sequence[ViewKey],
    signals: Sequence[Signal],
    config: FitConfig,
    run_seed: int,
    device: torch.device | str = "cpu",
    on_progress: OnProgress | None = None,
) -> FittedViews:
    """Fit one INR to each signal, from the initial values of its key.

    Adam, or the setting that `config.optimizer` names, on the mean squared error over all points (for occupancies, on
    the cross-entropy); with `batch_points` each step takes a batch of them in turn. Each INR stops by itself, before
    the update after which it would have reached its target, or after `steps` updates. One that diverges or ends below
    `floor_psnr` starts again with the seed of its next attempt; after `attempts` it is a failure. INRs do not influence
    each other: on a CPU the result for a key is bit-identical whatever else is fitted with it.

    Args:
        spec: Architecture of all INRs.
        keys: One key for each INR; with `run_seed` it determines the initial values.
        signals: One signal for each key, coords (P, I) in [-1, 1] and targets (P, O).
        config: Optimiser, steps, targets and engine.
        run_seed: Seed of the whole run, 0 or greater.
        device: Device of the fit; the results are on the CPU.
        on_progress: Called after every step of the engine with the tally so far.

    Returns:
        The fitted INRs in the order of the keys, and the failures.

    Raises:
        UsageError: The numbers of keys and signals differ, a signal has other dimensions than the spec, or the engine
            cannot fit this spec on this device.
    """
    if len(keys) != len(signals):
        raise UsageError(f"each key needs its signal, got {len(keys)} keys and {len(signals)} signals")
    for key, signal in zip(keys, signals, strict=True):
        dims = (signal.coords.shape[1], signal.targets.shape[1])
        if dims != (spec.in_dim, spec.out_dim):
            raise UsageError(f"{key.object_id} maps {dims[0]} to {dims[1]} values; this INR is {spec}")

    if config.engine == "none":
        return _initial_values_only(spec, keys, run_seed, on_progress)
    fits: dict[int, FinishedFit] = {}
    tally = Tally()

    def on_step(finished: Sequence[FinishedFit], updated: int) -> None:
        nonlocal tally
        fits.update((fit.index, fit) for fit in finished)
        good = [fit.psnr for fit in finished if not fit.failure]
        tally = tally.plus(Tally(len(finished), len(good), sum(good), updated))
        if on_progress is not None:
            on_progress(tally)

    if config.batch_points is not None:
        signals = [
            shuffle_points(signal, key.seed(run_seed)) if len(signal.coords) > config.batch_points else signal
            for key, signal in zip(keys, signals, strict=True)
        ]
    device = torch.device(device)
    engine = choose_engine(config, device, spec)
    initial = InitialValues(spec, keys, signals, config, run_seed)
    with _matmul_precision(config):
        for requests in _batchable(signals):
            engine(spec, requests, initial, config, device, on_step)
    return _collect(spec, keys, [fits[index] for index in range(len(keys))], run_seed)


def _initial_values_only(
    spec: SirenSpec, keys: Sequence[ViewKey], run_seed: int, on_progress: OnProgress | None
) -> FittedViews:
    """The result of the engine that fits nothing: 0 steps, 0 dB."""
    seeds = [key.seed(run_seed) for key in keys]
    zeros = np.zeros(len(keys))
    if on_progress is not None:
        on_progress(Tally(len(keys), len(keys)))
    return FittedViews(
        keys=tuple(keys),
        inrs=initialize(spec, seeds),
        seeds=np.array(seeds, dtype=np.int64),
        psnr=zeros.astype(np.float32),
        loss=np.ones(len(keys), dtype=np.float32),
        steps=zeros.astype(np.int32),
        status=np.full(len(keys), STATUS["ran all steps"], dtype=np.int8),
        failures=(),
    )


def _batchable(signals: Sequence[Signal]) -> Iterator[list[FitRequest]]:
    """Requests in groups that one batch can hold: the same number of points and, where it is one tensor, the same grid.

    Objects with points of their own share a batch if their number is the same.
    """
    num_uses: dict[int, int] = {}
    for signal in signals:
        num_uses[id(signal.coords)] = num_uses.get(id(signal.coords), 0) + 1

    def kind(index: int) -> tuple[int, int]:
        coords = signals[index].coords
        return len(coords), id(coords) if num_uses[id(coords)] > 1 else 0

    # By size, then by first appearance: the order must not depend on where a tensor lies in memory.
    first: dict[tuple[int, int], int] = {}
    for index in range(len(signals)):
        first.setdefault(kind(index), index)
    order = sorted(range(len(signals)), key=lambda index: (first[kind(index)], index))
    for (_, grid), indices in groupby(order, key=kind):
        yield [FitRequest(index, signals[index], shared_coords=grid != 0) for index in indices]


def _collect(spec: SirenSpec, keys: Sequence[ViewKey], fits: Sequence[FinishedFit], run_seed: int) -> FittedViews:
    good = [fit for fit in fits if not fit.failure]
    flat = torch.stack([fit.flat for fit in good]) if good else torch.empty(0, spec.num_parameters)
    status = [STATUS["reached target_psnr" if fit.reached else "ran all steps"] for fit in good]
    failures = (
        Quarantined(
            object_id=keys[fit.index].object_id,
            view=keys[fit.index].view,
            reason=fit.failure,
            psnr=round(fit.psnr, 3) if np.isfinite(fit.psnr) else None,
        )
        for fit in fits
        if fit.failure
    )
    return FittedViews(
        keys=tuple(keys[fit.index] for fit in good),
        inrs=INRBatch.from_flat(spec, flat),
        seeds=np.array([keys[fit.index].seed(run_seed, fit.attempt) for fit in good], dtype=np.int64),
        psnr=np.array([fit.psnr for fit in good], dtype=np.float32),
        loss=np.array([fit.loss for fit in good], dtype=np.float32),
        steps=np.array([fit.steps for fit in good], dtype=np.int32),
        status=np.array(status, dtype=np.int8),
        failures=tuple(failures),
    )


@contextlib.contextmanager
def _matmul_precision(config: FitConfig) -> Iterator[None]:
    """TF32 on a GPU only where the configuration asks for it."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if config.tf32 else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
