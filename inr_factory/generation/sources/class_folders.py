"""Class folders: finds the files of a collection in folders of classes, with or without splits above or below them."""

import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from inr_factory.errors import UsageError
from inr_factory.generation.recipe import RECIPE_VERSION
from inr_factory.generation.signals import Item
from inr_factory.generation.sources.folder_listing import LEFTOVERS, FolderListing, Parts, list_folder, readable
from inr_factory.generation.sources.folder_tables import SPLITS, LabelledFiles, find_table, label_files
from inr_factory.storage.passed_over import PassedOver, name_some
from inr_factory.storage.target_tables import SUFFIXES

# Suffixes of files that may be tables of labels, and of those that no class consists of.
TABLES = frozenset({".csv", ".tsv", ".json", ".jsonl", ".txt", ".xml", ".xlsx", ".parquet", ".mat"})
DOCUMENTS = TABLES | {".md", ".rst", ".pdf", ".html", ".yaml", ".yml", ".toml", ".log", ".py", ".ipynb", ".sh"}


class ClassFiles(NamedTuple):
    """Classes, items in the order of their names, the path of each item, what was passed over, the units of targets,
    and whether classes or splits are those of a table."""

    classes: tuple[str, ...]
    items: tuple[Item, ...]
    paths: tuple[str, ...]
    passed_over: PassedOver | None = None
    target_units: Mapping[str, str] = {}
    relabelled: bool = False


def find_class_files(
    root: Path, suffixes: Set[str], what: str, version: int = RECIPE_VERSION, table: str | None = None
) -> ClassFiles:
    """Find the files of a collection in CLASS/…, SPLIT/CLASS/… or CLASS/SPLIT/…, or all of them directly in root.

    Hidden files, files of other kinds and files above the class folders are passed over, and counted. A class folder
    without files keeps its class, unless it holds nothing but documents. Files directly in root, where there are no
    class folders, are of one class, `object`; the only table next to them is read.

    Args:
        root: Folder that holds the class folders.
        suffixes: File name endings in lower case; files may have them in any case.
        what: Plural noun for the files in messages.
        version: Of the recipe. 1 drops classes without files, and reads what systems leave behind.
        table: Path below root of a table of labels, see `label_files`.

    Raises:
        UsageError: The folder does not exist, has another layout, or its val or test has a class that train lacks.
    """
    if not root.is_dir():
        raise UsageError(f"no folder {readable(root)}; give --data-root the folder that holds the {what}")
    chosen = None if table is None else Path(table).parts

    def is_read(parts: Parts) -> bool:
        return len(parts) > 1 and parts != chosen and os.path.splitext(parts[-1])[1].lower() in suffixes

    listing = list_folder(root, is_read, LEFTOVERS if version > 1 else frozenset())
    paths = listing.files
    if not paths:
        return _flat_files(root, suffixes, what, listing, table)
    depth_of_class, depth_of_split = (1, 0) if _splits_on_top(root, paths) else (0, 1 if _splits_below(paths) else None)
    named = sorted((readable(os.path.join(*parts)), parts, path) for parts, path in paths.items())
    filled = {readable(parts[depth_of_class]) for parts in paths}
    empty = _class_folders(listing, depth_of_class) - filled if version > 1 else set[str]()
    classes = tuple(sorted(filled | empty))
    labels = {name: label for label, name in enumerate(classes)}
    items = tuple(
        Item(
            object_id,
            labels[readable(parts[depth_of_class])],
            None if depth_of_split is None else SPLITS[parts[depth_of_split].casefold()],
        )
        for object_id, parts, _ in named
    )
    for earlier, later in pairwise(items):
        if earlier.object_id == later.object_id:
            raise UsageError(f"two files have the same name once written as UTF-8, {later.object_id}; rename one")
    remarks: Sequence[str] = ()
    if table is not None:
        labelled = label_files(find_table(root, table, ())[0] or root, classes, items, what)
        listing.others.pop(chosen or (), None)
        passed_over = listing.passed_over(depth_of_class, empty, labelled.remarks)
        files = tuple(path for _, _, path in named)
        return ClassFiles(
            labelled.classes, labelled.items, files, passed_over, labelled.units, relabelled=labelled.relabelled
        )
    if version > 1:
        check_classes_of_train(root, classes, items, what, listing)
        remarks = [*_remarks(root, listing, classes, what, depth_of_split == 0), *_spelled_alike(classes)]
    passed_over = listing.passed_over(depth_of_class, empty, remarks)
    return ClassFiles(classes, items, tuple(path for _, _, path in named), passed_over)


