"""Image folders: a source whose classes are folders of image files, with or without folders for splits."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from inr_factory.errors import require_extra
from inr_factory.generation.recipe import ImageSource
from inr_factory.generation.signals import Item, Signal, file_content
from inr_factory.generation.sources.class_folders import file_sizes, find_class_files
from inr_factory.generation.sources.image_files import SUFFIXES, file_signal, out_dim
from inr_factory.inr.stable_hash import fingerprint


@dataclass(eq=False)
class ImageFolder:
    """The image files below the class folders of `root`; an object's name is its path below root."""

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
        self.out_dim = out_dim(self.config, stored=3)

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits over names and sizes of the files; their content is not read."""
        sizes = file_sizes(self.paths)
        return fingerprint(*(f"{item.object_id}\0{size}\0" for item, size in zip(self.items, sizes, strict=True)))

    def signal(self, index: int, view: int = 0) -> Signal:
        return file_signal(Path(self.paths[index]), self.config)

    def content(self, index: int) -> int:
        """The digest of the bytes of a file, as its signal has it. Raises SignalError where it cannot be read."""
        return file_content(self.paths[index])


def open_image_folder(config: ImageSource, root: Path) -> ImageFolder:
    """Open the collection in root/CLASS/…, root/SPLIT/CLASS/… or root/CLASS/SPLIT/….

    Hidden files, files of other kinds and images directly in root are ignored. Raises UsageError for other layouts.
    """
    require_extra("images", "PIL")
    return ImageFolder(root, config, *find_class_files(root, frozenset(SUFFIXES), "images"))
