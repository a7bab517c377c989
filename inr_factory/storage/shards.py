"""Shards: HDF5 files of fitted views.

A shard is flat-tabular HDF5: top-level data sets of equal length N, contiguous and uncompressed, so that plain
h5py, Hugging Face `load_dataset("hdf5")` and a memory map all read it. `weights` is (N, D) float32 in the order
of `SirenSpec.parameter_shapes`; what else a row has, and what the numbers mean, is in the attributes.
"""

import hashlib
import itertools
import json
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from inr_factory.errors import IntegrityError, blame_machine
from inr_factory.inr.plain_json import parse_json, parse_json_object
from inr_factory.inr.regular_files import read_regular
from inr_factory.inr.spec import SirenSpec
from inr_factory.storage.atomic_files import write_atomically
from inr_factory.storage.hdf5_layout import hdf5_image, read_layout, utf8_column
from inr_factory.storage.inr_formulas import forward_words
from inr_factory.storage.locations import Location, RemoteLocation, local_folder
from inr_factory.storage.manifest import (
    FORMAT_VERSION,
    SPLITS,
    PSNRSummary,
    Quarantined,
    ShardEntry,
    check_inside,
    file_size,
    shard_path,
)
from inr_factory.storage.remarks import COLUMNS as REMARK_COLUMNS
from inr_factory.storage.remarks import remarks_of
from inr_factory.storage.shard_files import check_shard_file

Columns = Mapping[str, NDArray[Any]]

# Columns that every shard has, with their types on disk; `object_id` is UTF-8 of fixed length.
COLUMN_TYPES = {
    "weights": "<f4", "label": "<i4", "view": "<i4", "seed": "<i8", "psnr": "<f4", "loss": "<f4", "steps": "<i4",
    "status": "|i1", "checksum": "<u4",
}  # fmt: skip

CHANGE = "change_"  # begins the names of columns that hold what `source.augment` drew

# What else a row holds about its object: whole numbers (height), or others (scale).
FACT_TYPES = ("<i4", "<f8")

STATUS = {"reached target_psnr": 0, "ran all steps": 1}

CONVENTIONS = {
    "weights": "float32; per layer W (out, in) row by row, then b (out); see parameters",
    "coords": "images: (x, y) = (column, row), corner pixels at -1 and 1, row by row from the top left; shapes: (x, y, z), "
    "which times the column scale plus center_x, center_y, center_z is where the shape's file has it",
    "targets": "by the attribute field: values, of images, in [0, 1]; sdf, signed distance, negative inside; udf, distance; "
    "both in the unit of the coords and clamped; occupancy, 1 inside and 0 outside, of which an INR gives the logit",
    "checksum": "zlib.crc32 of the row's bytes, all other columns in alphabetical order",
    "attributes_checksum": "zlib.crc32 of all other attributes as JSON, keys sorted",
    "status": json.dumps({str(code): name for name, code in STATUS.items()}),
}

ROOT_TARGETS = (
    "root_udf: the square root of the distance from the surface, clamped, in the unit of the coords; the square of the "
    "INR's value is the distance"
)
# Of columns that not every shard has; a shard explains those that it has.
FACT_CONVENTIONS = {
    **{
        CHANGE + name: text
        for name, text in (
            (
                "flip_x",
                "1 where x was negated before the fit; source.augment in the recipe says which changes follow which",
            ),
            ("flip_y", "1 where y was negated"),
            ("flip_z", "1 where z was negated"),
            ("shift_x", "pixels by which the image was moved to the right"),
            ("shift_y", "pixels by which the image was moved down"),
            ("crop_left", "left edge of the part of the image that was enlarged, as a share of its width"),
            ("crop_top", "upper edge of that part, as a share of the height"),
            ("crop_width", "width of that part, as a share"),
            ("crop_height", "height of that part, as a share"),
            ("rotate", "degrees by which the image was turned counter-clockwise about its centre"),
            ("rotate_x", "x of the rotation vector of the shape about the origin of the coords, in degrees"),
            ("rotate_y", "y of that vector"),
            ("rotate_z", "z of that vector"),
            ("scale", "factor of the shape about the origin of the coords"),
        )
    },
    "content": "what the object was read from: the first 13 hex digits of the SHA-256 of its file, as a whole number",
}


