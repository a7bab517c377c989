"""Image folders: classes, splits and names come from the paths of the files."""

import os
from pathlib import Path

import numpy as np
import pytest
from support.images import (
    PLAIN,
    encoded,
    folder,
    put,
    save,
    tree,
)
from support.paths import DATASETS

from inr_factory.errors import UsageError
from inr_factory.generation.signals import SignalError


def test_folders_of_classes_have_no_split_and_names_are_paths(tmp_path):
    source = folder(tree(tmp_path, "dog/2.png", "cat/b/c/1.png", "dog/1.PNG", "cat/a.jpg"))

    assert source.classes == ("cat", "dog")
    assert [(item.object_id, item.label, item.split) for item in source.items] == [
        ("cat/a.jpg", 0, None),
        ("cat/b/c/1.png", 0, None),
        ("dog/1.PNG", 1, None),
        ("dog/2.png", 1, None),
    ]


def test_the_signal_is_that_of_the_item_with_its_number(tmp_path):
    for value in (30, 10, 20):
        save(tmp_path / f"class {value}" / "x.png", np.full((2, 2), value, np.uint8))
    source = folder(tmp_path, mode="grey")

    for number, item in enumerate(source.items):
        assert float(source.signal(number).targets[0] * 255) == pytest.approx(int(item.object_id[6:8]))


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train", "train"), ("Training", "train"), ("val", "val"), ("VALID", "val"), ("validation", "val"),
        ("test", "test"), ("Testing", "test"),
    ],
)  # fmt: skip
def test_split_folders_go_by_many_names(name, split, tmp_path):
    names = [f"train/{animal}/1.png" for animal in ("ape", "cat", "dog")]
    source = folder(tree(tmp_path, f"{name}/cat/1.png", *names, "test/ape/x/1.png"))

    found = {item.object_id: (item.split, source.classes[item.label]) for item in source.items}
    assert source.classes == ("ape", "cat", "dog")
    assert found[f"{name}/cat/1.png"] == (split, "cat")
    assert found["test/ape/x/1.png"] == ("test", "ape")


def test_hidden_files_other_files_and_images_beside_the_classes_are_passed_over(tmp_path):
    tree(tmp_path, "cat/1.png", "cat/.2.png", ".hidden/3.png", "cat/.git/4.png", "preview.png")
    put(tmp_path / "cat" / "notes.txt", b"no image")
    put(tmp_path / "docs" / "readme.md", b"no image")
    os.mkfifo(tmp_path / "cat" / "pipe.png")

    source = folder(tmp_path)

    assert [item.object_id for item in source.items] == ["cat/1.png"]
    assert source.classes == ("cat",)


def test_a_class_may_be_called_train_among_other_classes(tmp_path):
    source = folder(tree(tmp_path, "bus/1.png", "train/1.png"))

    assert source.classes == ("bus", "train")
    assert {item.split for item in source.items} == {None}


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        ([], "no images in class folders .* give --data-root .* expected CLASS/FILE, SPLIT/CLASS/FILE"),
        (["1.txt"], "no images in class folders"),
        (["train/cat/1.png", "extra/cat/1.png"], "the split train and the folder extra, which is no split"),
        (["train/cat/1.png", "test/1.png"], "test holds files that are in no class folder"),
        (["train/1.png"], "train holds files that are in no class folder"),
    ],
)
def test_folders_of_no_known_layout_are_a_usage_error_of_one_line(names, reason, tmp_path):
    with pytest.raises(UsageError, match=reason) as caught:
        folder(tree(tmp_path, *names))

    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_a_missing_folder_is_a_usage_error_that_names_it(tmp_path):
    with pytest.raises(UsageError, match=f"no folder {tmp_path}/nowhere; give --data-root"):
        folder(tmp_path / "nowhere")


def test_linked_files_and_folders_count_but_loops_end(tmp_path):
    tree(tmp_path / "store", "1.png", "2.png")
    root = tree(tmp_path / "root", "cat/0.png")
    (root / "cat" / "1.png").symlink_to(tmp_path / "store" / "1.png")
    (root / "dog").symlink_to(tmp_path / "store")
    (root / "cat" / "up").symlink_to(root)
    (root / "cat" / "self").symlink_to(root / "cat" / "self")
    (root / "cat" / "self.png").symlink_to(root / "cat" / "self.png")
    (root / "cat" / "gone.png").symlink_to(root / "nowhere.png")

    source = folder(root)

    ids = [item.object_id for item in source.items]
    assert ids == ["cat/0.png", "cat/1.png", "cat/gone.png", "cat/self.png", "dog/1.png", "dog/2.png"]
    assert source.signal(1).facts == {"height": 4, "width": 6, **PLAIN}
    assert len(source.fingerprint) == 16
    for broken in (2, 3):
        with pytest.raises(SignalError):
            source.signal(broken)


def test_names_that_are_not_utf_8_are_written_as_utf_8_and_still_open(tmp_path):
    raw = os.path.join(os.fsencode(tmp_path), b"caf\xe9", b"\xff.png")
    os.mkdir(os.path.dirname(raw))
    Path(os.fsdecode(raw)).write_bytes(encoded("PNG"))
    tree(tmp_path, "café/ü.png")

    source = folder(tmp_path)

    assert [item.object_id for item in source.items] == ["caf\\xe9/\\xff.png", "café/ü.png"]
    assert source.classes == ("caf\\xe9", "café")
    assert all(item.object_id.encode() for item in source.items)
    assert source.signal(0).facts == {"height": 32, "width": 32, **PLAIN}
    assert len(source.fingerprint) == 16


def test_two_names_that_would_be_written_alike_are_refused(tmp_path):
    tree(tmp_path, "cat/\\xff.png")
    Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), b"cat", b"\xff.png"))).write_bytes(encoded("PNG"))

    with pytest.raises(UsageError, match="same name once written as UTF-8"):
        folder(tmp_path)


def test_a_fingerprint_depends_on_names_and_sizes_and_not_on_settings_or_location(tmp_path):
    here = folder(tree(tmp_path / "here", "cat/1.png", "dog/1.png"))
    there = folder(tree(tmp_path / "there", "dog/1.png", "cat/1.png"), size=8, mode="grey")
    renamed = folder(tree(tmp_path / "renamed", "cat/1.png", "dog/2.png"))
    grown = tree(tmp_path / "grown", "cat/1.png", "dog/1.png")
    put(grown / "dog" / "1.png", (grown / "dog" / "1.png").read_bytes() + b"\0")

    assert here.fingerprint == there.fingerprint
    assert len({here.fingerprint, renamed.fingerprint, folder(grown).fingerprint}) == 3
    assert len(here.fingerprint) == 16


needs_datasets = pytest.mark.skipif(not DATASETS.is_dir(), reason=f"the real data are not at {DATASETS}")


@needs_datasets
def test_the_cifar10_image_folder_has_10_classes_of_250():
    source = folder(DATASETS / "cifar10_images")

    assert len(source.classes) == 10
    assert np.bincount([item.label for item in source.items]).tolist() == [250] * 10
    splits = [item.split for item in source.items]
    assert (splits.count("train"), splits.count("test")) == (2000, 500)
    assert all(source.signal(number).targets.shape == (1024, 3) for number in range(0, 2500, 100))
