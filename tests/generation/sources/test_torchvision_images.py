"""Official image sets: what is missing is downloaded completely or not at all; what is damaged is named."""

import gzip
import hashlib
import pickle
import socket
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.images import (
    FOLDERS,
    IDX_FILES,
    TEST,
    TRAIN,
    idx,
    official,
    picture_of,
    put,
)
from support.paths import DATASETS

from inr_factory.errors import IntegrityError, MissingExtraError, ResourceError, UsageError
from inr_factory.generation.sources import torchvision_images
from inr_factory.generation.sources.torchvision_images import torchvision_part

rng = np.random.default_rng(1)


def test_official_sets_keep_their_splits_and_numbers(tiny):
    source = official(*tiny)

    assert [item.object_id for item in source.items] == [
        *(f"train/{number:05d}" for number in range(7)),
        *(f"test/{number:05d}" for number in range(3)),
    ]
    assert [item.split for item in source.items] == ["train"] * 7 + ["test"] * 3
    assert [item.label for item in source.items] == [*range(7), 9, 0, 9]
    assert source.name == tiny[0]
    assert len(source.classes) == 10
    assert np.array_equal(picture_of(source.signal(2))[:, :, 0], TRAIN[2].astype(np.float32) / np.float32(255))
    assert np.array_equal(picture_of(source.signal(8))[:, :, 0], TEST[1].astype(np.float32) / np.float32(255))
    assert source.signal(0).coords is source.signal(8).coords
    assert source.out_dim == 1
    assert official(*tiny, mode="rgb", size=(6, 3)).signal(1).targets.shape == (18, 3)


def test_an_official_sets_fingerprint_follows_pixels_labels_and_splits_and_not_settings(tiny):
    name, root = tiny
    raw = root / FOLDERS[name] / "raw"
    seen = {official(name, root).fingerprint}
    assert official(name, root, size=8, mode="rgb").fingerprint in seen

    for file in IDX_FILES:
        content = bytearray(IDX_FILES[file])
        content[-1] ^= 1
        put(raw / file, bytes(content))
        seen.add(official(name, root).fingerprint)
    put(raw / "train-images-idx3-ubyte", idx(TRAIN[:6]))
    put(raw / "train-labels-idx1-ubyte", idx(np.arange(6, dtype=np.uint8)))
    seen.add(official(name, root).fingerprint)

    assert len(seen) == 6


@pytest.mark.parametrize("file", IDX_FILES)
@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:3],
        lambda content: content[:10],
        lambda content: content[:-1],
        lambda content: content + b"\0",
        lambda content: b"<html>404 not found, and much else to say about it</html>",
        lambda content: content[:2] + b"\x0d" + content[3:],
        lambda content: content[:4] + b"\xff\xff\xff\xff" + content[8:],
    ],
    ids=["empty", "3 bytes", "10 bytes", "cut", "longer", "html", "other type", "huge count"],
)
def test_a_damaged_idx_file_is_an_integrity_error_that_names_it(file, damage, tiny):
    name, root = tiny
    path = put(root / FOLDERS[name] / "raw" / file, damage(IDX_FILES[file]))

    with pytest.raises(IntegrityError, match=f"{path} is damaged .*; delete it and run again") as caught:
        official(name, root)

    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not (DATASETS / "FashionMNIST").is_dir(), reason="no shared data")
def test_the_files_of_another_set_are_refused(tmp_path):
    (tmp_path / "MNIST").mkdir()
    (tmp_path / "MNIST" / "raw").symlink_to(DATASETS / "FashionMNIST" / "raw")

    with pytest.raises(UsageError, match=r"MNIST: the files in .*/MNIST/raw are those of Fashion-MNIST"):
        official("mnist", tmp_path)


@pytest.mark.parametrize(
    ("labels", "reason"),
    [(np.arange(6, dtype=np.uint8), "as many labels as images"), (np.full(7, 10, np.uint8), "labels go from 0 to 10")],
)
def test_labels_that_do_not_fit_the_images_are_an_integrity_error(labels, reason, tiny):
    name, root = tiny
    put(root / FOLDERS[name] / "raw" / "train-labels-idx1-ubyte", idx(labels))

    with pytest.raises(IntegrityError, match=reason):
        official(name, root)


