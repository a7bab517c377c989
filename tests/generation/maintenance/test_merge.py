"""Merge: parts become the set that one uninterrupted run makes, byte for byte."""

import os
import shutil

import pytest
from support.command_line import failure, outcome
from support.damage import SHARD, faults_of, flip
from support.tiny_recipes import LOCAL, files, shards, tiny

from inr_factory.errors import UsageError
from inr_factory.generation.execution.fit_dataset import fit_dataset
from inr_factory.generation.maintenance.merge import merge_datasets
from inr_factory.generation.maintenance.repair import repair_dataset
from inr_factory.storage.manifest_file import load_manifest, update_manifest


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "set"
    fit_dataset(tiny(), out, **LOCAL)
    return out


@pytest.fixture
def copy(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "copy")


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """The set in three parts, made apart as by an array job."""
    folder = tmp_path_factory.mktemp("parts")
    for number in range(3):
        fit_dataset(tiny(), folder / str(number), backend="local", workers=1, shard=f"{number}/3")
    return [folder / str(number) for number in range(3)]


@pytest.mark.parametrize("copied", [False, True])
def test_parts_become_the_set_that_one_run_makes(whole, parts, tmp_path, copied):
    before = [files(part) for part in parts]

    done = merge_datasets(parts, tmp_path / "set", copy=copied)

    assert files(tmp_path / "set") == files(whole)
    assert (done.taken, done.missing, done.faults) == (10, 0, ())
    assert [files(part) for part in parts] == before
    links = {(tmp_path / "set" / name).stat().st_nlink for name in shards(whole)}
    assert links == ({1} if copied else {2})


def test_a_second_merge_does_nothing(parts, tmp_path):
    merge_datasets(parts, tmp_path / "set")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "set").rglob("*.h5")}
    done = merge_datasets(parts, tmp_path / "set")
    assert (done.taken, done.present) == (0, 10)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "set").rglob("*.h5")} == before


def test_a_merge_that_was_cut_short_goes_on(whole, parts, tmp_path):
    seen = []

    def stop(entry):
        seen.append(entry)
        if len(seen) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        merge_datasets(parts, tmp_path / "set", on_shard=stop)
    assert len(load_manifest(tmp_path / "set").shards) == 4
    assert merge_datasets(parts, tmp_path / "set").taken == 6
    assert files(tmp_path / "set") == files(whole)


def test_a_part_may_be_where_the_whole_is_to_be(whole, parts, tmp_path):
    out = shutil.copytree(parts[0], tmp_path / "set")
    assert merge_datasets([out, *parts[1:]], out).taken == 6
    assert files(out) == files(whole)


def test_views_that_were_made_apart_are_merged(whole, tmp_path):
    fit_dataset(tiny(views=1), tmp_path / "one", **LOCAL)
    shutil.copytree(whole, tmp_path / "two")
    for path in (tmp_path / "two/data").glob("*view000*"):
        path.unlink()
    update_manifest(tmp_path / "two", load_manifest(tmp_path / "two"))
    repair_dataset(tmp_path / "two", **LOCAL, fit=False)

    merge_datasets([tmp_path / "one", tmp_path / "two"], tmp_path / "set")

    assert files(tmp_path / "set") == files(whole)


def test_another_recipes_set_is_refused_by_what_differs(whole, parts, tmp_path):
    fit_dataset(tiny(seed=1, views=1), tmp_path / "other", **LOCAL)
    with pytest.raises(UsageError, match="seed is 1 here, 0 there"):
        merge_datasets([parts[0], tmp_path / "other"], tmp_path / "set")
    assert not (tmp_path / "set").exists()
    with pytest.raises(UsageError, match="seed is 0 here, 1 there"):
        merge_datasets([parts[0]], tmp_path / "other")


def test_of_a_damaged_shard_another_parts_is_taken_and_one_that_nobody_has_is_named(capsys, whole, copy, tmp_path):
    flip(copy)
    assert merge_datasets([copy, whole], tmp_path / "both").faults == ()
    assert files(tmp_path / "both") == files(whole)

    code, _, err = outcome(capsys, "merge", copy, "--out", tmp_path / "one")
    assert code == 4
    assert os.path.basename(SHARD) in err
    assert len(shards(tmp_path / "one")) == len(shards(whole)) - 1


def test_merge_leaves_with_75_while_shards_are_missing(capsys, parts, tmp_path):
    code, line = failure(capsys, "merge", *parts[:2], "--out", tmp_path / "set")
    assert (code, "3 shards" in line) == (75, True)
    code, result, _ = outcome(capsys, "merge", *parts, "--out", tmp_path / "set")
    assert (code, "3 shards merged" in result) == (0, True)
    assert "nothing to do" in outcome(capsys, "merge", *parts, "--out", tmp_path / "set")[1]


def test_what_lies_unrecorded_in_the_place_of_a_shard_is_not_written_over(parts, tmp_path):
    out = tmp_path / "set"
    name = next(iter(shards(parts[0])))
    (out / "data").mkdir(parents=True)
    (out / name).write_bytes(b"mine")
    done = merge_datasets(parts, out)
    assert [fault.path for fault in done.faults] == [name]
    assert (out / name).read_bytes() == b"mine"


def test_a_part_of_another_name_with_more_views_leaves_the_record_whole(tmp_path):
    fit_dataset(tiny(views=1), tmp_path / "one", **LOCAL)
    fit_dataset(tiny(views=2, name="mine"), tmp_path / "two", **LOCAL)

    merge_datasets([tmp_path / "two"], tmp_path / "one")

    assert faults_of(tmp_path / "one") == []
    assert load_manifest(tmp_path / "one").views == 2
