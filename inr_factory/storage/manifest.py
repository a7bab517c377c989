"""Manifest: the record of a data set: its recipe, its shards, and its quarantine.

A set is DATASET/manifest.json and DATASET/data/*.h5. A shard is one view of one block of objects of one split; it is
complete when it is present and recorded here. DATASET/origin.json repeats the manifest without its shards, with a
checksum: from it and the shards a lost manifest is rebuilt.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, field_validator, model_serializer

from inr_factory.errors import IntegrityError, blame_machine
from inr_factory.inr.spec import SirenSpec
from inr_factory.inr.stable_hash import stable_seed
from inr_factory.storage.locations import Location, RemoteLocation
from inr_factory.storage.passed_over import PassedOver
from inr_factory.storage.targets_record import TargetsRecord

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
ORIGIN = "origin.json"
SHARD_FOLDER = "data"
SPLITS = ("train", "val", "test")
# No set is larger: reading its manifest would take a gigabyte, listing its shards minutes.
MAX_MANIFEST_BYTES, MAX_SHARDS = 32 * 2**20, 1_000_000


@dataclass(frozen=True)
class ViewKey:
    """One independent fit of one object; all its randomness comes from `seed`."""

    object_id: str
    view: int

    def seed(self, run_seed: int, attempt: int = 0) -> int:
        """63 bits from a stable hash of the parts; the same in every process, on every machine."""
        return stable_seed(run_seed, self.object_id, self.view, attempt)

    @property
    def of_all(self) -> "ViewKey":
        """The key whose seed all objects of this view share. No object has its name."""
        return ViewKey("", self.view)


class Record(BaseModel):
    """A frozen record of known fields alone."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Quarantined(Record):
    """An object without a row in its shard, and the reason. `psnr` is the best of its attempts, in dB."""

    object_id: str
    view: int
    reason: str
    psnr: float | None = None

    @field_validator("psnr")
    @classmethod
    def _finite(cls, psnr: float | None) -> float | None:
        """A fit that diverged has no PSNR, and JSON has no NaN."""
        return psnr if psnr is not None and math.isfinite(psnr) else None


class PSNRSummary(Record):
    """PSNR of the INRs of a shard, in dB."""

    mean: float
    median: float
    min: float


class Remark(Record):
    """Rows of a shard that a user should know about: what is odd (`remarks.TEXTS`), how many, the first objects."""

    kind: str
    count: int = Field(ge=1)
    objects: tuple[str, ...]


class ShardEntry(Record):
    """The record of one shard: `path` is relative to the set, `bytes` and `sha256` are those of the file.

    `remarks` are written only where there are some: older versions refuse fields that they do not know.
    """

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
    remarks: tuple[Remark, ...] = ()

    @model_serializer(mode="wrap")
    def _without_empty_remarks(self, fields: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in fields(self).items() if name != "remarks" or value}

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
    """The number of objects of a split, and of the blocks (shards of one view) that hold them."""

    objects: int = Field(ge=0)
    blocks: int = Field(ge=0)


class Derived(Record):
    """The origin of a set that was made from another: the fingerprint of that set, and the operation."""

    of: str
    how: str


