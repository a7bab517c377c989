"""Run: makes the shards of a fit plan with local processes or Ray, and records them."""

import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from importlib import metadata
from time import monotonic

import torch

from inr_factory.errors import one_line
from inr_factory.generation.execution.backend_choice import WITHOUT_RAY, choose_backend
from inr_factory.generation.execution.content_check import check_recovered, save_source_files
from inr_factory.generation.execution.disk_space import check_disk, estimate_bytes
from inr_factory.generation.execution.fit_plan import FitPlan, kernel_software
from inr_factory.generation.execution.fit_targets import write_source_targets
from inr_factory.generation.execution.local_pool import run_local
from inr_factory.generation.execution.prefetch import prefetch_cores, prefetching
from inr_factory.generation.execution.progress_recorder import FitProgress, ProgressRecorder, recover_unrecorded_shards
from inr_factory.generation.execution.ray_address import RayUnavailableError
from inr_factory.generation.execution.run_settings import FitReport, FitSettings
from inr_factory.generation.execution.shard_plan import ShardTask
from inr_factory.generation.execution.worker import Worker
from inr_factory.generation.execution.worker_events import Listener
from inr_factory.generation.recipe import OwnSource
from inr_factory.generation.sources.registry import source_place
from inr_factory.inr.cpu import num_cores
from inr_factory.inr.device import choose_device
from inr_factory.inr.version import __version__
from inr_factory.storage.atomic_files import remove_stale_temporaries
from inr_factory.storage.dataset_card import update_card_if_complete
from inr_factory.storage.manifest_file import update_manifest
from inr_factory.storage.run_log import RunLog
from inr_factory.storage.shards import made_by
from inr_factory.storage.source_place import remember_source


def run_fit(plan: FitPlan, on_progress: Callable[[FitProgress], None] | None, started: float) -> FitReport:
    """Make the plan's tasks. `started` is when, by the monotonic clock, the fit began."""
    recipe, out, settings, source, shards = plan.recipe, plan.out, plan.settings, plan.source, plan.shards
    assert source is not None
    assert shards is not None, "a complete set needs no run"
    device = device_of(settings)
    recovered = recover_unrecorded_shards(out, plan.unrecorded, plan.manifest)
    check_recovered(out, plan.manifest, recovered)
    valid = {entry.path for entry in recovered}
    broken = {task.path for task in plan.unrecorded} - valid
    tasks = [task for task in plan.tasks if task.path not in valid]
    check_disk(out, estimate_bytes(plan.manifest, shards, tasks))
    manifest = write_source_targets(out, update_manifest(out, plan.manifest, recovered), plan.targets)
    save_source_files(out, plan.files)
    if (place := source_place(recipe.source, settings.data_root)) is not None:
        remember_source(out, place)
    workers = settings.workers or (1 if settings.remote else default_workers(device))
    backend, why = choose_backend(plan, device, workers) if tasks else (settings.backend, None)
    settings = replace(settings, backend=backend)
    versions = {"inr-factory": __version__, "torch": metadata.version("torch"), **kernel_software(device)}
    log = RunLog(
        out, settings.part, backend=settings.backend, workers=settings.workers, device=device, **versions,
        views=recipe.views, shards=len(tasks),
    )  # fmt: skip
    notes = [*plan.notes, *([why] if why else [])]
    recorder = ProgressRecorder(out, manifest, shards, tasks, broken, log, on_progress, notes=notes)
    own_source = source if isinstance(recipe.source, OwnSource) else None
    worker = Worker(recipe, settings.data_root, out, device, manifest.source.fingerprint, own_source)
    ending, engines = "stopped", dict[str, int]()
    try:
        try:
            run_tasks(worker, tasks, recorder.pending_tasks(), settings, recorder.listener)
        except RayUnavailableError as error:
            if plan.settings.backend != "auto":
                raise
            recorder.progress.notes.append(f"{one_line(error).partition('; use')[0]}: {WITHOUT_RAY}")
            settings = replace(settings, backend="local")
        if settings.backend != backend:  # not while Ray's error is handled: it would be taken for that of a file
            run_tasks(worker, tasks, recorder.pending_tasks(), settings, recorder.listener)
        num_recovered = len(recovered) + recorder.finish()
        engines = {} if device == "cpu" else made_by(out, recorder.made)
        ending = "complete"
    except Exception as error:
        log.note("error", error=one_line(error), traceback=[*traceback.format_exception(error)])
        raise
    finally:
        recorder.write_record()
        remove_stale_temporaries(out)
        log.note(
            "end", ending=ending, made=len(recorder.made), seconds=round(monotonic() - started, 3), made_by=engines
        )
    missing = recorder.manifest.missing(out)
    requested = set(recorder.manifest.with_views(recipe.views).shard_names())
    card = update_card_if_complete(out, recorder.manifest, missing)
    return FitReport(
        recipe, out, recorder.manifest, len(recorder.made), num_recovered, len(requested.intersection(missing)),
        recorder.progress.inrs, monotonic() - started, card, engines, tuple(recorder.progress.notes),
    )  # fmt: skip


def run_tasks(
    worker: Worker, tasks: Sequence[ShardTask], pending: Iterable[ShardTask], settings: FitSettings, listener: Listener
) -> None:
    """Make the shards of `pending`, those of `tasks` that are not made yet, by the backend of the settings."""
    if not tasks:
        return
    if settings.backend == "local" or (settings.backend == "auto" and not settings.remote):
        workers = settings.workers or default_workers(worker.device)
        with prefetching(worker, tasks, prefetch_cores(worker.recipe, worker.device, workers)):
            run_local(worker, tasks, pending, workers, listener)
        return
    from inr_factory.generation.execution.ray_pool import run_ray  # Ray takes seconds to import

    run_ray(worker, tasks, pending, settings.workers, settings.address, listener)


def device_of(settings: FitSettings) -> str:
    """cpu, cuda or cuda:N. The driver of a Ray cluster may have no GPU although its nodes do: there the request counts."""
    return "cuda" if settings.remote and settings.device == "cuda" else str(choose_device(settings.device))


def default_workers(device: str) -> int:
    """One worker for each core, or for each GPU; one for a GPU that is named by its number."""
    if device.startswith("cuda:"):
        return 1
    return torch.cuda.device_count() if device == "cuda" else num_cores()
