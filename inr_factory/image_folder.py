"""Image folders: a source whose classes are folders of image files, with or without folders for splits."""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path

from inr_factory.errors import UsageError
from inr_factory.image_files import SUFFIXES, file_signal, out_dim
from inr_factory.recipe import ImageSource
from inr_factory.signals import Item, Signal

# What a folder may be called, in any case -> the split it is.
SPLITS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test",
}  # fmt: skip


@dataclass(eq=False)
class ImageFolder:
    """The image files below the class folders of `root`; an object's name is its path there."""

    root: Path
    config: ImageSource
    classes: tuple[str, ...]
    items: tuple[Item, ...]
    paths: tuple[str, ...]
    name: str = "image_folder"
    version: str = "folder"
    licence: str = "unknown: your own files"
    in_dim: int = 2
    out_dim: int = field(init=False)

    def __post_init__(self) -> None:
        self.out_dim = out_dim(self.config, own=3)

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits over names and sizes of the files; their content is not read."""
        digest = hashlib.sha256()
        for item, path in zip(self.items, self.paths, strict=True):
            size = os.stat(path).st_size if os.path.exists(path) else -1
            digest.update(f"{item.object_id}\0{size}\0".encode())
        return digest.hexdigest()[:16]

    def signal(self, index: int, view: int = 0) -> Signal:
        return file_signal(Path(self.paths[index]), self.config)


def open_image_folder(config: ImageSource, root: Path) -> ImageFolder:
    """The collection in root/CLASS/… or root/SPLIT/CLASS/…, or UsageError that says which layouts there are.

    Hidden files and files of other kinds are passed over, and so are images directly in root.
    """
    if not root.is_dir():
        raise UsageError(f"no folder {readable(root)}; give --data-root the folder that holds the images")
    found = {parts: path for parts, path in _image_files(root) if len(parts) > 1}
    if not found:
        raise UsageError(
            f"no images in class folders below {readable(root)}: expected CLASS/IMAGE, or SPLIT/CLASS/IMAGE with "
            f"SPLIT one of {', '.join(SPLITS)}, and files that end in {' '.join(sorted(SUFFIXES))}"
        )
    depth = 1 if _has_splits(root, set(found)) else 0
    named = sorted((readable(os.path.join(*parts)), parts, path) for parts, path in found.items())
    classes = tuple(sorted({readable(parts[depth]) for parts in found}))
    labels = {name: label for label, name in enumerate(classes)}
    items = tuple(
        Item(object_id, labels[readable(parts[depth])], SPLITS[parts[0].casefold()] if depth else None)
        for object_id, parts, _ in named
    )
    for earlier, later in pairwise(items):
        if earlier.object_id == later.object_id:
            raise UsageError(f"two files have the same name once written as UTF-8, {later.object_id}; rename one")
    return ImageFolder(root, config, classes, items, tuple(path for _, _, path in named))


def readable(path: Path | str) -> str:
    """A path as text that any file can hold: bytes that are not UTF-8 become \\xNN. Slashes are the same everywhere."""
    return os.fsencode(path).decode("utf-8", "backslashreplace").replace(os.sep, "/")


def _has_splits(root: Path, found: set[tuple[str, ...]]) -> bool:
    """Whether the topmost folders are splits; UsageError where that cannot be told."""
    tops = {parts[0] for parts in found}
    splits = {top for top in tops if top.casefold() in SPLITS}
    loose = sorted({parts[0] for parts in found if parts[0] in splits and len(parts) == 2})
    if not splits or (splits != tops and loose == sorted(splits)):
        return False  # a class may well be called "train", among buses and cars
    if splits != tops:
        other = min(tops - splits)
        raise UsageError(
            f"{readable(root)} has the split {readable(min(splits))} and beside it {readable(other)}, which is none; "
            f"move {readable(other)} away, or into a split"
        )
    if loose:
        raise UsageError(
            f"{readable(root / loose[0])} holds images that are in no class folder; expected SPLIT/CLASS/IMAGE"
        )
    return True


def _image_files(root: Path) -> Iterator[tuple[tuple[str, ...], str]]:
    """The image files below a folder, each as the parts of its path there, and its path.

    Links are followed, but not into a folder that they lie in. A link that leads nowhere is among them: its
    object then fails with a reason instead of being passed over.
    """
    folders: list[tuple[str, tuple[str, ...], frozenset[tuple[int, int]]]] = [(str(root), (), frozenset())]
    while folders:
        folder, parts, above = folders.pop()
        try:
            status = os.stat(folder)
            entries = list(os.scandir(folder))
        except OSError as error:
            raise UsageError(f"cannot list {readable(folder)}: {error.strerror}") from None
        here = (status.st_dev, status.st_ino)
        if here in above:
            continue
        for entry in entries:
            if entry.name.startswith("."):
                continue
            linked = entry.is_symlink()
            if os.path.isdir(entry.path) if linked else entry.is_dir():
                folders.append((entry.path, (*parts, entry.name), above | {here}))
            elif os.path.splitext(entry.name)[1].lower() in SUFFIXES and (
                os.path.isfile(entry.path) or not os.path.exists(entry.path) if linked else entry.is_file()
            ):
                yield (*parts, entry.name), entry.path
