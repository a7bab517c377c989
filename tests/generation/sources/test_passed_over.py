"""Passed over: whatever a folder holds and no object is made of is counted, named, or refused; labels never shift."""

import json
import os

import pytest
from support.images import folder, put, tree

from inr_factory.errors import UsageError
from inr_factory.generation.execution.estimate import estimate
from inr_factory.generation.execution.fit_dataset import fit_dataset
from inr_factory.generation.recipe import ImageSource, ShapeSource
from inr_factory.generation.sources.registry import open_source
from inr_factory.storage.manifest import MANIFEST
from inr_factory.storage.manifest_file import load_manifest

QUICK = ["source.collection=image_folder", "fit.steps=1", "fit.floor_psnr=-999", "splits.val=0", "splits.test=0"]
QUICK += ["fit.attempts=1", "spec.hidden_dim=4"]


def version_1(root):
    return open_source(ImageSource(collection="image_folder"), root, 1)


def points(root, **settings):
    return open_source(ShapeSource(collection="point_folder", **settings), root)


def test_d01_a_class_of_val_that_train_lacks_is_refused_and_the_table_named(tmp_path):
    tree(tmp_path, "train/n01/images/0.JPEG", "train/n02/images/1.JPEG", "val/images/2.JPEG", "test/images/3.JPEG")
    put(tmp_path / "val" / "val_annotations.txt", b"val_0.JPEG n01")

    with pytest.raises(UsageError, match=r"val and test have images of the class images, of which train has none") as e:
        folder(tmp_path)
    assert "val/val_annotations.txt" in str(e.value)
    assert "\n" not in str(e.value)
    assert version_1(tmp_path).classes == ("images", "n01", "n02"), "old sets are continued as they were"


@pytest.mark.parametrize(
    "names",
    [
        ["train/cat/1.png", "val/Cat/2.png"],
        ["train/cat/1.png", "train/dog/1.png", "valid/cat/2.png", "valid/dgo/2.png"],
        ["cat/train/1.png", "cat/test/2.png", "dog/test/3.png"],
    ],
)
def test_d01_classes_that_only_val_or_test_has_are_refused(names, tmp_path):
    with pytest.raises(UsageError, match="of which train has none"):
        folder(tree(tmp_path, *names))


def test_d01_a_class_whose_folder_in_train_is_empty_is_refused_where_test_has_it(tmp_path):
    (tree(tmp_path, "train/a/1.png", "test/b/1.png") / "train" / "b").mkdir()
    with pytest.raises(UsageError, match="test has images of the class b"):
        folder(tmp_path)


def test_a_collection_of_test_objects_alone_is_read(tmp_path):
    assert [item.split for item in folder(tree(tmp_path, "test/a/1.png", "test/b/1.png")).items] == ["test", "test"]


def test_tiny_imagenet_without_val_has_the_classes_above_images(tmp_path):
    assert folder(tree(tmp_path, "train/n01/images/0.JPEG", "train/n02/images/1.JPEG")).classes == ("n01", "n02")


NEWER = ["jfif", "jpe", "pjpeg", "avif", "jp2", "j2k", "tga", "dib", "pnm"]


@pytest.mark.parametrize("suffix", NEWER)
def test_d02_what_pillow_reads_is_read_and_keeps_its_class(suffix, tmp_path):
    kind = {"pnm": "PPM", "jfif": "JPEG", "jpe": "JPEG", "pjpeg": "JPEG", "j2k": "JPEG2000", "jp2": "JPEG2000"}
    tree(tmp_path, "ant/0.png", "cat/0.png")
    from support.images import COLOURS, save

    save(tmp_path / "bee" / f"0.{suffix}", COLOURS, format=kind.get(suffix, suffix.upper()))
    source = folder(tmp_path)

    assert source.classes == ("ant", "bee", "cat")
    assert [item.label for item in source.items] == [0, 1, 2]
    assert source.signal(1).targets.shape == (24, 3)
    assert version_1(tmp_path).classes == ("ant", "cat"), "the listing of old sets stays"


