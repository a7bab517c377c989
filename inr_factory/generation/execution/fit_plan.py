"""Fit plan: what a fit has to make, found without writing anything. Imports torch only if something is missing."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from itertools import islice
from pathlib import Path
from platform import python_version
from typing import TYPE_CHECKING, Any

from inr_factory.errors import UsageError
from inr_factory.generation.execution.run_settings import FitSettings
from inr_factory.generation.recipe import RECIPE_VERSION, OwnSource, Recipe, load_recipe, recorded_recipe
from inr_factory.inr.version import __version__
from inr_factory.storage.locations import Location, parse_location
from inr_factory.storage.manifest import MANIFEST, Manifest, SourceRecord, file_sizes
from inr_factory.storage.manifest_file import load_manifest, load_origin

if TYPE_CHECKING:
    from inr_factory.generation.execution.shard_plan import ShardPlan, ShardTask
    from inr_factory.generation.signals import Source


@dataclass(frozen=True)
class FitPlan:
    """What a fit of a recipe into `out` has to do.

    Attributes:
        recipe, out, settings: what was requested.
        saved: the manifest on disk, None if there is none.
        manifest: the same with the requested views, or that of a new set.
        missing: paths of shards of `manifest` that are not both recorded and on disk.
        source: where the objects come from; None if no requested shard is missing.
        shards: which objects are in which shard; None if no requested shard is missing.
        tasks: missing shards that this run has to make.
        unrecorded: those of `tasks` whose files exist already; they are valid or broken.
        notes: what a user should know about the set to be made, a line each.
    """

    recipe: Recipe
    out: Location
    settings: FitSettings
    saved: Manifest | None
    manifest: Manifest
    missing: frozenset[str]
    source: "Source | None" = None
    shards: "ShardPlan | None" = None
    tasks: "tuple[ShardTask, ...]" = ()
    unrecorded: "tuple[ShardTask, ...]" = ()
    notes: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether all requested shards are recorded and on disk."""
        return self.shards is None


def plan_from_arguments(
    recipe: Recipe | str | Path,
    out: str | Path | Location | None,
    views: int | None,
    limit: int | None,
    seed: int | None,
    settings: Sequence[str],
    source: "Source | None" = None,
    **how: Any,
) -> FitPlan:
    """`plan_fit` of the arguments of `fit_dataset`; `how` are those of `FitSettings.checked`."""
    checked = FitSettings.checked(**how)

    def resolve(version: int | None = None) -> Recipe:
        return load_recipe(recipe, settings, version, views=views, limit=limit, seed=seed)

    resolved = resolve()
    location = parse_location(Path("inrs") / resolved.name if out is None else out)
    return plan_fit(resolved, location, checked, source, resolve)


def plan_fit(
    recipe: Recipe,
    out: Location,
    settings: FitSettings,
    source: "Source | None" = None,
    resolve: Callable[[int], Recipe] | None = None,
) -> FitPlan:
    """Compare a recipe with the set in `out`: one read of its manifest, one listing of its shards.

    `resolve` gives the recipe at the version of the set, if that is another; None changes the version alone.

    Raises UsageError if `out` holds another recipe's set or the source cannot be opened, IntegrityError if the
    manifest is damaged or the source is not the set's.
    """
    if source is not None and not isinstance(recipe.source, OwnSource):
        raise UsageError(
            f"source= needs a recipe with source: {{collection: own}}, this recipe's is {recipe.source.collection}"
        )
    saved, version = load_saved_manifest(out)
    notes: tuple[str, ...] = ()
    if saved is not None:
        if recipe.version != version:
            newest = recipe.version
            recipe = resolve(version) if resolve is not None else load_recipe(recipe, version=version)
            notes = (f"{out} was made by version {version} of the recipe and is continued so; new sets get {newest}",)
        check_same_set(recipe, saved, out)
    size_of = file_sizes(out)
    if saved is not None:
        manifest = saved.with_views(max(saved.views, recipe.views))
        missing = frozenset(manifest.missing(out, size_of))
        if missing.isdisjoint(saved.with_views(recipe.views).shard_names()):
            if source is not None:
                from inr_factory.generation.execution.source_check import check_source

                check_source(source, saved.source.fingerprint, out)
            return FitPlan(recipe, out, settings, saved, saved, missing, notes=notes)

    from inr_factory.generation.execution.shard_plan import make_shard_plan
    from inr_factory.generation.execution.source_check import check_objects, check_source
    from inr_factory.generation.sources.registry import open_source

    if source is None:
        source = open_source(recipe.source, settings.data_root, recipe.version)
    check_objects(source)
    shards = make_shard_plan(recipe, source)
    if saved is None:
        manifest = describe_set(recipe, source, shards, settings.device)
        missing = frozenset(manifest.shard_names())
    check_source(source, manifest.source.fingerprint, out)
    tasks = _tasks_of_part(shards.tasks(recipe.views), settings.part, missing)
    unrecorded = tuple(task for task in tasks if size_of(task.path) is not None)
    return FitPlan(recipe, out, settings, saved, manifest, missing, source, shards, tuple(tasks), unrecorded, notes)


