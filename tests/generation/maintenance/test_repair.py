"""Repair and merge: what is damaged or apart becomes the set that one uninterrupted run makes, byte by byte."""

import json
import os
import shutil

import pytest
from support.command_line import failure, outcome
from support.tiny_recipes import LOCAL, files, shards, tiny

from inr_factory.errors import IntegrityError, UsageError
from inr_factory.generation.execution.fit_dataset import fit_dataset
from inr_factory.generation.execution.shard_plan import make_shard_plan
from inr_factory.generation.execution.worker import Worker
from inr_factory.generation.maintenance.integrity_check import check_manifest, check_shards
from inr_factory.generation.maintenance.merge import merge_datasets
from inr_factory.generation.maintenance.repair import SET_ASIDE, repair_dataset
from inr_factory.generation.sources.registry import open_source
from inr_factory.storage.manifest import MANIFEST, ORIGIN
from inr_factory.storage.manifest_file import load_manifest, load_origin, update_manifest

SHARD = "data/train-view001-00001.h5"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "set"
    fit_dataset(tiny(), out, **LOCAL)
    return out


@pytest.fixture
def copy(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "copy")


def kept(out):
    """Every file of a set but for what was set aside."""
    return {name: content for name, content in files(out).items() if not name.startswith(SET_ASIDE)}


def faults_of(out):
    manifest = load_manifest(out)
    return check_manifest(out, manifest) + check_shards(out, manifest)


def named(out):
    """What is wrong with a set, told by verify or by whoever opens it."""
    try:
        return [fault.reason for fault in faults_of(out)]
    except (IntegrityError, UsageError) as error:
        return [str(error)]


def alter(out, change):
    """Edit the manifest's JSON."""
    fields = json.loads((out / MANIFEST).read_text())
    change(fields)
    (out / MANIFEST).write_text(json.dumps(fields))


def cut(out):
    (out / SHARD).write_bytes((out / SHARD).read_bytes()[:-1])


def flip(out):
    content = bytearray((out / SHARD).read_bytes())
    content[len(content) // 2] ^= 4
    (out / SHARD).write_bytes(content)


def swap(out):
    shutil.copy(out / "data/train-view000-00001.h5", out / SHARD)


SHARD_DAMAGE = {"cut": cut, "flip": flip, "swap": swap, "delete": lambda out: (out / SHARD).unlink()}
RECORD_DAMAGE = {
    "no manifest": lambda out: (out / MANIFEST).unlink(),
    "half a manifest": lambda out: (out / MANIFEST).write_bytes((out / MANIFEST).read_bytes()[:3000]),
    "an endless manifest": lambda out: (out / MANIFEST).write_text("[" * 100_000),
    "another class": lambda out: alter(out, lambda fields: fields["classes"].__setitem__(3, "eight")),
    "fewer views": lambda out: alter(out, lambda fields: fields["recipe"].update(views=1)),
    "more views": lambda out: alter(out, lambda fields: fields["recipe"].update(views=9)),
    "another sha256": lambda out: alter(out, lambda fields: fields["shards"][2].update(sha256="0" * 64)),
    "another median": lambda out: alter(out, lambda fields: fields["shards"][2]["psnr"].update(median=99.5)),
    "a shard in another's place": lambda out: alter(out, lambda fields: fields["shards"][2].update(view=1)),
    "a shard twice": lambda out: alter(out, lambda fields: fields["shards"].append(fields["shards"][0])),
    "no entry": lambda out: alter(out, lambda fields: fields["shards"].pop()),
    "a broken origin": lambda out: (out / ORIGIN).write_text("{"),
}


@pytest.mark.parametrize("what", sorted(SHARD_DAMAGE | RECORD_DAMAGE))
def test_what_is_damaged_is_named_and_then_mended_to_the_same_bytes(whole, copy, what):
    (SHARD_DAMAGE | RECORD_DAMAGE)[what](copy)
    assert named(copy)

    done = repair_dataset(copy, **LOCAL)

    assert kept(copy) == files(whole)
    assert done.missing == 0
    assert done.made == int(what in SHARD_DAMAGE)
    assert not faults_of(copy)


def test_a_bad_shard_is_set_aside_as_it_was_and_never_deleted(copy):
    bad = []
    for _ in range(2):
        flip(copy)
        bad.append((copy / SHARD).read_bytes())
        repair_dataset(copy, **LOCAL)
    (copy / "data/stranger.h5").write_bytes(b"mine")

    done = repair_dataset(copy, **LOCAL)

    assert done.aside == (f"{SET_ASIDE}/stranger.h5",)
    assert (copy / SET_ASIDE / "stranger.h5").read_bytes() == b"mine"
    name = SHARD.partition("/")[2]
    assert [(copy / SET_ASIDE / each).read_bytes() for each in (name, f"{name}.1")] == bad


def test_a_whole_set_is_left_as_it_is(whole):
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("*")}
    done = repair_dataset(whole, **LOCAL)
    assert (done.faults, done.aside, done.recorded, done.made, done.missing) == ((), (), 0, 0, 0)
    assert {path: path.stat().st_mtime_ns for path in whole.rglob("*")} == before


def test_without_manifest_and_origin_the_recipe_says_what_the_set_was(whole, copy):
    for name in (MANIFEST, ORIGIN):
        (copy / name).unlink()
    before = files(copy)
    with pytest.raises(IntegrityError, match="--recipe"):
        repair_dataset(copy, **LOCAL)
    with pytest.raises(UsageError, match="the recipe and the data that the set was made of"):
        repair_dataset(copy, recipe=tiny(seed=3), **LOCAL)
    assert files(copy) == before, "a wrong recipe has moved shards"

    repair_dataset(copy, recipe=tiny(views=1), **LOCAL)

    assert shards(copy) == shards(whole)
    assert load_manifest(copy).views == 2
    assert not faults_of(copy)