def test_d02_what_is_not_read_is_counted_by_suffix_and_folder_and_named(tmp_path):
    tree(tmp_path, "cat/0.png", "dog/0.png", "flat.png")
    for name in ("cat/1.heic", "cat/2.HEIC", "dog/a.svg", "dog/deep/b.heic", "notes.txt", "dog/README"):
        put(tmp_path / name, b"?")

    found = folder(tmp_path).passed_over

    assert found.files == 7
    assert found.suffixes == {".heic": 3, ".png": 1, ".svg": 1, ".txt": 1, "without suffix": 1}
    assert found.folders == {"dog": 3, ".": 2, "cat": 2}
    assert found.names == ("cat/1.heic", "cat/2.HEIC", "dog/README", "dog/a.svg", "dog/deep/b.heic")
    (line,) = found.lines()
    assert line == (
        "passed over 7 files: 3 .heic, 1 .png, 1 .svg, 1 .txt, 1 without suffix; 3 in dog, 2 in the data root itself, "
        "2 in cat; first cat/1.heic, cat/2.HEIC, dog/README, dog/a.svg, dog/deep/b.heic"
    )


def test_d03_an_empty_class_folder_keeps_its_label_and_is_named(tmp_path):
    tree(tmp_path, "a/0.png", "c/0.png", "e/0.png")
    (tmp_path / "b").mkdir()
    put(tmp_path / "d" / "0.heic", b"?")

    source = folder(tmp_path)

    assert source.classes == ("a", "b", "c", "d", "e")
    assert [item.label for item in source.items] == [0, 2, 4]
    assert source.passed_over.empty_classes == ("b", "d")
    assert any("class folders b, d" in line for line in source.passed_over.lines())
    assert version_1(tmp_path).classes == ("a", "c", "e")


def test_d03_a_link_to_a_class_folder_that_is_gone_keeps_its_label(tmp_path):
    tree(tmp_path, "a/0.png", "c/0.png")
    (tmp_path / "b").symlink_to(tmp_path / "gone")
    assert folder(tmp_path).classes == ("a", "b", "c")


def test_d03_labels_are_part_of_the_fingerprint(tmp_path):
    before = folder(tree(tmp_path, "a/0.png", "c/0.png")).fingerprint
    old = version_1(tmp_path).fingerprint
    (tmp_path / "b").mkdir()
    assert folder(tmp_path).fingerprint != before
    assert version_1(tmp_path).fingerprint == old


def test_d19_clouds_that_are_not_read_are_counted_and_keep_their_classes(tmp_path):
    put(tmp_path / "xyz" / "0.xyz", b"0 0 0\n1 0 0\n0 1 0\n")
    put(tmp_path / "las" / "0.las", b"LASF")
    put(tmp_path / "mixed" / "0.xyz", b"0 0 0\n1 0 0\n0 1 0\n")
    put(tmp_path / "mixed" / "1.e57", b"ASTM")

    source = points(tmp_path)

    assert source.classes == ("las", "mixed", "xyz")
    assert source.passed_over.suffixes == {".e57": 1, ".las": 1}


def test_d19_version_1_lists_the_clouds_that_it_listed(tmp_path):
    put(tmp_path / "xyz" / "0.xyz", b"0 0 0\n1 0 0\n0 1 0\n")
    put(tmp_path / "csv" / "0.csv", b"0,0,0\n1,0,0\n0,1,0\n")
    old = open_source(ShapeSource(collection="point_folder"), tmp_path, 1)
    assert (old.classes, points(tmp_path).classes) == (("xyz",), ("csv", "xyz"))


