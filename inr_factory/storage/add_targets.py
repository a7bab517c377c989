"""Adding targets: joins a table to a set that exists, and summarizes the targets that a set has."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inr_factory.errors import UsageError, shorten
from inr_factory.inr.regular_files import as_path
from inr_factory.storage.dataset_card import update_card_if_complete
from inr_factory.storage.fetch_dataset import dataset_location
from inr_factory.storage.manifest import Manifest
from inr_factory.storage.manifest_file import load_manifest
from inr_factory.storage.passed_over import name_some
from inr_factory.storage.shards import ShardReader
from inr_factory.storage.target_names import match_names
from inr_factory.storage.target_tables import NamedColumns, read_table, table_of_mapping
from inr_factory.storage.targets import TargetColumn, TargetTable, read_targets, update_targets


@dataclass(frozen=True)
class TargetsReport:
    """What `add_targets` did.

    Attributes:
        manifest: Of the set as it is now.
        columns: Names of the targets that were joined.
        objects: Number of objects that got values.
        foreign: Names in the table that are of no object of the set.
    """

    manifest: Manifest
    columns: tuple[str, ...]
    objects: int
    foreign: tuple[str, ...]

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know, a line each."""
        if not self.foreign:
            return ()
        return (f"{len(self.foreign):,} in the table of no object of the set: {name_some(self.foreign)}",)


@dataclass(frozen=True)
class TargetSummary:
    """One target of a set.

    Attributes:
        name: Of the target.
        kind: class, labels, number or vector.
        unit: Of numbers and vectors.
        objects: Number of objects that have a value.
        counts: Objects of each class or label, by name; empty for numbers and vectors.
        mean: Of the numbers, or of each component of a vector; empty for classes and labels.
        low: The smallest likewise.
        high: The largest likewise.
    """

    name: str
    kind: str
    unit: str
    objects: int
    counts: Mapping[str, int]
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


def add_targets(
    dataset: str | os.PathLike[str],
    table: str | os.PathLike[str] | Mapping[str, Any],
    kinds: Mapping[str, str] | None = None,
    *,
    replace: bool = False,
) -> TargetsReport:
    """Join targets to the objects of a set, by their names.

    One column of the table names the objects: file_name, file, name, object_id or object, else the first. A name is that
    of an object, or the end of its path, with or without its suffix: 7.png, train/7.png and 7 all mean 7.png. Each
    other column is a target: numbers, words (class), lists of words (labels) or of numbers (vector). `NAME [unit]` as a
    header gives its unit, `NAME [class]` its kind; columns NAME.0, NAME.1, ... are one vector.

    Args:
        dataset: Folder of the set.
        table: A CSV file (in which | separates labels, and the numbers of a vector), a Parquet file, or columns in memory
            by name: lists or arrays (M,) or (M, K).
        kinds: Kinds of columns, by name, where they differ from what their values look like: {"digit": "class"}.
        replace: Whether targets that the set has already are replaced.

    Returns:
        What was joined.

    Raises:
        UsageError: A value is missing or of another kind than the others, names occur twice, fit no object or several,
            or an object of the set has no row.
        IntegrityError: A shard, or the targets of the set, are not as recorded.
    """
    root = dataset_location(dataset)
    if not isinstance(root, Path):
        raise UsageError(f"targets are joined to a set in a folder, got {root}; copy the set to this machine, and back")
    manifest = load_manifest(root)
    if kinds is not None and not isinstance(kinds, Mapping):
        raise UsageError(f"kinds must give kinds by names of columns, got {shorten(kinds)}")
    if isinstance(table, Mapping):
        named = table_of_mapping(table, kinds)
    else:
        named = read_table(as_path(table, "a table, or columns by name,"), kinds)
    fitted = fitted_objects(root, manifest)
    before = read_targets(root, manifest)
    match = match_names(named.names, fitted.union(() if before is None else before.object_ids), named.origin)
    absent = sorted(fitted - match.rows.keys())
    if absent:
        some = "" if match.rows else f" (its first names are {name_some(named.names[:3])})"
        raise UsageError(
            f"{named.origin}: {len(absent):,} of {len(fitted):,} objects have no row in it: "
            f"{name_some(absent[:3])}{', ...' if len(absent) > 3 else ''}{some}; add their rows"
        )

    def join(before: TargetTable | None) -> TargetTable:
        return join_columns(before, named, match.rows, replace)

    manifest = update_targets(root, join)
    update_card_if_complete(root, manifest)
    return TargetsReport(manifest, tuple(c.name for c in named.columns), len(match.rows), match.foreign)


def dataset_targets(dataset: str | os.PathLike[str]) -> tuple[TargetSummary, ...]:
    """Summarize the targets of a set.

    Args:
        dataset: Folder or URL of the set.

    Returns:
        A summary of each target; none where the set has no targets.

    Raises:
        UsageError: There is no set.
        IntegrityError: The targets are not as recorded.
    """
    location = dataset_location(dataset)
    table = read_targets(location, load_manifest(location))
    return () if table is None else tuple(_summary(column) for column in table.columns)


