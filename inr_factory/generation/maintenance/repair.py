"""Repair: restores a damaged set from its valid parts and, if available, its source.

Nothing is deleted: a file that is not what it should be goes into DATASET/set-aside.
"""

import contextlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from inr_factory.errors import IntegrityError, UsageError, blame_machine
from inr_factory.generation.execution.fit_dataset import fit_dataset
from inr_factory.generation.execution.fit_plan import describe_set
from inr_factory.generation.execution.progress_recorder import FitProgress
from inr_factory.generation.execution.run_settings import FitSettings
from inr_factory.generation.execution.shard_plan import make_shard_plan
from inr_factory.generation.maintenance.integrity_check import Fault, belongs, check_manifest, check_shard
from inr_factory.generation.maintenance.retry_quarantine import retry_quarantine as retry
from inr_factory.generation.maintenance.targets_check import sort_targets
from inr_factory.generation.recipe import Recipe, load_recipe, recorded_recipe
from inr_factory.generation.signals import Source
from inr_factory.generation.sources.registry import open_source
from inr_factory.storage.atomic_files import remove_stale_temporaries
from inr_factory.storage.dataset_card import update_card_if_complete
from inr_factory.storage.locations import Location, parse_location
from inr_factory.storage.manifest import MANIFEST, ORIGIN, SHARD_FOLDER, Manifest, ShardEntry, check_inside
from inr_factory.storage.manifest_file import load_manifest, load_origin, replace_manifest
from inr_factory.storage.shard_contents import content_conflicts
from inr_factory.storage.shards import ShardReader
from inr_factory.storage.source_place import remembered_source

SET_ASIDE = "set-aside"


@dataclass(frozen=True)
class RepairReport:
    """What a repair found and did.

    Attributes:
        manifest: of the set as it is now.
        faults: what was wrong.
        aside: files that were set aside, by their paths now, relative to the set.
        recorded: valid shards that had no correct record.
        made: shards fitted again.
        missing: shards that are still missing.
        obstacle: why they could not be fitted; None if nothing stood in the way.
        recovered: INRs that left the quarantine.
    """

    manifest: Manifest
    faults: tuple[Fault, ...]
    aside: tuple[str, ...]
    recorded: int
    made: int
    missing: int
    obstacle: str | None
    recovered: int = 0


def repair_dataset(
    dataset: str | Path,
    *,
    recipe: Recipe | str | Path | None = None,
    settings: Sequence[str] = (),
    data_root: str | Path | Location | None = None,
    fit: bool = True,
    workers: int | None = None,
    backend: str = "local",
    device: str = "auto",
    retry_quarantine: bool = False,
    source: Source | None = None,
    on_progress: Callable[[FitProgress], None] | None = None,
) -> RepairReport:
    """Repair a damaged set: rebuild its record, set bad shards aside, fit them again. Not while a fit is running.

    Targets are those that the manifest names, or else the newest valid ones that lie there. A manifest that is lost or
    altered is rebuilt from origin.json and the shards or, without an origin.json, from
    `recipe` and its source. A valid shard of the set is kept, and recorded if it was not; any other is set aside.
    Nothing is deleted.

    Args:
        dataset: folder of the set.
        recipe: the recipe of the set, needed if manifest.json and origin.json are both lost.
        settings: further "key=value" of that recipe.
        data_root: folder or URL of the source's files; default as for `fit_dataset`.
        fit: whether to fit what is missing, if the source is available.
        workers: as for `fit_dataset`.
        backend: as for `fit_dataset`.
        device: as for `fit_dataset`.
        retry_quarantine: whether objects that could not be read are read again, and fitted if they now can be.
        source: the Source of a set that was made from one written in Python.
        on_progress: called with a `FitProgress` while shards are fitted.

    Returns:
        Faults, files set aside, counts, and the manifest.

    Raises:
        UsageError: for a wrong argument, a folder without a set, or another set's recipe.
        IntegrityError: if nothing says what the set was.
    """
    how: dict[str, Any] = {"workers": workers, "backend": backend, "device": device, "data_root": data_root}
    checked = FitSettings.checked(**how)
    if settings and recipe is None:
        raise UsageError("--set changes the recipe that --recipe names; give both")
    resolved = [] if recipe is None else [load_recipe(recipe, settings, version) for version in (None, 1)]
    root = require_folder(dataset)
    if not root.is_dir():
        raise UsageError(f"no data set in {root}: there is no such folder")
    checked = replace(checked, data_root=checked.data_root or remembered_source(root))
    remove_stale_temporaries(root)
    saved, faults = _load(root)
    head = _head(root, saved, resolved, checked.data_root)
    entries, recorded, bad = _sort_shards(root, head, saved)
    targets, wrong = sort_targets(root, saved)
    bad += wrong
    faults += bad
    aside = [_set_aside(root, fault.path) for fault in bad if os.path.lexists(root / fault.path)]
    views = max([head.views, *(entry.view + 1 for entry in entries)])
    manifest = head.with_views(views).with_entries(entries).model_copy(update={"targets": targets})
    if (saved is not None and saved != manifest and any(fault.path == MANIFEST for fault in faults)) or (
        saved is None and (root / MANIFEST).exists()
    ):
        aside.append(_set_aside(root, MANIFEST))
    if any(fault.path == ORIGIN for fault in faults):
        aside.append(_set_aside(root, ORIGIN))
    replace_manifest(root, manifest)
    made, obstacle = 0, None
    if manifest.missing(root) and fit:
        try:
            set_recipe = recorded_recipe(manifest.recipe, origin=f"of {root}")
            report = fit_dataset(set_recipe, root, **how, source=source, on_progress=on_progress)
            manifest, made = report.manifest, report.made
        except (UsageError, IntegrityError) as error:
            obstacle = str(error)
    left = 0
    if retry_quarantine:
        manifest, left = retry(root, manifest, checked, source, on_progress)
        update_card_if_complete(root, manifest)
    missing = len(manifest.missing(root))
    return RepairReport(manifest, tuple(faults), tuple(aside), recorded, made, missing, obstacle, left)


