"""Manifest: the record of a data set: what it is, which shards it has, and what is in quarantine.

Layout of a set: DATASET/manifest.json beside DATASET/data/*.h5. A shard is one view of one block of objects of
one split; it is done when it is present and recorded here. DATASET/origin.json says again, with a checksum, all that
the manifest says but for the shards: with it and the shards a lost manifest is made anew.
"""

import contextlib
import fcntl
import hashlib
import json
import math
import os
import random
import re
import secrets
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from inr_factory.errors import DISK_FULL, IntegrityError, ResourceError, UsageError, validation_message
from inr_factory.inr.spec import SirenSpec
from inr_factory.inr.stable_hash import stable_seed
from inr_factory.storage.locations import Place, Remote

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
ORIGIN = "origin.json"
SHARD_FOLDER = "data"
SPLITS = ("train", "val", "test")
WRITE_ATTEMPTS = 3
# What no set has: its manifest would take a gigabyte to read, its shards minutes to list.
MAX_MANIFEST_BYTES, MAX_SHARDS = 32 * 2**20, 1_000_000
SETTLING_SECONDS = (0.1, 0.3, 1.0)


@dataclass(frozen=True)
class ViewKey:
    """One independent fit of one object; all its randomness comes from `seed`."""

    object_id: str
    view: int

    def seed(self, run_seed: int, attempt: int = 0) -> int:
        """63 bits from a stable hash of the parts; the same in every process, on every machine."""
        return stable_seed(run_seed, self.object_id, self.view, attempt)


class Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Quarantined(Record):
    """An object without a row in its shard, and why. `psnr` is the best that its attempts reached, in dB."""

    object_id: str
    view: int
    reason: str
    psnr: float | None = None

    @field_validator("psnr")
    @classmethod
    def _finite(cls, psnr: float | None) -> float | None:
        """What diverged has no PSNR, and JSON no NaN."""
        return psnr if psnr is not None and math.isfinite(psnr) else None


class PSNRSummary(Record):
    mean: float
    median: float
    min: float


class ShardEntry(Record):
    """What the manifest knows of one shard; `path` is relative to the set, `bytes` and `sha256` are the file's."""

    path: str
    split: str
    view: int = Field(ge=0)
    block: int = Field(ge=0)
    rows: int = Field(ge=0)
    bytes: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    psnr: PSNRSummary | None
    mean_steps: float | None
    quarantine: tuple[Quarantined, ...] = ()

    @field_validator("path")
    @classmethod
    def _inside(cls, path: str) -> str:
        if not re.fullmatch(rf"{SHARD_FOLDER}/[A-Za-z0-9][A-Za-z0-9_.-]*\.h5", path):
            raise ValueError(f"a shard's path must be {SHARD_FOLDER}/NAME.h5")
        return path

    @field_validator("split")
    @classmethod
    def _known(cls, split: str) -> str:
        if split not in SPLITS:
            raise ValueError(f"a split must be one of {', '.join(SPLITS)}")
        return split


class SourceRecord(Record):
    """The collection that the objects came from."""

    name: str
    version: str
    licence: str
    fingerprint: str


class SplitRecord(Record):
    """How many objects a split has, and in how many blocks (shards a view) they lie."""

    objects: int = Field(ge=0)
    blocks: int = Field(ge=0)


class Derived(Record):
    """How a set was made from another: that one's fingerprint, and what was done."""

    of: str
    how: str