@pytest.mark.parametrize(
    ("collection", "place", "files"),
    [
        ("mnist", "MNIST/raw", "train-images-idx3-ubyte.gz"),
        ("fashion_mnist", "FashionMNIST/raw", "t10k-labels-idx1-ubyte.gz"),
        ("cifar10", "cifar-10-batches-py", "cifar-10-python.tar.gz"),
    ],
)
def test_a_set_that_is_missing_and_cannot_be_downloaded_names_the_files_and_their_folder(
    collection, place, files, tmp_path, capsys
):
    root = tmp_path / "data" / "sets"

    with pytest.raises(UsageError) as caught:
        official(collection, root)

    for part in (f"{root}/{place}", files, "no network in tests", "--data-root", "INR_FACTORY_DATA"):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == [], "a failed download leaves nothing, not even the folder"
    said = capsys.readouterr()
    assert said.out == ""
    assert f"is not in {root} yet: downloading it" in said.err


@pytest.fixture
def archives(monkeypatch) -> dict[str, bytes]:
    """The four packed files of a tiny Fashion-MNIST, whose MD5 sums torchvision is made to expect."""
    packed = {f"{name}.gz": gzip.compress(content) for name, content in IDX_FILES.items()}
    resources = [(name, hashlib.md5(content).hexdigest()) for name, content in packed.items()]
    monkeypatch.setattr(torchvision_part("datasets").FashionMNIST, "resources", resources)
    return packed


def test_existing_archives_are_unpacked_without_a_network(archives, tmp_path):
    raw = tmp_path / "FashionMNIST" / "raw"
    for name, content in archives.items():
        put(raw / name, content)

    assert len(official("fashion_mnist", tmp_path).items) == 10
    assert {path.name for path in raw.iterdir()} == set(IDX_FILES) | set(archives)
    assert list(tmp_path.iterdir()) == [tmp_path / "FashionMNIST"]


def test_a_download_fills_in_what_is_missing_and_replaces_nothing(archives, tmp_path, monkeypatch):
    raw = tmp_path / "FashionMNIST" / "raw"
    mine = put(raw / "t10k-images-idx3-ubyte", idx(TEST[::-1]))
    limits = []

    def download(url: str, path: Any, *_: Any) -> None:
        limits.append(socket.getdefaulttimeout())
        assert Path(path).is_relative_to(tmp_path), "on another disk the last step would be a copy, not a rename"
        Path(path).write_bytes(archives[Path(path).name])

    monkeypatch.setattr(sys.modules["torchvision.datasets.utils"], "_get_redirect_url", lambda url, max_hops: url)
    monkeypatch.setattr(sys.modules["torchvision.datasets.utils"], "_urlretrieve", download)
    source = official("fashion_mnist", tmp_path)

    assert len(source.items) == 10
    assert mine.read_bytes() == idx(TEST[::-1])
    assert {path.name for path in raw.iterdir()} == set(IDX_FILES) | set(archives)
    assert len(limits) == 4
    assert all(limits), "without a timeout a silent server holds a run for ever"
    assert socket.getdefaulttimeout() is None


@pytest.mark.parametrize(
    "failure", [TimeoutError("timed out"), KeyboardInterrupt(), OSError(28, "No space left on device"), None], ids=repr
)
def test_an_interrupted_download_leaves_nothing(failure, archives, tmp_path, monkeypatch):
    def download(url: str, path: Any, *_: Any) -> None:
        content = archives[Path(path).name]
        if "labels" in str(path):
            content = content[:-3]
        Path(path).write_bytes(content)
        if "labels" in str(path) and failure is not None:
            raise failure

    monkeypatch.setattr(sys.modules["torchvision.datasets.utils"], "_get_redirect_url", lambda url, max_hops: url)
    monkeypatch.setattr(sys.modules["torchvision.datasets.utils"], "_urlretrieve", download)

    expected = {KeyboardInterrupt: KeyboardInterrupt, OSError: ResourceError}.get(type(failure), UsageError)
    with pytest.raises(expected):
        official("fashion_mnist", tmp_path)

    assert list(tmp_path.iterdir()) == []


COLOUR_IMAGES = rng.integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)