def test_a_set_of_before_there_were_origins_is_whole_and_is_given_one(whole, copy):
    (copy / ORIGIN).unlink()
    assert not faults_of(copy)
    repair_dataset(copy, **LOCAL)
    assert files(copy) == files(whole)


def test_what_cannot_be_fitted_again_is_said_and_the_rest_is_mended(capsys, tmp_path):
    from PIL import Image

    for number in range(12):
        folder = tmp_path / "images" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4), number * 9).save(folder / f"{number}.png")
    recipe = tiny(source={"collection": "image_folder", "mode": "grey"}, limit=None)
    out, images = tmp_path / "set", tmp_path / "images"
    fit_dataset(recipe, out, backend="local", workers=1, data_root=images)
    before = files(out)
    flip(out) if (out / SHARD).exists() else pytest.fail("the set has no such shard")

    code, line = failure(capsys, "repair", out, "--data-root", tmp_path / "nowhere")
    assert (code, "nowhere" in line) == (75, True)
    assert len(load_manifest(out).missing(out)) == 1
    code, told, _ = outcome(capsys, "repair", out, "--data-root", images)
    assert (code, "1 fitted again" in told) == (0, True)
    assert kept(out) == before


def test_repair_says_when_there_is_nothing_to_do_and_refuses_what_is_no_set(capsys, copy, tmp_path):
    assert "nothing to repair" in outcome(capsys, "repair", copy)[1]
    assert failure(capsys, "repair", tmp_path / "nowhere")[0] == 2
    (tmp_path / "empty").mkdir()
    assert failure(capsys, "repair", tmp_path / "empty")[0] == 2


def test_the_origin_follows_the_views_and_keeps_a_fault_in_sight(whole, tmp_path):
    out = tmp_path / "set"
    fit_dataset(tiny(views=1), out, **LOCAL)
    assert load_origin(out).views == 1
    fit_dataset(tiny(views=2), out, **LOCAL)
    assert load_origin(out) == load_manifest(out).head
    alter(out, lambda fields: fields["classes"].__setitem__(3, "eight"))
    update_manifest(out, load_manifest(out))
    assert load_origin(out).classes[3] != "eight", "the altered manifest has been taken over"


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
    code, told, _ = outcome(capsys, "merge", *parts, "--out", tmp_path / "set")
    assert (code, "3 shards merged" in told) == (0, True)
    assert "nothing to do" in outcome(capsys, "merge", *parts, "--out", tmp_path / "set")[1]


def test_what_lies_unrecorded_in_the_place_of_a_shard_is_not_written_over(parts, tmp_path):
    out = tmp_path / "set"
    name = next(iter(shards(parts[0])))
    (out / "data").mkdir(parents=True)
    (out / name).write_bytes(b"mine")
    done = merge_datasets(parts, out)
    assert [fault.path for fault in done.faults] == [name]
    assert (out / name).read_bytes() == b"mine"


def test_without_its_manifest_a_set_goes_on_for_its_own_recipe_and_for_no_other(whole, copy):
    (copy / MANIFEST).unlink()
    with pytest.raises(UsageError, match=r"holds a set of another recipe .*limit"):
        fit_dataset(tiny(limit=23), copy, **LOCAL)

    report = fit_dataset(tiny(), copy, **LOCAL)

    assert (report.made, report.missing) == (0, 0)
    assert files(copy) == files(whole)


def test_a_part_of_another_name_with_more_views_leaves_the_record_whole(tmp_path):
    fit_dataset(tiny(views=1), tmp_path / "one", **LOCAL)
    fit_dataset(tiny(views=2, name="mine"), tmp_path / "two", **LOCAL)

    merge_datasets([tmp_path / "two"], tmp_path / "one")

    assert faults_of(tmp_path / "one") == []
    assert load_manifest(tmp_path / "one").views == 2


def test_a_set_of_a_version_with_other_settings_is_not_extended(copy):
    alter(copy, lambda fields: fields.update(fingerprint="0" * 16 + fields["fingerprint"][16:]))
    with pytest.raises(UsageError, match="a version whose recipes had other settings"):
        fit_dataset(tiny(), copy, **LOCAL)


def test_more_views_than_can_be_read_are_refused_before_anything_is_written(whole, copy, monkeypatch):
    monkeypatch.setattr("inr_factory.storage.manifest.MAX_SHARDS", 50)
    with pytest.raises(UsageError, match="ask for fewer views"):
        fit_dataset(tiny(views=30), copy, **LOCAL)
    assert files(copy) == files(whole)


def test_a_shard_that_another_made_meanwhile_stays(copy):
    shard = copy / SHARD
    before = shard.stat()
    manifest = load_manifest(copy)
    left = tuple(entry for entry in manifest.shards if entry.path != SHARD)
    recipe = tiny()
    worker = Worker(recipe, None, copy, "cpu", manifest.source.fingerprint)
    view, block = 1, 1
    task = next(
        task for task in make_shard_plan(recipe, open_source(recipe.source, None)).tasks(recipe.views)
        if (task.split, task.view, task.block) == ("train", view, block)
    )  # fmt: skip

    entry = worker.make(task)

    assert entry in manifest.shards
    assert entry not in left
    assert (shard.stat().st_ino, shard.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