def _flat_files(root: Path, suffixes: Set[str], what: str, listing: FolderListing, table: str | None) -> ClassFiles:
    """The files directly in root, all of one class unless a table says otherwise. Raises UsageError where none is there."""
    named = sorted(
        (readable(parts[0]), parts)
        for parts in listing.others
        if len(parts) == 1
        and os.path.splitext(parts[0])[1].lower() in suffixes
        and (root / parts[0]).is_file()
        and parts[0] != table
        and not _is_document(parts)
    )
    if not named:
        raise UsageError(_nothing(root, suffixes, what, listing))
    for _, parts in named:
        del listing.others[parts]
    items = tuple(Item(object_id, 0, None) for object_id, _ in named)
    path, remarks = find_table(root, table, [parts[0] for parts in listing.others if len(parts) == 1])
    if path is None and not remarks and (tables := _tables(listing)):
        remarks = (f"all objects are of the class object; {_how_to_read(tables)}",)
    labelled = LabelledFiles(("object",), items, remarks=remarks)
    if path is not None:
        labelled = label_files(path, ("object",), items, what)
        listing.others.pop(path.relative_to(root).parts if path.is_relative_to(root) else (), None)
    return ClassFiles(
        labelled.classes,
        labelled.items,
        tuple(str(root / parts[0]) for _, parts in named),
        listing.passed_over(0, remarks=labelled.remarks),
        labelled.units,
        relabelled=labelled.relabelled,
    )


def _is_document(parts: Parts) -> bool:
    return parts[-1].casefold().startswith(("readme", "licen"))


def _class_folders(listing: FolderListing, depth: int) -> set[str]:
    """The names of all class folders, also of those without files that are read; not of folders of mere documents."""
    kinds = defaultdict[Parts, set[str]](set)
    for parts, kind in listing.others.items():
        kinds[parts[: depth + 1]].add(kind)
    return {
        readable(parts[-1])
        for parts in listing.folders
        if len(parts) == depth + 1
        and (depth == 0 or parts[0].casefold() in SPLITS)
        and not (kinds[parts] and kinds[parts] <= DOCUMENTS)
    }


def check_classes_of_train(
    root: Path, classes: Sequence[str], items: Iterable[Item], what: str, listing: FolderListing
) -> None:
    """Raise UsageError where train has objects, and val or test have a class of which it has none."""
    splits = defaultdict[int, set[str]](set)
    for item in items:
        splits[item.label].add(item.split or "train")
    lacking = [label for label, seen in sorted(splits.items()) if "train" not in seen]
    if len(lacking) in (0, len(splits)):
        return
    where = " and ".join(split for split in ("val", "test") if any(split in splits[label] for label in lacking))
    names = name_some([classes[label] for label in lacking])
    tables = _tables(listing)
    alike = "".join(f"; {remark}" for remark in _spelled_alike(classes))
    raise UsageError(
        f"{readable(root)}: {where} {'have' if ' ' in where else 'has'} {what} of the "
        f"{'class' if len(lacking) == 1 else 'classes'} {names}, of which train has none; sort them into the class "
        f"folders of train{f' ({_how_to_read(tables)})' if tables else ''}, or move them away{alike}"
    )


def _nothing(root: Path, suffixes: Set[str], what: str, listing: FolderListing) -> str:
    """The message for a folder without files in class folders: what was expected, and what it has instead."""
    passed_over = listing.passed_over(0)
    there = f" ({passed_over.lines()[0]})" if passed_over is not None else ""
    return (
        f"no {what} in class folders below {readable(root)}{there}; give --data-root the folder that holds them: expected CLASS/FILE, SPLIT/CLASS/FILE or "
        f"CLASS/SPLIT/FILE with SPLIT one of {', '.join(SPLITS)}, or FILE, and files that end in "
        f"{' '.join(sorted(suffixes))}"
    )


def _how_to_read(tables: str) -> str:
    """How to read one of the tables that were found."""
    if not any(suffix in tables for suffix in SUFFIXES):
        return f"tables such as {tables} are not read; make one a {' or '.join(SUFFIXES)} file, and name it by source.table"
    return f"tables such as {tables} are read where they are named: --set source.table=FILE"


def _tables(listing: FolderListing, depth: int = 2) -> str:
    """The first files outside of class folders, at most so deep, that may be tables of labels."""
    tables = [
        parts
        for parts, kind in listing.others.items()
        if kind in TABLES and len(parts) <= depth and not _is_document(parts)
    ]
    return name_some(
        [readable(os.path.join(*parts)) for parts in sorted(tables, key=lambda parts: (len(parts), parts))]
    )


