"""Integrity check: faults of the record and of the shards of a set."""

import contextlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from inr_factory.errors import IntegrityError, UsageError, blame_machine
from inr_factory.generation.fitting.shape_quality import MEASURES
from inr_factory.generation.recipe import recorded_recipe
from inr_factory.storage.locations import Location, RemoteLocation, local_folder
from inr_factory.storage.manifest import MANIFEST, ORIGIN, SHARD_FOLDER, Manifest, ShardEntry
from inr_factory.storage.manifest_file import load_origin
from inr_factory.storage.shard_contents import content_conflicts
from inr_factory.storage.shards import ShardReader

MOST_SHARDS = 50  # of one view of one split, evenly spread, whose quality is read


@dataclass(frozen=True)
class Fault:
    """What is wrong with one shard, or with the record itself."""

    path: str
    reason: str


def check_manifest(root: Location, manifest: Manifest) -> list[Fault]:
    """Faults of the record's head: against origin.json, and of its recipe against its fingerprint."""
    faults: list[Fault] = []
    try:
        origin = load_origin(root)
    except IntegrityError as error:
        faults, origin = [Fault(ORIGIN, str(error))], None
    field = None if origin is None else _altered(manifest, origin)
    if field is not None:
        faults.append(Fault(MANIFEST, f"{MANIFEST} says another {field} than {ORIGIN}; inr-factory repair decides"))
    if manifest.derived is None and "source" in manifest.recipe:
        try:
            fingerprint = recorded_recipe(manifest.recipe, origin=f"of {root}").fingerprint
            if not manifest.fingerprint.startswith(fingerprint):
                faults.append(Fault(MANIFEST, f"{MANIFEST} has a recipe that its fingerprint does not stand for"))
        except UsageError as error:
            faults.append(Fault(MANIFEST, f"{MANIFEST}: {error}"))
    return faults


def _altered(manifest: Manifest, origin: Manifest) -> str | None:
    """The field in which the two differ. A run that dies between two writes leaves more views, or a larger limit, in the
    origin alone."""
    with contextlib.suppress(ValueError):
        manifest = manifest.grown_like(origin)
    return manifest.difference(origin)


def check_shard(root: Path, manifest: Manifest, entry: ShardEntry) -> None:
    """Check size, sha256, layout and row checksums of a shard, that it is this set's, and every field of its entry.

    Raises IntegrityError that names the shard.
    """
    shard = ShardReader(root, entry, check=True)
    shard.check_rows()
    _ = shard.object_ids  # IntegrityError for names that are not UTF-8
    if not belongs(shard, manifest):
        raise IntegrityError(f"{entry.path} is a shard of another set")
    again = shard.describe_as(entry.bytes, entry.sha256).model_dump()
    for name, recorded in entry.model_dump().items():
        if again[name] != recorded:
            raise IntegrityError(f"{entry.path}: the manifest has {name} {recorded}, the shard {again[name]}"[:400])


def belongs(shard: ShardReader, manifest: Manifest) -> bool:
    """Whether a shard is of the set that a manifest describes."""
    return shard.attributes.get("fingerprint") == manifest.fingerprint and shard.spec == manifest.siren_spec


def check_shards(root: Path, manifest: Manifest, on_shard: Callable[[ShardEntry], None] | None = None) -> list[Fault]:
    """Faults of all recorded shards, see `check_shard`; and of files in the shard folder that have no record."""
    faults = []
    for entry in manifest.shards:
        try:
            check_shard(root, manifest, entry)
        except (IntegrityError, OSError) as error:
            blame_machine(error, entry.path)
            faults.append(Fault(entry.path, str(error)))
        if on_shard is not None:
            on_shard(entry)
    faults += [
        Fault(conflict.path, str(conflict))
        for conflict in content_conflicts((root, entry) for entry in manifest.shards)
    ]
    known = {entry.path for entry in manifest.shards}
    for path in sorted((root / SHARD_FOLDER).glob("*.h5")):
        name = f"{SHARD_FOLDER}/{path.name}"
        if name not in known:
            faults.append(Fault(name, unrecorded(name)))
    return faults


def check_remote(
    root: RemoteLocation, manifest: Manifest, on_shard: Callable[[ShardEntry], None] | None = None
) -> list[Fault]:
    """Faults of a set in a store, as `check_shards` finds them: each shard is fetched, checked and removed."""
    faults = []
    for entry in manifest.shards:
        alone = manifest.model_copy(update={"shards": (entry,)})
        try:
            with local_folder(root, entry.path) as folder:
                faults += check_shards(folder, alone, on_shard)
        except FileNotFoundError:
            faults += check_shards(Path(os.devnull), alone, on_shard)
    known = {entry.path for entry in manifest.shards}
    stored = [f"{SHARD_FOLDER}/{name}" for name in sorted((root / SHARD_FOLDER).sizes()) if name.endswith(".h5")]
    return faults + [Fault(name, unrecorded(name)) for name in stored if name not in known]


def unrecorded(name: str) -> str:
    return f"{name} is not recorded; inr-factory repair records it or sets it aside"


def median_quality(root: Location, entries: Sequence[ShardEntry]) -> dict[str, float]:
    """Medians of the shards' quality columns other than PSNR, by at most MOST_SHARDS shards; none for sets in a store,
    whose shards would have to be fetched."""
    if isinstance(root, RemoteLocation):
        return {}
    filled = [entry for entry in entries if entry.rows]
    shards = [ShardReader(root, entry, check=False) for entry in filled[:: -(-len(filled) // MOST_SHARDS) or 1]]
    names = [name for name in MEASURES if shards and all(name in shard.column_names for shard in shards)]
    columns = {name: np.concatenate([shard.column(name) for shard in shards]) for name in names}
    return {name: round(float(np.nanmedian(c)), 4) for name, c in columns.items() if not np.isnan(c).all()}