def _summary(column: TargetColumn) -> TargetSummary:
    values = column.values if column.known is None else column.values[column.known]
    counts: dict[str, int] = {}
    mean, low, high = tuple[float, ...](), tuple[float, ...](), tuple[float, ...]()
    if column.kind == "class":
        counts = dict(zip(column.names, np.bincount(values, minlength=len(column.names)).tolist(), strict=True))
    elif column.kind == "labels":
        counts = dict(zip(column.names, values.sum(axis=0).tolist(), strict=True))
    elif len(values):
        wide = values.reshape(len(values), -1)
        mean, low, high = (tuple(part.tolist()) for part in (wide.mean(axis=0), wide.min(axis=0), wide.max(axis=0)))
    return TargetSummary(column.name, column.kind, column.unit, len(values), counts, mean, low, high)


def fitted_objects(root: Path, manifest: Manifest) -> set[str]:
    """The objects of which a set has INRs."""
    return {name for entry in manifest.shards for name in ShardReader(root, entry, check=False).object_ids}


def join_columns(
    before: TargetTable | None, named: NamedColumns, rows: Mapping[str, int], replace: bool
) -> TargetTable:
    """The table with further columns: of `named`, whose rows are given by object.

    Raises UsageError where it has one of them already, unless `replace`.
    """
    present = () if before is None else before.names
    if not replace and (double := [column.name for column in named.columns if column.name in present]):
        raise UsageError(f"the set has the target {name_some(double)} already; --replace replaces it")
    object_ids, old = _all_objects(before, rows)
    new = np.array([rows.get(name, -1) for name in object_ids], dtype=np.int64)
    names = {column.name for column in named.columns}
    kept = [spread(column, old) for column in (() if before is None else before.columns) if column.name not in names]
    return TargetTable(object_ids, (*kept, *(spread(column, new) for column in named.columns)))


def with_further_targets(before: TargetTable | None, table: TargetTable, out: object, origin: str) -> TargetTable:
    """The targets of the set `out` with those of `origin`: objects and columns are added, others stay.

    Raises UsageError where a value that the set has is another one there.
    """
    if before is None:
        return table
    own = {name: row for row, name in enumerate(table.object_ids)}
    object_ids, old = _all_objects(before, own)
    new = np.array([own.get(name, -1) for name in object_ids], dtype=np.int64)
    columns = {column.name: spread(column, old) for column in before.columns}
    for column in table.columns:
        further = spread(column, new)
        if (earlier := columns.get(column.name)) is not None:
            _check_equal(earlier, further, object_ids, out, origin)
        if earlier is None or further.known is None:
            columns[column.name] = further
    return TargetTable(object_ids, tuple(columns.values()))


def _check_equal(
    earlier: TargetColumn, further: TargetColumn, object_ids: Sequence[str], out: object, origin: str
) -> None:
    """Raise UsageError where the two differ in what they are, or in the value of an object that both know."""
    remedy = "put the same targets back, or choose another --out"
    if earlier.record != further.record:
        what = next(key for key in ("kind", "unit", "names") if getattr(earlier, key) != getattr(further, key))
        here, there = (shorten(getattr(column, what)) for column in (further, earlier))
        raise UsageError(f"{out} has the target {earlier.name} with the {what} {there}, {origin} {here}; {remedy}")
    every = np.ones(len(object_ids), dtype=bool)
    both = (every if earlier.known is None else earlier.known) & (every if further.known is None else further.known)
    differing = (earlier.values != further.values).reshape(len(object_ids), -1).any(axis=1) & both
    if differing.any():
        row = int(np.flatnonzero(differing)[0])
        raise UsageError(
            f"{out} has the target {earlier.name} = {shorten(earlier.value(row))} of {object_ids[row]}, {origin} "
            f"{shorten(further.value(row))}; {remedy}"
        )


def _all_objects(before: TargetTable | None, names: Iterable[str]) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """The objects of a table and those of `names`, and the row of each in the table, -1 of others."""
    listed = () if before is None else before.object_ids
    further = sorted(set(names) - set(listed))
    rows = np.concatenate([np.arange(len(listed)), np.full(len(further), -1)]).astype(np.int64)
    return (*listed, *further), rows


def spread(column: TargetColumn, rows: NDArray[np.int64]) -> TargetColumn:
    """The column with the values of these rows, unknown where a row is -1."""
    known = rows >= 0
    if column.known is not None:
        known &= column.known[rows]
    values = (
        np.array(column.values[rows])
        if len(column.values)
        else np.zeros((len(rows), *column.values.shape[1:]), column.values.dtype)
    )
    values[~known] = {"class": -1, "labels": False}.get(column.kind, np.nan)
    return TargetColumn(column.name, column.kind, values, column.names, column.unit, None if known.all() else known)