def _tasks_of_part(tasks: "Sequence[ShardTask]", part: tuple[int, int], missing: frozenset[str]) -> "list[ShardTask]":
    """The missing ones of every n-th task from the i-th on: parts stay the same while shards appear."""
    number, parts = part
    return [task for task in islice(tasks, number, None, parts) if task.path in missing]


def load_saved_manifest(out: Location) -> tuple[Manifest | None, int]:
    """The manifest of the set in `out` and the version of its recipe; UsageError for a set that no recipe continues."""
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file; --out takes a folder")
    # Without its manifest, origin.json still says which set it is.
    manifest = load_manifest(out) if (out / MANIFEST).exists() else load_origin(out)
    if manifest is None:
        return None, RECIPE_VERSION
    if manifest.derived is not None and manifest.derived.how.startswith("import:"):
        raise UsageError(
            f"{out} was imported ({manifest.derived.how.removeprefix('import:')}) and cannot be fitted further; choose another --out"
        )
    if manifest.derived is not None:
        raise UsageError(
            f"{out} is a copy ({manifest.derived.how}); fit the set it was made from, or choose another --out"
        )
    return manifest, recorded_recipe(manifest.recipe, origin=f"of {out}").version


def check_same_set(recipe: Recipe, manifest: Manifest, out: Location) -> None:
    """Raise UsageError unless the set in `out` is this recipe's."""
    saved_recipe = recorded_recipe(manifest.recipe, origin=f"of {out}")
    if saved_recipe.fingerprint != recipe.fingerprint:
        raise UsageError(
            f"{out} holds a set of another recipe ({saved_recipe.name}: {recipe.difference(saved_recipe)}); "
            "choose another --out"
        )
    if not manifest.fingerprint.startswith(saved_recipe.fingerprint):
        raise UsageError(
            f"{out} was made by a version whose recipes had other settings (fingerprint {manifest.fingerprint}); "
            "continue with that version, or choose another --out"
        )


def describe_set(recipe: Recipe, source: "Source", shards: "ShardPlan", device: str = "cpu") -> Manifest:
    """The manifest of a set that has no shard yet. On a GPU its software includes triton, which decides bits there."""
    from inr_factory.generation.execution.source_check import set_fingerprint

    return Manifest(
        name=recipe.name,
        spec=recipe.spec.spec(source.in_dim, source.out_dim).to_dict(),
        recipe=recipe.model_dump(mode="json"),
        fingerprint=set_fingerprint(recipe, source.fingerprint),
        source=SourceRecord(
            name=source.name, version=source.version, licence=source.licence, fingerprint=source.fingerprint
        ),
        classes=source.classes,
        splits=shards.splits,
        software={
            "python": python_version(),
            "inr-factory": __version__,
            **{name: metadata.version(name) for name in ("torch", "numpy", "h5py")},
            **kernel_software(device),
        },
    )


def kernel_software(device: str) -> dict[str, str]:
    """The version of triton for fits on a GPU; nothing for a CPU, or where it is not installed."""
    import torch

    from inr_factory.generation.fitting.fused_cuda import triton_version

    on_gpu = device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())
    version = triton_version() if on_gpu else None
    return {"triton": version} if version else {}
