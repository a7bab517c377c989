"""Image files, folders and official sets in miniature, and what is read from them."""

import struct
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from inr_factory.generation.recipe import ImageSource
from inr_factory.generation.signals import Signal, Source
from inr_factory.generation.sources.image_collections import open_source

rng = np.random.default_rng(0)


PLAIN = {"transparent": 0.0, "more_frames": 0}  # facts of an opaque file with one frame

COLOURS = rng.integers(0, 256, (4, 6, 3), dtype=np.uint8)


GREYS = rng.integers(0, 256, (4, 6), dtype=np.uint8)


def save(path: Path, picture: Image.Image | NDArray[Any], **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    image.save(path, **options)
    return path


def folder(root: Path, **settings: Any) -> Source:
    return open_source(ImageSource(collection="image_folder", **settings), root)


def only(path: Path, **settings: Any) -> Signal:
    """The signal of the one image in root/class/file."""
    source = folder(path.parent.parent, **settings)
    assert len(source.items) == 1
    return source.signal(0)


def picture_of(signal: Signal) -> NDArray[np.float32]:
    """Targets as (H, W, O)."""
    values: NDArray[np.float32] = signal.targets.numpy()
    return values.reshape(signal.facts["height"], signal.facts["width"], -1)


def put(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def tree(root: Path, *names: str) -> Path:
    for name in names:
        save(root / name, GREYS, format="png")
    return root


def encoded(kind: str) -> bytes:
    content = BytesIO()
    noise = np.random.default_rng(1).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(noise).save(content, kind)
    return content.getvalue()


def digits(**settings: Any) -> Source:
    return open_source(ImageSource(collection="digits", **settings))


def idx(pixels: NDArray[np.uint8]) -> bytes:
    return struct.pack(f">HBB{pixels.ndim}I", 0, 8, pixels.ndim, *pixels.shape) + pixels.tobytes()


TRAIN = rng.integers(0, 256, (7, 5, 4), dtype=np.uint8)


TEST = rng.integers(0, 256, (3, 5, 4), dtype=np.uint8)


IDX_FILES = {
    "train-images-idx3-ubyte": idx(TRAIN),
    "train-labels-idx1-ubyte": idx(np.arange(7, dtype=np.uint8)),
    "t10k-images-idx3-ubyte": idx(TEST),
    "t10k-labels-idx1-ubyte": idx(np.array([9, 0, 9], np.uint8)),
}


FOLDERS = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST"}


def official(collection: str, root: Path, **settings: Any) -> Source:
    return open_source(ImageSource(collection=collection, **settings), root)
