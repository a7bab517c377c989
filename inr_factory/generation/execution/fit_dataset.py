"""Factory: makes a data set, or what is missing of one, and records it."""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from itertools import islice
from platform import python_version
from time import monotonic

import torch

from inr_factory.errors import ResourceError, UsageError
from inr_factory.generation.execution.local_pool import end_if_starting, num_cores, run_local
from inr_factory.generation.execution.prefetch import computing_ahead, cores_ahead
from inr_factory.generation.execution.progress_recorder import Ledger, Progress, adopt
from inr_factory.generation.execution.run_settings import Backend as Backend
from inr_factory.generation.execution.run_settings import FitReport as FitReport
from inr_factory.generation.execution.run_settings import Settings as Settings
from inr_factory.generation.execution.run_settings import finished, load_set, missing_paths
from inr_factory.generation.execution.shard_plan import Plan, ShardTask, make_plan
from inr_factory.generation.execution.worker import Worker, check_source, read_signals, set_fingerprint
from inr_factory.generation.fitting.fit_views import fit_views
from inr_factory.generation.fitting.tally import Tally
from inr_factory.generation.recipe import OwnSource, Recipe
from inr_factory.generation.signals import Source
from inr_factory.generation.sources.registry import open_source
from inr_factory.inr.device import choose_device
from inr_factory.storage.atomic_files import remove_stale_temporaries
from inr_factory.storage.dataset_card import keep_card_of_whole
from inr_factory.storage.locations import Location, RemoteLocation
from inr_factory.storage.manifest import Manifest, SourceRecord, file_sizes
from inr_factory.storage.manifest_file import update_manifest
from inr_factory.storage.run_log import RunLog

PROBE_INRS, PROBE_SECONDS = 16, 8.0


def fit_set(
    recipe: Recipe,
    out: Location,
    settings: Settings | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    source: Source | None = None,
) -> FitReport:
    """Make the set of a recipe in folder `out`, or what is missing of it.

    A `source` of your own goes with a recipe of collection own: its objects are fitted. Workers get a pickled copy.

    What is complete and recorded stays untouched; a shard that lies there unrecorded is adopted if it is whole.
    What was made is recorded also when the run ends by an error or an interruption. Raises UsageError where `out`
    holds another recipe's set, IntegrityError where the source is not the set's, ResourceError where disk, memory
    or a GPU do not suffice.
    """
    end_if_starting()
    settings, started = settings or Settings(), monotonic()
    if source is not None and not isinstance(recipe.source, OwnSource):
        raise UsageError(
            f"a Source of your own goes with source: {{collection: own}}, this recipe's is {recipe.source.collection}"
        )
    nothing_to_do = finished(recipe, out)
    if nothing_to_do is not None:
        return nothing_to_do
    found = load_set(recipe, out)
    device = _device_of(settings)
    own, source = source, source or open_source(recipe.source, settings.data_root)
    plan = make_plan(recipe, source)
    manifest = found or describe_set(recipe, source, plan)
    check_source(source, manifest.source.fingerprint, out)
    if recipe.views > manifest.views:
        manifest = manifest.with_views(recipe.views)
    tasks = _mine(plan.tasks(recipe.views), settings.part, missing_paths(manifest, recipe.views, out))
    size_of = file_sizes(out)
    lying = [task for task in tasks if size_of(task.path) is not None]
    adopted = [entry for task in lying if (entry := adopt(out, task, manifest)) is not None]
    whole = {entry.path for entry in adopted}
    tasks = [task for task in tasks if task.path not in whole]
    check_disk(out, estimate_bytes(manifest, plan, tasks))
    manifest = update_manifest(out, manifest, adopted)
    log = RunLog(out, settings.part, **_facts(settings, device), views=recipe.views, shards=len(tasks))
    broken = {task.path for task in lying} - whole
    run = Ledger(out, manifest, plan, tasks, broken, log, on_progress)
    worker = Worker(recipe, settings.data_root, out, device, manifest.source.fingerprint, own)
    ending = "stopped"
    try:
        if tasks and settings.backend == "local":
            workers = settings.workers or default_workers(device)
            with computing_ahead(worker, tasks, cores_ahead(recipe, device, workers)):
                run_local(worker, run.todo(), min(workers, len(tasks)), run.listener)
        elif tasks:
            from inr_factory.generation.execution.ray_pool import run_ray  # Ray takes seconds to import

            run_ray(worker, tasks, run.todo(), settings.workers, settings.address, run.listener)
        found_whole = len(adopted) + run.finish()
        ending = "complete"
    finally:
        run.write_record()
        remove_stale_temporaries(out)
        log.note("end", ending=ending, made=len(run.made), seconds=round(monotonic() - started, 3))
    missing = len(missing_paths(run.manifest, recipe.views, out))
    inrs = run.progress.inrs
    card = keep_card_of_whole(out, run.manifest)
    return FitReport(run.manifest, len(run.made), found_whole, missing, inrs, monotonic() - started, card)


def _device_of(settings: Settings) -> str:
    """cpu, cuda or cuda:N. The driver of a Ray cluster may have no GPU where its nodes have: there the request counts."""
    if settings.backend == "ray" and settings.device.startswith("cuda:"):
        raise UsageError(f"--device {settings.device} names one GPU, which needs --backend local; got --backend ray")
    elsewhere = settings.backend == "ray" and bool(settings.address or os.environ.get("RAY_ADDRESS"))
    return "cuda" if elsewhere and settings.device == "cuda" else str(choose_device(settings.device))