class Manifest(Record):
    """A data set's record. `recipe` is resolved: every default stands in it, and `views` is what was asked for."""

    format_version: int = FORMAT_VERSION
    name: str
    spec: dict[str, Any]
    recipe: dict[str, Any]
    fingerprint: str
    source: SourceRecord
    classes: tuple[str, ...]
    splits: dict[str, SplitRecord]
    shards: tuple[ShardEntry, ...] = ()
    software: dict[str, str] = {}
    derived: Derived | None = None

    @property
    def siren_spec(self) -> SirenSpec:
        return SirenSpec.from_dict(self.spec)

    @property
    def views(self) -> int:
        return int(self.recipe["views"])

    @property
    def rows(self) -> int:
        return sum(entry.rows for entry in self.shards)

    @property
    def quarantine(self) -> tuple[Quarantined, ...]:
        return tuple(row for entry in self.shards for row in entry.quarantine)

    @property
    def head(self) -> "Manifest":
        """All but the shards."""
        return self.model_copy(update={"shards": ()})

    def with_views(self, views: int) -> "Manifest":
        return self.model_copy(update={"recipe": {**self.recipe, "views": views}})

    def difference(self, other: "Manifest") -> str | None:
        """The first field besides the shards in which another manifest differs, dotted; None if none does."""
        mine, theirs = self.head.model_dump(mode="json"), other.head.model_dump(mode="json")
        return next((key for key in mine if mine[key] != theirs[key]), None)

    def check_size(self) -> None:
        """ValueError where the set claims more shards than a set can have, so that they are never listed."""
        count = self.views * sum(split.blocks for split in self.splits.values())
        if self.views < 1 or count > MAX_SHARDS:
            raise ValueError(f"it claims {self.views} views and {count} shards, at most {MAX_SHARDS:,} can be")

    def shard_names(self) -> Iterator[str]:
        """The path of every shard that the set should have, complete or not."""
        for view in range(self.views):
            for split in SPLITS:
                if split in self.splits:
                    for block in range(self.splits[split].blocks):
                        yield shard_path(split, view, block)

    def missing(self, root: Place) -> list[str]:
        """Paths of shards that are not recorded, not there, or of another size than recorded."""
        size_of = file_sizes(root)
        present = {entry.path for entry in self.shards if size_of(entry.path) == entry.bytes}
        return [path for path in self.shard_names() if path not in present]

    def with_entries(self, entries: Iterable[ShardEntry]) -> "Manifest":
        """The manifest with these entries added or put in the place of those of the same path."""
        known = {entry.path: entry for entry in self.shards} | {entry.path: entry for entry in entries}
        order = sorted(known.values(), key=lambda e: (e.view, SPLITS.index(e.split), e.block))
        return self.model_copy(update={"shards": tuple(order)})

    def to_json(self) -> str:
        """JSON, one line a shard, so that people and diff can read it."""
        fields = self.model_dump(mode="json", exclude={"shards"})
        head = json.dumps({**fields, "shards": []}, indent=2, ensure_ascii=True).removesuffix("[]\n}")
        lines = [json.dumps(entry.model_dump(mode="json"), ensure_ascii=True) for entry in self.shards]
        shards = ",\n    ".join(lines)
        return f"{head}[\n    {shards}\n  ]\n}}\n" if lines else f"{head}[]\n}}\n"


def shard_path(split: str, view: int, block: int) -> str:
    return f"{SHARD_FOLDER}/{split}-view{view:03d}-{block:05d}.h5"


def check_inside(root: Place, path: Place) -> None:
    """Raise IntegrityError for a file of a set that is a link out of it, by which a stranger's set would read yours."""
    if isinstance(path, Remote) or isinstance(root, Remote):
        return
    if (path.is_symlink() or path.parent.is_symlink()) and not path.resolve().is_relative_to(root.resolve()):
        raise IntegrityError(f"{path} is a link out of {root}; put the file itself there")


def file_sizes(root: Place) -> Callable[[str], int | None]:
    """What gives the size of a shard by its path; of a store all are listed at once."""
    if isinstance(root, Remote):
        sizes = (root / SHARD_FOLDER).sizes()
        return lambda path: sizes.get(path.removeprefix(f"{SHARD_FOLDER}/"))
    return lambda path: file_size(root / path)


def file_size(path: Place) -> int | None:
    if isinstance(path, Remote):
        return path.size()
    try:
        return path.stat().st_size
    except OSError:
        return None


