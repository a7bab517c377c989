"""Folder tables: a table of labels beside files, which gives them classes, splits and targets."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from inr_factory.errors import UsageError, shorten
from inr_factory.generation.signals import Item
from inr_factory.generation.sources.folder_listing import readable
from inr_factory.storage.passed_over import name_some
from inr_factory.storage.target_names import match_names
from inr_factory.storage.target_tables import SUFFIXES, NamedColumns, read_table
from inr_factory.storage.target_values import column_of
from inr_factory.storage.targets import TargetColumn

# What a folder, or a cell of the column `split`, may be called, in any case -> the split it is.
SPLITS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
CLASS_COLUMNS, SPLIT_COLUMN = ("class", "label"), "split"


@dataclass(frozen=True)
class LabelledFiles:
    """What a table says of files.

    Attributes:
        classes: Names of the classes.
        items: The objects, in their order.
        units: Units of targets, by name.
        relabelled: Whether classes or splits are those of the table.
        remarks: What a user should know, a sentence each.
    """

    classes: tuple[str, ...]
    items: tuple[Item, ...]
    units: dict[str, str] = field(default_factory=dict)
    relabelled: bool = False
    remarks: tuple[str, ...] = ()


def find_table(root: Path, chosen: str | None, files: Sequence[str]) -> tuple[Path | None, tuple[str, ...]]:
    """The table of a folder, and remarks: the chosen one, else the only one of `files` that may be one.

    Raises UsageError where the chosen one is none, or does not exist.
    """
    if chosen is not None:
        path = root / chosen
        if path.suffix.lower() not in SUFFIXES or not path.is_file():
            raise UsageError(
                f"source.table: no table {readable(path)}; give the path of a {' or '.join(SUFFIXES)} file below "
                f"{readable(root)}"
            )
        return path, ()
    tables = sorted(name for name in files if Path(name).suffix.lower() in SUFFIXES)
    if len(tables) > 1:
        return None, (f"of the tables {name_some(tables)} none is read; choose one: --set source.table={tables[0]}",)
    return (root / tables[0], ()) if tables else (None, ())


def label_files(path: Path, classes: tuple[str, ...], items: Sequence[Item], what: str) -> LabelledFiles:
    """Items with the splits, classes and targets of a table. A file with classes in several folders keeps them.

    Args:
        path: The table, whose names are paths below the root, ends of these, or stems.
        classes: Names of the classes of the folders.
        items: One for each file.
        what: Plural noun for the files in messages.

    Raises:
        UsageError: As `read_table`; a file has no row, or a split is unknown, or said by folders as well.
    """
    named = read_table(path)
    origin = readable(path)
    match = match_names(named.names, [item.object_id for item in items], origin)
    if absent := [item.object_id for item in items if item.object_id not in match.rows]:
        raise UsageError(
            f"{origin}: {len(absent):,} of {len(items):,} {what} have no row in it: {name_some(absent[:3])}"
            f"{', ...' if len(absent) > 3 else ''} (it names {name_some(named.names[:3])}); add their rows, or move it away"
        )
    rows = [match.rows[item.object_id] for item in items]
    split = _split_of(named, origin)
    if split is not None and any(item.split is not None for item in items):
        raise UsageError(f"{origin} has the column {SPLIT_COLUMN}, and folders give splits already; remove one of them")
    label = _class_column(named) if len(classes) == 1 else None
    if label is not None:
        words = [label.names[label.values[row]] for row in rows]
        classes = tuple(name for name in label.names if name in set(words))
        labels = [{name: number for number, name in enumerate(classes)}[word] for word in words]
    else:
        labels = [item.label for item in items]
    used = {SPLIT_COLUMN, None if label is None else label.name}
    targets = [column for column in named.columns if column.name not in used]
    labelled = tuple(
        replace(
            item,
            label=number,
            split=item.split if split is None else split[row],
            targets={column.name: _plain(column, row) for column in targets},
        )
        for item, number, row in zip(items, labels, rows, strict=True)
    )
    if label is not None:
        _check_train(origin, classes, labelled)
    foreign = f"names in {readable(path.name)} that are of no file: {name_some(match.foreign)}"
    return LabelledFiles(
        classes, labelled, {column.name: column.unit for column in targets if column.unit},
        relabelled=split is not None or label is not None, remarks=(foreign,) if match.foreign else (),
    )  # fmt: skip


def _split_of(named: NamedColumns, origin: str) -> list[str] | None:
    """The split of each row; None without such a column."""
    column = next((column for column in named.columns if column.name == SPLIT_COLUMN), None)
    if column is None:
        return None
    for name in column.names if column.kind == "class" else (shorten(column.value(0)),):
        if name.casefold() not in SPLITS or column.kind != "class":
            raise UsageError(f"{origin}: the column {SPLIT_COLUMN} has {name!r}, expected one of {', '.join(SPLITS)}")
    return [SPLITS[column.names[number].casefold()] for number in column.values]


def _class_column(named: NamedColumns) -> TargetColumn | None:
    """The column that gives classes, of names or whole numbers."""
    for name in CLASS_COLUMNS:
        column = next((column for column in named.columns if column.name == name), None)
        if column is not None and column.kind == "number" and (column.values == column.values.round()).all():
            column = column_of(name, column.values.astype(int), "class")
        if column is not None and column.kind == "class":
            return column
    return None


def _plain(column: TargetColumn, row: int) -> Any:
    value = column.value(row)
    return value if column.kind != "number" else float(value)


def _check_train(origin: str, classes: Sequence[str], items: Sequence[Item]) -> None:
    """Raise UsageError where val or test have a class that train lacks."""
    splits = defaultdict[int, set[str]](set)
    for item in items:
        splits[item.label].add(item.split or "train")
    lacking = [classes[label] for label, names in sorted(splits.items()) if "train" not in names]
    if lacking:
        raise UsageError(f"{origin}: val or test have objects of {name_some(lacking)}, of which train has none")
