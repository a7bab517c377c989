"""Image collections by name, as sources: scikit-learn's digits, the official sets, and folders of image files."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from inr_factory.generation.recipe import RECIPE_VERSION, ImageSource
from inr_factory.generation.signal_stack import SignalStack
from inr_factory.generation.signals import Item, Signal, Source
from inr_factory.generation.sources.image_files import array_signal, array_signals, out_dim
from inr_factory.generation.sources.image_folder import open_image_folder
from inr_factory.generation.sources.torchvision_images import OFFICIAL, load_official
from inr_factory.inr.stable_hash import content_digest, fingerprint


def default_data_root() -> Path:
    """Where collections are looked for: $INR_FACTORY_DATA, else data/ in the current folder."""
    return Path(os.environ.get("INR_FACTORY_DATA") or "data").expanduser()


def open_source(
    config: ImageSource, data_root: Path | None = None, version: int = RECIPE_VERSION, download: bool = True
) -> Source:
    """Open the collection that a recipe names, below `data_root` (default: `default_data_root()`); `download` what is missing.

    Raises UsageError where the data are missing, IntegrityError where a file of an official set is damaged; both name
    the path.
    """
    root = Path(os.path.abspath(default_data_root() if data_root is None else data_root.expanduser()))
    if config.collection == "digits":
        return _digits(config)
    if config.collection == "image_folder":
        return open_image_folder(config, root, version)
    return _official(config, root, download)


@dataclass(eq=False)
class ArraySource:
    """A collection held in memory: images (N, H, W) or (N, H, W, 3), values 0 to `white`, split after split."""

    config: ImageSource
    name: str
    version: str
    licence: str
    classes: tuple[str, ...]
    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    counts: dict[str | None, int]  # images of each split, in order; None is no split
    white: int = 255
    in_dim: int = 2
    out_dim: int = field(init=False)

    def __post_init__(self) -> None:
        self.out_dim = out_dim(self.config, stored=3 if self.images.ndim == 4 else 1)

    @cached_property
    def items(self) -> tuple[Item, ...]:
        labels = iter(self.labels.tolist())
        return tuple(
            Item(f"{split}/{number:05d}" if split else f"{number:05d}", next(labels), split)
            for split, count in self.counts.items()
            for number in range(count)
        )

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits over images, labels, classes and splits."""
        facts = (self.images.shape, self.classes, list(self.counts.items()), self.white)
        labels = np.ascontiguousarray(self.labels, dtype="<i8")
        return fingerprint(repr(facts), labels, np.ascontiguousarray(self.images))

    def signal(self, index: int, view: int = 0) -> Signal:
        return array_signal(self.images[index], self.white, self.config)

    def signal_stack(self, indices: Sequence[int], view: int = 0) -> SignalStack | None:
        return array_signals(self.images[list(indices)], self.white, self.config)

    def content(self, index: int) -> int:
        """The digest of the bytes of an image's pixels, row by row."""
        return content_digest(self.images[index].tobytes())


def _digits(config: ImageSource) -> ArraySource:
    """The 1,797 scans of 8 × 8 pixels, values 0 to 16, that lie inside scikit-learn."""
    import sklearn
    from sklearn.datasets import load_digits

    digits = load_digits()
    return ArraySource(
        config,
        name="digits",
        version=f"scikit-learn {sklearn.__version__} / UCI optical digits test set",
        licence="CC BY 4.0",
        classes=tuple(str(name) for name in digits.target_names),
        images=digits.images.astype(np.uint8),
        labels=digits.target.astype(np.int64),
        counts={None: len(digits.images)},
        white=16,
    )


def _official(config: ImageSource, root: Path, download: bool) -> ArraySource:
    official = OFFICIAL[config.collection]
    return ArraySource(
        config,
        name=config.collection,
        version=official.version,
        licence=official.licence,
        **load_official(official, root, download)._asdict(),
    )
