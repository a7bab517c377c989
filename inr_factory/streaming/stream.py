"""Stream: opens the training split of a set so that each epoch has views that are fitted meanwhile."""

import pickle
from collections.abc import Callable
from pathlib import Path

import torch

from inr_factory.errors import UsageError, shorten
from inr_factory.generation.execution.fit_dataset import fit_dataset
from inr_factory.generation.execution.fit_plan import FitPlan, locate_set, plan_from_arguments
from inr_factory.generation.execution.local_pool import unsendable
from inr_factory.generation.execution.run_fit import device_of
from inr_factory.generation.execution.worker import Worker
from inr_factory.generation.maintenance.merge import merge_datasets
from inr_factory.generation.recipe import OwnSource, Recipe, check_views
from inr_factory.generation.signals import Source
from inr_factory.inr.arguments import check_whole
from inr_factory.inr.cpu import num_cores
from inr_factory.inr.regular_files import as_path
from inr_factory.storage.atomic_files import remove_stale_temporaries, write_atomically
from inr_factory.storage.locations import Location, parse_location
from inr_factory.storage.manifest_file import load_manifest
from inr_factory.streaming.fitter import FitterJob
from inr_factory.streaming.fresh_dataset import AUTO, FreshDataset, OnWait, StreamSettings
from inr_factory.streaming.pool import JOB, Pool

MANY_VIEWS = 10_000  # as many as a long run may need of an object


def stream(
    dataset: Recipe | str | Path | Location,
    *,
    reuse: int | str = AUTO,
    fitters: int | None = None,
    keep: str | Path | None = None,
    data_root: str | Path | Location | None = None,
    device: str = "auto",
    address: str | None = None,
    out: str | Path | None = None,
    source: Source | None = None,
    views: int | None = None,
    labels_per_class: int | None = None,
    label_noise: tuple[float, int] | None = None,
    label_seed: int = 0,
    target: str | None = None,
    on_wait: OnWait | None = None,
) -> FreshDataset:
    """Open the training split of a set for training on fresh views: fitters make new views of its objects meanwhile.

    It stands in place of an open data set in `train` and INRLoader. Its first epoch shows stored views. With a number as
    `reuse`, what an epoch shows depends on the set, that number and the epoch alone, whatever the number of fitters, and
    after a resume. Close it by `with` or `finish`.

    Args:
        dataset: Folder of a set that a recipe made, or a recipe, of which one view is fitted first.
        reuse: How many epochs show a fresh INR: 1 never shows one twice, "auto" shows each until the next is there, so that
            training never waits; then the speed of the machine decides what an epoch shows.
        fitters: Processes that fit; by default the cores that training leaves, on a GPU two a GPU.
        keep: Folder of a set to which all that is fitted is added, after the shards of `dataset`; by default it is
            removed after use.
        data_root: Folder or URL of the source's files; by default as `fit_dataset` finds them.
        device: What fits: "auto", "cpu", "cuda" or "cuda:N".
        address: A running Ray cluster whose nodes see this folder: its cores fit.
        out: Folder of the set of a recipe; by default inrs/NAME.
        source: The `Source` of a set of one's own.
        views: How many of the stored views to use; by default all.
        labels_per_class: As for INRDataset.
        label_noise: As for INRDataset.
        label_seed: As for INRDataset.
        target: As for INRDataset; not "psnr" or a fact, which differ between views.
        on_wait: Called while training waits, with shards that are there, shards needed, and fits a second.

    Returns:
        The data set: one row for each object.

    Raises:
        UsageError: A setting is wrong, or the set cannot be fitted further: it was imported or derived, its files are
            gone or other ones.
        IntegrityError: The set, or its source, is damaged.
        ResourceError: The device does not exist.
    """
    check_reuse(reuse)
    if fitters is not None:
        check_whole(1, 4096, fitters=fitters)
    located = locate_set(dataset) if isinstance(dataset, Recipe | str | Path) else parse_location(dataset)
    if located is None:
        report = fit_dataset(
            dataset,  # type: ignore[arg-type]
            out, backend="local", workers=fitters, device=device, data_root=data_root, source=source,
        )  # fmt: skip
        located = report.out
    plan = plan_from_arguments(
        str(located), None, load_manifest(located).views + 1, None, None, (), source,
        workers=fitters, backend="local", address=None, device=device, shard="0/1", data_root=data_root,
    )  # fmt: skip
    kind = device_of(plan.settings)
    threads = max(1, num_cores() // 2) if torch.get_num_threads() > 1 else 1
    spare = max(1, num_cores() - threads) if kind == "cpu" else 2 * max(1, torch.cuda.device_count())
    kept = None if keep is None else _kept_folder(as_path(keep, "the set to keep"), located)
    settings = StreamSettings(reuse, fitters or spare, address, kept, threads)
    options = {"views": views, "labels_per_class": labels_per_class, "label_seed": label_seed, "target": target}
    return FreshDataset(
        located, settings, _job_writer(plan, kind, located, kept), on_wait, label_noise=label_noise, **options
    )


def check_reuse(reuse: object) -> None:
    """Raise UsageError for what is neither a number of epochs nor "auto"."""
    if reuse != AUTO and (isinstance(reuse, bool) or not isinstance(reuse, int) or not 1 <= reuse <= 10_000):
        raise UsageError(f"reuse must be auto or a whole number from 1 to 10,000, got {shorten(reuse)}")


def _kept_folder(keep: Path, dataset: Location) -> Path:
    if isinstance(dataset, Path) and keep.resolve() == dataset.resolve():
        raise UsageError(f"{keep} is the set itself, whose own views count; keep what is fitted in another folder")
    return keep


def _job_writer(plan: FitPlan, device: str, dataset: Location, kept: Path | None) -> Callable[[Pool], None]:
    recipe, source = plan.recipe, plan.source
    assert source is not None
    assert plan.shards is not None, "a view that nobody has fitted is missing"
    check_views(recipe.model_copy(update={"views": MANY_VIEWS}), plan.manifest.siren_spec.num_parameters)
    recipe = recipe.model_copy(update={"views": plan.saved.views if plan.saved else recipe.views})
    given = source if isinstance(recipe.source, OwnSource) else None
    data_root = plan.settings.data_root and plan.settings.data_root.absolute()
    manifest = plan.manifest

    def write(pool: Pool) -> None:
        if kept is not None:
            if isinstance(dataset, Path):
                merge_datasets([dataset], kept)
            remove_stale_temporaries(kept)
        worker = Worker(
            recipe,
            data_root,
            parse_location(pool.shards),
            device,
            manifest.source.fingerprint,
            given,
            quality=kept is not None,
        )
        try:
            content = pickle.dumps(FitterJob(worker, None if kept is None else manifest))
        except Exception as error:  # of any kind: a source's own code may run
            raise UsageError(unsendable(worker, error)) from error
        write_atomically(pool.folder / JOB, content)

    return write
