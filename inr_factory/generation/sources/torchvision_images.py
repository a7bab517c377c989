"""Official image sets: MNIST, Fashion-MNIST, CIFAR-10, downloaded where missing. The only user of torchvision."""

import hashlib
import http.client
import shutil
import socket
import sys
import tarfile
import tempfile
import warnings
import zlib
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray

from inr_factory.errors import (
    NETWORK,
    IntegrityError,
    ResourceError,
    UsageError,
    blame_machine,
    machine_fault,
    needs_extra,
    one_line,
)
from inr_factory.generation.sources.folder_listing import readable
from inr_factory.inr.regular_files import read_regular
from inr_factory.inr.stable_hash import fingerprint

SOCKET_TIMEOUT = 20.0  # seconds without an answer; torchvision downloads without a timeout


class Official(NamedTuple):
    """A set that torchvision knows: its class, its folder below the data root, and its facts."""

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


# The first labels of sets whose files have the same names and sizes.
FIRST_LABELS = {"MNIST": [5, 0, 4, 1, 9, 2, 1, 3, 1, 4], "Fashion-MNIST": [9, 0, 0, 3, 0, 2, 7, 2, 5, 5]}


class OfficialImages(NamedTuple):
    """All images of a set, its training split first: (N, H, W) or (N, H, W, 3), and their labels (N,)."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    counts: dict[str | None, int]


def load_official(official: Official, root: Path, download: bool = True) -> OfficialImages:
    """Load a set in torchvision's layout below `root`, after downloading what is missing, if that is asked for.

    Raises:
        UsageError: The set is not there and cannot be downloaded or read; the message says which files go where. Or the
            files are those of another set.
        IntegrityError: A file is damaged; the message names it.
    """
    dataset = getattr(torchvision_part("datasets"), official.torchvision_name)
    if missing := _missing(dataset, root):
        if not download:
            raise UsageError(
                f"{official.title}: no {readable(missing[0])}; inr-factory fit downloads it, or {_by_hand(official, dataset, root)}"
            )
        _download(official, dataset, root)
    try:
        splits = {split: _open(dataset, root, train=split == "train") for split in ("train", "test")}
        if any(len(split.data) != len(split.targets) for split in splits.values()):
            raise ValueError("there are not as many labels as images")
        labels = np.concatenate([np.asarray(split.targets, dtype=np.int64) for split in splits.values()])
        classes = tuple(splits["train"].classes)
        if labels.min() < 0 or labels.max() >= len(classes):
            raise ValueError(f"labels go from {labels.min()} to {labels.max()}, expected 0 to {len(classes) - 1}")
        images = np.concatenate([np.asarray(split.data, dtype=np.uint8) for split in splits.values()])
        counts: dict[str | None, int] = {name: len(split.data) for name, split in splits.items()}
    except OSError as error:
        blame_machine(error, official.title)
        raise UsageError(f"{official.title} cannot be read: {one_line(error)}") from None
    except (AssertionError, KeyError, RuntimeError, TypeError, ValueError) as error:
        # All that torchvision raises for files that are cut short or are something else.
        blame_machine(error, official.title)
        path, reason = _damage(dataset, root) or (root / official.folder, one_line(error))
        raise IntegrityError(
            f"{official.title}: {readable(path)} is damaged ({reason}); delete it and run again, to download it again"
        ) from None
    found = [title for title, first in FIRST_LABELS.items() if labels[:10].tolist() == first]
    if found not in ([], [official.title]):
        raise UsageError(f"{official.title}: the files in {readable(root / official.folder)} are those of {found[0]}")
    return OfficialImages(images, labels, classes, counts)


def _open(dataset: Any, root: Path, train: bool, download: bool = False) -> Any:
    with warnings.catch_warnings():
        # NumPy 2.4 warns of how CIFAR-10's old pickles write a dtype (pytorch/vision issue 9340).
        warnings.simplefilter("ignore", np.exceptions.VisibleDeprecationWarning)
        return dataset(str(root), train=train, download=download)


def _files(dataset: Any) -> dict[str, str | None]:
    """The files of a set that torchvision reads: path below the data root -> MD5 sum, where it is published."""
    if dataset.__name__ == "CIFAR10":
        batches = [*dataset.train_list, *dataset.test_list, (dataset.meta["filename"], dataset.meta["md5"])]
        return {f"{dataset.base_folder}/{name}": md5 for name, md5 in batches}
    return {f"{dataset.__name__}/raw/{name.removesuffix('.gz')}": None for name, _ in dataset.resources}


def _archives(dataset: Any) -> list[str]:
    """The files of a set that are downloaded; torchvision unpacks them without a download where they exist."""
    if dataset.__name__ == "CIFAR10":
        return [dataset.filename]
    return [f"{dataset.__name__}/raw/{name}" for name, _ in dataset.resources]


def _by_hand(official: Official, dataset: Any, root: Path) -> str:
    """How a user gets a set without a download by this program."""
    archives = _archives(dataset)
    return (
        f"put {', '.join(Path(archive).name for archive in archives)} into {readable((root / archives[0]).parent)}, or let "
        f"--data-root or $INR_FACTORY_DATA name the folder that has {official.folder} in it"
    )


def _missing(dataset: Any, root: Path) -> list[Path]:
    return [root / file for file in _files(dataset) if not (root / file).is_file()]


def _damage(dataset: Any, root: Path) -> tuple[Path, str] | None:
    """The first file that torchvision cannot read completely, and why."""
    for file, md5 in _files(dataset).items():
        path = root / file
        if md5 is not None:
            if hashlib.md5(read_regular(path), usedforsecurity=False).hexdigest() != md5:
                return path, f"{path.stat().st_size} bytes with another MD5 sum than the published one"
            continue
        try:
            tensor = sys.modules["torchvision.datasets.mnist"].read_sn3_pascalvincent_tensor(str(path), strict=True)
            complete = tensor.dtype == torch.uint8 and tensor.ndim == (3 if "images" in file else 1)
        except Exception as error:  # torchvision checks nothing before it computes with what the header says
            if machine_fault(error):
                raise
            complete = False
        if not complete:
            return path, f"{path.stat().st_size} bytes that are no complete idx file of bytes"
    return None


def _download(official: Official, dataset: Any, root: Path) -> None:
    """Let torchvision download a set, or unpack its archives if they exist, and move into `root` what is missing.

    torchvision takes every file that exists for complete. It therefore works in a temporary folder, from which complete
    files move in one step each. A lock spares processes of one machine a second download.
    """
    print(f"{official.title} is not in {readable(root)} yet: downloading it", file=sys.stderr, flush=True)
    archives, nearest = _archives(dataset), next(folder for folder in (root, *root.parents) if folder.is_dir())
    lock = Path(tempfile.gettempdir()) / f"inr-factory-download-{fingerprint(str(root), '|', str(Path.home()))}.lock"
    timeout_before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(SOCKET_TIMEOUT)
    try:
        with (
            FileLock(lock),
            tempfile.TemporaryDirectory(prefix=".inr-factory-fetch-", dir=nearest) as name,
        ):
            if not _missing(dataset, root):
                return
            staging = Path(name)
            for archive in archives:
                if (root / archive).is_file():
                    (staging / archive).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(root / archive, staging / archive)
            _open(dataset, staging, train=True, download=True)
            for file in (*archives, *_files(dataset)):
                if not (root / file).exists():
                    (root / file).parent.mkdir(parents=True, exist_ok=True)
                    (staging / file).replace(root / file)
    except (OSError, RuntimeError, EOFError, zlib.error, tarfile.TarError, http.client.HTTPException) as error:
        of_network = NETWORK.search(type(error).__name__)  # then the files can be put there by hand
        kind = ResourceError if machine_fault(error) and not of_network else UsageError
        raise kind(
            f"{official.title}: no {readable(_missing(dataset, root)[0])}, and the download failed "
            f"({one_line(error)}); {_by_hand(official, dataset, root)}"
        ) from None
    finally:
        socket.setdefaulttimeout(timeout_before)


def torchvision_part(name: str) -> Any:
    """torchvision.NAME, also with a CPU torch, where its operators cannot load and its import fails."""
    try:
        with needs_extra("images"):
            return import_module(f"torchvision.{name}")
    except RuntimeError as error:
        if "operator torchvision::nms does not exist" not in str(error):
            raise
        for module in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[module]
        _declare_operators()
        return import_module(f"torchvision.{name}")


@cache
def _declare_operators() -> Any:
    """The schemas of the operators that torchvision's import registers more for; the cache keeps them alive."""
    library: Any = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library