def row_checksums(columns: Columns) -> NDArray[np.uint32]:
    """(N,) crc32 of each row: the bytes of every column but `checksum`, in alphabetical order."""
    names = sorted(set(columns) - {"checksum"})
    parts = [np.ascontiguousarray(columns[name]) for name in names]
    rows = len(parts[0])
    if rows == 0:
        return np.empty(0, dtype="<u4")
    tables = [part.reshape(rows, -1).view(np.uint8).reshape(rows, -1) for part in parts]
    checksums: Iterable[int] = itertools.repeat(0)
    for wide, group in itertools.groupby(tables, key=lambda table: table.shape[1] > 1024):
        for table in group if wide else [np.hstack(list(group))]:  # the weights are not copied
            checksums = list(map(zlib.crc32, table, checksums))
    return np.fromiter(checksums, dtype="<u4", count=rows)


def write_shard(
    root: Location,
    key: tuple[str, int, int],
    spec: SirenSpec,
    columns: Columns,
    quarantine: Sequence[Quarantined],
    attributes: Mapping[str, str],
) -> ShardEntry:
    """Write one shard of a set. The file appears complete or not at all; the same input gives the same bytes.

    Args:
        root: the set's folder.
        key: split, view and number of the block of objects.
        spec: of all its INRs.
        columns: (N,) or (N, D) arrays of equal length, without the checksums.
        quarantine: objects of the block that have no row.
        attributes: further facts, such as fingerprint and engine.

    Returns:
        The entry for the manifest.

    Raises:
        ResourceError: where the disk is full.
        ValueError: for whole numbers that do not fit into their column.
    """
    split, view, block = key
    typed = typed_columns(columns)
    parameters = _parameters(spec)
    facts: dict[str, str | int] = {
        "format_version": FORMAT_VERSION,
        "split": split,
        "view": view,
        "block": block,
        "spec": json.dumps(spec.to_dict(), sort_keys=True),
        "parameters": json.dumps(parameters),
        "conventions": json.dumps(
            {"forward": forward_words(spec)}
            | CONVENTIONS
            | ({"targets": ROOT_TARGETS} if attributes.get("field") == "root_udf" else {})
            | {name: text for name, text in FACT_CONVENTIONS.items() if name in columns}
        ),
        "quarantine": json.dumps([row.model_dump(mode="json") for row in quarantine]),
        **attributes,
    }
    facts["attributes_checksum"] = _attributes_checksum(facts)
    image = hdf5_image(typed, facts)
    path = root / shard_path(split, view, block)
    check_inside(root, path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, image)
    return _entry(key, typed, quarantine, len(image), hashlib.sha256(image).hexdigest())


def typed_columns(columns: Columns) -> dict[str, NDArray[Any]]:
    """Return columns of the types that they have on disk, and their checksums."""
    typed = {name: _on_disk(name, column) for name, column in columns.items()}
    return typed | {"checksum": row_checksums(typed)}


def _entry(
    key: tuple[str, int, int], columns: Columns, quarantine: Sequence[Quarantined], size: int, sha256: str
) -> ShardEntry:
    """Summaries leave out what is unknown of imported INRs: a PSNR of NaN, -1 steps."""
    split, view, block = key
    psnr, steps = np.asarray(columns["psnr"], dtype=np.float64), columns["steps"]
    rows, psnr, steps = psnr.size, psnr[~np.isnan(psnr)], steps[steps >= 0]
    summary = None
    if psnr.size:
        mean, median, low = float(psnr.mean()), float(np.median(psnr)), float(psnr.min())
        summary = PSNRSummary(mean=round(mean, 3), median=round(median, 3), min=round(low, 3))
    return ShardEntry(
        path=shard_path(split, view, block), split=split, view=view, block=block, rows=rows, bytes=size,
        sha256=sha256, psnr=summary, mean_steps=round(float(steps.mean()), 1) if steps.size else None,
        quarantine=tuple(quarantine), remarks=remarks_of(columns),
    )  # fmt: skip


def _attributes_checksum(attributes: Mapping[str, Any]) -> int:
    facts = {name: value for name, value in attributes.items() if name != "attributes_checksum"}
    return zlib.crc32(json.dumps(facts, sort_keys=True).encode())


