"""Image folders: a source whose classes are folders of image files, with or without folders for splits."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from inr_factory.errors import require_extra
from inr_factory.generation.recipe import RECIPE_VERSION, ImageSource
from inr_factory.generation.signals import Item, Signal, file_content
from inr_factory.generation.sources.class_folders import find_class_files
from inr_factory.generation.sources.folder_listing import file_sizes
from inr_factory.generation.sources.image_files import file_signal, out_dim
from inr_factory.generation.sources.image_formats import check_decoders, image_suffixes
from inr_factory.generation.sources.image_values import background_color
from inr_factory.inr.stable_hash import fingerprint
from inr_factory.storage.passed_over import PassedOver


@dataclass(eq=False)
class ImageFolder:
    """The image files below the class folders of `root`; an object's name is its path below root."""

    root: Path
    config: ImageSource
    classes: tuple[str, ...]
    items: tuple[Item, ...]
    paths: tuple[str, ...]
    passed_over: PassedOver | None = None
    target_units: Mapping[str, str] = field(default_factory=dict)
    relabelled: bool = False
    recipe_version: int = RECIPE_VERSION
    name: str = "image_folder"
    version: str = "folder"
    licence: str = "unknown: your own files"
    in_dim: int = 2
    out_dim: int = field(init=False)

    def __post_init__(self) -> None:
        self.out_dim = out_dim(self.config, stored=3)

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits over names and sizes of the files, and from version 2 on over labels; content is not read."""
        files = zip(self.items, file_sizes(self.paths), strict=True)
        lines = (
            f"{item.object_id}\0{size}\0" + (f"{item.label}\0{item.split}\0" if self.relabelled else "")
            for item, size in files
        )
        return fingerprint(*(() if self.recipe_version == 1 else (repr(self.classes),)), *lines)

    def signal(self, index: int, view: int = 0) -> Signal:
        return file_signal(Path(self.paths[index]), self.config, self.recipe_version)

    def content(self, index: int) -> int:
        """The digest of the bytes of a file, as its signal has it. Raises SignalError where it cannot be read."""
        return file_content(self.paths[index])


def open_image_folder(config: ImageSource, root: Path, version: int = RECIPE_VERSION) -> ImageFolder:
    """Open the collection in root/CLASS/…, root/SPLIT/CLASS/… or root/CLASS/SPLIT/…, or in root itself.

    Hidden files and files of other kinds are passed over, and counted. Raises UsageError for other layouts, bad tables, and for files that this machine's Pillow cannot decode.
    """
    require_extra("images", "PIL")
    background_color(config)  # a name that is no colour is refused before anything is read
    files = find_class_files(root, image_suffixes(version), "images", version, config.table)
    check_decoders({os.path.splitext(path)[1].lower() for path in files.paths})
    return ImageFolder(root, config, *files, recipe_version=version)