@pytest.fixture
def cifar(tmp_path, monkeypatch) -> Path:
    """A data root with a CIFAR-10 of one image a batch, pickled as of old, whose MD5 sums torchvision expects."""
    names = ["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"]
    sums = {}
    for number, name in enumerate([*names, "batches.meta"]):
        if name == "batches.meta":
            content = pickle.dumps({"label_names": [f"class {label}" for label in range(10)]}, protocol=2)
        else:
            row = COLOUR_IMAGES[number].transpose(2, 0, 1).reshape(1, -1)
            new = pickle.dumps({"data": row, "labels": [number]}, protocol=2)
            # The published files call dtype("u1", 0, 1); NumPy 2.4.0 warned of the 0, its successors of ("u1", 0).
            assert new.count(b"\x89\x88\x87") == 1
            content = new.replace(b"\x89\x88\x87", b"K\x00\x86")
        put(tmp_path / "cifar-10-batches-py" / name, content)
        sums[name] = hashlib.md5(content).hexdigest()
    cifar10 = torchvision_part("datasets").CIFAR10
    monkeypatch.setattr(cifar10, "train_list", [[name, sums[name]] for name in names[:5]])
    monkeypatch.setattr(cifar10, "test_list", [["test_batch", sums["test_batch"]]])
    monkeypatch.setattr(cifar10, "meta", {**cifar10.meta, "md5": sums["batches.meta"]})
    return tmp_path


def test_cifar10_is_colour_and_its_grey_is_luma(cifar):
    source, grey = official("cifar10", cifar), official("cifar10", cifar, mode="grey")

    assert [item.object_id for item in source.items][-2:] == ["train/00004", "test/00000"]
    assert source.classes[3] == "class 3"
    assert (source.out_dim, grey.out_dim) == (3, 1)
    for number in range(6):
        colours = COLOUR_IMAGES[number].astype(np.float32) / np.float32(255)
        assert np.array_equal(picture_of(source.signal(number)), colours)
        luma = colours @ np.array([[0.299], [0.587], [0.114]])
        assert np.allclose(picture_of(grey.signal(number)), luma, atol=0.003)
    assert official("cifar10", cifar, size=8).signal(0).targets.shape == (64, 3)


@pytest.mark.parametrize("name", ["data_batch_3", "test_batch", "batches.meta"])
def test_a_damaged_batch_of_cifar10_is_an_integrity_error_that_names_it(name, cifar):
    path = cifar / "cifar-10-batches-py" / name
    put(path, path.read_bytes()[:-1])

    with pytest.raises(IntegrityError, match=f"{path} is damaged .*MD5"):
        official("cifar10", cifar)


class _Refuse:
    """An import hook by which the first import of torchvision fails."""

    def __init__(self, error: Exception) -> None:
        self.errors = [error]

    def find_spec(self, name: str, *_: Any) -> None:
        if name.partition(".")[0] == "torchvision" and self.errors:
            raise self.errors.pop()


@pytest.mark.parametrize("error", [RuntimeError("something else"), ImportError("No module named 'torchvision'")])
def test_only_the_missing_operator_of_a_cpu_torch_is_worked_around(error, monkeypatch):
    for module in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(sys, "meta_path", [_Refuse(error), *sys.meta_path])

    expected = MissingExtraError if isinstance(error, ImportError) else type(error)
    with pytest.raises(expected, match=str(error)):
        torchvision_part("datasets")


needs_datasets = pytest.mark.skipif(not DATASETS.is_dir(), reason=f"the real data are not at {DATASETS}")


@needs_datasets
def test_fashion_mnist_has_60000_and_10000_images():
    source = official("fashion_mnist", DATASETS)

    splits = [item.split for item in source.items]
    assert (splits.count("train"), splits.count("test")) == (60_000, 10_000)
    assert (source.items[-1].object_id, source.licence) == ("test/09999", "MIT")
    assert np.bincount([item.label for item in source.items]).tolist() == [7000] * 10
    assert source.classes[source.items[0].label] == "Ankle boot"
    raw = np.fromfile(DATASETS / "FashionMNIST" / "raw" / "t10k-images-idx3-ubyte", np.uint8, offset=16)
    last = source.signal(69_999).targets * 255
    assert torch.equal(last.round().to(torch.uint8)[:, 0], torch.from_numpy(raw[-784:]))


def test_a_process_that_waited_for_the_download_of_another_starts_none(tmp_path, monkeypatch):
    class Lock:
        """Another process holds the lock until its download is complete."""

        def __init__(self, path: Path) -> None:
            assert not path.is_relative_to(tmp_path)

        def __enter__(self) -> None:
            for name, content in IDX_FILES.items():
                put(tmp_path / "FashionMNIST" / "raw" / name, content)

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr(torchvision_images, "FileLock", Lock)

    assert len(official("fashion_mnist", tmp_path).items) == 10
    assert list(tmp_path.iterdir()) == [tmp_path / "FashionMNIST"]
