"""Estimate: what a fit would make, how large and how long, without making it."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import numpy as np
import torch

from inr_factory.generation.execution.disk_space import check_disk, estimate_bytes
from inr_factory.generation.execution.fit_plan import FitPlan, plan_from_arguments
from inr_factory.generation.execution.run_fit import default_workers
from inr_factory.generation.execution.scheduler import window_of
from inr_factory.generation.execution.signal_reading import ReadSignals, read_signals
from inr_factory.generation.fitting.fit_table import explained_variance
from inr_factory.generation.fitting.fit_views import FittedViews, fit_views
from inr_factory.generation.fitting.stopping import target_of
from inr_factory.generation.fitting.tally import Tally
from inr_factory.generation.recipe import Recipe
from inr_factory.generation.signal_stack import fact_columns, inside_shares, select_signals, variances
from inr_factory.generation.signals import Source
from inr_factory.inr.device import choose_device
from inr_factory.storage.locations import Location
from inr_factory.storage.manifest import Remark, commonest_reason
from inr_factory.storage.passed_over import PassedOver
from inr_factory.storage.remarks import remarks_of
from inr_factory.storage.shards import STATUS

PROBE_INRS, PROBE_SECONDS = 16, 8.0
# Seconds to start and stop: imports, workers, Ray of our own; docs/results/fitting.md measures them.
START_SECONDS = {"local": 5.0, "ray": 10.0}


@dataclass(frozen=True)
class EstimateReport:
    """What a fit would make.

    Attributes:
        recipe: with all settings.
        out: folder or store of the set.
        objects: how many objects each split has.
        inrs, shards: how many are to be made.
        bytes: their approximate size on disk.
        free: free bytes on that disk; None for a store.
        workers: how many would run.
        seconds: approximate duration, with start and end; None if nothing is to be made.
        probed: how many INRs were fitted to measure the rate.
        inrs_per_second: rate of all workers; None if nothing was measured.
        notes: what a user should know about the set, a line each.
        passed_over: what lies in the folders of the source and becomes no object.
        remarks: on the objects that were fitted to measure the rate, such as constant signals.
        core_hours: hours of one core, or one GPU, that reading and fits take in all; None if nothing was measured.
        reached: share of the probe that reached its target; None without a target, or where time was up.
        psnr: median PSNR of the probe in dB, failures included; None where time was up.
        advice: the commonest reason of failures in the probe, with what to try.
    """

    recipe: Recipe
    out: Location
    objects: dict[str, int]
    inrs: int
    shards: int
    bytes: int
    free: int | None
    workers: int
    seconds: float | None
    probed: int
    inrs_per_second: float | None
    notes: tuple[str, ...] = ()
    passed_over: PassedOver | None = None
    remarks: tuple[Remark, ...] = ()
    core_hours: float | None = None
    reached: float | None = None
    psnr: float | None = None
    advice: str | None = None


def estimate(
    recipe: Recipe | str | Path,
    out: str | Path | Location | None = None,
    *,
    views: int | None = None,
    limit: int | None = None,
    seed: int | None = None,
    workers: int | None = None,
    backend: str = "auto",
    address: str | None = None,
    device: str = "auto",
    shard: str = "0/1",
    data_root: str | Path | Location | None = None,
    settings: Sequence[str] = (),
    source: Source | None = None,
) -> EstimateReport:
    """Count what `fit_dataset` would make with the same arguments, and fit a few INRs to estimate its duration.

    On a GPU, where reading and writing overlap with fits, the rate is that of the fits alone. Writes nothing; takes about
    ten seconds at most, and on a GPU the time to compile its kernel.

    Args:
        recipe, out, views, limit, seed, workers, backend, address, device, shard, data_root, settings, source: as for
            `fit_dataset`.

    Returns:
        Counts, bytes and seconds.

    Raises:
        UsageError, IntegrityError, ResourceError: as `fit_dataset` does before it starts.
    """
    plan = plan_from_arguments(
        recipe, out, views, limit, seed, settings, source, dry=True,
        workers=workers, backend=backend, address=address, device=device, shard=shard, data_root=data_root,
    )  # fmt: skip
    chosen = str(choose_device(plan.settings.device))
    count = plan.settings.workers or default_workers(chosen)
    objects = {split: counts.objects for split, counts in plan.manifest.splits.items()}
    if plan.shards is None or not plan.tasks:
        return EstimateReport(
            plan.recipe,
            plan.out,
            objects,
            0,
            0,
            0,
            check_disk(plan.out, 0),
            count,
            None,
            0,
            None,
            plan.notes,
            plan.manifest.passed_over,
        )
    needed = estimate_bytes(plan.manifest, plan.shards, plan.tasks)
    free = check_disk(plan.out, needed)
    inrs = sum(map(plan.shards.num_objects, plan.tasks))
    started = monotonic()
    read = _read_probe(plan)
    reading = (monotonic() - started) / max(1, len(read.keys))
    rate, probed, fitted = _probe(plan, read, chosen)
    if rate is not None and chosen == "cpu":  # a GPU reads beside its fits
        rate = 1 / (1 / rate + reading)
    useful = count if plan.settings.remote else min(count, default_workers(chosen))
    total = None if rate is None else rate * min(useful, len(plan.tasks))
    start = START_SECONDS["local" if plan.settings.backend == "local" else "ray"]
    seconds = None if total is None else start + inrs / total
    return EstimateReport(
        plan.recipe,
        plan.out,
        objects,
        inrs,
        len(plan.tasks),
        needed,
        free,
        count,
        seconds,
        probed,
        total,
        plan.notes,
        plan.manifest.passed_over,
        _remarks(plan.recipe, read),
        None if rate is None else inrs / rate / 3600,
        *_outcome(plan.recipe, fitted),
    )


class _TimeUp(Exception):
    """The probe has run long enough."""


def _read_probe(plan: FitPlan) -> ReadSignals:
    """The signals of some objects of the first block."""
    assert plan.source is not None
    assert plan.shards is not None, "only a plan with tasks is probed"
    block = next(iter(plan.shards.blocks.values()))[0]
    return read_signals(plan.source, block[:: max(1, len(block) // PROBE_INRS)][:PROBE_INRS], 0)


def _remarks(recipe: Recipe, read: ReadSignals) -> tuple[Remark, ...]:
    """The remarks on INRs of these signals that have just reached their targets."""
    if not read.keys:
        return ()
    targets = [target_of(recipe.fit, signal.peak) for signal in read.signals]
    losses = [
        0 if target is None else signal.peak**2 * 10 ** (-target / 10)
        for target, signal in zip(targets, read.signals, strict=True)
    ]
    facts = fact_columns(read.signals, range(len(read.keys))) | inside_shares(read.signals)
    names = np.array([key.object_id for key in read.keys], dtype=object)
    return remarks_of({**facts, "object_id": names, "explained": explained_variance(losses, variances(read.signals))})


def _outcome(recipe: Recipe, fitted: FittedViews | None) -> tuple[float | None, float | None, str | None]:
    """(share that reached the target, median dB, commonest reason of failures) of a probe."""
    if fitted is None:
        return None, None, None
    failed = [-np.inf if row.psnr is None else row.psnr for row in fitted.failures]
    psnr = np.concatenate([fitted.psnr, failed])
    reached = float((fitted.status == STATUS["reached target_psnr"]).sum() / max(1, len(psnr)))
    has_target = recipe.fit.target_psnr is not None or recipe.fit.target_error is not None
    median = float(np.median(psnr)) if len(psnr) else np.nan
    reason = commonest_reason(fitted.failures)
    return (
        reached if has_target else None,
        round(median, 2) if np.isfinite(median) else None,
        None if reason is None else reason[1].reason,
    )


def _probe(plan: FitPlan, read: ReadSignals, device: str) -> tuple[float | None, int, FittedViews | None]:
    """(INRs a second of one core or GPU, INRs fitted to measure it, the fits unless time was up).

    A GPU fits the INRs of several shards side by side: there the probe is of that size, and one that compiles comes
    before. If time is up before half of the INRs are done, the rate assumes that each takes all its steps.
    """
    recipe, source, shards = plan.recipe, plan.source, plan.shards
    assert source is not None
    assert shards is not None, "only a plan with tasks is probed"
    block = next(iter(shards.blocks.values()))[0]
    if not read.keys:
        return None, 0, None
    count = len(read.keys)
    spec, threads = recipe.spec.spec(source.in_dim, source.out_dim), torch.get_num_threads()
    started, latest = 0.0, Tally()
    fitted: FittedViews | None = None

    def watch(tally: Tally) -> None:
        nonlocal latest
        latest = tally
        if monotonic() - started > PROBE_SECONDS:
            raise _TimeUp

    def fit(copies: int) -> None:
        nonlocal started, fitted
        started, fitted = monotonic(), None
        with contextlib.suppress(_TimeUp):
            signals = select_signals(read.signals, np.tile(np.arange(count), copies))
            fitted = fit_views(spec, [*read.keys] * copies, signals, recipe.fit, recipe.seed, device, watch)

    torch.set_num_threads(1)
    try:
        fit(1)
        copies = -(-min(window_of(device), len(plan.tasks)) * len(block) // count) if device != "cpu" else 1
        if copies > 1:
            fit(copies)
    finally:
        torch.set_num_threads(threads)
    seconds = max(monotonic() - started, 1e-6)
    if latest.done >= copies * count / 2:
        return latest.done / seconds, latest.done, fitted
    return max(latest.steps, 1) / seconds / recipe.fit.steps, copies * count, fitted
