"""Targets: what each object of a set stands for besides its INR: classes, labels, numbers and vectors, by object.

They lie in one file a set, DATASET/targets-XXXXXXXX.h5, named by the first 8 hex digits of its SHA-256, so that another
table is another file: manifest and file never disagree. Shape letters: M objects, L labels, K components.
"""

import contextlib
import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inr_factory.errors import IntegrityError, UsageError, blame_machine, did_you_mean, one_line, shorten
from inr_factory.inr.plain_json import parse_json
from inr_factory.storage.atomic_files import locked, write_atomically
from inr_factory.storage.locations import Location, read_file
from inr_factory.storage.manifest import FORMAT_VERSION, Manifest, check_inside
from inr_factory.storage.manifest_file import load_manifest, record_targets
from inr_factory.storage.passed_over import name_some
from inr_factory.storage.targets_record import KINDS, TargetColumnRecord, TargetKind, TargetsRecord

MAX_NAMES = 100_000
MAX_COLUMNS = 1_000
MAX_BYTES = 2**33
_CONTENT = {"class": ("<i8", 1), "labels": ("|u1", 2), "number": ("<f8", 1), "vector": ("<f8", 2)}
_UNKNOWN = {"class": -1, "labels": 255, "number": math.nan, "vector": math.nan}  # on disk
_REMEDY = "inr-factory repair sets it aside; join the targets again"
_CONVENTIONS = {
    "rows": "a row an object; object_id is UTF-8, as in the shards",
    "class": "index into the names of the column; -1: unknown",
    "labels": "a column of 0 and 1 a name; 255: unknown",
    "number": "in the unit of the column; NaN: unknown",
    "vector": "as numbers, one a component",
}


@dataclass(frozen=True, eq=False)
class TargetColumn:
    """One column of targets.

    Attributes:
        name: Of the column.
        kind: class, labels, number or vector.
        values: class (M,) int64, an index into names; labels (M, L) bool; number (M,) float64; vector (M, K) float64.
        names: Of the classes, of the L labels, or of the K components of a vector; empty for numbers.
        unit: Of numbers and vectors; empty where unknown.
        known: (M,) bool, whether an object has a value; None where all have. Without one it has -1, no label, or NaN.

    Raises:
        UsageError: These do not fit together, or values are not finite.
    """

    name: str
    kind: TargetKind
    values: NDArray[Any]
    names: tuple[str, ...] = ()
    unit: str = ""
    known: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        if (fault := _fault(self)) is not None:
            raise UsageError(f"the target {shorten(self.name)} {fault}")

    @property
    def record(self) -> TargetColumnRecord:
        """The column without its values."""
        return TargetColumnRecord(name=self.name, kind=self.kind, unit=self.unit, names=self.names)

    def value(self, row: int) -> Any:
        """What the row says, in plain Python: a class's name, a list of labels, a number, or a list of numbers."""
        if self.kind == "class":
            return self.names[int(self.values[row])]
        if self.kind == "labels":
            return [name for name, has in zip(self.names, self.values[row], strict=True) if has]
        return self.values[row].tolist()


@dataclass(frozen=True, eq=False)
class TargetTable:
    """The targets of objects.

    Attributes:
        object_ids: Names of the M objects.
        columns: Of M values each.

    Raises:
        UsageError: A name occurs twice, or a column has another length.
    """

    object_ids: tuple[str, ...]
    columns: tuple[TargetColumn, ...]

    def __post_init__(self) -> None:
        for name, what in (*((n, "the object") for n in self.object_ids), *((c.name, "") for c in self.columns)):
            if (fault := text_fault(name)) is not None:
                raise UsageError(f"{what or 'the target'} {shorten(name)} {fault}")
        for names, what in ((self.object_ids, "object"), ([c.name for c in self.columns], "target")):
            if (double := first_double(names)) is not None:
                raise UsageError(f"the {what} {double!r} occurs twice in the targets; give each once")
        if len(self.columns) > MAX_COLUMNS:
            raise UsageError(f"there are {len(self.columns):,} targets, a set has at most {MAX_COLUMNS:,}")
        for column in self.columns:
            if len(column.values) != len(self.object_ids):
                raise UsageError(
                    f"the target {column.name} has {len(column.values):,} values, expected one for each of "
                    f"{len(self.object_ids):,} objects"
                )

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns."""
        return tuple(column.name for column in self.columns)

    def column(self, name: str) -> TargetColumn:
        """The column of that name. Raises UsageError where there is none."""
        for column in self.columns:
            if column.name == name:
                return column
        raise UsageError(f"no target {shorten(name)}; {did_you_mean(str(name)[:100], self.names)}")

    def rows_of(self, object_ids: Iterable[str], column: str | None = None) -> NDArray[np.int64]:
        """The row of each object.

        Args:
            object_ids: Names of objects, any of them repeatedly.
            column: Requires a value in this column; None in all columns.

        Raises:
            UsageError: Objects have no row, or no value.
        """
        rows = {name: row for row, name in enumerate(self.object_ids)}
        object_ids = list(object_ids)
        chosen = self.columns if column is None else (self.column(column),)
        for each in chosen:
            if each.known is not None:
                rows = {name: row for name, row in rows.items() if each.known[row]}
        absent = list(dict.fromkeys(name for name in object_ids if name not in rows))
        if absent:
            what = "targets" if column is None else f"value of the target {column}"
            raise UsageError(
                f"{len(absent):,} {'object has' if len(absent) == 1 else 'objects have'} no {what}: {name_some(absent)}; "
                "join a table that has them: inr-factory targets DATASET TABLE --replace"
            )
        return np.array([rows[name] for name in object_ids], dtype=np.int64)


def text_fault(text: Any) -> str | None:
    """Why a text cannot be the name of an object, of a target, of a class, or a unit; None if it can."""
    if not isinstance(text, str):
        return f"is of type {type(text).__name__}, expected text"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "has characters that are no Unicode text (lone surrogates)"
    return "has a NUL character at its end" if text.endswith("\0") else None


def first_double(names: Iterable[str]) -> str | None:
    """The first name that occurs a second time; None if none does."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


