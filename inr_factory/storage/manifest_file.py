"""Manifest files: a set's manifest.json and origin.json, read, checked and updated by any number of runs."""

import hashlib
import json
import random
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from inr_factory.errors import IntegrityError, UsageError, blame_machine, one_line, validation_message
from inr_factory.inr.plain_json import parse_json_object
from inr_factory.inr.regular_files import read_regular
from inr_factory.storage.atomic_files import locked, make_folder, write_atomically
from inr_factory.storage.locations import Location, read_file
from inr_factory.storage.manifest import (
    FORMAT_VERSION,
    MANIFEST,
    MAX_MANIFEST_BYTES,
    ORIGIN,
    SHARD_FOLDER,
    Manifest,
    ShardEntry,
    check_inside,
    file_size,
)
from inr_factory.storage.targets_record import TargetsRecord

SETTLING_SECONDS = (0.1, 0.3, 1.0)


def load_manifest(root: Location) -> Manifest:
    """Read and check the manifest of the set in folder root.

    Raises:
        UsageError: where there is none.
        IntegrityError: where it is damaged, or of a format that this program cannot read.
    """
    path = root / MANIFEST
    check_inside(root, path)
    try:
        if (file_size(path) or 0) > MAX_MANIFEST_BYTES:
            raise IntegrityError(f"{path} has more than {MAX_MANIFEST_BYTES:,} bytes, which no manifest has")
        content = read_file(path, MAX_MANIFEST_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        if (root / ORIGIN).exists() or (root / SHARD_FOLDER).is_dir():
            raise IntegrityError(
                f"the data set in {root} has lost its {MANIFEST}; inr-factory repair {root} rebuilds it"
            ) from None
        raise UsageError(
            f"no data set in {root}: it has no {MANIFEST}; make one with inr-factory fit RECIPE --out {root}"
        ) from None
    except IntegrityError:
        raise
    except OSError as error:
        blame_machine(error, path)
        raise IntegrityError(f"{path} cannot be read: {error}") from None
    try:
        fields = parse_json_object(content)
        version = fields["format_version"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise IntegrityError(
            f"{path} is not a complete manifest ({one_line(error)}); inr-factory repair {root} rebuilds it from the shards"
        ) from None
    if version != FORMAT_VERSION:
        raise IntegrityError(
            f"{path} has format version {version}, this program reads {FORMAT_VERSION}; fit it again, or install a newer inr-factory"
        )
    try:
        return _checked_manifest(fields)
    except ValidationError as error:
        fault = validation_message(error)
    except (UsageError, KeyError, TypeError, ValueError) as error:
        fault = one_line(error)
    raise IntegrityError(f"{path} is damaged: {fault}; inr-factory repair {root} rebuilds it from the shards")


def _checked_manifest(fields: dict[str, Any]) -> Manifest:
    """The manifest of plain fields. Raises ValueError or UsageError where no set can have it."""
    manifest = Manifest.model_validate(fields)
    _ = manifest.siren_spec
    manifest.check_size()
    manifest.check_shards()
    return manifest


def update_manifest(root: Location, manifest: Manifest, entries: Iterable[ShardEntry] = ()) -> Manifest:
    """Merge entries, and views and limit if they grew, into the manifest on disk.

    Any number of runs may update one set: the file is read, merged and replaced under a lock, and left alone if
    nothing is new. Where nothing can be locked a run may overwrite the update of another: see `record_until_visible`.

    Args:
        root: the set's folder; it is made where it is missing.
        manifest: the set's manifest, written where there is none.
        entries: shards that are complete.

    Returns:
        The manifest that is on disk now.

    Raises:
        UsageError: where the folder holds the set of another recipe, or one that grew otherwise, or the manifest would be
            too large to read.
    """
    make_folder(root)
    with locked(root):
        saved, merged = None, manifest
        if file_size(root / MANIFEST) is not None:
            merged = saved = load_manifest(root)
            if merged.fingerprint != manifest.fingerprint:
                raise UsageError(f"{root} holds another recipe's set since this run started; choose another --out")
            try:
                merged = saved.grown_like(manifest.model_copy(update={"software": saved.software}))
            except ValueError as error:
                raise UsageError(f"another run has made {root} grow otherwise ({error}); run again") from None
        if merged.targets is None:  # another run, of before they were recorded, may have overwritten them in a store
            merged = merged.model_copy(update={"targets": manifest.targets})
        merged = merged.with_entries(entries)
        if merged != saved:
            content = _checked_content(root, merged)
            _update_origin(root, merged)
            write_atomically(root / MANIFEST, content)
    return merged


def forget_shard(root: Location, path: str) -> None:
    """Take one shard out of the manifest, before its file is replaced: a record never differs from its file."""
    with locked(root):
        manifest = load_manifest(root)
        kept = tuple(entry for entry in manifest.shards if entry.path != path)
        write_atomically(root / MANIFEST, manifest.model_copy(update={"shards": kept}).to_json().encode())


def _checked_content(root: Location, manifest: Manifest) -> bytes:
    """The bytes of the manifest. Raises UsageError where no reader would accept them."""
    try:
        manifest.check_size()
        content = manifest.to_json().encode()
        if len(content) > MAX_MANIFEST_BYTES:
            raise ValueError(f"its manifest would have {len(content):,} bytes, at most {MAX_MANIFEST_BYTES:,} are read")
    except ValueError as error:
        raise UsageError(f"{root}: {error}; ask for fewer views, or a larger shard_objects") from None
    return content


def record_targets(root: Location, manifest: Manifest, record: TargetsRecord | None) -> Manifest:
    """Write the manifest with another file of targets. The caller holds the lock, and has written that file."""
    manifest = manifest.model_copy(update={"targets": record})
    write_atomically(root / MANIFEST, _checked_content(root, manifest))
    return manifest


def record_until_visible(root: Location, manifest: Manifest, entries: Iterable[ShardEntry]) -> Manifest:
    """Update the manifest at the end of a run, and again until it keeps the entries.

    Where files cannot be locked another run may overwrite entries with what it read before. The update is therefore
    repeated after pauses of random length. Shards whose entries are lost all the same stay complete on disk, and the
    next `fit` records them.
    """
    entries = tuple(entries)
    manifest = update_manifest(root, manifest, entries)
    with locked(root) as exclusive:
        pauses = () if exclusive else SETTLING_SECONDS
    for pause in pauses:
        time.sleep(random.uniform(pause / 2, pause))
        manifest = update_manifest(root, manifest, entries)
    return manifest


def replace_manifest(root: Path, manifest: Manifest) -> None:
    """Replace the manifest and its origin on disk, whatever they hold; write only what differs."""
    with locked(root):
        for name, content in ((ORIGIN, origin_content(manifest)), (MANIFEST, manifest.to_json().encode())):
            path = root / name
            check_inside(root, path)
            if not path.exists() or read_regular(path) != content:
                write_atomically(path, content)


def _update_origin(root: Location, manifest: Manifest) -> None:
    """Write origin.json at the beginning and when there are more views.

    A file that is damaged or differs otherwise stays: `verify` names it, `repair` decides.
    """
    try:
        saved = load_origin(root)
    except IntegrityError:
        return
    if saved is not None:
        try:
            grown = saved.grown_like(manifest)
        except ValueError:
            return
        if grown == saved or grown.difference(manifest) is not None:
            return
    write_atomically(root / ORIGIN, origin_content(manifest))


def origin_content(manifest: Manifest) -> bytes:
    """The bytes of origin.json: the manifest without its shards and targets, and a checksum."""
    fields = manifest.origin.model_dump(mode="json", exclude={"shards"})
    return (json.dumps({**fields, "checksum": _fields_checksum(fields)}, indent=2) + "\n").encode()


def load_origin(root: Location) -> Manifest | None:
    """The manifest without shards that origin.json holds; None where there is no such file.

    Raises IntegrityError where it is damaged.
    """
    try:
        check_inside(root, root / ORIGIN)
        if (file_size(root / ORIGIN) or 0) > MAX_MANIFEST_BYTES:
            raise ValueError(f"it has more than {MAX_MANIFEST_BYTES:,} bytes")
        fields = parse_json_object(read_file(root / ORIGIN, MAX_MANIFEST_BYTES))
        checksum = fields.pop("checksum")
        if checksum != _fields_checksum(fields):
            raise ValueError("its checksum is wrong")
        origin = _checked_manifest(fields)
        if origin.shards:
            raise ValueError(f"it lists shards, which only {MANIFEST} does")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        blame_machine(error, root / ORIGIN)
        raise IntegrityError(
            f"{root / ORIGIN} is damaged: {one_line(error)}; inr-factory repair {root} writes it again"
        ) from None
    return origin


def _fields_checksum(fields: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()
