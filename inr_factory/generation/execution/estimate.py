"""Estimate: what a fit would make, how large and how long, without making it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from inr_factory.generation.execution.backend_choice import choose_backend
from inr_factory.generation.execution.disk_space import check_disk, estimate_bytes
from inr_factory.generation.execution.fit_plan import plan_from_arguments
from inr_factory.generation.execution.probe import probe_plan
from inr_factory.generation.execution.run_fit import default_workers
from inr_factory.generation.execution.run_settings import Backend
from inr_factory.generation.execution.signal_reading import ReadSignals
from inr_factory.generation.fitting.fit_table import explained_variance
from inr_factory.generation.fitting.fit_views import FittedViews
from inr_factory.generation.fitting.stopping import target_of
from inr_factory.generation.recipe import Recipe
from inr_factory.generation.signal_stack import fact_columns, inside_shares, variances
from inr_factory.generation.signals import Source
from inr_factory.inr.device import choose_device
from inr_factory.storage.locations import Location
from inr_factory.storage.manifest import Remark, group_by_reason
from inr_factory.storage.passed_over import PassedOver
from inr_factory.storage.remarks import remarks_of
from inr_factory.storage.shards import STATUS

PROBE_INRS, PROBE_SECONDS = 16, 8.0
# Seconds to start and stop: imports, workers, Ray of our own; docs/results/fitting.md measures them.
START_SECONDS: dict[Backend, float] = {"local": 5.0, "ray": 10.0}


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
        reached: share of the probe that reached its target; None without a target, or where no fit ended in time.
        psnr: median PSNR of the probe in dB, failures included; None where no fit ended in time.
        advice: the commonest reason of failures in the probe, with what to try.
        finished: how many INRs these three are of.
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
    finished: int = 0


def estimate(
    recipe: Recipe | Mapping[str, Any] | str | Path,
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
    twenty seconds at most, and on a GPU the time to compile its kernel.

    Args:
        recipe: As for `fit_dataset`, like all other arguments.

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
            plan.recipe, plan.out, objects, 0, 0, 0, check_disk(plan.out, 0), count, None, 0, None, plan.notes,
            plan.manifest.passed_over,
        )  # fmt: skip
    needed = estimate_bytes(plan.manifest, plan.shards, plan.tasks)
    free = check_disk(plan.out, needed)
    inrs = sum(map(plan.shards.num_objects, plan.tasks))
    probe = tried = probe_plan(plan, chosen, PROBE_INRS, PROBE_SECONDS)
    if probe.fitted is None and probe.seconds is not None and (few := int(PROBE_SECONDS / probe.seconds)):
        tried = probe_plan(plan, chosen, few, 2 * PROBE_SECONDS)  # as many as are finished, for their quality
    useful = min(count if plan.settings.remote else min(count, default_workers(chosen)), len(plan.tasks))
    work = None if probe.seconds is None else inrs * probe.seconds
    backend, why = choose_backend(plan, chosen, count, lambda: 0.0 if work is None else work / useful)
    notes, failed = [*plan.notes, *([why] if why else [])], probe.read.failed
    if failed:
        notes.append(
            f"{len(failed)} of {len(probe.read.items) + len(failed)} objects probed cannot be read, as "
            f"{failed[0].object_id}: {failed[0].reason}"
        )
    return EstimateReport(
        plan.recipe, plan.out, objects, inrs, len(plan.tasks), needed, free, count,
        None if work is None else START_SECONDS[backend] + work / useful,
        probe.inrs,
        None if probe.seconds is None else useful / probe.seconds,
        tuple(notes),
        plan.manifest.passed_over,
        _remarks(plan.recipe, probe.read),
        None if work is None else work / 3600,
        *_outcome(plan.recipe, tried.fitted),
    )  # fmt: skip


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


def _outcome(recipe: Recipe, fitted: FittedViews | None) -> tuple[float | None, float | None, str | None, int]:
    """(share that reached the target, median dB, commonest reason of failures, number of fits) of a probe."""
    if fitted is None:
        return None, None, None, 0
    failed = [-np.inf if row.psnr is None else row.psnr for row in fitted.failures]
    psnr = np.concatenate([fitted.psnr, failed])
    reached = float((fitted.status == STATUS["reached target_psnr"]).sum() / max(1, len(psnr)))
    has_target = recipe.fit.target_psnr is not None or recipe.fit.target_error is not None
    median = float(np.median(psnr)) if len(psnr) else np.nan
    kinds = group_by_reason(fitted.failures)
    return (
        reached if has_target else None,
        round(median, 2) if np.isfinite(median) else None,
        kinds[0][0].reason if kinds else None,
        len(psnr),
    )
