"""Content: a set never holds two contents of one object, whatever keeps their names, sizes and times the same."""

import hashlib
import os
import re
import shutil

import numpy as np
import pytest
from PIL import Image
from support.command_line import failure, outcome
from support.tiny_recipes import LOCAL, shards

from inr_factory.errors import UsageError
from inr_factory.generation.execution.fit_dataset import fit_dataset
from inr_factory.generation.maintenance.merge import merge_datasets
from inr_factory.generation.maintenance.repair import repair_dataset
from inr_factory.generation.maintenance.verify import verify_dataset
from inr_factory.generation.recipe import check_recipe
from inr_factory.generation.signals import Item, Signal, SignalError
from inr_factory.reporting.show_dataset import show_dataset
from inr_factory.storage.shards import ShardReader

pytestmark = pytest.mark.faults

SOURCE_FILES = ".source-files.json"
FIT = {"steps": 5, "floor_psnr": -99, "target_psnr": None, "lanes": 4}


def content_digest(content):
    """The first 13 hex digits that sha256sum prints."""
    return int(hashlib.sha256(content).hexdigest()[:13], 16)


def pictures(root, seed, suffix=".bmp"):
    """Six pictures in two classes, of the same names and sizes for every seed."""
    generator = np.random.default_rng(seed)
    for number in range(6):
        path = root / "ab"[number % 2] / f"{number}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path)
    return root


def meshes(root, seed, suffix=".stl"):
    import trimesh

    for number in range(4):
        path = root / "ab"[number % 2] / f"{number}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        trimesh.creation.box(extents=[1, 1 + number / 10, 2 + seed]).export(path)
    return root


def clouds(root, seed, suffix=".npy"):
    for number in range(4):
        path = root / "ab"[number % 2] / f"{number}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, np.random.default_rng([seed, number]).normal(size=(500, 3)))
    return root


def recipe(collection="image_folder", **changes):
    source = {"collection": collection}
    if collection != "image_folder":
        source |= {"num_points": 200, "num_truth": 40, "num_surface": 40}
    fields = {
        "name": "x", "source": source, "shard_objects": 2, "spec": {"hidden_dim": 4}, "fit": FIT,
        "splits": {"val": 0, "test": 0},
    }  # fmt: skip
    return check_recipe(fields | changes, origin="test")


KINDS = [
    ("image_folder", pictures, ".bmp"), ("image_folder", pictures, ".ppm"), ("image_folder", pictures, ".tif"),
    ("mesh_folder", meshes, ".stl"), ("mesh_folder", meshes, ".ply"), ("point_folder", clouds, ".npy"),
]  # fmt: skip


def keep_times(root, make):
    """Run `make`, and give every file the mtime that it had, as cp -p and rsync -t do."""
    times = {path: path.stat().st_mtime_ns for path in root.rglob("*.*")}
    make()
    for path, time in times.items():
        os.utime(path, ns=(time, time))


@pytest.mark.parametrize("known", ["size and times known", "times kept", "nothing known"])
@pytest.mark.parametrize(
    ("collection", "make", "suffix"), KINDS, ids=lambda value: str(getattr(value, "__name__", value)).strip(".")
)
def test_files_of_the_same_size_that_change_are_refused_with_a_view_added(collection, make, suffix, known, tmp_path):
    """D05, and its kind."""
    data, out, config = make(tmp_path / "data", 0, suffix), tmp_path / "set", recipe(collection)
    fit_dataset(config, out, data_root=data, **LOCAL)
    before = shards(out)
    keep_times(data, lambda: make(data, 1, suffix)) if known == "times kept" else make(data, 1, suffix)
    if known == "nothing known":
        (out / SOURCE_FILES).unlink(missing_ok=True)

    with pytest.raises(UsageError, match=r"the content of a/0\.\w+.* has changed since .*another --out"):
        fit_dataset(recipe(collection, views=2), out, data_root=data, **LOCAL)

    assert shards(out) == before
    assert not list(out.glob("data/*view001*"))
    make(data, 0, suffix)
    assert fit_dataset(recipe(collection, views=2), out, data_root=data, **LOCAL).missing == 0
    assert verify_dataset(out).faults == ()


