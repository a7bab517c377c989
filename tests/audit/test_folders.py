"""Audited folders (D01 to D03, D19 and their kind), through the command line: nothing vanishes, no label shifts."""

import json
import os

import h5py
import numpy as np
import pytest
from support.command_line import failure, outcome
from support.images import COLOURS, put, save, tree
from support.shapes import box, write_off

pytestmark = pytest.mark.faults

QUICK = [
    "--backend", "local", "--workers", "1", "--set", "fit.steps=2", "--set", "fit.floor_psnr=-999", "--set",
    "fit.attempts=1", "--set", "spec.hidden_dim=4",
]  # fmt: skip
WHOLE = ["--set", "splits.val=0", "--set", "splits.test=0"]
SHAPES = [word for key in ("num_points=64", "num_truth=20", "num_surface=20") for word in ("--set", f"source.{key}")]
CLOUD = np.random.default_rng(0).uniform(-1, 1, (100, 3)).round(4)


def words(recipe, data, out, *more):
    shapes = [] if recipe == "image_folder" else SHAPES
    return ["fit", recipe, "--data-root", data, "--out", out, *QUICK, *shapes, *more]


def labels(out):
    """The class of every object, by its name."""
    classes = json.loads((out / "manifest.json").read_text())["classes"]
    found = {}
    for path in out.glob("data/*-view000-*.h5"):
        with h5py.File(path, locking=False) as shard:
            rows = zip(shard["object_id"].asstr()[:], shard["label"][:], strict=True)
            found |= {name: classes[label] for name, label in rows}
    return found


def said_by_fit_dry_run_and_manifest(capsys, recipe, data, out):
    """What each of them says was passed over."""
    command = words(recipe, data, out, *WHOLE)
    said = []
    for more in (["--dry-run"], []):
        code, text, err = outcome(capsys, *command, *more)
        assert code == 0, err
        said.append(text + err)
    return [*said, (out / "manifest.json").read_text()]


def test_d01_a_class_of_val_that_train_lacks_is_refused(tmp_path, capsys):
    names = [f"train/n0{number}/images/n0{number}_0.JPEG" for number in (1, 2, 3)]
    data = tree(tmp_path / "data", *names, "val/images/val_0.JPEG", "test/images/test_0.JPEG")
    put(data / "val/val_annotations.txt", b"val_0.JPEG\tn01\n")
    for more in (["--dry-run"], []):
        code, line = failure(capsys, *words("image_folder", data, tmp_path / "set", *more))
        assert code == 2
        assert "class images" in line
        assert "val_annotations.txt" in line
    assert not (tmp_path / "set").exists()


def test_d02_jfif_and_avif_are_read_and_no_class_is_lost(tmp_path, capsys):
    data = tree(tmp_path / "data", "ant/0.png", "cat/0.png")
    save(data / "bee/0.jfif", COLOURS, format="JPEG")
    save(data / "cat/1.avif", COLOURS)
    assert outcome(capsys, *words("image_folder", data, tmp_path / "set", *WHOLE))[0] == 0
    expected = {"ant/0.png": "ant", "bee/0.jfif": "bee", "cat/0.png": "cat", "cat/1.avif": "cat"}
    assert labels(tmp_path / "set") == expected


@pytest.mark.parametrize("suffix", ["heic", "raw", "svg"])
def test_d02_other_suffixes_are_counted_by_suffix_and_folder_and_named(suffix, tmp_path, capsys):
    data = tree(tmp_path / "data", "ant/0.png", "cat/0.png")
    for number in range(3):
        put(data / f"cat/{number}.{suffix}", b"?")
    for text in said_by_fit_dry_run_and_manifest(capsys, "image_folder", data, tmp_path / "set"):
        assert f".{suffix}" in text
        assert f"cat/0.{suffix}" in text


def test_d03_an_empty_class_folder_keeps_its_label_and_is_named(tmp_path, capsys):
    data = tree(tmp_path / "data", "a/0.png", "c/0.png")
    (data / "b").mkdir()
    for text in said_by_fit_dry_run_and_manifest(capsys, "image_folder", data, tmp_path / "set")[:2]:
        assert "no object in the class folder b" in text
    assert json.loads((tmp_path / "set/manifest.json").read_text())["classes"] == ["a", "b", "c"]
    assert labels(tmp_path / "set") == {"a/0.png": "a", "c/0.png": "c"}


def text_cloud(separator, first=""):
    return (first + "".join(separator.join(map(str, point)) + "\n" for point in CLOUD.tolist())).encode()


PCD = "VERSION .7\nFIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nCOUNT 1 1 1\nWIDTH 100\nHEIGHT 1\nPOINTS 100\nDATA ascii\n"


def test_d19_text_clouds_are_read_and_others_named(tmp_path, capsys):
    contents = {
        "csv": text_cloud(",", "x,y,z\n"), "pts": text_cloud(" ", "100\n"), "asc": text_cloud(" "),
        "pcd": text_cloud(" ", PCD), "xyz": text_cloud(" "), "las": b"LASF",
    }  # fmt: skip
    for suffix, content in contents.items():
        put(tmp_path / f"data/{suffix}/0.{suffix}", content)
    for text in said_by_fit_dry_run_and_manifest(capsys, "point_folder", tmp_path / "data", tmp_path / "set"):
        assert "las/0.las" in text
    read = {suffix for suffix in contents if suffix != "las"}
    assert labels(tmp_path / "set") == {f"{suffix}/0.{suffix}": suffix for suffix in read}


def test_d19_a_gltf_that_lies_with_an_off_is_named(tmp_path, capsys):
    write_off(tmp_path / "data/a/0.off", box())
    put(tmp_path / "data/b/0.gltf", b"{}")
    for text in said_by_fit_dry_run_and_manifest(capsys, "mesh_folder", tmp_path / "data", tmp_path / "set"):
        assert "b/0.gltf" in text


@pytest.mark.parametrize("name", ["__MACOSX/cat/._0.png", "@eaDir/0.png", ".ipynb_checkpoints/0.png", "cat/Thumbs.db"])
def test_what_systems_leave_behind_is_passed_over_and_counted(name, tmp_path, capsys):
    data = tree(tmp_path / "data", "ant/0.png", "cat/0.png", name)
    said_by_fit_dry_run_and_manifest(capsys, "image_folder", data, tmp_path / "set")
    assert labels(tmp_path / "set") == {"ant/0.png": "ant", "cat/0.png": "cat"}
    assert json.loads((tmp_path / "set/manifest.json").read_text())["passed_over"]["leftovers"] == 1


def test_a_label_table_that_lies_with_a_flat_folder_is_named(tmp_path, capsys):
    data = tree(tmp_path / "data", "0.png", "1.png")
    put(data / "labels.csv", b"0.png,cat\n1.png,dog\n")
    code, line = failure(capsys, *words("image_folder", data, tmp_path / "set"))
    assert code == 2
    assert "labels.csv" in line


def test_pipes_among_the_files_are_passed_over_and_named(tmp_path, capsys):
    data = tree(tmp_path / "data", "ant/0.png", "cat/0.png")
    os.mkfifo(data / "cat/pipe.png")
    for text in said_by_fit_dry_run_and_manifest(capsys, "image_folder", data, tmp_path / "set"):
        assert "cat/pipe.png" in text