def load_manifest(root: Place) -> Manifest:
    """The manifest of the set in folder root.

    Raises UsageError where there is none, IntegrityError where it is damaged or of a format this program cannot read.
    """
    path = root / MANIFEST
    check_inside(root, path)
    try:
        if (file_size(path) or 0) > MAX_MANIFEST_BYTES:
            raise IntegrityError(f"{path} has more than {MAX_MANIFEST_BYTES:,} bytes, which no manifest has")
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(
            f"no data set in {root}: it has no {MANIFEST}; make one with inr-factory fit RECIPE --out {root}"
        ) from None
    except ResourceError:
        raise
    except (OSError, UnicodeDecodeError) as error:
        raise IntegrityError(f"{path} cannot be read: {error}") from None
    try:
        fields = json.loads(text)
        version = fields["format_version"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise IntegrityError(
            f"{path} is not a whole manifest; inr-factory repair {root} makes it anew from the shards"
        ) from None
    if version != FORMAT_VERSION:
        raise IntegrityError(
            f"{path} has format version {version}, this program reads {FORMAT_VERSION}; fit it again, or install a newer inr-factory"
        )
    try:
        manifest = Manifest.model_validate(fields)
        _ = manifest.siren_spec
        manifest.check_size()
    except ValidationError as error:
        raise IntegrityError(f"{path} is damaged: {validation_message(error)}") from None
    except (UsageError, KeyError, TypeError, ValueError) as error:
        raise IntegrityError(f"{path} is damaged: {error}") from None
    return manifest


def record(root: Place, manifest: Manifest, entries: Iterable[ShardEntry] = ()) -> Manifest:
    """Lay entries, and `views` if it grew, into the manifest on disk and give back what stands there now.

    Any number of runs may record into one set: the file is read, merged and replaced under a lock, and left alone if
    nothing is new. Where nothing can be locked a run may write over what another has just recorded: see `settle`.
    """
    root.mkdir(parents=True, exist_ok=True)
    with _locked(root):
        standing, merged = None, manifest
        if (root / MANIFEST).exists():
            merged = standing = load_manifest(root)
            if merged.fingerprint != manifest.fingerprint:
                raise UsageError(
                    f"{root} was given another recipe's set while this run was at work; choose another --out"
                )
            if manifest.views > merged.views:
                merged = merged.with_views(manifest.views)
        merged = merged.with_entries(entries)
        if merged != standing:
            content = _readable(root, merged)
            _keep_origin(root, merged)
            write_atomically(root / MANIFEST, content)
    return merged


def _readable(root: Place, manifest: Manifest) -> bytes:
    """The manifest as it is written. Raises UsageError for one that no reader would take."""
    try:
        manifest.check_size()
        content = manifest.to_json().encode()
        if len(content) > MAX_MANIFEST_BYTES:
            raise ValueError(f"its manifest would have {len(content):,} bytes, at most {MAX_MANIFEST_BYTES:,} are read")
    except ValueError as error:
        raise UsageError(f"{root}: {error}; ask for fewer views, or a larger shard_objects") from None
    return content


def settle(root: Place, manifest: Manifest, entries: Iterable[ShardEntry]) -> Manifest:
    """Record entries as `record` does, at the end of a run: until they are seen to stand there.

    Where files cannot be locked another run may write over them, from what it read before; so they are looked for
    again, and recorded again, after pauses of random length. What is lost all the same lies there as a whole shard,
    and the next `fit` adopts it.
    """
    entries = tuple(entries)
    manifest = record(root, manifest, entries)
    with _locked(root) as locked:
        pauses = () if locked else SETTLING_SECONDS
    for pause in pauses:
        time.sleep(random.uniform(pause / 2, pause))
        manifest = record(root, manifest, entries)
    return manifest


def replace_manifest(root: Path, manifest: Manifest) -> None:
    """Put this manifest and its origin in the place of those on disk, whatever they say; only what differs is written."""
    with _locked(root):
        for name, content in ((ORIGIN, origin_content(manifest)), (MANIFEST, manifest.to_json().encode())):
            path = root / name
            if not path.is_file() or path.read_bytes() != content:
                write_atomically(path, content)


def _keep_origin(root: Place, manifest: Manifest) -> None:
    """Write what the manifest says but for its shards, at the beginning and when there are more views.

    One that is damaged or says something else stays: `verify` names it, `repair` decides.
    """
    try:
        there = load_origin(root)
    except IntegrityError:
        return
    if there is not None:
        grown = there.with_views(manifest.views).model_copy(update={"software": manifest.software})
        if there.views >= manifest.views or grown.difference(manifest) is not None:
            return
    write_atomically(root / ORIGIN, origin_content(manifest))


def origin_content(manifest: Manifest) -> bytes:
    fields = manifest.model_dump(mode="json", exclude={"shards"})
    return (json.dumps({**fields, "checksum": _fields_checksum(fields)}, indent=2) + "\n").encode()


def load_origin(root: Place) -> Manifest | None:
    """What origin.json says, a manifest without shards; None where there is none. IntegrityError where it is damaged."""
    try:
        check_inside(root, root / ORIGIN)
        if (file_size(root / ORIGIN) or 0) > MAX_MANIFEST_BYTES:
            raise ValueError(f"it has more than {MAX_MANIFEST_BYTES:,} bytes")
        fields = json.loads((root / ORIGIN).read_text(encoding="utf-8"))
        checksum = fields.pop("checksum")
        if checksum != _fields_checksum(fields):
            raise ValueError("its checksum does not fit")
        origin = Manifest.model_validate(fields)
        _ = origin.siren_spec
        origin.check_size()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ResourceError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise IntegrityError(
            f"{root / ORIGIN} is damaged: {reason}; inr-factory repair {root} writes it anew"
        ) from None
    return origin


def _fields_checksum(fields: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


@contextlib.contextmanager
def _locked(root: Place) -> Iterator[bool]:
    """Meanwhile no other run is in here, if files can be locked: some network file systems cannot, or only where the
    file is open for writing."""
    if isinstance(root, Remote):
        yield False
        return
    handle = os.open(root, os.O_RDONLY)
    try:
        locked = _lock(handle)
        if not locked:
            os.close(handle)
            handle = os.open(root / ".manifest.lock", os.O_RDWR | os.O_CREAT, 0o666)
            locked = _lock(handle)
        yield locked
    finally:
        os.close(handle)


def _lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError:
        return False
    return True


def write_atomically(path: Place, content: bytes) -> None:
    """Write a file so that it is there whole or not at all, also after a crash: temporary name, fsync, rename.

    Raises ResourceError where the disk is full; the temporary file is removed on any failure.
    """
    if isinstance(path, Remote):
        path.write_bytes(content)
        return
    for attempt in range(WRITE_ATTEMPTS):
        temporary = temporary_name(path, secrets.token_hex(4))
        try:
            with open(temporary, "xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
            break
        except FileNotFoundError:
            # Another machine's sweep may take it for an orphan: clocks differ, and process ids of containers do.
            if attempt + 1 == WRITE_ATTEMPTS or not path.parent.is_dir():
                raise
        except OSError as error:
            temporary.unlink(missing_ok=True)
            if error.errno in DISK_FULL:
                raise ResourceError(
                    f"the disk is full: {path} needs {len(content):,} bytes; make room and run again"
                ) from None
            raise
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def temporary_name(path: Path, token: str) -> Path:
    """Beside path, a name that `sweep` knows; token is 8 hex digits."""
    return path.with_name(f".{path.name}.{writer_name()}.{token}.tmp")


def sweep(root: Place, max_age: float = 3600) -> int:
    """Remove temporary files whose writers are gone (dead here, or elsewhere and `max_age` seconds old); how many.

    A file from the future is as old: a clock was set back. A writer that lives after all writes anew. Only files that bear a `temporary_name` are touched.
    """
    swept = 0
    if isinstance(root, Remote):
        return swept
    for path in [*root.glob(".*.tmp"), *(root / SHARD_FOLDER).glob(".*.tmp")]:
        name = re.fullmatch(r"\..+\.(\w+-\d{1,9})\.[0-9a-f]{8}\.tmp", path.name)
        if name is None:
            continue
        alive = writer_alive(name[1])
        try:
            stale = not alive if alive is not None else abs(time.time() - path.stat().st_mtime) > max_age
        except FileNotFoundError:
            continue
        if stale:
            path.unlink(missing_ok=True)
            swept += 1
    return swept


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9]", "_", socket.gethostname())


def writer_name() -> str:
    """What this process calls itself in the names of files: HOST-PID."""
    return f"{_host()}-{os.getpid()}"


def writer_alive(name: str) -> bool | None:
    """Whether the process of that name lives; None of one on another machine."""
    host, _, pid = name.rpartition("-")
    return _alive(int(pid)) if host == _host() else None


def _alive(pid: int) -> bool:
    if pid == os.getpid():
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    with contextlib.suppress(OSError, IndexError):  # a zombie writes no more
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return True