@pytest.mark.parametrize(
    ("collection", "make", "suffix"), [KINDS[0], KINDS[3], KINDS[5]], ids=["pictures", "meshes", "clouds"]
)
def test_verify_and_show_compare_no_inr_with_a_file_that_has_changed(collection, make, suffix, tmp_path):
    data, out, notes = make(tmp_path / "data", 0, suffix), tmp_path / "set", []
    fit_dataset(recipe(collection), out, data_root=data, **LOCAL)
    keep_times(data, lambda: make(data, 1, suffix))

    report = verify_dataset(out, render=True, data_root=data)
    show_dataset(out, tmp_path / "x.png", count=1, data_root=data, resolution=8, on_note=notes.append)

    assert f"was fitted to another content of a/0{suffix} than the source has" in report.faults[0].reason
    changed = (
        rf"without the source of [ab]/\d{re.escape(suffix)}, view 0: its content has changed since the set was fitted"
    )
    assert re.fullmatch(changed, notes[0])


def test_a_complete_set_notices_changed_files_by_their_times_alone(tmp_path, capsys, monkeypatch):
    """D05: it said "nothing to do"."""
    data, out = pictures(tmp_path / "data", 0), tmp_path / "set"
    settings = [
        "--set=fit.steps=5", "--set=fit.floor_psnr=-99", "--set=spec.hidden_dim=4", "--backend", "local", "--workers", "1"
    ]  # fmt: skip
    command = ["fit", "image_folder", "--data-root", data, "--out", out, *settings]
    assert outcome(capsys, *command)[0] == 0
    for path in data.rglob("*.bmp"):
        os.utime(path)  # touched, not changed
    assert outcome(capsys, *command)[0] == 0
    with monkeypatch.context() as context:  # the new times are kept: nothing is opened
        context.setattr("inr_factory.generation.sources.registry.open_source", None)
        assert outcome(capsys, *command)[0] == 0

    pictures(data, 1)

    for views in (1, 2):
        code, line = failure(capsys, *command, "--views", views)
        assert code == 2
        assert "a/0.bmp, a/2.bmp, a/4.bmp and 3 more objects has changed" in line
    assert outcome(capsys, "verify", out)[0] == 0


def test_the_column_is_what_sha256sum_prints_and_version_1_has_none(tmp_path):
    data = pictures(tmp_path / "data", 0)
    fit_dataset(recipe(), tmp_path / "new", data_root=data, **LOCAL)
    shard = ShardReader.unchecked(tmp_path / "new/data/train-view000-00000.h5")
    expected = [content_digest((data / name).read_bytes()) for name in shard.object_ids]
    assert shard.column("content").tolist() == expected
    assert shard.column("content").dtype == "<f8"
    assert "content" in shard.attributes["conventions"]

    fit_dataset(recipe(version=1), tmp_path / "old", data_root=data, **LOCAL)
    old = ShardReader.unchecked(tmp_path / "old/data/train-view000-00000.h5")
    assert "content" not in old.column_names
    assert "sha256" not in old.attributes["conventions"].lower()


class Own:
    name, version, licence, classes = "own", "1", "CC0-1.0", ("a",)
    in_dim = out_dim = 1
    fingerprint = "always the same"
    items = tuple(Item(f"object-{number}", 0, None) for number in range(6))

    def __init__(self, seed=0, digest=str):
        self.values = np.random.default_rng(seed).random((6, 20, 1)).astype("float32")
        self.digest, self.after = digest, {}

    def signal(self, index, view=0):
        if index in self.after and view > 0:
            raise SignalError("it is gone")
        return Signal(np.linspace(-1, 1, 20, dtype="float32")[:, None], self.values[index])

    def content(self, index):
        return self.digest(self.values[index].tobytes())