def require_folder(dataset: str | Path) -> Path:
    """The folder of a set on this machine; UsageError for a URL: sets in a store are not changed in place."""
    folder = parse_location(dataset)
    if not isinstance(folder, Path):
        raise UsageError(f"repair and merge work on folders, got {dataset}; copy the set to this machine, and back")
    return folder


def _load(root: Path) -> tuple[Manifest | None, list[Fault]]:
    """The manifest, if it can be read, and what is wrong with it and with origin.json."""
    try:
        manifest = load_manifest(root)
    except (UsageError, IntegrityError) as error:
        faults = [Fault(MANIFEST, str(error))]
        try:
            load_origin(root)
        except IntegrityError as damage:
            faults.append(Fault(ORIGIN, str(damage)))
        return None, faults
    return manifest, check_manifest(root, manifest)


def _head(root: Path, saved: Manifest | None, recipes: Sequence[Recipe], data_root: Location | None) -> Manifest:
    """The manifest without shards, from the first of: a valid origin.json, a readable manifest, the recipe.

    `recipes` is the recipe at its versions, newest first: the shards tell which one is theirs.
    """
    origin = None
    with contextlib.suppress(IntegrityError):  # it is among the faults
        origin = load_origin(root)
    if origin is not None:
        return origin
    if saved is not None:
        wrong = [fault.reason for fault in check_manifest(root, saved) if fault.path == MANIFEST]
        if wrong:
            raise IntegrityError(f"{wrong[0]}, and no {ORIGIN} says otherwise; put back a copy of {MANIFEST}")
        return saved.head
    if not recipes and not _files(root) and not (root / MANIFEST).exists():
        raise UsageError(f"no data set in {root}: it has neither a {MANIFEST} nor shards")
    if not recipes:
        raise IntegrityError(
            f"{root} has neither a {MANIFEST} nor an {ORIGIN} that can be read; name its recipe: --recipe RECIPE, and --data-root"
        )
    shards = [shard for path in _files(root) if (shard := _readable(path)) is not None]
    heads = []
    for recipe in recipes:
        source = open_source(recipe.source, data_root, recipe.version)
        heads.append(describe_set(recipe, source, make_shard_plan(recipe, source)))
    head = next((head for head in heads if any(belongs(shard, head) for shard in shards)), heads[0])
    if shards and not any(belongs(shard, head) for shard in shards):
        raise UsageError(
            f"the shards in {root} have the fingerprint {shards[0].attributes.get('fingerprint')}, this recipe and "
            f"source give {head.fingerprint}; give the recipe and the data that the set was made of"
        )
    return head


def _files(root: Path) -> list[Path]:
    return sorted((root / SHARD_FOLDER).glob("*.h5"))


def _readable(path: Path) -> ShardReader | None:
    try:
        return ShardReader.unrecorded(path)
    except IntegrityError:
        return None


def _sort_shards(root: Path, head: Manifest, saved: Manifest | None) -> tuple[list[ShardEntry], int, list[Fault]]:
    """Entries of the set's valid shards, how many of them had no correct record, and what is wrong."""
    known = {entry.path: entry for entry in saved.shards} if saved is not None else {}
    entries, recorded, faults = [], 0, []
    for path in _files(root):
        name = f"{SHARD_FOLDER}/{path.name}"
        entry, reason = known.pop(name, None), f"{name} is not recorded"
        if entry is not None:
            try:
                check_shard(root, head, entry)
                entries.append(entry)
                continue
            except (IntegrityError, OSError) as error:
                blame_machine(error, name)
                reason = str(error)
        shard = _readable(path)
        if shard is not None and belongs(shard, head) and _has_right_name(shard, head, name):
            entries.append(shard.describe())
            recorded += 1
        else:
            faults.append(Fault(name, reason))
    for conflict in content_conflicts((root, entry) for entry in entries):
        faults.append(Fault(conflict.path, str(conflict)))
        entries = [entry for entry in entries if entry.path != conflict.path]
    faults += [Fault(name, f"{name} is recorded but missing") for name in known]
    return entries, recorded, faults


def _has_right_name(shard: ShardReader, head: Manifest, name: str) -> bool:
    """Whether a shard has the name that its content requires, and the set has such a shard."""
    split, _, block = shard.key
    return shard.describe_as(0, "0" * 64).path == name and split in head.splits and block < head.splits[split].blocks


def _set_aside(root: Path, name: str) -> str:
    """Move a file of the set into DATASET/set-aside; returns its path now, relative to the set."""
    folder = root / SET_ASIDE
    check_inside(root, folder)
    folder.mkdir(exist_ok=True)
    stem = Path(name).name
    number, target = 0, folder / stem
    while os.path.lexists(target):
        number += 1
        target = folder / f"{stem}.{number}"
    os.rename(root / name, target)
    return str(target.relative_to(root))
