"""Repair: brings a damaged set back to what it was, from what is whole of it and, where that is at hand, its source.

Nothing is deleted: a file that is not what it should be goes into DATASET/set-aside.
"""

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from inr_factory.errors import FactoryError, IntegrityError, UsageError
from inr_factory.generation.execution.fit_dataset import describe_set, fit_set
from inr_factory.generation.execution.progress_recorder import Progress
from inr_factory.generation.execution.run_settings import Settings
from inr_factory.generation.execution.shard_plan import make_plan
from inr_factory.generation.maintenance.verify import Fault, belongs, check_head, check_manifest, check_shard
from inr_factory.generation.recipe import Recipe, check_recipe
from inr_factory.generation.sources.registry import open_source
from inr_factory.storage.atomic_files import remove_stale_temporaries
from inr_factory.storage.manifest import MANIFEST, ORIGIN, SHARD_FOLDER, Manifest, ShardEntry
from inr_factory.storage.manifest_file import load_manifest, load_origin, replace_manifest
from inr_factory.storage.shards import ShardReader

SET_ASIDE = "set-aside"


@dataclass(frozen=True)
class Repaired:
    """What was found and done: files set aside (where they now lie), shards recorded anew, shards fitted again.

    `missing` counts what is still missing, `obstacle` says why it could not be fitted.
    """

    manifest: Manifest
    faults: tuple[Fault, ...]
    aside: tuple[str, ...]
    recorded: int
    made: int
    missing: int
    obstacle: str | None


def repair_set(
    root: Path,
    recipe: Recipe | None = None,
    settings: Settings | None = None,
    refit: bool = True,
    on_progress: Callable[[Progress], None] | None = None,
) -> Repaired:
    """Make a set whole again. Not while a run is at work on it.

    A manifest that is lost or altered is made anew from origin.json and the shards, or, where that is lost too, from
    `recipe` and its source. A shard that is whole and the set's is kept, and recorded if it was not; any other is set
    aside. Then what is missing is fitted, where `refit` and the source allow. Raises UsageError where root is no set
    or the recipe is not its own, IntegrityError where nothing says what the set was.
    """
    settings = settings or Settings()
    if not root.is_dir():
        raise UsageError(f"no data set in {root}: there is no such folder")
    remove_stale_temporaries(root)
    found, faults = _found(root)
    head = _head(root, found, recipe, settings)
    entries, recorded, bad = _sort_out(root, head, found)
    faults += bad
    aside = [_set_aside(root, fault.path) for fault in bad if os.path.lexists(root / fault.path)]
    views = max([head.views, *(entry.view + 1 for entry in entries)])
    manifest = head.with_views(views).with_entries(entries)
    if (found is not None and found != manifest and any(fault.path == MANIFEST for fault in faults)) or (
        found is None and (root / MANIFEST).exists()
    ):
        aside.append(_set_aside(root, MANIFEST))
    if any(fault.path == ORIGIN for fault in faults):
        aside.append(_set_aside(root, ORIGIN))
    replace_manifest(root, manifest)
    made, obstacle = 0, None
    if manifest.missing(root) and refit:
        try:
            report = fit_set(check_recipe(manifest.recipe, origin=f"of {root}"), root, settings, on_progress)
            manifest, made = report.manifest, report.made
        except (UsageError, IntegrityError) as error:
            obstacle = str(error)
    missing = len(manifest.missing(root))
    return Repaired(manifest, tuple(faults), tuple(aside), recorded, made, missing, obstacle)


def _found(root: Path) -> tuple[Manifest | None, list[Fault]]:
    """The manifest as it is, if it can be read, and what is wrong with it and with origin.json."""
    try:
        manifest = load_manifest(root)
    except FactoryError as error:
        faults = [Fault(MANIFEST, str(error))]
        try:
            load_origin(root)
        except IntegrityError as damage:
            faults.append(Fault(ORIGIN, str(damage)))
        return None, faults
    return manifest, check_manifest(root, manifest)


def _head(root: Path, found: Manifest | None, recipe: Recipe | None, settings: Settings) -> Manifest:
    """What the set is, from the first of: an origin.json whose checksum fits, a manifest that can be read, the recipe."""
    origin = None
    with contextlib.suppress(IntegrityError):  # it is among the faults
        origin = load_origin(root)
    if origin is not None:
        return origin
    if found is not None:
        wrong = [fault.reason for fault in check_head(root, found) if fault.path == MANIFEST]
        if wrong:
            raise IntegrityError(f"{wrong[0]}, and no {ORIGIN} says otherwise; put back a copy of {MANIFEST}")
        return found.head
    if recipe is None and not _files(root) and not (root / MANIFEST).exists():
        raise UsageError(f"no data set in {root}: it has neither a {MANIFEST} nor shards")
    if recipe is None:
        raise IntegrityError(
            f"{root} has neither a {MANIFEST} nor an {ORIGIN} that can be read; say how it was made: --recipe RECIPE, and --data-root"
        )
    source = open_source(recipe.source, settings.data_root)
    head = describe_set(recipe, source, make_plan(recipe, source))
    shards = [shard for path in _files(root) if (shard := _readable(path)) is not None]
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
    except (FactoryError, OSError):
        return None


def _sort_out(root: Path, head: Manifest, found: Manifest | None) -> tuple[list[ShardEntry], int, list[Fault]]:
    """Entries of the shards that are whole and the set's, how many of them had no right record, and what is wrong."""
    known = {entry.path: entry for entry in found.shards} if found is not None else {}
    entries, recorded, faults = [], 0, []
    for path in _files(root):
        name = f"{SHARD_FOLDER}/{path.name}"
        entry, reason = known.pop(name, None), f"{name} is not recorded"
        if entry is not None:
            try:
                check_shard(root, head, entry)
                entries.append(entry)
                continue
            except FactoryError as error:
                reason = str(error)
            except OSError as error:
                reason = f"{name} cannot be read: {error.strerror}"
        shard = _readable(path)
        if shard is not None and belongs(shard, head) and _placed(shard, head, name):
            entries.append(shard.describe())
            recorded += 1
        else:
            faults.append(Fault(name, reason))
    faults += [Fault(name, f"{name} is recorded but not there") for name in known]
    return entries, recorded, faults


def _placed(shard: ShardReader, head: Manifest, name: str) -> bool:
    """Whether a shard has the name that its content asks for, and a place in the set."""
    split, _, block = shard.key
    return shard.describe_as(0, "0" * 64).path == name and split in head.splits and block < head.splits[split].blocks


def _set_aside(root: Path, name: str) -> str:
    """Move a file of the set into its folder for such; where it is now, relative to the set."""
    folder = root / SET_ASIDE
    folder.mkdir(exist_ok=True)
    stem = Path(name).name
    number, place = 0, folder / stem
    while os.path.lexists(place):
        number += 1
        place = folder / f"{stem}.{number}"
    os.rename(root / name, place)
    return str(place.relative_to(root))
