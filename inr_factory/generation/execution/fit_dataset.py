"""Fit: makes a data set, or what is missing of one. Without torch, so that a finished set is recognised at once."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from inr_factory.errors import QuarantineWarning
from inr_factory.generation.execution.content_check import save_source_files
from inr_factory.generation.execution.fit_plan import plan_from_arguments
from inr_factory.generation.execution.main_guard import exit_if_importing_main
from inr_factory.generation.execution.run_settings import FitReport
from inr_factory.generation.recipe import Recipe
from inr_factory.storage.atomic_files import remove_stale_temporaries
from inr_factory.storage.dataset_card import update_card_if_complete
from inr_factory.storage.locations import Location

if TYPE_CHECKING:
    from inr_factory.generation.execution.progress_recorder import FitProgress
    from inr_factory.generation.signals import Source


def fit_dataset(
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
    source: "Source | None" = None,
    on_progress: "Callable[[FitProgress], None] | None" = None,
) -> FitReport:
    """Fit INRs to every object of a recipe's source, or those that are missing in `out`, and record them.

    Recorded shards stay untouched; valid shards without a record are recorded. Call it again after an interruption,
    or with more views. What was made is recorded even if the run ends by an error or Ctrl-C. A finished set costs one
    read of its manifest. A run that makes shards reads the manifest again each time it writes it, under the lock,
    since other runs may have recorded shards meanwhile: once before the first shard (to announce the new views), once
    at the end, and in between at most every second.

    Args:
        recipe: a built-in recipe (`inr-factory recipes`), a YAML file, a dict of its keys, a `Recipe`, or the folder or URL
            of a set, which is continued by the recipe that it holds.
        out: folder or URL of the set; default `inrs/NAME`.
        views: independent fits of each object, at least 1; default the recipe's.
        limit: at most this number of objects in all, shared among the splits; default the recipe's. A set grows to a
            larger limit: its shards stay, and the further objects are added in blocks of their own.
        seed: seed of the initial weights, at least 0; default the recipe's.
        workers: how many processes or actors; default one per GPU or core. More than there are GPUs share them.
        backend: "ray", "local" for this process and those it spawns, or "auto": Ray, but local where the whole run is
            short (about a minute), or where Ray is not installed or cannot start.
        address: a running Ray cluster; default $RAY_ADDRESS, else one is started.
        device: "auto" (cuda if torch sees a GPU), "cpu", "cuda" or "cuda:N".
        shard: "i/n": every n-th shard from the i-th on, 0 <= i < n, for array jobs.
        data_root: folder or URL of the source's files; default where they were when the set was last fitted, else
            $INR_FACTORY_DATA, else ./data.
        settings: further "key=value" of the recipe, for example "fit.steps=500".
        source: a `Source` written in Python, for a recipe with source.collection own. Workers get a pickled copy.
        on_progress: called with a `FitProgress` whenever INRs are done.

    Returns:
        What the run made, and the set's manifest. A `QuarantineWarning` says that more INRs are in quarantine than the recipe's
        `quarantine_threshold` allows, and why.

    Raises:
        UsageError: for a wrong argument, if `out` holds another recipe's set, or if an object has another content than when
            the set was fitted.
        IntegrityError: if the set is damaged, or the source is not the one the set was begun with.
        ResourceError: if disk, memory or GPUs do not suffice, or Ray does not start.
    """
    exit_if_importing_main()
    started = monotonic()
    plan = plan_from_arguments(
        recipe, out, views, limit, seed, settings, source,
        workers=workers, backend=backend, address=address, device=device, shard=shard, data_root=data_root,
    )  # fmt: skip
    if plan.complete:
        remove_stale_temporaries(plan.out)
        save_source_files(plan.out, plan.files)
        card = update_card_if_complete(plan.out, plan.manifest, plan.missing)
        report = FitReport(
            plan.recipe, plan.out, plan.manifest, 0, 0, 0, 0, monotonic() - started, card, notes=plan.notes
        )
    else:
        from inr_factory.generation.execution.run_fit import run_fit

        report = run_fit(plan, on_progress, started)
    if report.quarantine_excess:
        warnings.warn(report.quarantine_excess, QuarantineWarning, stacklevel=2)
    return report