def _fault(column: TargetColumn) -> str | None:
    """What is wrong with a column, after its name; None if nothing is."""
    kind, values, names = column.kind, column.values, column.names
    if kind not in KINDS:
        return f"is of the kind {shorten(kind)}; {did_you_mean(str(kind)[:100], KINDS)}"
    name = column.name if isinstance(column.name, str) else ""
    if not name.strip() or name != name.strip() or "/" in name or len(name) > 100 or not name.isprintable():
        return "needs a name of 1 to 100 printable characters without /"
    if name in ("object_id", ".", "psnr") or name.startswith("facts."):
        return "needs another name, which no column of shards has"
    dtype = np.dtype(bool) if kind == "labels" else np.dtype(_CONTENT[kind][0])
    if not isinstance(values, np.ndarray) or values.dtype != dtype or values.ndim != _CONTENT[kind][1]:
        form = f"{values.dtype} {values.shape}" if isinstance(values, np.ndarray) else type(values).__name__
        return f"of the kind {kind} takes {dtype} values of {_CONTENT[kind][1]} dimensions, got {form}"
    for text in (*names, column.unit):
        if (fault := text_fault(text)) is not None:
            return f"has the name or unit {shorten(text)}, which {fault}"
    if (double := first_double(names)) is not None:
        return f"has the name {double!r} twice"
    if column.unit and kind in ("class", "labels"):
        return f"of the kind {kind} takes no unit, got {column.unit!r}"
    if len(names) > MAX_NAMES:
        return f"has {len(names):,} {'classes' if kind == 'class' else 'names'}, at most {MAX_NAMES:,} can be"
    width = values.shape[1] if values.ndim == 2 else 0
    if values.ndim == 2 and (width == 0 or (len(names) != width and (kind == "labels" or names))):
        return f"has {width} values an object and {len(names)} names"
    if kind == "number" and names:
        return "is a number and takes no names"
    known = column.known
    if known is not None and (known.dtype != bool or known.shape != values.shape[:1]):
        return "says of other objects which are known"
    content = values if known is None else values[known]
    if kind == "class" and content.size and not (content.min() >= 0 and content.max() < len(names)):
        return f"has the class {int(content.max() if content.max() >= len(names) else content.min())} of {len(names)}"
    if kind in ("number", "vector") and not np.isfinite(content).all():
        return "has values that are NaN or infinite"
    return None


def write_targets(root: Location, table: TargetTable) -> TargetsRecord:
    """Write a table into the folder of a set; the same table gives the same bytes and name.

    The file is of the set as soon as the manifest names it: `update_targets`.

    Raises:
        ResourceError: where the disk is full.
    """
    from inr_factory.storage.hdf5_layout import hdf5_image, utf8_column  # h5py, which sources do without

    columns = {"object_id": utf8_column(table.object_ids)}
    for column in table.columns:
        stored = np.array(column.values, dtype=_CONTENT[column.kind][0], order="C")
        if column.known is not None:
            stored[~column.known] = _UNKNOWN[column.kind]
        columns[column.name] = stored
    described = [column.record.model_dump(mode="json") for column in table.columns]
    attributes: Mapping[str, str | int] = {
        "format_version": FORMAT_VERSION,
        "columns": json.dumps(described),
        "conventions": json.dumps(_CONVENTIONS),
    }
    image = hdf5_image(columns, attributes)
    digest = hashlib.sha256(image).hexdigest()
    record = TargetsRecord(
        path=targets_path(digest),
        bytes=len(image),
        sha256=digest,
        objects=len(table.object_ids),
        columns=tuple(column.record for column in table.columns),
    )
    check_inside(root, root / record.path)
    write_atomically(root / record.path, image)
    return record


