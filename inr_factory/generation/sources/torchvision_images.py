"""Official image sets: MNIST, Fashion-MNIST, CIFAR-10 as arrays, fetched where missing. The only user of torchvision."""

import hashlib
import http.client
import shutil
import socket
import sys
import tarfile
import tempfile
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from inr_factory.errors import IntegrityError, UsageError, one_line
from inr_factory.generation.sources.class_folders import readable

SOCKET_TIMEOUT = 20.0  # seconds without an answer


class Official(NamedTuple):
    """A set that torchvision knows: its class there, the folder it lies in, and what to say of it."""

    title: str
    torchvision_name: str
    folder: str
    version: str
    licence: str


OFFICIAL = {
    "mnist": Official("MNIST", "MNIST", "MNIST/raw", "original idx files", "CC BY-SA 3.0 (as commonly stated)"),
    "fashion_mnist": Official("Fashion-MNIST", "FashionMNIST", "FashionMNIST/raw", "original idx files", "MIT"),
    "cifar10": Official(
        "CIFAR-10", "CIFAR10", "cifar-10-batches-py", "python batches", "no licence text; see its page"
    ),
}


class OfficialImages(NamedTuple):
    """All images of a set, its training split first: (N, H, W) or (N, H, W, 3), and their labels (N,)."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    counts: dict[str | None, int]


def load_official(official: Official, root: Path) -> OfficialImages:
    """A set in torchvision's layout below `root`, fetched first if it is not there.

    UsageError where it is not to be had, IntegrityError where a file of it is damaged; both name the place.
    """
    dataset = getattr(torchvision_datasets(), official.torchvision_name)
    if any(not (root / file).is_file() for file in _files(dataset)):
        _fetch(official, dataset, root)
    try:
        return _load(dataset, root)
    except OSError as error:
        raise UsageError(f"{official.title} cannot be read: {one_line(error)}") from None
    except (AssertionError, KeyError, RuntimeError, TypeError, ValueError) as error:
        # All that torchvision raises for files that are cut short or are something else.
        place, reason = _damage(dataset, root) or (root / official.folder, one_line(error))
        raise IntegrityError(
            f"{official.title}: {readable(place)} is damaged ({reason}); delete it and run again, to fetch it anew"
        ) from None


def _load(dataset: Any, root: Path) -> OfficialImages:
    splits = {split: _open(dataset, root, train=split == "train") for split in ("train", "test")}
    if any(len(split.data) != len(split.targets) for split in splits.values()):
        raise ValueError("there are not as many labels as images")
    labels = np.concatenate([np.asarray(split.targets, dtype=np.int64) for split in splits.values()])
    classes = tuple(splits["train"].classes)
    if labels.min() < 0 or labels.max() >= len(classes):
        raise ValueError(f"labels go from {labels.min()} to {labels.max()}, expected 0 to {len(classes) - 1}")
    return OfficialImages(
        images=np.concatenate([np.asarray(split.data, dtype=np.uint8) for split in splits.values()]),
        labels=labels,
        classes=classes,
        counts={name: len(split.data) for name, split in splits.items()},
    )


def _open(dataset: Any, root: Path, train: bool, download: bool = False) -> Any:
    with warnings.catch_warnings():
        # NumPy 2.4 warns of how CIFAR-10's old pickles write a dtype (pytorch/vision issue 9340).
        warnings.simplefilter("ignore", np.exceptions.VisibleDeprecationWarning)
        return dataset(str(root), train=train, download=download)


def _files(dataset: Any) -> dict[str, str | None]:
    """What torchvision reads of a set: path below the data root -> MD5 sum, where it is published."""
    if dataset.__name__ == "CIFAR10":
        batches = [*dataset.train_list, *dataset.test_list, (dataset.meta["filename"], dataset.meta["md5"])]
        return {f"{dataset.base_folder}/{name}": md5 for name, md5 in batches}
    return {f"{dataset.__name__}/raw/{name.removesuffix('.gz')}": None for name, _ in dataset.resources}


def _archives(dataset: Any) -> list[str]:
    """What is downloaded of a set; where one lies there already, torchvision only unpacks it."""
    if dataset.__name__ == "CIFAR10":
        return [dataset.filename]
    return [f"{dataset.__name__}/raw/{name}" for name, _ in dataset.resources]


def _damage(dataset: Any, root: Path) -> tuple[Path, str] | None:
    """The first file that is not what it should be, and why: by MD5 sum, or by the size its idx header claims."""
    for file, md5 in _files(dataset).items():
        content = (root / file).read_bytes()
        if md5 is not None:
            if hashlib.md5(content, usedforsecurity=False).hexdigest() != md5:
                return root / file, f"{len(content)} bytes with another MD5 sum than the published one"
            continue
        # idx: two zero bytes, the type (8: bytes), the number of dimensions, then each as a big-endian integer.
        num_dims = 3 if "images" in file else 1
        header = 4 + 4 * num_dims
        if content[:4] != bytes((0, 0, 8, num_dims)) or len(content) < header:
            return root / file, "it does not begin as an idx file of bytes"
        dims = [int.from_bytes(content[start : start + 4], "big") for start in range(4, header, 4)]
        expected = header + int(np.prod(dims, dtype=object))
        if len(content) != expected:
            return root / file, f"{len(content)} bytes, its header says {expected}"
    return None


def _fetch(official: Official, dataset: Any, root: Path) -> None:
    """Download a set, or unpack its archives if they are there, and put into `root` what is missing.

    torchvision takes a file that exists for one that is whole, so all is done in a folder of its own beside, and
    only whole files move, each in one step: nothing half done is left, however many processes do it at once.
    """
    print(f"{official.title} is not in {readable(root)} yet: fetching it", file=sys.stderr, flush=True)
    archives, files = _archives(dataset), _files(dataset)
    nearest = next(folder for folder in (root, *root.parents) if folder.is_dir())
    try:
        with (
            tempfile.TemporaryDirectory(prefix=".inr-factory-fetch-", dir=nearest) as name,
            _socket_timeout(SOCKET_TIMEOUT),
        ):
            beside = Path(name)
            for archive in archives:
                if (root / archive).is_file():
                    (beside / archive).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(root / archive, beside / archive)
            _open(dataset, beside, train=True, download=True)
            for file in (*archives, *files):
                if not (root / file).exists():
                    (root / file).parent.mkdir(parents=True, exist_ok=True)
                    (beside / file).replace(root / file)
    except (OSError, RuntimeError, EOFError, zlib.error, tarfile.TarError, http.client.HTTPException) as error:
        missing = next(root / file for file in files if not (root / file).is_file())
        raise UsageError(
            f"{official.title}: no {readable(missing)}, and it cannot be fetched ({one_line(error)}); put "
            f"{', '.join(Path(archive).name for archive in archives)} into {readable((root / archives[0]).parent)}, "
            f"or let --data-root or $INR_FACTORY_DATA name the folder that has {official.folder} in it"
        ) from None


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    """torchvision downloads without a timeout of its own."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def torchvision_datasets() -> Any:
    """torchvision.datasets, also beside a CPU torch, where its operators cannot load and its import fails."""
    try:
        from torchvision import datasets
    except RuntimeError as error:
        if "operator torchvision::nms does not exist" not in str(error):
            raise
        for module in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[module]
        _declare_operators()
        from torchvision import datasets
    return datasets


@cache
def _declare_operators() -> Any:
    """The schemas of the operators that torchvision's import registers more for; the cache keeps them alive."""
    library: Any = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library