def _remarks(root: Path, listing: FolderListing, classes: Sequence[str], what: str, splits_on_top: bool) -> list[str]:
    """Layouts that may mean something else than they are read as. UsageError where that is certain."""
    files, tops = listing.files, sorted({parts[0] for parts in listing.files})
    unsorted = []
    if len(classes) == 1 and (tables := _tables(listing, depth=3)):
        unsorted = [f"all objects are of the class {classes[0]}; {_how_to_read(tables)}"]
    if splits_on_top:
        used = {SPLITS[top.casefold()] for top in tops}
        return unsorted + [
            f"the split folder {readable(parts[0])} holds nothing that is read; splits.{SPLITS[parts[0].casefold()]} "
            "decides what is taken from train instead"
            for parts in sorted(listing.folders)
            if len(parts) == 1 and SPLITS.get(parts[0].casefold(), "train") not in {*used, "train"}
        ]
    if len(tops) > 1:
        return unsorted + _like_splits(files, [readable(top) for top in tops])
    # The folder that holds everything, if the classes are below it and not directly in root.
    base = Path(os.path.commonpath([os.path.join(*parts[:-1]) for parts in files])).parts
    base = base[: next((depth for depth, name in enumerate(base) if name.casefold() in SPLITS), len(base))]
    folders = {parts[len(base)] if len(parts) > len(base) + 1 else "" for parts in files}
    names, data_root = name_some([readable(name) for name in sorted(folders)]), readable(root.joinpath(*base))
    if all(name.casefold() in SPLITS for name in folders):
        if base and all(len(parts) > len(base) + 2 for parts in files):
            raise UsageError(
                f"{data_root} has the splits {names} and their class folders; give --data-root {data_root}"
            )
    elif len(folders) > 1 and "" not in folders:
        return [
            f"all objects are of the class {readable(tops[0])}; if the folders {names} are the classes, give "
            f"--data-root {data_root}"
        ]
    return unsorted


def _like_splits(files: Collection[Parts], tops: Sequence[str]) -> list[str]:
    """A remark where classes may be splits of unknown names: by the folders below them, or by what they are called."""
    below = defaultdict[str, list[list[str]]](list)
    for top, *folders in {parts[:-1] for parts in files}:
        below[top].append([name for name in folders if name.casefold() not in SPLITS])
    counts = Counter[str]()  # of the first folders that differ below a class, or of the only one
    for paths in below.values():
        differing = [depth for depth, names in enumerate(zip(*paths, strict=False)) if len(set(names)) > 1]
        depth = min([*differing, min(map(len, paths)) - 1])
        counts.update({readable(path[depth]) for path in paths} if depth >= 0 else [""])
    shared = sorted(name for name, count in counts.items() if count > 1)
    if len(counts) > 1 and "" not in counts and 2 * len(shared) >= len(counts):
        return [
            f"the classes {name_some(tops)} have the same folders {name_some(shared)}; if these are the classes, call "
            "the folders above them train, val or test"
        ]
    called = {top: {SPLITS[word] for word in re.findall("[a-z]+", top.casefold()) if word in SPLITS} for top in tops}
    like = [top for top in tops if called[top]]
    if len(set().union(*called.values())) < 2 or not any("train" in called[top] for top in like):
        return []
    return [
        f"the classes {name_some(like)} are called like splits; if they are, call the folders train, val or test, with "
        "the class folders in them"
    ]


def _spelled_alike(classes: Sequence[str]) -> list[str]:
    """A remark on each name that several classes have, but for case, blanks or the way that Unicode writes accents."""
    spellings = defaultdict[str, list[str]](list)
    for name in classes:
        spellings[unicodedata.normalize("NFKC", name).casefold().strip()].append(ascii(name))
    return [
        f"the classes {', '.join(names)} differ only in case, blanks or accents; if they are one, merge their folders"
        for names in spellings.values()
        if len(names) > 1
    ]


def _splits_on_top(root: Path, files: Collection[Parts]) -> bool:
    """Whether the topmost folders are splits; UsageError where that is ambiguous."""
    tops = {parts[0] for parts in files}
    splits = {top for top in tops if top.casefold() in SPLITS}
    loose = sorted({parts[0] for parts in files if parts[0] in splits and len(parts) == 2})
    if not splits or (splits != tops and loose == sorted(splits)):
        return False  # a class may well be called "train", among buses and cars
    if splits != tops:
        if all(_is_in_split(parts) for parts in files):
            return False  # CLASS/SPLIT/…, and among the classes is one called "Train"
        other = min(tops - splits)
        raise UsageError(
            f"{readable(root)} has the split {readable(min(splits))} and the folder {readable(other)}, which is no "
            f"split; move {readable(other)} away, or into a split"
        )
    if loose:
        raise UsageError(
            f"{readable(root / loose[0])} holds files that are in no class folder; expected SPLIT/CLASS/FILE"
        )
    return True


def _splits_below(files: Collection[Parts]) -> bool:
    """Whether every file lies in CLASS/SPLIT/…; UsageError where only some do."""
    in_split = {parts: _is_in_split(parts) for parts in files}
    if any(in_split.values()) and not all(in_split.values()):
        inside = readable(os.path.join(*min(parts for parts, inside in in_split.items() if inside)))
        outside = readable(os.path.join(*min(parts for parts, inside in in_split.items() if not inside)))
        raise UsageError(
            f"{inside} is in a split and {outside} in none; put every file into CLASS/SPLIT/, or none of them"
        )
    return all(in_split.values())


def _is_in_split(parts: Parts) -> bool:
    return len(parts) > 2 and parts[1].casefold() in SPLITS