LEFT_BEHIND = [
    "cat/.DS_Store", "cat/Thumbs.db", "__MACOSX/cat/._0.png", "cat/._0.png", "cat/desktop.ini",
    ".ipynb_checkpoints/0-checkpoint.png", "cat/@eaDir/0.png/SYNOPHOTO_THUMB_M.png", "@eaDir/0.png", "lost+found/0.png",
    "$RECYCLE.BIN/x/0.png", "System Volume Information/0.png",
]  # fmt: skip


@pytest.mark.parametrize("name", LEFT_BEHIND)
def test_what_systems_leave_behind_is_no_object_and_no_class_but_is_counted(name, tmp_path):
    source = folder(tree(tmp_path, "cat/0.png", name))

    assert source.classes == ("cat",)
    assert [item.object_id for item in source.items] == ["cat/0.png"]
    assert (source.passed_over.files, source.passed_over.leftovers) == (0, 1)


def test_a_cache_of_this_program_and_a_set_of_inrs_are_no_classes(tmp_path):
    tree(tmp_path, "cat/0.png", "inrs/preview.png", ".inr_factory_cache/a.png")
    for name in ("manifest.json", "origin.json", "data/x.h5"):
        put(tmp_path / "inrs" / name, b"{}")

    source = folder(tmp_path)

    assert source.classes == ("cat",)
    assert source.passed_over.leftover_names == {"data set of INRs": 1}


@pytest.mark.parametrize(
    ("names", "wrapper"),
    [
        (["cifar/train/cat/0.png", "cifar/train/dog/0.png", "cifar/test/cat/1.png"], "cifar"),
        (["zip/cifar/train/cat/0.png", "zip/cifar/test/dog/0.png"], "zip/cifar"),
        (["cifar/train/cat/0.png", "cifar/train/dog/0.png"], "cifar"),
    ],
)
def test_a_folder_around_splits_is_no_class(names, wrapper, tmp_path):
    with pytest.raises(UsageError, match=f"give --data-root {tmp_path / wrapper}$"):
        folder(tree(tmp_path, *names))


@pytest.mark.parametrize(
    ("names", "remark"),
    [
        (["all/cat/0.png", "all/dog/0.png"], "all objects are of the class all; if the folders cat, dog"),
        (["dev/cat/0.png", "dev/dog/0.png", "eval/cat/0.png", "eval/dog/0.png"], "the classes dev, eval have the same"),
        (["a/x/cat/0.png", "a/x/dog/0.png", "b/y/cat/0.png"], "the classes a, b have the same folders cat; if these"),
        (["a/test/cat/0.png", "a/test/dog/0.png", "b/test/cat/0.png"], "the classes a, b have the same folders cat; "),
        (["b_train/cat/0.png", "b_train/dog/0.png", "b_test/0.png"], "the classes b_test, b_train are called like spl"),
        (["train2017/0.png", "val2017/0.png"], "the classes train2017, val2017 are called like splits; if they are"),
        (
            ["images/0.png", "images/1.png", "data/labels.csv"],
            "all objects are of the class images; tables such as dat",
        ),
        (["train/images/0.png", "train/labels/0.txt"], "all objects are of the class images; tables such as train/lab"),
        (["Cat/0.png", "cat /0.png", "dog/1.png"], "the classes 'Cat', 'cat ' differ only in case, blanks or accents"),
        (["steam train/0.png", "freight train/0.png"], None),
        (["cat/1/0.png", "cat/0.png", "dog/1/0.png", "dog/2/0.png"], None),
        (["ann/1/0.png", "ann/2/0.png", "bob/3/0.png", "bob/4/0.png"], None),
        (["cat/0.png", "cat/old/1.png"], None),
        (["cat/images/0.png", "dog/images/1.png"], None),
        (["cat/train/0.png", "cat/test/0.png", "dog/train/1.png", "dog/test/0.png"], None),
    ],
)
def test_a_layout_that_may_mean_something_else_is_remarked_upon(names, remark, tmp_path):
    found = folder(tree(tmp_path, *names)).passed_over
    assert (found is None) if remark is None else (found.remarks[0].startswith(remark))


