"""Folder listing: the files below a folder that a source reads, and a count of everything else."""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path

from inr_factory.errors import ResourceError, UsageError, machine_fault
from inr_factory.storage.manifest import MANIFEST, ORIGIN
from inr_factory.storage.passed_over import MOST_COUNTED, MOST_NAMED, PassedOver

Parts = tuple[str, ...]  # the path below the root, by folders

# What systems and tools leave behind, besides hidden files, in lower case.
LEFTOVERS = frozenset({
    "thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "icon\r", "__macosx", "@eadir", "#recycle",
    "@recycle", "$recycle.bin", "system volume information", "lost+found", "__pycache__",
})  # fmt: skip
OWN = (".inr_factory", ".inr-factory")  # begins the names of caches and downloads of this program


@dataclass
class FolderListing:
    """Everything below a folder.

    Attributes:
        files: what the source reads: parts -> path.
        folders: every folder that was listed, and broken links that have no suffix, which may be missing folders.
        others: every other file, and what it counts as: its suffix in lower case, or why it is not read.
        leftovers: hidden files and folders, and LEFTOVERS, which are not listed; by name.
    """

    files: dict[Parts, str] = field(default_factory=dict)
    folders: set[Parts] = field(default_factory=set)
    others: dict[Parts, str] = field(default_factory=dict)
    leftovers: Counter[str] = field(default_factory=Counter)

    def passed_over(
        self, depth: int, empty_classes: Set[str] = frozenset(), remarks: Sequence[str] = ()
    ) -> PassedOver | None:
        """The record of what is not read, None where there is nothing to say. Classes are folders at `depth`, from 0."""
        folders = Counter(readable("/".join(parts[:-1][: depth + 1])) or "." for parts in self.others)
        if not (self.others or self.leftovers or empty_classes or remarks):
            return None
        return PassedOver(
            files=len(self.others),
            suffixes=_most(Counter(self.others.values())),
            folders=_most(folders),
            names=tuple(readable(os.path.join(*parts)) for parts in sorted(self.others)[:MOST_NAMED]),
            leftovers=self.leftovers.total(),
            leftover_names=_most(self.leftovers),
            empty_classes=tuple(sorted(empty_classes)),
            remarks=tuple(remarks),
        )


def _most(counts: Counter[str]) -> dict[str, int]:
    """The most frequent, in an order that does not depend on the file system's."""
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:MOST_COUNTED])


def list_folder(root: Path, is_read: Callable[[Parts], bool], leave_out: Set[str] = LEFTOVERS) -> FolderListing:
    """List a folder and those below it.

    Links are followed, except into a folder that contains them. Broken links to files that would be read are among
    these, so that their objects fail with a reason. Raises UsageError where a folder cannot be listed.

    Args:
        root: the folder.
        is_read: whether the source reads a file, by its parts.
        leave_out: names in lower case that count as leftovers; hidden files always do.
    """
    listing = FolderListing()
    folders: list[tuple[str, Parts, frozenset[tuple[int, int]]]] = [(str(root), (), frozenset())]
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
            listing.others[parts] = "folder linked into itself"
            continue
        if parts and leave_out and {MANIFEST, ORIGIN} <= {entry.name for entry in entries}:
            listing.leftovers["data set of INRs"] += 1
            continue
        listing.folders.add(parts)
        for entry in entries:
            inside = (*parts, entry.name)
            linked = entry.is_symlink()
            if entry.name.startswith(".") or entry.name.casefold() in leave_out:
                if not entry.name.startswith(OWN):
                    listing.leftovers["._*" if entry.name.startswith("._") else readable(entry.name)] += 1
            elif os.path.isdir(entry.path) if linked else entry.is_dir():
                folders.append((entry.path, inside, above | {inode}))
            elif linked and not os.path.exists(entry.path) and not os.path.splitext(entry.name)[1]:
                listing.folders.add(inside)
                listing.others[inside] = "broken link"
            elif not (os.path.isfile(entry.path) or not os.path.exists(entry.path) if linked else entry.is_file()):
                listing.others[inside] = "no regular file"
            elif is_read(inside):
                listing.files[inside] = entry.path
            else:
                listing.others[inside] = readable(os.path.splitext(entry.name)[1].lower()) or "without suffix"
    return listing


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


def readable(path: Path | str) -> str:
    """A path as text that any file can hold: bytes that are not UTF-8 become \\xNN. Slashes are the same everywhere."""
    return os.fsencode(path).decode("utf-8", "backslashreplace").replace(os.sep, "/")