class Manifest(Record):
    """The record of a data set.

    Attributes:
        spec: fields of the INRs' SirenSpec.
        recipe: all settings, defaults included; `views` is the number requested.
        fingerprint: 16 hex digits over everything that decides the content of the shards.
        source: the collection of the objects.
        classes: names of the labels 0, 1, ...
        splits: objects and blocks of each split.
        shards: complete shards, in the order of view, split and block.
        software: versions that made the set.
        derived: set and operation from which this one was made.
        passed_over: what lies in the folders of the source and became no object; left out where there is nothing.
        targets: the file of the objects' targets; left out where there is none.
    """

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
    passed_over: PassedOver | None = None
    targets: TargetsRecord | None = None

    @model_serializer(mode="wrap")
    def _as_older_versions_read_it(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields: dict[str, Any] = serialize(self)
        for name in ("passed_over", "targets"):
            if fields.get(name, ...) is None:
                del fields[name]
        return fields

    @property
    def siren_spec(self) -> SirenSpec:
        """The architecture of all INRs."""
        return SirenSpec.from_dict(self.spec)

    @property
    def views(self) -> int:
        """The number of views requested for each object."""
        return int(self.recipe["views"])

    @property
    def rows(self) -> int:
        """The number of INRs in all recorded shards."""
        return sum(entry.rows for entry in self.shards)

    @property
    def quarantine(self) -> tuple[Quarantined, ...]:
        """All objects in quarantine, shard by shard."""
        return tuple(row for entry in self.shards for row in entry.quarantine)

    @property
    def remarks(self) -> tuple[Remark, ...]:
        """The remarks on all shards."""
        return tuple(remark for entry in self.shards for remark in entry.remarks)

    @property
    def head(self) -> "Manifest":
        """The manifest without its shards."""
        return self.model_copy(update={"shards": ()})

    @property
    def origin(self) -> "Manifest":
        """The manifest without what may change while a set keeps its objects and views: its shards and targets."""
        return self.model_copy(update={"shards": (), "targets": None})

    def with_views(self, views: int) -> "Manifest":
        """The manifest with another number of requested views."""
        return self.model_copy(update={"recipe": {**self.recipe, "views": views}})

    @property
    def limits(self) -> list[Any]:
        """The limits on objects that the set has had, the present one last."""
        return [*self.recipe.get("earlier_limits", ()), self.recipe.get("limit")]

    def grown_like(self, other: "Manifest") -> "Manifest":
        """The manifest with the views and the limit of another, where those are more; with its software then.

        Raises ValueError if the limits of one do not begin with those of the other.
        """
        shorter, longer = sorted((self.limits, other.limits), key=len)
        if longer[: len(shorter)] != shorter:
            raise ValueError(f"limits {self.limits} and {other.limits}")
        grown = self.with_views(max(self.views, other.views))
        if len(other.limits) > len(self.limits):
            *earlier, limit = other.limits
            recipe = {**grown.recipe, "limit": limit, "earlier_limits": earlier}
            grown = grown.model_copy(update={"recipe": recipe, "splits": other.splits})
        return grown if grown == self else grown.model_copy(update={"software": other.software})

    def difference(self, other: "Manifest") -> str | None:
        """The first field besides the shards and targets in which another manifest differs; None if none does."""
        fields, other_fields = self.origin.model_dump(mode="json"), other.origin.model_dump(mode="json")
        return next((key for key in {**fields, **other_fields} if fields.get(key) != other_fields.get(key)), None)

    def check_size(self) -> None:
        """Raise ValueError where the set claims more shards than a set can have, before they are listed."""
        count = self.views * sum(split.blocks for split in self.splits.values())
        if self.views < 1 or count > MAX_SHARDS:
            raise ValueError(f"it claims {self.views} views and {count} shards, at most {MAX_SHARDS:,} can be")

    def check_shards(self) -> None:
        """Raise ValueError that names the first entry that the set cannot have, or has twice, and counts above its objects."""
        seen: set[str] = set()
        objects: Counter[tuple[str, int]] = Counter()
        largest = self.recipe.get("shard_objects")
        for entry in self.shards:
            split, count = self.splits.get(entry.split), entry.rows + len(entry.quarantine)
            objects[entry.split, entry.view] += count
            if entry.path != shard_path(entry.split, entry.view, entry.block):
                raise ValueError(
                    f"the entry {entry.path} says it is {entry.split}, view {entry.view}, block {entry.block}"
                )
            if entry.path in seen:
                raise ValueError(f"{entry.path} is recorded twice")
            if split is None or entry.block >= split.blocks or entry.view >= self.views:
                raise ValueError(f"{entry.path} is recorded, but the set has no such shard")
            if isinstance(largest, int) and count > largest:
                raise ValueError(f"{entry.path} has {count:,} objects, a shard of this set has at most {largest:,}")
            if objects[entry.split, entry.view] > split.objects:
                raise ValueError(
                    f"the shards of {entry.split}, view {entry.view} have more objects than the split ({split.objects:,}); "
                    f"the last is {entry.path}"
                )
            seen.add(entry.path)

    def shard_names(self) -> Iterator[str]:
        """Yield the path of every shard that the set should have, complete or not."""
        for view in range(self.views):
            for split in SPLITS:
                if split in self.splits:
                    for block in range(self.splits[split].blocks):
                        yield shard_path(split, view, block)

    def missing(self, root: Location, size_of: Callable[[str], int | None] | None = None) -> list[str]:
        """Paths of shards that are not recorded, not there, or of another size than recorded.

        `size_of` are the `file_sizes` of the set, where the caller has them.
        """
        size_of = size_of or file_sizes(root)
        present = {entry.path for entry in self.shards if size_of(entry.path) == entry.bytes}
        return [path for path in self.shard_names() if path not in present]

    def with_entries(self, entries: Iterable[ShardEntry]) -> "Manifest":
        """The manifest with these entries, which replace entries of the same path."""
        known = {entry.path: entry for entry in self.shards} | {entry.path: entry for entry in entries}
        order = sorted(known.values(), key=lambda e: (e.view, SPLITS.index(e.split), e.block))
        return self.model_copy(update={"shards": tuple(order)})

    def to_json(self) -> str:
        """JSON with one line for each shard, which people and diff can read."""
        fields = self.model_dump(mode="json", exclude={"shards"})
        head = json.dumps({**fields, "shards": []}, indent=2, ensure_ascii=True).removesuffix("[]\n}")
        lines = [json.dumps(entry.model_dump(mode="json"), ensure_ascii=True) for entry in self.shards]
        shards = ",\n    ".join(lines)
        return f"{head}[\n    {shards}\n  ]\n}}\n" if lines else f"{head}[]\n}}\n"


def group_by_reason(rows: Iterable["Quarantined"]) -> "list[list[Quarantined]]":
    """Rows that share a reason, up to its numbers and what is in parentheses; the largest group first."""
    kinds: dict[str, list[Quarantined]] = {}
    for row in rows:
        kinds.setdefault(re.sub(r" \(.*?\)|[0-9][0-9.,]*", "#", row.reason), []).append(row)
    return sorted(kinds.values(), key=len, reverse=True)


def median_psnr(entries: Iterable[ShardEntry]) -> float | None:
    """Median of the shards' median PSNRs, in dB; None without shards."""
    medians = [entry.psnr.median for entry in entries if entry.psnr]
    return round(median(medians), 2) if medians else None


def shard_path(split: str, view: int, block: int) -> str:
    """The path of a shard, relative to its set."""
    return f"{SHARD_FOLDER}/{split}-view{view:03d}-{block:05d}.h5"


def check_inside(root: Location, path: Location) -> None:
    """Raise IntegrityError for a file that is a link out of its set: a foreign set could read the user's files by it."""
    if isinstance(path, RemoteLocation) or isinstance(root, RemoteLocation):
        return
    if (path.is_symlink() or path.parent.is_symlink()) and not path.resolve().is_relative_to(root.resolve()):
        raise IntegrityError(f"{path} is a link out of {root}; put the file itself there")


def file_sizes(root: Location) -> Callable[[str], int | None]:
    """Return a function that gives the size of a shard by its path. A store is listed once."""
    if isinstance(root, RemoteLocation):
        sizes = (root / SHARD_FOLDER).sizes()
        return lambda path: sizes.get(path.removeprefix(f"{SHARD_FOLDER}/"))
    return lambda path: file_size(root / path)


def file_size(path: Location) -> int | None:
    """The number of bytes of a file; None where there is none."""
    if isinstance(path, RemoteLocation):
        return path.size()
    try:
        return path.stat().st_size
    except OSError as error:
        blame_machine(error, path)
        return None
