"""Class folders: finds the files of a collection in folders of classes, with or without splits above or below them."""

import os
from collections.abc import Collection, Iterable, Iterator, Set
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from inr_factory.errors import ResourceError, UsageError, machine_fault
from inr_factory.generation.signals import Item

# What a folder may be called, in any case -> the split it is.
SPLITS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test",
}  # fmt: skip


class ClassFiles(NamedTuple):
    """Classes, items in the order of their names, and the path of each item."""

    classes: tuple[str, ...]
    items: tuple[Item, ...]
    paths: tuple[str, ...]


def find_class_files(root: Path, suffixes: Set[str], what: str) -> ClassFiles:
    """Find the files of a collection in CLASS/…, SPLIT/CLASS/… or CLASS/SPLIT/….

    Hidden files, files of other kinds and files directly in root are ignored.

    Args:
        root: Folder that holds the class folders.
        suffixes: File name endings in lower case; files may have them in any case.
        what: Plural noun for the files in messages.

    Raises:
        UsageError: The folder does not exist or has another layout.
    """
    if not root.is_dir():
        raise UsageError(f"no folder {readable(root)}; give --data-root the folder that holds the {what}")
    paths = {parts: path for parts, path in _files(root, suffixes) if len(parts) > 1}
    if not paths:
        raise UsageError(
            f"no {what} in class folders below {readable(root)}: expected CLASS/FILE, SPLIT/CLASS/FILE or "
            f"CLASS/SPLIT/FILE with SPLIT one of {', '.join(SPLITS)}, and files that end in "
            f"{' '.join(sorted(suffixes))}"
        )
    depth_of_class, depth_of_split = (1, 0) if _splits_on_top(root, paths) else (0, 1 if _splits_below(paths) else None)
    named = sorted((readable(os.path.join(*parts)), parts, path) for parts, path in paths.items())
    classes = tuple(sorted({readable(parts[depth_of_class]) for parts in paths}))
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
    return ClassFiles(classes, items, tuple(path for _, _, path in named))


def readable(path: Path | str) -> str:
    """A path as text that any file can hold: bytes that are not UTF-8 become \\xNN. Slashes are the same everywhere."""
    return os.fsencode(path).decode("utf-8", "backslashreplace").replace(os.sep, "/")


def file_sizes(paths: Iterable[str]) -> list[int]:
    """Bytes of each file; -1 for a link to nothing. Raises ResourceError where the machine cannot look at one."""
    sizes = []
    for path in paths:
        try:
            sizes.append(os.stat(path).st_size)
        except OSError as error:
            if machine_fault(error):
                raise ResourceError(
                    f"cannot look at {readable(path)}: {error.strerror}; see to it, run again"
                ) from None
            sizes.append(-1)
    return sizes


def _splits_on_top(root: Path, files: Collection[tuple[str, ...]]) -> bool:
    """Whether the topmost folders are splits; UsageError where that is ambiguous."""
    tops = {parts[0] for parts in files}
    splits = {top for top in tops if top.casefold() in SPLITS}
    loose = sorted({parts[0] for parts in files if parts[0] in splits and len(parts) == 2})
    if not splits or (splits != tops and loose == sorted(splits)):
        return False  # a class may well be called "train", among buses and cars
    if splits != tops:
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


def _splits_below(files: Collection[tuple[str, ...]]) -> bool:
    """Whether every file lies in CLASS/SPLIT/…; UsageError where only some do."""
    in_split = {parts: len(parts) > 2 and parts[1].casefold() in SPLITS for parts in files}
    if any(in_split.values()) and not all(in_split.values()):
        inside = readable(os.path.join(*min(parts for parts, inside in in_split.items() if inside)))
        outside = readable(os.path.join(*min(parts for parts, inside in in_split.items() if not inside)))
        raise UsageError(
            f"{inside} is in a split and {outside} in none; put every file into CLASS/SPLIT/, or none of them"
        )
    return all(in_split.values())


def _files(root: Path, suffixes: Set[str]) -> Iterator[tuple[tuple[str, ...], str]]:
    """The files below a folder that end in `suffixes`: the parts of the path below it, and the path.

    Links are followed, except into a folder that contains them. Broken links are included, so that their objects fail
    with a reason.
    """
    folders: list[tuple[str, tuple[str, ...], frozenset[tuple[int, int]]]] = [(str(root), (), frozenset())]
    while folders:
        folder, parts, above = folders.pop()
        try:
            status = os.stat(folder)
            entries = list(os.scandir(folder))
        except OSError as error:
            kind = ResourceError if machine_fault(error) else UsageError
            raise kind(f"cannot list {readable(folder)}: {error.strerror}") from None
        inode = (status.st_dev, status.st_ino)
        if inode in above:
            continue
        for entry in entries:
            if entry.name.startswith("."):
                continue
            linked = entry.is_symlink()
            if os.path.isdir(entry.path) if linked else entry.is_dir():
                folders.append((entry.path, (*parts, entry.name), above | {inode}))
            elif os.path.splitext(entry.name)[1].lower() in suffixes and (
                os.path.isfile(entry.path) or not os.path.exists(entry.path) if linked else entry.is_file()
            ):
                yield (*parts, entry.name), entry.path