OWN = {"source": {"collection": "own"}}


@pytest.mark.parametrize(
    "digest", [bytes, lambda data: data.hex(), content_digest, hash], ids=["bytes", "str", "int", "any int"]
)
def test_a_source_of_ones_own_gives_bytes_text_or_a_number(digest, tmp_path):
    out = tmp_path / "set"
    fit_dataset(recipe(**OWN), out, source=Own(0, digest), **LOCAL)
    changed = Own(0, digest)
    changed.values[4] += 1
    for views in (1, 2):
        with pytest.raises(UsageError, match="the content of object-4 has changed"):
            fit_dataset(recipe(views=views, **OWN), out, source=changed, **LOCAL)
    assert fit_dataset(recipe(views=2, **OWN), out, source=Own(0, digest), **LOCAL).missing == 0


def test_files_that_are_replaced_while_a_fit_runs_are_refused(tmp_path):
    """View 1 is read after view 0 was written; what was made before is kept."""
    source, out = Own(), tmp_path / "set"
    signal, seen = source.signal, []

    def replaced(index, view=0):
        if view == 1 and not seen:
            seen.append(index)
            source.values[index] += 1
        return signal(index, view)

    source.signal = replaced
    with pytest.raises(UsageError, match="the content of object-0 has changed"):
        fit_dataset(recipe(views=2, **OWN), out, source=source, **LOCAL)

    assert fit_dataset(recipe(views=2, **OWN), out, source=Own(), **LOCAL).made == 3
    assert verify_dataset(out).faults == ()


def test_an_object_that_has_an_inr_and_was_replaced_by_a_broken_file_does_not_go_into_quarantine(tmp_path):
    data, out = pictures(tmp_path / "data", 0), tmp_path / "set"
    fit_dataset(recipe(), out, data_root=data, **LOCAL)
    (data / "a/2.bmp").write_bytes(bytes((data / "a/2.bmp").stat().st_size))
    with pytest.raises(UsageError, match=r"the content of a/2\.bmp has changed"):
        fit_dataset(recipe(views=2), out, data_root=data, **LOCAL)


def parts(tmp_path):
    """One set fitted to one content, and view 1 of another content."""
    data = pictures(tmp_path / "data", 0)
    fit_dataset(recipe(), tmp_path / "one", data_root=data, **LOCAL)
    pictures(data, 1)
    fit_dataset(recipe(views=2), tmp_path / "two", data_root=data, **LOCAL)
    pictures(data, 0)
    return tmp_path / "one", tmp_path / "two", data


def test_merge_refuses_parts_of_two_contents(tmp_path):
    one, two, _ = parts(tmp_path)
    with pytest.raises(UsageError, match=r"two/data/train-view00\d-0000\d.h5 was fitted to another content of a/0.bmp"):
        merge_datasets([one, two], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_shards_of_another_content_are_not_recorded_and_repair_sets_them_aside(tmp_path):
    one, two, data = parts(tmp_path)
    for path in two.glob("data/*view001*"):
        shutil.copy(path, one / "data")
    with pytest.raises(UsageError, match=r"view001.* another content of a/0.bmp than .*inr-factory repair"):
        fit_dataset(recipe(views=2), one, data_root=data, **LOCAL)

    report = repair_dataset(one, data_root=data, workers=1)

    assert len(report.aside) == 3
    assert (report.missing, verify_dataset(one).faults) == (0, ())


def test_verify_names_two_contents_of_one_object(tmp_path):
    one, two, data = parts(tmp_path)
    fit_dataset(recipe(views=2), one, data_root=data, **LOCAL)
    for path in two.glob("data/*view001*"):
        shutil.copy(path, one / "data")
    reasons = [fault.reason for fault in verify_dataset(one).faults]
    assert any("was fitted to another content of a/0.bmp than train-view000-00000.h5" in reason for reason in reasons)
