"""Point blocks: rows of HDF5 files are objects, and files that could mislead the reader are refused."""

import h5py
import numpy as np
import pytest

from inr_factory.errors import IntegrityError, UsageError
from inr_factory.generation.recipe import ShapeSource
from inr_factory.generation.signals import SignalError
from inr_factory.generation.sources.shape_collections import open_shapes

rng = np.random.default_rng(0)
CLOUDS = rng.normal(size=(5, 64, 3)).astype(np.float32)
LABELS = np.array([[1], [0], [2], [1], [1]], dtype=np.uint8)


@pytest.fixture
def root(tmp_path):
    """The layout of modelnet40_ply_hdf5_2048, packed as it is."""
    for name, rows in (("ply_data_train0.h5", slice(0, 3)), ("ply_data_test0.h5", slice(3, 5))):
        with h5py.File(tmp_path / name, "w") as file:
            file.create_dataset("data", data=CLOUDS[rows], compression="gzip", compression_opts=4)
            file.create_dataset("label", data=LABELS[rows], compression="gzip")
            file.create_dataset("normal", data=CLOUDS[rows])
    (tmp_path / "shape_names.txt").write_text("airplane\nbathtub\nbed\n")
    return tmp_path


def blocks(root, **settings):
    return open_shapes(ShapeSource(collection="point_folder", num_points=50, **settings), root)


def test_each_row_is_an_object_with_its_class_and_split(root):
    source = blocks(root)

    assert source.classes == ("airplane", "bathtub", "bed")
    assert [(item.object_id, item.label, item.split) for item in source.items] == [
        ("ply_data_test0.h5/00000", 1, "test"),
        ("ply_data_test0.h5/00001", 1, "test"),
        ("ply_data_train0.h5/00000", 1, "train"),
        ("ply_data_train0.h5/00001", 0, "train"),
        ("ply_data_train0.h5/00002", 2, "train"),
    ]
    signal = source.signal(3)
    facts = signal.facts
    original = signal.truth.surface.numpy() * facts["scale"] + [facts[f"center_{axis}"] for axis in "xyz"]
    nearest = np.linalg.norm(original[:, None] - CLOUDS[1], axis=2).min(axis=1)
    assert nearest.max() < 1e-5, "the surface is the cloud of that row"


def test_rows_with_values_of_a_field_beside_them_are_refused(root):
    with h5py.File(root / "ply_data_train0.h5", "a") as file:
        file.create_dataset("sdf_values", data=np.zeros((3, 64)))

    source = blocks(root)

    source.signal(0)
    with pytest.raises(SignalError, match="it has values called sdf_values: its points sample a field"):
        source.signal(2)


def test_without_names_and_splits_classes_are_numbers(root):
    (root / "shape_names.txt").unlink()
    for split in ("train", "test"):
        (root / f"ply_data_{split}0.h5").rename(root / f"ply_data_{split[1]}0.h5")

    source = blocks(root)

    assert source.classes == ("0", "1", "2")
    assert {item.split for item in source.items} == {None}


def test_a_file_of_no_split_among_files_of_splits_is_refused(root):
    (root / "ply_data_train0.h5").rename(root / "ply_data0.h5")

    with pytest.raises(
        UsageError, match=r"the name of ply_data_test0.h5 says its split, that of ply_data0.h5 does not"
    ):
        blocks(root)


def test_what_lies_beside_the_files_is_counted(root):
    (root / "cat").mkdir()
    (root / "cat" / "0.ply").write_bytes(b"ply")

    assert blocks(root).passed_over.folders == {"cat": 1}


def test_the_fingerprint_follows_sizes_and_labels(root):
    before = blocks(root).fingerprint
    with h5py.File(root / "ply_data_test0.h5", "r+") as file:
        file["label"][0] = 2

    assert blocks(root).fingerprint != before


def replaced(root, name, **options):
    with h5py.File(root / "ply_data_train0.h5", "r+") as file:
        del file[name]
        file.create_dataset(name, **options)


def linked(root):
    with h5py.File(root / "ply_data_train0.h5", "r+") as file:
        del file["data"]
        file["data"] = h5py.ExternalLink("ply_data_test0.h5", "data")


def soft(root):
    with h5py.File(root / "ply_data_train0.h5", "r+") as file:
        del file["data"]
        file["data"] = h5py.SoftLink("/normal")


def virtual(root):
    layout = h5py.VirtualLayout((2, 64, 3), "f4")
    layout[:] = h5py.VirtualSource(str(root / "ply_data_test0.h5"), "data", (2, 64, 3))
    with h5py.File(root / "ply_data_train0.h5", "r+") as file:
        del file["data"]
        file.create_virtual_dataset("data", layout)


DAMAGE = {
    "external link": (linked, "no data of its own"),
    "soft link": (soft, "no data of its own"),
    "virtual": (virtual, "lies in other files"),
    "external": (
        lambda root: replaced(root, "data", shape=(3, 64, 3), dtype="f4", external=[("/etc/passwd", 0, 2304)]),
        "lies in other files",
    ),
    "claims": (
        lambda root: replaced(root, "data", shape=(10**9, 64, 3), dtype="f4", chunks=(1, 64, 3)), "data claims 768000000000",
    ),
    "huge pieces": (
        lambda root: replaced(root, "label", data=np.zeros((3, 1), np.uint8), maxshape=(None, None), chunks=(10**4, 10**4)),
        "pieces of more than 64 MiB",
    ),
    "packed otherwise": (lambda root: replaced(root, "data", data=CLOUDS[:3], compression="lzf"), "packed in a way"),
    "shape": (lambda root: replaced(root, "data", data=CLOUDS[0]), "expected .N, S, 3."),
    "text": (lambda root: replaced(root, "data", data=[b"a"]), "no array of numbers"),
    "labels": (lambda root: replaced(root, "label", data=LABELS[:2]), "3 clouds and 2 labels"),
    "cut": (lambda root: (root / "ply_data_train0.h5").write_bytes((root / "ply_data_train0.h5").read_bytes()[:2000]), ""),
    "no HDF5": (lambda root: (root / "ply_data_train0.h5").write_bytes(b"nothing"), ""),
}  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_file_that_is_not_what_it_should_be_is_refused_by_name(kind, root):
    damage, reason = DAMAGE[kind]
    damage(root)

    with pytest.raises(IntegrityError, match=f"ply_data_train0.h5 does not hold clouds: .*{reason}") as caught:
        blocks(root)
    assert "\n" not in str(caught.value)


def test_a_label_without_a_name_is_refused(root):
    (root / "shape_names.txt").write_text("airplane\nbathtub\n")

    with pytest.raises(UsageError, match=r"the label 2, and shape_names.txt names only 2 classes"):
        blocks(root)


def test_a_cloud_with_nan_is_one_objects_reason(root):
    with h5py.File(root / "ply_data_train0.h5", "r+") as file:
        file["data"][1, 7, 0] = np.nan
    source = blocks(root)

    source.signal(2)
    with pytest.raises(SignalError, match="point 7 of 64 is NaN or infinite"):
        source.signal(3)
