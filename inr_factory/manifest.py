"""Manifest: the record of a data set: what it is, which shards it has, and what is in quarantine.

Layout of a set: DATASET/manifest.json beside DATASET/data/*.h5. A shard is one view of one block of objects of
one split; it is done when it is present and recorded here.
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

from inr_factory.errors import IntegrityError, ResourceError, UsageError
from inr_factory.inr import SirenSpec
from inr_factory.places import Place, Remote

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
SHARD_FOLDER = "data"
SPLITS = ("train", "val", "test")
SETTLING_SECONDS = (0.1, 0.3, 1.0)


@dataclass(frozen=True)
class ViewKey:
    """One independent fit of one object; all its randomness comes from `seed`."""

    object_id: str
    view: int

    def seed(self, run_seed: int, attempt: int = 0) -> int:
        """63 bits from a stable hash of the parts; the same in every process, on every machine."""
        parts = f"{run_seed}\0{self.object_id}\0{self.view}\0{attempt}"
        digest = hashlib.blake2b(parts.encode("utf-8", "surrogateescape"), digest_size=8).digest()
        return int.from_bytes(digest, "little") & (2**63 - 1)


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
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(
            f"no data set in {root}: it has no {MANIFEST}; make one with inr-factory fit RECIPE --out {root}"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise IntegrityError(f"{path} cannot be read: {error}") from None
    try:
        fields = json.loads(text)
        version = fields["format_version"]
    except (ValueError, KeyError, TypeError):
        raise IntegrityError(
            f"{path} is not a whole manifest; put back a copy, or fit the set again elsewhere"
        ) from None
    if version != FORMAT_VERSION:
        raise IntegrityError(
            f"{path} has format version {version}, this program reads {FORMAT_VERSION}; fit it again, or install a newer inr-factory"
        )
    try:
        manifest = Manifest.model_validate(fields)
        _ = manifest.siren_spec, manifest.views
    except ValidationError as error:
        first = error.errors()[0]
        raise IntegrityError(f"{path} is damaged at {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
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
                merged = manifest.model_copy(update={"shards": merged.shards})
        merged = merged.with_entries(entries)
        if merged != standing:
            write_atomically(root / MANIFEST, merged.to_json().encode())
    return merged


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
    temporary = path.with_name(f".{path.name}.{writer_name()}.{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        if error.errno in (28, 122):  # ENOSPC, EDQUOT
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


def sweep(root: Place, max_age: float = 3600) -> int:
    """Remove temporary files whose writers are gone (dead here, or elsewhere and `max_age` seconds old); how many.

    Only files that bear a name of `write_atomically` are touched.
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
            stale = not alive if alive is not None else time.time() - path.stat().st_mtime > max_age
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