def _parameters(spec: SirenSpec) -> list[dict[str, Any]]:
    offset, layout = 0, []
    for (name, shape), size in zip(spec.parameter_shapes, spec.parameter_sizes, strict=True):
        layout.append({"name": name, "shape": list(shape), "offset": offset})
        offset += size
    return layout


def _on_disk(name: str, column: NDArray[Any]) -> NDArray[Any]:
    if name == "object_id":
        return utf8_column(map(str, column))
    kind = COLUMN_TYPES.get(name) or FACT_TYPES[int(column.dtype.kind == "f")]
    typed = np.ascontiguousarray(column, dtype=kind)
    if typed.dtype.kind in "iu" and not np.array_equal(typed, column):
        raise ValueError(f"column {name} has values that do not fit into {kind}; give whole numbers in its range")
    return typed


class ShardReader:
    """One shard. Its columns are read-only memory maps, which close with their last user.

    Args:
        root: the set's folder.
        entry: the shard's record in the manifest.
        check: compare the sha256 of the file with the record. Its size is always compared.

    Attributes:
        key: split, view and number of the block.
        spec: of all its INRs.
        attributes: the file's attributes, such as fingerprint and engine.
        quarantine: objects without a row.

    Raises:
        IntegrityError: naming the file, for one that is truncated, edited or of another format, or that has what
            shards never have: filters, chunks, links, external or virtual storage, claims beyond its size.
    """

    def __init__(self, root: Path, entry: ShardEntry, check: bool = True) -> None:
        self.path = root / entry.path
        self.entry: ShardEntry | None = entry
        check_shard_file(root, entry, content=check)
        self._open()
        if self.key != (entry.split, entry.view, entry.block):
            raise IntegrityError(f"{entry.path} is split, view and block {self.key}, the manifest says otherwise")
        if len(self) != entry.rows:
            raise IntegrityError(
                f"{self.path.name} has {len(self)} rows, the manifest says {entry.rows}; remove it and fit again"
            )

    @classmethod
    def unchecked(cls, path: Path) -> "ShardReader":
        """Open a shard that no manifest records, and check its layout alone."""
        reader = cls.__new__(cls)
        reader.path, reader.entry = path, None
        check_inside(path.parent.parent, path)
        reader._open()
        return reader

    @classmethod
    def unrecorded(cls, path: Path) -> "ShardReader":
        """Open a shard that no manifest records.

        Rows and attributes must match their checksums, and every byte must be as `write_shard` writes it. Raises
        IntegrityError where they do not.
        """
        reader = cls.unchecked(path)
        reader.check_rows()
        columns = {name: reader._typed(name) for name in reader.column_names}
        if hdf5_image(columns, reader.attributes) != read_regular(path):
            raise IntegrityError(f"{path.name} has other bytes than a shard of this content; remove it and fit again")
        return reader

    def _typed(self, name: str) -> NDArray[Any]:
        """A column in memory, of the type with which it was written."""
        column = np.array(self.column(name))
        return column.astype(h5py.string_dtype("utf-8", column.dtype.itemsize)) if name == "object_id" else column

    def _open(self) -> None:
        try:
            self._columns, self.attributes = read_layout(self.path)
            self.key = (self.attributes["split"], self.attributes["view"], self.attributes["block"])
            self.spec = SirenSpec.from_dict(parse_json_object(self.attributes["spec"]))
            self.quarantine = tuple(Quarantined(**row) for row in parse_json(self.attributes["quarantine"]))
            missing = {*COLUMN_TYPES, "object_id"} - set(self._columns)
            if missing:
                raise ValueError(f"it has no column {sorted(missing)[0]}")
            for name, (dtype, shape, _) in self._columns.items():
                expected = (COLUMN_TYPES[name],) if name in COLUMN_TYPES else FACT_TYPES
                if name == "object_id":
                    expected = (f"|S{dtype.itemsize}",)
                if dtype.str not in expected:
                    raise ValueError(f"column {name} is {dtype.str}, expected {' or '.join(expected)}")
                if len(shape) != 1 and name != "weights":
                    raise ValueError(f"column {name} has the shape {shape}, expected one value a row")
            if self.key[0] not in SPLITS or not all(isinstance(part, int) and part >= 0 for part in self.key[1:]):
                raise ValueError(f"its split, view and block are {self.key}")
            if self._columns["weights"][1][1:] != (self.spec.num_parameters,):
                raise ValueError(
                    f"its weights are {self._columns['weights'][1]}, its spec has D = {self.spec.num_parameters}"
                )
        except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
            blame_machine(error, self.path)
            reason = " ".join(str(error).split())
            raise IntegrityError(
                f"{self.path.name} is not a shard of this format: {reason}; remove it and fit again"
            ) from None

    def __len__(self) -> int:
        return int(self._columns["weights"][1][0])

    @property
    def column_names(self) -> tuple[str, ...]:
        """Names of all columns, sorted."""
        return tuple(sorted(self._columns))

    def column(self, name: str) -> NDArray[Any]:
        """Map a column into memory, read-only: (N,), or (N, D) for weights."""
        dtype, shape, offset = self._columns[name]
        if offset is None or 0 in shape:
            return np.empty(shape, dtype)
        return np.memmap(self.path, dtype=dtype, mode="r", offset=offset, shape=shape)

    @property
    def object_ids(self) -> list[str]:
        """The name of each row's object. Raises IntegrityError for names that are not UTF-8."""
        try:
            return [text.decode() for text in self.column("object_id")]
        except UnicodeDecodeError as error:
            raise IntegrityError(f"{self.path.name} has an object_id that is not UTF-8: {error}") from None

    @property
    def changes(self) -> dict[str, NDArray[Any]]:
        """(N,) numbers of the changes by which each row's signal was changed, by name; empty without any."""
        names = [name for name in self.column_names if name.startswith(CHANGE)]
        return {name.removeprefix(CHANGE): self.column(name) for name in names}

    def check_rows(self) -> None:
        """Compare attributes and rows with their checksums. Raises IntegrityError that names the rows that differ."""
        if self.attributes.get("attributes_checksum") != _attributes_checksum(self.attributes):
            raise IntegrityError(
                f"{self.path.name}: the checksum of its attributes is wrong; remove the file and fit again"
            )
        columns = {name: np.asarray(self.column(name)) for name in self.column_names}
        wrong = np.flatnonzero(row_checksums(columns) != columns["checksum"])
        if wrong.size:
            rows = ", ".join(map(str, wrong[:5])) + (", ..." if wrong.size > 5 else "")
            raise IntegrityError(
                f"{self.path.name}: the checksum of row {rows} is wrong; remove the file and fit again"
            )

    def describe(self) -> ShardEntry:
        """Return the entry that a manifest should hold for this file."""
        image = read_regular(self.path)
        return self.describe_as(len(image), hashlib.sha256(image).hexdigest())

    def describe_as(self, size: int, sha256: str) -> ShardEntry:
        """As `describe`, for a file of known size and sha256."""
        names = {"psnr", "steps", "object_id", *REMARK_COLUMNS} & set(self._columns)
        columns = {name: self.column(name) for name in names}
        return _entry(self.key, columns, self.quarantine, size, sha256)


def find_valid_shard(root: Location, key: tuple[str, int, int], spec: SirenSpec, fingerprint: str) -> ShardEntry | None:
    """The entry of the shard (split, view, block) of a set, recorded or not; None unless it is complete and of this set."""
    path = shard_path(*key)
    if file_size(root / path) is None:
        return None
    try:
        with local_folder(root, path) as folder:
            shard = ShardReader.unrecorded(folder / path)
            entry = shard.describe()
    except (IntegrityError, FileNotFoundError):
        return None
    belongs = shard.attributes.get("fingerprint") == fingerprint and shard.spec == spec
    return entry if belongs and entry.path == path else None


def made_by(root: Location, entries: Iterable[ShardEntry]) -> dict[str, int]:
    """The number of shards by engine and kind of device, such as "fused on cuda"; none of a set in a store."""
    if isinstance(root, RemoteLocation):
        return {}
    attributes = (ShardReader(root, entry, check=False).attributes for entry in entries)
    return dict(Counter(f"{facts.get('engine')} on {facts.get('device', 'no device')}" for facts in attributes))