def update_targets(root: Location, change: Callable[[TargetTable | None], TargetTable | None]) -> Manifest:
    """Replace the targets of a set by what `change` makes of them, under the lock of its manifest.

    The new file is complete before the manifest names it, and the old one is removed after: a run that dies leaves a
    file too many at worst.

    Args:
        root: the set, whose manifest is on disk.
        change: takes the targets of now; what it raises leaves the set as it is.

    Returns:
        The manifest that is on disk now.
    """
    with locked(root):
        manifest = load_manifest(root)
        before = read_targets(root, manifest)
        after = change(before)
        if after is before:
            return manifest
        old, record = manifest.targets, None if after is None else write_targets(root, after)
        if record == old:
            return manifest
        manifest = record_targets(root, manifest, record)
        if old is not None and (record is None or record.path != old.path) and isinstance(root, Path):
            (root / old.path).unlink(missing_ok=True)
    return manifest


def copy_targets(root: Location, manifest: Manifest, out: Location) -> Manifest:
    """Give a copy of a set, whose manifest is on disk, the targets of that set, unless it has some. Returns its manifest."""
    table = read_targets(root, manifest)
    return update_targets(out, lambda before: table if before is None else before)


def targets_files(root: Path) -> list[Path]:
    """The files of targets in the folder of a set, recorded or not."""
    return sorted(root.glob("targets-????????.h5"))


def describe_targets(path: Path) -> TargetsRecord:
    """The record that a manifest should hold of a file of targets. Raises IntegrityError where it is none, or damaged."""
    check_inside(path.parent, path)
    image = read_file(path, MAX_BYTES)
    digest = hashlib.sha256(image).hexdigest()
    if targets_path(digest) != path.name:
        raise IntegrityError(f"{path.name} does not have the content that its name stands for")
    table = table_of_image(image, path.name)
    columns = tuple(column.record for column in table.columns)
    return TargetsRecord(
        path=path.name, bytes=len(image), sha256=digest, objects=len(table.object_ids), columns=columns
    )


def newest_targets(root: Path) -> TargetsRecord | None:
    """The newest valid file of targets in a folder whose manifest is lost; None where there is none."""
    for path in sorted(targets_files(root), key=lambda path: (path.stat().st_mtime_ns, path.name), reverse=True):
        with contextlib.suppress(IntegrityError):
            return describe_targets(path)
    return None


def targets_path(sha256: str) -> str:
    """The path of a file of targets, relative to its set."""
    return f"targets-{sha256[:8]}.h5"


def read_targets(root: Location, manifest: Manifest) -> TargetTable | None:
    """The targets of a set, in a folder or a store; None where it has none.

    Raises:
        IntegrityError: the file is missing, or not as recorded.
    """
    record = manifest.targets
    if record is None:
        return None
    table = table_of_image(checked_image(root, record), record.path)
    if tuple(column.record for column in table.columns) != record.columns or len(table.object_ids) != record.objects:
        raise IntegrityError(f"{record.path} has other columns or objects than the manifest says; {_REMEDY}")
    return table


def checked_image(root: Location, record: TargetsRecord) -> bytes:
    """The bytes of a file of targets. Raises IntegrityError where they are not those recorded."""
    check_inside(root, root / record.path)
    try:
        image = read_file(root / record.path, record.bytes)
    except (FileNotFoundError, NotADirectoryError):
        raise IntegrityError(f"{record.path} is recorded but missing; {_REMEDY}") from None
    if len(image) != record.bytes or hashlib.sha256(image).hexdigest() != record.sha256:
        raise IntegrityError(f"{record.path} is not what was recorded (size or sha256 differs); {_REMEDY}")
    return image


def table_of_image(image: bytes, name: str) -> TargetTable:
    """The table that the bytes of a file hold. Raises IntegrityError where they hold none."""
    from inr_factory.storage.hdf5_layout import read_image

    try:
        stored, attributes = read_image(image)
        described = [TargetColumnRecord.model_validate(fields) for fields in parse_json(attributes["columns"])]
        if set(stored) != {"object_id", *(each.name for each in described)} or stored["object_id"].dtype.kind != "S":
            raise ValueError("its columns are not those that it describes")
        object_ids = tuple(text.decode() for text in stored["object_id"].tolist())
        return TargetTable(object_ids, tuple(_column(each, stored[each.name]) for each in described))
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, AttributeError) as error:
        blame_machine(error, name)
        raise IntegrityError(f"{name} is no file of targets: {one_line(error)}; join the targets again") from None


def _column(described: TargetColumnRecord, stored: NDArray[Any]) -> TargetColumn:
    kind, (dtype, dimensions) = described.kind, _CONTENT[described.kind]
    if stored.dtype.str != dtype or stored.ndim != dimensions:
        raise ValueError(f"the column {described.name} is {stored.dtype.str} {stored.shape}")
    first = stored if dimensions == 1 else stored[:, :1].reshape(-1)
    known = ~np.isnan(first) if kind in ("number", "vector") else first != _UNKNOWN[kind]
    if kind == "labels":
        if not np.isin(stored[known], (0, 1)).all():
            raise ValueError(f"the column {described.name} has other values than 0 and 1")
        stored = (stored == 1) & known[:, None]
    return TargetColumn(described.name, kind, stored, described.names, described.unit, None if known.all() else known)
