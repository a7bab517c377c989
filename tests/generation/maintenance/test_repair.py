"""Repair and merge: what is damaged or apart becomes the set that one uninterrupted run makes, byte by byte."""

import shutil

import pytest
from support.command_line import failure, outcome
from support.damage import RECORD_DAMAGE, SHARD, SHARD_DAMAGE, alter, faults_of, flip, kept, named
from support.tiny_recipes import LOCAL, files, shards, tiny

from inr_factory.errors import IntegrityError, UsageError
from inr_factory.generation.execution.fit_dataset import fit_dataset
from inr_factory.generation.maintenance.repair import SET_ASIDE, repair_dataset
from inr_factory.storage.manifest import MANIFEST, ORIGIN
from inr_factory.storage.manifest_file import load_manifest, load_origin, update_manifest


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "set"
    fit_dataset(tiny(), out, **LOCAL)
    return out


@pytest.fixture
def copy(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "copy")


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
    code, result, _ = outcome(capsys, "repair", out, "--data-root", images)
    assert (code, "1 fitted again" in result) == (0, True)
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
