"""Fit views: fits many INRs at once, each to its own signal, by the engine that the configuration asks for.

Shape letters: N INRs, D parameters of one INR, P points, I coordinates, O values.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from threading import Lock

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from inr_factory.errors import UsageError
from inr_factory.generation.fit_config import FitConfig
from inr_factory.generation.fitting.engines import EngineName, choose_engine
from inr_factory.generation.fitting.failure_hint import failure_hint
from inr_factory.generation.fitting.fit_table import FitBatch, FitTable
from inr_factory.generation.fitting.initial_values import start_values
from inr_factory.generation.fitting.self_check import EngineFault, no_memory
from inr_factory.generation.fitting.slots import shuffle_points
from inr_factory.generation.fitting.tally import OnProgress, Tally
from inr_factory.generation.signal_stack import SignalStack, as_index, variances
from inr_factory.generation.signals import Signal
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.spec import SirenSpec
from inr_factory.storage.manifest import Quarantined, ViewKey
from inr_factory.storage.shards import STATUS

_CHANGING, _BEFORE = Lock(), list[str]()

COLUMNS = ("seeds", "psnr", "loss", "explained", "steps", "status")  # of FittedViews, one entry for each INR


@dataclass(frozen=True)
class FittedViews:
    """INRs on the CPU and how their fits ended, in the order of the keys; failed fits are in `failures` only.

    Attributes:
        spec: Architecture of all INRs.
        keys: N keys of the fits that did not fail.
        flat: (N, D) float32, their weights.
        seeds: (N,) int64, of the attempts that made them.
        psnr: (N,) float32 in dB, of these very weights.
        loss: (N,) float32, their mean squared error.
        explained: (N,) float64, share of the variance of their targets that they explain; NaN for constants.
        steps: (N,) int32, updates made.
        status: (N,) int8 as `shards.STATUS` names it.
        failures: Objects and views that failed in all attempts, with the reason.
        engine: Name of the engine that fitted all of them.
    """

    spec: SirenSpec
    keys: tuple[ViewKey, ...]
    flat: Tensor
    seeds: NDArray[np.int64]
    psnr: NDArray[np.float32]
    loss: NDArray[np.float32]
    explained: NDArray[np.float64]
    steps: NDArray[np.int32]
    status: NDArray[np.int8]
    failures: tuple[Quarantined, ...]
    engine: EngineName

    @property
    def inrs(self) -> INRBatch:
        """The N INRs; their tensors are views into `flat`."""
        return INRBatch.from_flat(self.spec, self.flat)

    def select(self, keys: Sequence[ViewKey]) -> "FittedViews":
        """The fits of these keys, in their order."""
        row_of = {key: row for row, key in enumerate(self.keys)}
        rows = np.array([row_of[key] for key in keys if key in row_of], dtype=np.int64)
        failure_of = {ViewKey(failure.object_id, failure.view): failure for failure in self.failures}
        return FittedViews(
            spec=self.spec,
            keys=tuple(self.keys[row] for row in rows),
            flat=self.flat[as_index(rows)],
            failures=tuple(failure_of[key] for key in keys if key in failure_of),
            engine=self.engine,
            **{name: getattr(self, name)[rows] for name in COLUMNS},
        )

    @classmethod
    def cat(cls, parts: Sequence["FittedViews"]) -> "FittedViews":
        """The fits of several calls with one spec, one after the other."""
        return cls(
            spec=parts[0].spec,
            keys=tuple(key for part in parts for key in part.keys),
            flat=torch.cat([part.flat for part in parts]),
            failures=tuple(failure for part in parts for failure in part.failures),
            engine=parts[0].engine,
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
    """Fit one INR to each signal, from the initial values of its key, or with shared starts of its view.

    Adam, or the setting that `config.optimizer` names, on the mean squared error over all points (for occupancies, on
    the cross-entropy); with `batch_points` each step takes a batch of them in turn. Each INR stops by itself, before
    the update after which it would have reached its target, or after `steps` updates. One that diverges or ends below
    `floor_psnr` (or `floor_explained`) starts again with the seed of its next attempt; after `attempts` it is a failure. INRs do not influence
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
        ResourceError: A GPU has no memory, or `config.engine` names an engine that fails its self-check there.
    """
    if len(keys) != len(signals):
        raise UsageError(f"each key needs its signal, got {len(keys)} keys and {len(signals)} signals")
    stacked = isinstance(signals, SignalStack)
    different = signals[:1] if stacked else signals  # those of a stack are alike but for their values
    for key, signal in zip(keys, different, strict=not stacked):
        dims = (signal.coords.shape[1], signal.targets.shape[1])
        if dims != (spec.in_dim, spec.out_dim):
            raise UsageError(f"{key.object_id} maps {dims[0]} to {dims[1]} values; this INR is {spec}")

    spreads = variances(signals)
    peaks = np.array([signal.peak for signal in different] * (len(keys) if stacked else 1), dtype=np.float64)

    def new_table() -> FitTable:
        return FitTable(spec, keys, peaks, config, run_seed, on_progress, spreads)

    fits = new_table()
    if config.engine == "none":
        _store_initial_values(spec, config, fits)
        return _collect(spec, fits, signals, "none")
    size = config.batch_points
    if size is not None and any(len(signal.coords) > size for signal in different):
        signals = [
            shuffle_points(signal, (key.of_all if config.order == "shared" else key).seed(run_seed))
            if len(signal.coords) > size
            else signal
            for key, signal in zip(keys, signals, strict=True)
        ]
    device = torch.device(device)
    with _matmul_precision(config):
        while True:
            engine = choose_engine(config, device, spec)
            try:
                for batch in _batches(signals):
                    engine.fit(spec, batch, config, device, fits)
                return _collect(spec, fits, signals, engine.name)
            except EngineFault:  # it is not chosen again; another fits all, so that a shard is never of two engines
                fits = new_table()
            except torch.OutOfMemoryError as error:
                raise no_memory(device, error) from None


def _store_initial_values(spec: SirenSpec, config: FitConfig, fits: FitTable) -> None:
    """What the engine that fits nothing gives: 0 steps, 0 dB."""
    fits.flat, fits.loss[:], fits.psnr[:] = start_values(spec, fits.seeds, config), 1, 0
    fits.tally = Tally(len(fits.seeds), len(fits.seeds))
    fits.step(0)


def _batches(signals: Sequence[Signal]) -> Iterator[FitBatch]:
    """Batches of signals with the same number of points and, where it is one tensor, the same grid.

    Objects with points of their own share a batch if their number is the same.
    """
    if isinstance(signals, SignalStack):
        if len(signals):
            yield FitBatch(np.arange(len(signals)), signals, signals.shared_coords and len(signals) > 1)
        return
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
    for (_, grid), group in groupby(order, key=kind):
        rows = np.array(list(group))
        yield FitBatch(rows, [signals[row] for row in rows], shared_coords=grid != 0)


def _collect(spec: SirenSpec, fits: FitTable, signals: Sequence[Signal], engine: EngineName) -> FittedViews:
    failures = tuple(
        Quarantined(
            object_id=fits.keys[row].object_id,
            view=fits.keys[row].view,
            reason=reason
            if "floor_explained" in reason  # says what to try
            else reason + failure_hint(float(fits.psnr[row]), signals[row], spec, fits.config),
            psnr=round(float(fits.psnr[row]), 3) if np.isfinite(fits.psnr[row]) else None,
        )
        for row, reason in sorted(fits.failures.items())
    )
    index = as_index(np.delete(np.arange(len(fits.keys)), list(fits.failures)))
    return FittedViews(
        spec=spec,
        keys=tuple(key for row, key in enumerate(fits.keys) if row not in fits.failures),
        flat=fits.flat[index],
        seeds=fits.seeds[index],
        psnr=fits.psnr[index].astype(np.float32),
        loss=fits.loss[index],
        explained=fits.explained[index],
        steps=fits.steps[index],
        status=np.where(fits.reached[index], STATUS["reached target_psnr"], STATUS["ran all steps"]).astype(np.int8),
        failures=failures,
        engine=engine,
    )


@contextlib.contextmanager
def _matmul_precision(config: FitConfig) -> Iterator[None]:
    """TF32 on a GPU only where the configuration asks for it. The setting is the process's: of fits in several threads,
    which have one configuration, the last restores it."""
    with _CHANGING:
        _BEFORE.append(torch.get_float32_matmul_precision())
        torch.set_float32_matmul_precision("high" if config.tf32 else "highest")
    try:
        yield
    finally:
        with _CHANGING:
            torch.set_float32_matmul_precision(_BEFORE.pop())
