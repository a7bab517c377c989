"""Fit plan: what a fit has to make, found without writing anything. Imports torch only if something is missing."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from itertools import islice
from numbers import Integral
from pathlib import Path
from platform import python_version
from typing import TYPE_CHECKING, Any

from inr_factory.errors import UsageError
from inr_factory.generation.execution.content_check import (
    SourceFiles,
    check_contents,
    check_contents_of_complete,
    check_counts,
    state_of_source,
)
from inr_factory.generation.execution.run_settings import FitSettings
from inr_factory.generation.recipe import (
    Limit,
    OwnSource,
    Recipe,
    builtin_recipes,
    check_views,
    load_recipe,
    recorded_recipe,
)
from inr_factory.generation.sprint_defaults import muon_rate, sprint_rate
from inr_factory.generation.start_file import check_learned_on
from inr_factory.inr.version import __version__
from inr_factory.storage.fetch_dataset import dataset_location
from inr_factory.storage.locations import Location, parse_location
from inr_factory.storage.manifest import MANIFEST, Manifest, SourceRecord, file_sizes
from inr_factory.storage.manifest_file import load_manifest, load_origin
from inr_factory.storage.source_place import remembered_source

if TYPE_CHECKING:
    from inr_factory.generation.execution.shard_plan import ShardPlan, ShardTask
    from inr_factory.generation.signals import Source
    from inr_factory.storage.targets import TargetTable


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
        files: the state of the source's files, to be kept with the set; None where it stays as it is.
        targets: of the set's objects, as the source has them; None where it has none.
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
    files: SourceFiles | None = None
    targets: "TargetTable | None" = None

    @property
    def complete(self) -> bool:
        """Whether all requested shards are recorded and on disk."""
        return self.shards is None


def plan_from_arguments(
    recipe: Recipe | Mapping[str, Any] | str | Path,
    out: str | Path | Location | None,
    views: int | None,
    limit: int | None,
    seed: int | None,
    settings: Sequence[str],
    source: "Source | None" = None,
    dry: bool = False,
    **how: Any,
) -> FitPlan:
    """`plan_fit` of the arguments of `fit_dataset`; `how` are those of `FitSettings.checked`.

    With `dry`, a default folder that another recipe has taken is no error but a note.
    """
    checked = FitSettings.checked(**how)
    dataset = locate_set(recipe)
    named = recipe if dataset is None else recipe_of_set(load_manifest(dataset), dataset)

    # The source is checked later.
    in_dim, out_dim = getattr(source, "in_dim", None), getattr(source, "out_dim", None)
    dims = (int(in_dim), int(out_dim)) if isinstance(in_dim, Integral) and isinstance(out_dim, Integral) else None

    def resolve(version: int | None = None) -> Recipe:
        return load_recipe(named, settings, version, dims=dims, views=views, limit=limit, seed=seed)

    resolved = resolve()
    folder = Path("inrs") / resolved.name if dataset is None else dataset
    location = parse_location(folder if out is None else out)
    return plan_fit(resolved, location, checked, source, resolve, dry and out is None)


def locate_set(recipe: Recipe | Mapping[str, Any] | str | Path) -> Location | None:
    """The folder or URL of a set that is given in place of a recipe; None for a recipe."""
    if isinstance(recipe, Recipe) or not isinstance(recipe, str | Path) or str(recipe) in builtin_recipes():
        return None
    if "://" in str(recipe):
        return dataset_location(recipe)
    return Path(recipe) if Path(recipe).is_dir() else None


def plan_fit(
    recipe: Recipe,
    out: Location,
    settings: FitSettings,
    source: "Source | None" = None,
    resolve: Callable[[int], Recipe] | None = None,
    lenient: bool = False,
) -> FitPlan:
    """Compare a recipe with the set in `out`: one read of its manifest, one listing of its shards.

    `resolve` gives the recipe at the version of the set, if that is another; None changes the version alone. `lenient`
    plans a new set where `out` holds another one, with a note.

    Raises UsageError if `out` holds another recipe's set, if the source cannot be opened or if objects have changed
    since the set was fitted; IntegrityError if the manifest is damaged or the source is not the set's.
    """
    if source is not None and not isinstance(recipe.source, OwnSource):
        raise UsageError(
            f"source= needs a recipe with source: {{collection: own}}, this recipe's is {recipe.source.collection}"
        )
    saved, smaller, notes = None, False, tuple[str, ...]()
    try:
        if (saved := load_saved_manifest(out)) is not None:
            recipe, smaller, notes = continued_recipe(recipe, saved, out, resolve)
    except UsageError as error:
        if not lenient:
            raise
        saved, notes = None, (f"fit would need another --out: {error}",)
    size_of, grows = file_sizes(out), False
    if saved is not None:
        settings = replace(settings, data_root=settings.data_root or remembered_source(out))
        grows = len(recipe.limits) > len(saved.limits)
        manifest = saved.with_views(max(saved.views, recipe.views))
        missing = frozenset(manifest.missing(out, size_of))
        done = missing.isdisjoint(saved.with_views(recipe.views).shard_names())
        if done and not grows:
            notes += () if saved.passed_over is None else saved.passed_over.lines()
            files = check_contents_of_complete(recipe, saved, out, settings.data_root, source)
            return FitPlan(recipe, out, settings, saved, saved, missing, notes=notes, files=files)
        if smaller:
            raise UsageError(
                f"{out} was begun with the limit {recipe.limit} and is not complete, and a set keeps its objects; run with "
                "that --limit, or choose another --out"
            )

    from inr_factory.generation.execution.fit_targets import check_source_targets, source_targets
    from inr_factory.generation.execution.shard_plan import make_shard_plan, small_split_notes
    from inr_factory.generation.execution.source_check import check_objects, check_source
    from inr_factory.generation.sources.registry import open_source

    if source is None:
        source = open_source(recipe.source, settings.data_root, recipe.version)
    check_objects(source)
    check_views(recipe, recipe.spec.spec(source.in_dim, source.out_dim).num_parameters)
    shards = make_shard_plan(recipe, source)
    if recipe.fit.start_objects is not None:
        names = {
            split: [source.items[index].object_id for block in blocks for index in block]
            for split, blocks in shards.blocks.items()
        }
        check_learned_on(recipe.fit.start_objects, source, names)
    notes += small_split_notes(shards, recipe)
    if getattr(recipe.source, "augment", ()) and recipe.views == 1:
        notes += ("source.augment changes views from 1 on, so nothing with one view; --views 5 has four that differ",)
    if saved is None:
        notes += _rate_notes(recipe)
        manifest = describe_set(recipe, source, shards, settings.device)
        missing = frozenset(manifest.shard_names())
    elif grows:
        limits = recipe.model_dump(mode="json", include={"limit", "earlier_limits"})
        manifest = manifest.model_copy(update={"recipe": manifest.recipe | limits, "splits": shards.splits})
        missing = frozenset(manifest.missing(out, size_of))
        before, now = (sum(split.objects for split in each.splits.values()) for each in (saved, manifest))
        notes += (f"{out} grows from {before:,} to {now:,} objects; its shards stay as they are",)
    check_source(source, manifest.source.fingerprint, out)
    check_counts(manifest, out, source, shards)
    indices = [index for blocks in shards.blocks.values() for block in blocks for index in block]
    targets = source_targets(source, indices)
    if saved is not None:
        check_contents(saved, out, source, indices)
        check_source_targets(out, saved, targets)
    passed_over = getattr(source, "passed_over", None) or manifest.passed_over
    notes += () if passed_over is None else passed_over.lines()
    tasks = _tasks_of_part(shards.tasks(recipe.views), settings.part, missing)
    unrecorded = tuple(task for task in tasks if size_of(task.path) is not None)
    files = state_of_source(source, indices) if recipe.version >= 2 else None
    return FitPlan(
        recipe,
        out,
        settings,
        saved,
        manifest,
        missing,
        source,
        shards,
        tuple(tasks),
        unrecorded,
        notes,
        files,
        targets,
    )


def _rate_notes(recipe: Recipe) -> tuple[str, ...]:
    """A line for a rate that was chosen for another optimizer, and kept where only the optimizer was changed."""
    fit, spec = recipe.fit, recipe.spec.spec(1, 1)
    own = {"sprint": sprint_rate(spec, fit.steps), "muon": muon_rate(spec)}.get(fit.optimizer, fit.learning_rate)
    high = fit.optimizer == "muon" and fit.learning_rate > 1.5 * own
    if recipe.version < 2 or not (high or fit.learning_rate <= own / 3):
        return ()
    return (
        f"fit.learning_rate is {fit.learning_rate:g}; {fit.optimizer}'s own for this net is --set "
        f"fit.learning_rate={own:.3g}",
    )


def _tasks_of_part(tasks: "Sequence[ShardTask]", part: tuple[int, int], missing: frozenset[str]) -> "list[ShardTask]":
    """The missing ones of every n-th task from the i-th on: parts stay the same while shards appear."""
    number, parts = part
    return [task for task in islice(tasks, number, None, parts) if task.path in missing]


def load_saved_manifest(out: Location) -> Manifest | None:
    """The manifest of the set in `out`, None if there is none; UsageError for a set that no recipe continues."""
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file; --out takes a folder")
    # Without its manifest, origin.json still says which set it is.
    manifest = load_manifest(out) if (out / MANIFEST).exists() else load_origin(out)
    if manifest is not None and not (out / MANIFEST).exists() and isinstance(out, Path):
        from inr_factory.storage.targets import newest_targets

        manifest = manifest.model_copy(update={"targets": newest_targets(out)})
    if manifest is not None:
        check_not_derived(manifest, out)
    return manifest


def check_not_derived(manifest: Manifest, out: Location) -> None:
    """Raise UsageError for an imported set and for a copy, which were not fitted from a source."""
    if manifest.derived is not None and manifest.derived.how.startswith("import:"):
        raise UsageError(
            f"{out} was imported ({manifest.derived.how.removeprefix('import:')}) and cannot be fitted further; choose another --out"
        )
    if manifest.derived is not None:
        raise UsageError(
            f"{out} is a copy ({manifest.derived.how}); fit the set it was made from, or choose another --out"
        )


def recipe_of_set(manifest: Manifest, out: Location) -> Recipe:
    """The recipe of a set, with its present limit alone; UsageError for a set that no recipe continues."""
    check_not_derived(manifest, out)
    return recorded_recipe(manifest.recipe, origin=f"of {out}").model_copy(update={"earlier_limits": ()})


def continued_recipe(
    recipe: Recipe, manifest: Manifest, out: Location, resolve: Callable[[int], Recipe] | None = None
) -> tuple[Recipe, bool, tuple[str, ...]]:
    """The recipe by which the set in `out` is continued: at its version, with the limits that it has had.

    Returns:
        The recipe, whether its limit is smaller than the set's, which it has then, and notes for the user.

    Raises:
        UsageError: the set is not this recipe's.
    """
    saved, notes = recorded_recipe(manifest.recipe, origin=f"of {out}"), tuple[str, ...]()
    if recipe.version != saved.version:
        notes = (
            f"{out} was made by version {saved.version} of the recipe and is continued so; new sets get {recipe.version}",
        )
        recipe = resolve(saved.version) if resolve is not None else load_recipe(recipe, version=saved.version)
    smaller = False
    if not recipe.earlier_limits:
        given = "limit" in recipe.model_fields_set
        differs = recipe.limit != saved.limit
        smaller = given and differs and _is_smaller(recipe.limit, saved.limit)
        same = smaller or not (given and differs)
        limits = (
            {"limit": saved.limit, "earlier_limits": saved.earlier_limits} if same else {"earlier_limits": saved.limits}
        )
        if same and differs:
            objects = sum(split.objects for split in manifest.splits.values())
            why = (
                f"which the limit {recipe.limit} is a part of" if smaller else "--limit adds some, --set limit=null all"
            )
            notes += (f"{out} keeps its {objects:,} objects, {why}",)
        recipe = recipe.model_copy(update=limits)
    if saved.fingerprint != recipe.fingerprint:
        builtin = builtin_recipe_like(saved)
        like = f"; it is that of the recipe {builtin} now" if builtin not in (None, saved.name) else ""
        raise UsageError(
            f"{out} holds a set of another recipe ({saved.name}: {recipe.difference(saved)}){like}; continue it by "
            f"`inr-factory fit {out}`, or choose another --out"
        )
    if not manifest.fingerprint.startswith(saved.fingerprint):
        raise UsageError(
            f"{out} was made by a version whose recipes had other settings (fingerprint {manifest.fingerprint}); "
            "continue with that version, or choose another --out"
        )
    return recipe, smaller, notes


def builtin_recipe_like(recipe: Recipe) -> str | None:
    """The built-in recipe, with its number of views and any limit, that makes the shards of this one."""
    limits = {"limit": recipe.limit, "earlier_limits": recipe.earlier_limits}
    for name in builtin_recipes():
        if load_recipe(name, version=recipe.version).model_copy(update=limits).fingerprint == recipe.fingerprint:
            return name
    return None


def _is_smaller(limit: int | Limit | None, other: int | Limit | None) -> bool:
    """Whether a limit takes a part of what another takes. A number and a limit for each split are not comparable."""
    if isinstance(limit, Limit) and isinstance(other, Limit):
        pairs = zip(limit.model_dump().values(), other.model_dump().values(), strict=True)
        return all(_is_smaller(one, two) or one == two for one, two in pairs)
    if isinstance(limit, int) and isinstance(other, int):
        return limit < other
    return other is None and limit is not None


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
        passed_over=getattr(source, "passed_over", None),
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