def _facts(settings: Settings, device: str) -> dict[str, str | int | None]:
    """What a run's log says of how it runs."""
    versions = {name: metadata.version(name) for name in ("inr-factory", "torch")}
    return {"backend": settings.backend, "workers": settings.workers, "device": device, **versions}


def describe_set(recipe: Recipe, source: Source, plan: Plan) -> Manifest:
    """The manifest of a set that has no shard yet."""
    return Manifest(
        name=recipe.name,
        spec=recipe.spec.spec(source.in_dim, source.out_dim).to_dict(),
        recipe=recipe.model_dump(mode="json"),
        fingerprint=set_fingerprint(recipe, source.fingerprint),
        source=SourceRecord(
            name=source.name, version=source.version, licence=source.licence, fingerprint=source.fingerprint
        ),
        classes=source.classes,
        splits=plan.splits,
        software={
            "python": python_version(),
            **{name: metadata.version(name) for name in ("inr-factory", "torch", "numpy", "h5py")},
        },
    )


def default_workers(device: str) -> int:
    """One worker for each core, or for each GPU; one for a GPU that is named by its number."""
    if device.startswith("cuda:"):
        return 1
    return torch.cuda.device_count() if device == "cuda" else num_cores()


def _mine(tasks: list[ShardTask], part: tuple[int, int], missing: set[str]) -> list[ShardTask]:
    """Every n-th task from the i-th on, of which those that are missing: parts stay the same while shards appear."""
    number, parts = part
    return [task for task in islice(tasks, number, None, parts) if task.path in missing]


def estimate_bytes(manifest: Manifest, plan: Plan, tasks: list[ShardTask]) -> int:
    """What the shards of the tasks will take on disk, about."""
    rows = sum(len(plan.blocks[task.split][task.block]) for task in tasks)
    return rows * (4 * manifest.siren_spec.num_parameters + 80) + len(tasks) * 20_000


def check_disk(out: Location, needed: int) -> int | None:
    """Bytes free where `out` is or will be, None of a store. Raises ResourceError if they are fewer than needed."""
    if isinstance(out, RemoteLocation):
        return None
    folder = out.absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise ResourceError(
            f"the set needs about {needed / 1e9:,.2f} GB, {folder} has {free / 1e9:,.2f} GB free; make room or choose another --out"
        )
    return free


@dataclass(frozen=True)
class Estimate:
    """What `fit` would do. seconds is None where nothing is to do; `probed` INRs were fitted to find it."""

    objects: dict[str, int]
    inrs: int
    shards: int
    bytes: int
    free: int | None
    workers: int
    seconds: float | None
    probed: int
    inrs_per_second: float | None


def estimate(recipe: Recipe, out: Location, settings: Settings) -> Estimate:
    """Count what a run would make and fit a few INRs for a few seconds to say how long it would take."""
    found = load_set(recipe, out)
    device = str(choose_device(settings.device))
    source = open_source(recipe.source, settings.data_root)
    plan = make_plan(recipe, source)
    manifest = found or describe_set(recipe, source, plan)
    check_source(source, manifest.source.fingerprint, out)
    tasks = _mine(plan.tasks(recipe.views), settings.part, missing_paths(manifest, recipe.views, out))
    inrs = sum(len(plan.blocks[task.split][task.block]) for task in tasks)
    workers = settings.workers or default_workers(device)
    needed = estimate_bytes(manifest, plan, tasks)
    objects = {split: counts.objects for split, counts in plan.splits.items()}
    rate, probed = _probe(recipe, source, plan, device) if tasks else (None, 0)
    workers_used = min(workers, len(tasks)) if tasks else workers
    seconds = None if rate is None else inrs / (rate * workers_used)
    total = None if rate is None else rate * workers_used
    return Estimate(objects, inrs, len(tasks), needed, check_disk(out, needed), workers, seconds, probed, total)


class _Enough(Exception):
    """The probe has run long enough."""


def _probe(recipe: Recipe, source: Source, plan: Plan, device: str) -> tuple[float | None, int]:
    """INRs a second of one worker, by the fit of a few; if most are unfinished when time is up, all count as if they took all their steps."""
    first = next(iter(plan.blocks.values()))[0]
    indices = first[:: max(1, len(first) // PROBE_INRS)][:PROBE_INRS]
    signals, keys, _ = read_signals(source, indices, 0)
    if not signals:
        return None, 0
    started, so_far = monotonic(), Tally()

    def watch(tally: Tally) -> None:
        nonlocal so_far
        so_far = tally
        if monotonic() - started > PROBE_SECONDS:
            raise _Enough

    spec, threads = recipe.spec.spec(source.in_dim, source.out_dim), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        fit_views(spec, keys, [signal for _, signal in signals], recipe.fit, recipe.seed, device, watch)
    except _Enough:
        pass
    finally:
        torch.set_num_threads(threads)
    seconds = max(monotonic() - started, 1e-6)
    if so_far.done >= len(signals) / 2:
        return so_far.done / seconds, so_far.done
    return (so_far.steps / seconds) / recipe.fit.steps, len(signals)
