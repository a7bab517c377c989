"""Targets check: faults of targets are found and set aside, lost records find them, and copies of sets have them."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from support.tiny_recipes import LOCAL, tiny

import inr_factory as inr
from inr_factory.errors import IntegrityError
from inr_factory.learning.alignment.aligned_dataset import align_dataset
from inr_factory.storage.add_targets import fitted_objects
from inr_factory.storage.fetch_dataset import fetch_dataset
from inr_factory.storage.locations import RemoteLocation
from inr_factory.storage.manifest import MANIFEST
from inr_factory.storage.manifest_file import load_manifest
from inr_factory.storage.targets import TargetTable, read_targets, update_targets, write_targets


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("targets") / "set"
    inr.fit_dataset(tiny(), root, **LOCAL)
    names = sorted(fitted_objects(root, load_manifest(root)))
    inr.add_targets(root, {"name": names, "x [m]": np.arange(len(names)), "kind": ["u", "v"] * (len(names) // 2)})
    return root


@pytest.fixture
def root(made, tmp_path):
    return shutil.copytree(made, tmp_path / "copy")


def faults(root):
    return [(fault.path, fault.reason) for fault in inr.verify_dataset(root).faults]


def targets_of(root):
    return load_manifest(root).targets


def test_a_valid_set_has_no_fault(root):
    assert faults(root) == []


@pytest.mark.parametrize("damage", ["removed", "altered"])
def test_a_damaged_file_is_a_fault_and_set_aside(root, damage):
    path = root / targets_of(root).path
    content = path.read_bytes()
    path.unlink()
    if damage == "altered":
        path.write_bytes(content[:-1] + b"\1")
    assert [fault[0] for fault in faults(root)] == [path.name]

    report = inr.repair_dataset(root)

    assert [fault.path for fault in report.faults] == [path.name]
    assert report.aside == ((f"set-aside/{path.name}",) if damage == "altered" else ())
    assert targets_of(root) is None
    assert faults(root) == []


def test_a_file_that_a_killed_run_left_is_a_fault_and_set_aside(root):
    record, table = targets_of(root), read_targets(root, load_manifest(root))
    left = write_targets(root, TargetTable(table.object_ids, table.columns[:1]))
    assert faults(root) == [(left.path, f"{left.path} is not recorded; inr-factory repair sets it aside")]

    assert inr.repair_dataset(root).aside == (f"set-aside/{left.path}",)
    assert targets_of(root) == record


def test_a_lost_manifest_finds_its_targets_again(root):
    record = targets_of(root)
    (root / MANIFEST).unlink()
    inr.repair_dataset(root)
    assert targets_of(root) == record
    (root / MANIFEST).unlink()
    inr.fit_dataset(tiny(), root, **LOCAL)
    assert targets_of(root) == record


def test_an_object_without_a_row_is_a_fault(root):
    update_targets(root, lambda t: TargetTable(t.object_ids[:-2], tuple(_first(c, -2) for c in t.columns)))

    (fault,) = faults(root)
    assert "has no row of 2 objects" in fault[1]


def _first(column, count):
    return replace(column, values=column.values[:count])


def test_copies_of_a_set_have_its_targets(root, tmp_path):
    record = targets_of(root)
    align_dataset(root, tmp_path / "aligned")
    inr.merge_datasets([root], tmp_path / "merged")
    inr.export_dataset(root, "safetensors", tmp_path / "exported")
    inr.import_dataset(tmp_path / "exported", "safetensors", tmp_path / "imported")

    for name in ("aligned", "merged", "imported"):
        assert targets_of(tmp_path / name) == record, name
        assert faults(tmp_path / name) == [], name


def test_a_remote_set_is_fetched_with_its_targets(root, tmp_path, monkeypatch):
    monkeypatch.setenv("INR_FACTORY_CACHE", str(tmp_path / "cache"))
    store = RemoteLocation("memory://fetched-with-targets")
    for path in root.rglob("*"):
        if path.is_file():
            (store / str(path.relative_to(root))).write_bytes(path.read_bytes())

    folder = fetch_dataset(store.url)
    (folder / targets_of(root).path).write_bytes(b"torn")

    assert read_targets(fetch_dataset(store.url), load_manifest(root)).names == ("x", "kind")
    assert inr.verify_dataset(store.url).faults == ()


def test_a_remote_set_with_altered_targets_is_refused(root, tmp_path, monkeypatch):
    monkeypatch.setenv("INR_FACTORY_CACHE", str(tmp_path / "cache"))
    store = RemoteLocation("memory://altered-targets")
    for path in root.rglob("*"):
        if path.is_file():
            (store / str(path.relative_to(root))).write_bytes(path.read_bytes())
    (store / targets_of(root).path).write_bytes(b"other")

    with pytest.raises(IntegrityError, match="is not what was recorded"):
        fetch_dataset(store.url)


def test_a_part_with_other_values_is_not_merged_and_further_columns_are(root, made, tmp_path):
    names = list(read_targets(root, load_manifest(root)).object_ids)
    inr.add_targets(root, {"name": names, "rank": np.arange(len(names))})
    merged = inr.merge_datasets([made, root], tmp_path / "merged").manifest
    assert [column.name for column in merged.targets.columns] == ["x", "kind", "rank"]

    inr.add_targets(root, {"name": names, "x [m]": np.ones(len(names))}, replace=True)
    with pytest.raises(inr.UsageError, match=r"has the target x = .*; put the same targets back"):
        inr.merge_datasets([made, root], tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_the_card_lists_targets_with_kind_and_unit(root):
    readme, croissant = (root / "README.md").read_text(), (root / "croissant.json").read_text()

    assert "| x | number | m |  |" in readme
    assert "| kind | class |  | u, v |" in readme
    assert targets_of(root).sha256 in croissant
