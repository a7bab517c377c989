"""Target tables: CSV and Parquet files, or mappings, that give objects their targets by name.

One column names the objects, each other is a target. `NAME [unit]` gives its unit, `NAME [class]` its kind; columns
NAME.0, NAME.1, ... are one vector. In a CSV file, | separates labels, or the numbers of a vector.
"""

import csv
import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from inr_factory.errors import UsageError, blame_machine, did_you_mean, needs_extra, one_line, require_extra, shorten
from inr_factory.inr.regular_files import read_regular
from inr_factory.storage.target_values import LARGEST_EXACT, checked_kind, column_of
from inr_factory.storage.targets import TargetColumn, first_double, text_fault
from inr_factory.storage.targets_record import KINDS

SUFFIXES = (".csv", ".tsv", ".parquet")
NAME_COLUMNS = ("file_name", "file", "name", "object_id", "object")
MAX_BYTES, MAX_COLUMNS = 2**30, 10_000  # of a file; a vector may take many of its columns

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_NOT_FINITE = re.compile(r"[+-]?(nan|inf|infinity)", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class NamedColumns:
    """A table as it is written.

    Attributes:
        origin: What messages call it.
        names: What it calls each object, each once.
        columns: Their targets.
    """

    origin: str
    names: tuple[str, ...]
    columns: tuple[TargetColumn, ...]


def read_table(path: Path, kinds: Mapping[str, str] | None = None) -> NamedColumns:
    """Read a table of targets.

    Args:
        path: A CSV file (UTF-8; commas, semicolons or tabs, by its header), or one that ends in .parquet.
        kinds: Kinds of columns, where they differ from what their values look like.

    Returns:
        Names and columns.

    Raises:
        UsageError: The file cannot be read, or has no value, several or another kind of value where one is needed; one
            line that names row and column.
        MissingExtraError: Parquet needs pyarrow.
    """
    try:
        header, columns = _parquet(path) if path.suffix.lower() == ".parquet" else _csv(path)
        return _named_columns(header, columns, kinds or {}, str(path), is_text=path.suffix.lower() != ".parquet")
    except UsageError as error:
        prefix = "" if str(path) in str(error) else f"{path}: "
        raise type(error)(f"{prefix}{error}") from None


def table_of_mapping(table: Mapping[str, Any], kinds: Mapping[str, str] | None = None) -> NamedColumns:
    """As `read_table`, of columns in memory: names to values, as `column_of` takes them."""
    return _named_columns(list(table), list(table.values()), kinds or {}, "the table", is_text=False)


def _named_columns(
    header: Sequence[Any], columns: Sequence[Any], kinds: Mapping[str, str], origin: str, is_text: bool
) -> NamedColumns:
    parsed = [_title(position, title) for position, title in enumerate(header, 1)]
    titles = [name for name, _, _ in parsed]
    if (double := first_double(titles)) is not None:
        raise UsageError(f"two columns are called {double!r}; rename or remove one")
    key = next((name for name in NAME_COLUMNS if name in titles), titles[0] if titles else "")
    if len(titles) < 2:
        raise UsageError(
            f"it has {'no columns' if not titles else f'the column {key!r} alone'}; expected one of names "
            f"({', '.join(NAME_COLUMNS)}) and one or more of targets"
        )
    names = _names(key, columns[titles.index(key)])
    targets = [name for name in titles if name != key]
    kind_of = {name: checked_kind(name, kinds.get(name, kind)) for name, _, kind in parsed}
    vectors = _vectors([name for name in targets if kind_of[name] in (None, "number")])
    for name, given in kinds.items():
        if name in vectors and checked_kind(name, given) != "vector":
            raise UsageError(f"the columns {name}.0, {name}.1, ... are a vector, got the kind {given}; rename them")
        if name not in targets and name not in vectors:
            raise UsageError(f"no column {shorten(name)} to give a kind; {did_you_mean(str(name)[:100], targets)}")
    made: dict[str, TargetColumn] = {}
    grouped = {part for parts in vectors.values() for part in parts}
    for (name, unit, _), values in zip(parsed, columns, strict=True):
        if name == key:
            continue
        if hasattr(values, "__len__") and len(values) != len(names):
            raise UsageError(
                f"the target {name} has {len(values):,} values for {len(names):,} objects; give one for each"
            )
        chosen = "number" if name in grouped else kind_of[name]
        made[name] = column_of(name, _values(name, values, chosen) if is_text else values, chosen, unit)
    for name, parts in vectors.items():
        made[parts[0]] = _one_vector(name, [made[part] for part in parts])
        for part in parts[1:]:
            del made[part]
    final = tuple(made.values())
    if len({column.name for column in final}) < len(final):
        raise UsageError("a vector NAME.0, NAME.1, ... and another column have the same NAME; rename one")
    return NamedColumns(origin, names, final)


def _title(position: int, title: Any) -> tuple[str, str, str | None]:
    """Name, unit and kind of a column, by its header."""
    if (fault := text_fault(title)) is not None:
        raise UsageError(f"the header of column {position} {fault}")
    if not title.strip():
        raise UsageError(
            f"column {position} has no name in the header; name it, or remove it (in pandas: to_csv(..., index=False))"
        )
    match = re.fullmatch(r"(.*\S)\s*\[([^\[\]]*)\]", title.strip())
    if match is None:
        return title.strip(), "", None
    name, inside = match[1], match[2].strip()
    return (name, "", inside) if inside in KINDS else (name, inside, None)


def _names(key: str, column: Any) -> tuple[str, ...]:
    names = column.tolist() if isinstance(column, np.ndarray) else list(column) if hasattr(column, "__iter__") else []
    if isinstance(column, str) or not names:
        raise UsageError(f"the column {key!r} names no object; expected a row an object below the header")
    rows: dict[str, int] = {}
    for row, name in enumerate(names, 1):
        if name is None or (isinstance(name, str) and not name.strip()):
            raise UsageError(f"row {row} of {key}, which names the objects, is empty")
        if (fault := text_fault(name)) is not None:
            raise UsageError(f"row {row} of {key}, which names the objects, {fault}; got {shorten(name)}")
        if name in rows:
            raise UsageError(f"rows {rows[name]} and {row} of {key} are both {name!r}; give each object once")
        rows[name] = row
    return tuple(rows)


def _vectors(titles: Sequence[str]) -> dict[str, list[str]]:
    """Vectors that are written as columns NAME.0 to NAME.K-1, and those columns."""
    parts: dict[str, set[int]] = {}
    for title in titles:
        if (match := re.fullmatch(r"(.+)\.(0|[1-9]\d{0,3})", title)) is not None:
            parts.setdefault(match[1], set()).add(int(match[2]))
    return {
        name: [f"{name}.{number}" for number in range(len(numbers))]
        for name, numbers in parts.items()
        if numbers == set(range(len(numbers)))
    }


def _one_vector(name: str, parts: Sequence[TargetColumn]) -> TargetColumn:
    units = {part.unit for part in parts}
    if len(units) > 1:
        raise UsageError(f"the parts of the vector {name} have the units {', '.join(sorted(units))}; give all one unit")
    return TargetColumn(name, "vector", np.stack([part.values for part in parts], axis=1), unit=units.pop())


def _values(name: str, cells: Sequence[str], kind: str | None) -> list[Any]:
    """The values of cells of text: numbers, words, or lists of them where there is a | or the kind says so."""
    cells = [cell.strip() for cell in cells]
    for row, cell in enumerate(cells, 1):
        if _NOT_FINITE.fullmatch(cell):
            raise UsageError(f"row {row} of {name} is {cell!r}; targets are finite, so give a value or remove the row")
    if kind in ("labels", "vector") or (kind is None and any("|" in cell for cell in cells)):
        lists = [[part.strip() for part in cell.split("|")] if cell else [] for cell in cells]
        if kind != "labels" and all(_NUMBER.fullmatch(part) for parts in lists for part in parts) and any(lists):
            return [[_number(name, row, part) for part in parts] for row, parts in enumerate(lists, 1)]
        return lists
    if kind == "class":
        return list(cells)
    for row, cell in enumerate(cells, 1):
        if "," in cell and re.fullmatch(r"[+-]?\d+,\d+", cell):
            raise UsageError(f"row {row} of {name} is {cell!r}; write decimals with a point, or --kind {name}=class")
    return [_number(name, row, cell) if _NUMBER.fullmatch(cell) else cell for row, cell in enumerate(cells, 1)]


def _number(name: str, row: int, cell: str) -> float:
    """The number that a cell says. Raises UsageError where float64 has no such number."""
    number = float(cell)
    lost = number == 0 and re.search("[1-9]", re.split("[eE]", cell)[0])
    whole = len(cell) > 15 and re.fullmatch(r"[+-]?\d+", cell) is not None
    if lost or not math.isfinite(number) or (whole and abs(int(cell[:400])) > LARGEST_EXACT):
        raise UsageError(
            f"row {row} of {name} is {shorten(cell)}; float64 would change it, so make it a name (kind class)"
        )
    return number


def _csv(path: Path) -> tuple[list[str], list[list[str]]]:
    try:
        text = read_regular(path, MAX_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 ({one_line(error)}); save it as CSV in UTF-8") from None
    except (OSError, ValueError) as error:
        blame_machine(error, path)
        raise UsageError(f"{path} cannot be read: {one_line(error)}") from None
    first = text.lstrip("\r\n").partition("\n")[0]
    try:
        delimiter = max(",;\t", key=lambda mark: len(next(csv.reader([first], delimiter=mark), [])))
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True, skipinitialspace=True)
        rows = [row for row in reader if row]
    except csv.Error as error:
        raise UsageError(f"{path} is no CSV file: {one_line(error)}") from None
    if not rows:
        raise UsageError(f"{path} is empty; expected a header and a row an object")
    header, *body = rows
    if len(header) > MAX_COLUMNS:
        raise UsageError(f"{path} has {len(header):,} columns, at most {MAX_COLUMNS:,} are read")
    for number, row in enumerate(body, 1):
        if len(row) != len(header):
            raise UsageError(f"row {number} of {path} has {len(row)} cells, the header has {len(header)}")
    return header, [list(column) for column in zip(*body, strict=True)] or [[] for _ in header]


def _parquet(path: Path) -> tuple[list[str], list[Any]]:
    require_extra("exchange", "pyarrow")
    with needs_extra("exchange"):
        import pyarrow as pa
        from pyarrow import parquet
    try:
        content = parquet.read_table(io.BytesIO(read_regular(path, MAX_BYTES)))
        columns = []
        for index, field in enumerate(content.schema):
            inner = (
                field.type.value_type if _is_list(pa, field.type) or pa.types.is_dictionary(field.type) else field.type
            )
            if not (pa.types.is_boolean(inner) or _is_number(pa, inner) or _is_text(pa, inner)):
                raise UsageError(
                    f"the column {field.name} has the type {field.type}; expected numbers, text, truth values or lists of them"
                )
            values = content.column(index).to_pylist()
            columns.append(
                [float(value) if pa.types.is_decimal(inner) and value is not None else value for value in values]
            )
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        if isinstance(error, UsageError):
            raise
        blame_machine(error, path)
        raise UsageError(f"{path} cannot be read as Parquet: {one_line(error)}") from None
    return list(content.schema.names), columns


def _is_list(pa: Any, kind: Any) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _is_number(pa: Any, kind: Any) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _is_text(pa: Any, kind: Any) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))
