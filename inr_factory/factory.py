"""Factory: makes a data set, or what is missing of one, and records it."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import metadata
from itertools import islice
from pathlib import Path
from platform import python_version
from time import monotonic

import torch

from inr_factory.ahead import computing_ahead, cores_ahead
from inr_factory.blocks import Plan, ShardTask, make_plan
from inr_factory.errors import IntegrityError, ResourceError, UsageError
from inr_factory.fitting import Tally, fit_views
from inr_factory.jobs import Backend as Backend
from inr_factory.jobs import FitReport as FitReport
from inr_factory.jobs import Settings as Settings
from inr_factory.jobs import finished, load_set, missing_paths
from inr_factory.local_pool import Listener, num_cores, run_local
from inr_factory.manifest import (
    Manifest,
    ShardEntry,
    SourceRecord,
    file_size,
    record,
    sweep,
)
from inr_factory.recipe import Recipe
from inr_factory.shards import ShardReader
from inr_factory.signals import Source
from inr_factory.sources import open_source
from inr_factory.worker import Worker, check_source, read_signals, set_fingerprint

PROBE_INRS, PROBE_SECONDS = 16, 8.0


@dataclass
class Progress:
    """How far a run is: `inrs` to make or put in quarantine, what is done of them, and what people should know."""

    inrs: int
    tally: Tally = field(default_factory=Tally)
    notes: list[str] = field(default_factory=list)

    @property
    def mean_psnr(self) -> float | None:
        return self.tally.psnr_sum / self.tally.good if self.tally.good else None


def fit_set(
    recipe: Recipe, out: Path, settings: Settings | None = None, on_progress: Callable[[Progress], None] | None = None
) -> FitReport:
    """Make the set of a recipe in folder `out`, or what is missing of it.

    What is complete and recorded stays untouched; a shard that lies there unrecorded is adopted if it is whole.
    What was made is recorded also when the run ends by an error or an interruption. Raises UsageError where `out`
    holds another recipe's set, IntegrityError where the source is not the set's, ResourceError where disk, memory
    or a GPU do not suffice.
    """
    settings, started = settings or Settings(), monotonic()
    nothing_to_do = finished(recipe, out)
    if nothing_to_do is not None:
        return nothing_to_do
    found = load_set(recipe, out)
    device = choose_device(settings.device)
    source = open_source(recipe.source, settings.data_root)
    plan = make_plan(recipe, source)
    manifest = found or describe_set(recipe, source, plan)
    check_source(source, manifest.source.fingerprint, out)
    if recipe.views > manifest.views:
        manifest = manifest.model_copy(update={"recipe": {**manifest.recipe, "views": recipe.views}})
    tasks = _mine(plan.tasks(recipe.views), settings.part, missing_paths(manifest, recipe.views, out))
    adopted = [entry for task in tasks if (entry := _adopt(out, task, manifest)) is not None]
    tasks = [task for task in tasks if task.path not in {entry.path for entry in adopted}]
    check_disk(out, estimate_bytes(manifest, plan, tasks))
    run = _Run(out, record(out, manifest, adopted), plan, tasks, on_progress)
    worker = Worker(recipe, settings.data_root, out, device, manifest.source.fingerprint)
    try:
        if tasks and settings.backend == "local":
            workers = settings.workers or default_workers(device)
            with computing_ahead(worker, tasks, cores_ahead(recipe, device, workers)):
                run_local(worker, tasks, workers, run.listener)
        elif tasks:
            from inr_factory.ray_pool import run_ray  # Ray takes seconds to import

            run_ray(worker, tasks, settings.workers, settings.address, run.listener)
    finally:
        run.write_record()
        sweep(out)
    missing = len(missing_paths(run.manifest, recipe.views, out))
    inrs = run.progress.inrs
    return FitReport(run.manifest, len(tasks), len(adopted), missing, inrs, monotonic() - started)


class _Run:
    """Hears from the workers, tells how far they are, and records shards, at most once a second."""

    def __init__(
        self,
        out: Path,
        manifest: Manifest,
        plan: Plan,
        tasks: list[ShardTask],
        on_progress: Callable[[Progress], None] | None,
    ) -> None:
        self.out, self.manifest, self.on_progress = out, manifest, on_progress
        self.progress = Progress(sum(len(plan.blocks[task.split][task.block]) for task in tasks))
        self.so_far: dict[ShardTask, Tally] = {}
        self.unrecorded: list[ShardEntry] = []
        self.due = monotonic() + 1
        self.listener = Listener(self._hear, self._done, self._death)
        self._hear_all()

    def write_record(self) -> None:
        if self.unrecorded:
            self.manifest = record(self.out, self.manifest, self.unrecorded)
            self.unrecorded.clear()
        self.due = monotonic() + 1

    def _hear(self, task: ShardTask, tally: Tally) -> None:
        before = self.so_far.get(task, Tally())
        self.so_far[task] = tally
        self.progress.tally = self.progress.tally.plus(tally).minus(before)
        self._hear_all()

    def _hear_all(self) -> None:
        if self.on_progress is not None:
            self.on_progress(self.progress)

    def _done(self, task: ShardTask, entry: ShardEntry) -> None:
        self.unrecorded.append(entry)
        mean = entry.psnr.mean if entry.psnr else 0.0
        steps = round((entry.mean_steps or 0) * entry.rows)
        self._hear(task, Tally(entry.rows + len(entry.quarantine), entry.rows, mean * entry.rows, steps))
        if monotonic() >= self.due:
            self.write_record()

    def _death(self, task: ShardTask, reason: str) -> None:
        self.progress.notes.append(f"a worker died at {task.path} ({reason}); its shard begins anew")
        self._hear(task, Tally())


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


def choose_device(name: str) -> str:
    """cpu or cuda; auto is cuda where torch sees a GPU. Raises UsageError for another, ResourceError without a GPU."""
    if name not in ("auto", "cpu", "cuda"):
        raise UsageError(f"--device must be auto, cpu or cuda, got {name!r}")
    if name == "cuda" and not torch.cuda.is_available():
        raise ResourceError("--device cuda was asked for, but torch sees no GPU; use --device cpu")
    return "cuda" if name != "cpu" and torch.cuda.is_available() else "cpu"


def default_workers(device: str) -> int:
    return torch.cuda.device_count() if device == "cuda" else num_cores()


def _mine(tasks: list[ShardTask], part: tuple[int, int], missing: set[str]) -> list[ShardTask]:
    """Every n-th task from the i-th on, of which those that are missing: parts stay the same while shards appear."""
    number, parts = part
    return [task for task in islice(tasks, number, None, parts) if task.path in missing]


def _adopt(out: Path, task: ShardTask, manifest: Manifest) -> ShardEntry | None:
    """The entry of a shard that lies there whole, as a run leaves it that was killed before it could record it."""
    path = out / task.path
    if file_size(path) is None:
        return None
    try:
        shard = ShardReader.unrecorded(path)
        entry = shard.describe()
    except IntegrityError:
        return None
    ours = shard.attributes.get("fingerprint") == manifest.fingerprint and shard.spec == manifest.siren_spec
    return entry if ours and entry.path == task.path else None


def estimate_bytes(manifest: Manifest, plan: Plan, tasks: list[ShardTask]) -> int:
    """What the shards of the tasks will take on disk, about."""
    rows = sum(len(plan.blocks[task.split][task.block]) for task in tasks)
    return rows * (4 * manifest.siren_spec.num_parameters + 80) + len(tasks) * 20_000


def check_disk(out: Path, needed: int) -> int:
    """Bytes free where `out` is or will be. Raises ResourceError if they are fewer than needed."""
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
    free: int
    workers: int
    seconds: float | None
    probed: int
    inrs_per_second: float | None


def estimate(recipe: Recipe, out: Path, settings: Settings) -> Estimate:
    """Count what a run would make and fit a few INRs for a few seconds to say how long it would take."""
    found = load_set(recipe, out)
    device = choose_device(settings.device)
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