def test_a_class_of_test_that_train_spells_otherwise_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"train has none; .*; the classes 'cafe\\u0301', 'caf\\xe9' differ only in"):
        folder(tree(tmp_path, "train/cafe\u0301/0.png", "train/dog/0.png", "test/caf\xe9/0.png"))


def test_a_split_folder_without_objects_is_remarked_upon(tmp_path):
    tree(tmp_path, "train/cat/0.png", "train/dog/0.png")
    put(tmp_path / "val" / "cat" / "0.heic", b"?")
    assert folder(tmp_path).passed_over.remarks == (
        "the split folder val holds nothing that is read; splits.val decides what is taken from train instead",
    )


def test_special_files_and_loops_are_counted(tmp_path):
    tree(tmp_path, "cat/0.png")
    os.mkfifo(tmp_path / "cat" / "pipe.png")
    (tmp_path / "cat" / "loop").symlink_to(tmp_path)
    assert folder(tmp_path).passed_over.suffixes == {"folder linked into itself": 1, "no regular file": 1}


def test_many_kinds_are_named_up_to_a_limit_and_all_are_counted(tmp_path):
    tree(tmp_path, "cat/0.png")
    for number in range(30):
        put(tmp_path / "cat" / f"x.{number:02d}", b"?")
    found = folder(tmp_path).passed_over
    assert (found.files, len(found.suffixes), len(found.names)) == (30, 10, 5)
    assert "and 20 others" in found.lines()[0]


def test_a_dry_run_tells_of_files_that_it_could_not_read(tmp_path):
    data = tree(tmp_path / "data", "a/0.png", "b/0.png")
    put(data / "b" / "1.png", b"?")

    report = estimate("image_folder", tmp_path / "set", data_root=data, backend="local", workers=1, settings=QUICK)

    assert [
        note for note in report.notes if note.startswith("1 of 3 objects probed cannot be read, as b/1.png: not rec")
    ]


def test_a_plain_folder_has_nothing_to_say(tmp_path):
    assert folder(tree(tmp_path, "cat/0.png", "dog/0.png")).passed_over is None


def test_fit_dry_run_manifest_and_card_say_it_and_only_where_something_was(tmp_path):
    data = tree(tmp_path / "data", "a/0.png", "a/1.png", "c/0.png")
    plain = fit_dataset("digits", tmp_path / "plain", data_root=data, backend="local", workers=1, settings=QUICK)
    assert "passed_over" not in json.loads((tmp_path / "plain" / MANIFEST).read_text())
    assert plain.notes == ()

    put(data / "b" / "0.heic", b"?")
    dry = estimate("digits", tmp_path / "set", data_root=data, backend="local", workers=1, settings=QUICK)
    made = fit_dataset("digits", tmp_path / "set", data_root=data, backend="local", workers=1, settings=QUICK)

    manifest = load_manifest(tmp_path / "set")
    assert manifest.classes == ("a", "b", "c")
    assert manifest.passed_over.empty_classes == ("b",)
    assert manifest.passed_over == dry.passed_over == made.manifest.passed_over
    assert made.notes == dry.notes == manifest.passed_over.lines()
    assert "1 .heic" in (tmp_path / "set" / "README.md").read_text()


def test_a_set_of_version_1_is_extended_with_the_objects_that_it_has(tmp_path):
    data = tree(tmp_path / "data", "a/0.png", "a/1.jfif", "c/0.png")
    (data / "b").mkdir()
    how = {"data_root": data, "backend": "local", "workers": 1}
    fit_dataset("digits", tmp_path / "set", settings=[*QUICK, "version=1"], **how)
    extended = fit_dataset("digits", tmp_path / "set", settings=QUICK, views=2, **how).manifest
    assert extended.classes == ("a", "c")
    assert sum(entry.rows for entry in extended.shards) == 4
