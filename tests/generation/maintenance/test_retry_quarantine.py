"""Retry of quarantine: a fault of the machine leaves no trace in a set, once its objects can be read."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from support.command_line import outcome
from support.damage import faults_of
from support.tiny_recipes import LOCAL, files, shards, strip_version, tiny

from inr_factory.errors import ResourceError, UsageError
from inr_factory.generation.execution import worker
from inr_factory.generation.execution.fit_dataset import fit_dataset
from inr_factory.generation.maintenance import retry_quarantine as module
from inr_factory.generation.maintenance.repair import repair_dataset
from inr_factory.generation.signals import Item, Signal, SignalError
from inr_factory.generation.sources import image_folder
from inr_factory.inr.pixel_grid import pixel_grid
from inr_factory.storage.manifest_file import load_manifest


@pytest.fixture
def recipe():
    source = {"collection": "image_folder", "mode": "grey"}
    return tiny(source=source, limit=None, views=2, shard_objects=4, splits={"val": 2, "test": 2})


@pytest.fixture
def pictures(tmp_path):
    for number in range(14):
        path = tmp_path / "data" / "ab"[number % 2] / f"{'long ' * (number % 3)}{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(number).integers(0, 255, (6, 6), dtype=np.uint8)).save(path)
    return tmp_path / "data"


def failing_for(*numbers):
    """A reader of images that fails for some of the pictures."""
    read = image_folder.file_signal

    def failing(path, *rest):
        if any(path.name.endswith(f"{number}.png") for number in numbers):
            raise SignalError("cannot be read: Input/output error")
        return read(path, *rest)

    return failing


@pytest.fixture
def hurt(recipe, pictures, tmp_path, monkeypatch):
    """A set as earlier versions made it where a disk failed, and the same set of a sound machine."""
    fit_dataset(recipe, tmp_path / "sound", data_root=pictures, **LOCAL)
    monkeypatch.setattr(image_folder, "file_signal", failing_for(0, 1, 3, 7))
    report = fit_dataset(recipe, tmp_path / "hurt", data_root=pictures, **LOCAL)
    assert len(report.quarantined) >= 8
    monkeypatch.undo()
    return tmp_path / "hurt", tmp_path / "sound"


@pytest.mark.parametrize("given", [True, False], ids=["given", "remembered"])
def test_a_set_becomes_the_one_of_a_sound_machine(given, hurt, pictures):
    broken, sound = hurt

    report = repair_dataset(broken, data_root=pictures if given else None, retry_quarantine=True, **LOCAL)

    assert report.recovered == 2 * 7
    assert report.manifest.quarantine == ()
    assert files(broken) == files(sound)
    assert not faults_of(broken)


def test_a_set_from_before_recipes_had_a_version_keeps_its_splits_and_columns(recipe, pictures, tmp_path, monkeypatch):
    recipe = recipe.model_copy(update={"version": 1})
    fit_dataset(recipe, tmp_path / "sound", data_root=pictures, **LOCAL)
    monkeypatch.setattr(image_folder, "file_signal", failing_for(0, 1, 3, 7))
    fit_dataset(recipe, tmp_path / "old", data_root=pictures, **LOCAL)
    monkeypatch.undo()
    strip_version(tmp_path / "old")

    report = repair_dataset(tmp_path / "old", data_root=pictures, retry_quarantine=True, **LOCAL)

    assert (report.recovered, report.manifest.quarantine) == (2 * 7, ())
    assert shards(tmp_path / "old") == shards(tmp_path / "sound")


def test_without_the_option_nothing_is_read_again(hurt, pictures):
    before = files(hurt[0])

    repair_dataset(hurt[0], data_root=pictures, **LOCAL)

    assert files(hurt[0]) == before


def test_what_the_file_says_stays_in_quarantine_and_changes_no_byte(recipe, pictures, tmp_path):
    (pictures / "a" / "0.png").write_bytes(b"no image")
    fit_dataset(recipe, tmp_path / "set", data_root=pictures, **LOCAL)
    before = files(tmp_path / "set")

    report = repair_dataset(tmp_path / "set", data_root=pictures, retry_quarantine=True, **LOCAL)

    assert (report.recovered, len(report.manifest.quarantine)) == (0, 2)
    assert files(tmp_path / "set") == before


@pytest.mark.parametrize("when", ["before", "after"], ids=["before the shard", "before its record"])
def test_the_record_is_right_at_every_instant_and_an_interrupted_run_resumes(hurt, pictures, when, monkeypatch):
    broken, sound = hurt
    write, calls = module.write_shard, []

    def killed(*arguments):
        recorded = {entry.path: entry for entry in load_manifest(broken).shards}
        for path, entry in recorded.items():
            assert (broken / path).stat().st_size == entry.bytes
        calls.append(arguments)
        if len(calls) == 2:
            if when == "after":
                write(*arguments)
            raise KeyboardInterrupt
        return write(*arguments)

    monkeypatch.setattr(module, "write_shard", killed)
    with pytest.raises(KeyboardInterrupt):
        repair_dataset(broken, data_root=pictures, retry_quarantine=True, **LOCAL)
    monkeypatch.undo()
    assert load_manifest(broken).missing(broken), "the shard that was being replaced has no record"

    report = repair_dataset(broken, data_root=pictures, retry_quarantine=True, **LOCAL)

    assert report.recorded == 1
    assert files(broken) == files(sound)


def test_a_machine_that_still_fails_ends_with_the_fault_and_keeps_the_rest(hurt, pictures, monkeypatch):
    broken, sound = hurt
    read = image_folder.file_signal

    def failing(path, *rest):
        if path.name.endswith("7.png"):
            raise OSError(5, "Input/output error")
        return read(path, *rest)

    monkeypatch.setattr(image_folder, "file_signal", failing)
    with pytest.raises(ResourceError, match=r"object .*7\.png cannot be read"):
        repair_dataset(broken, data_root=pictures, retry_quarantine=True, **LOCAL)
    monkeypatch.undo()
    assert not faults_of(broken)

    repair_dataset(broken, data_root=pictures, retry_quarantine=True, **LOCAL)
    assert files(broken) == files(sound)


def test_rows_of_others_keep_their_bytes(hurt, pictures, monkeypatch):
    """Also where this machine would fit them to other bits."""
    broken = hurt[0]
    before = {}
    for entry in load_manifest(broken).shards:
        shard = module.ShardReader(broken, entry)
        before |= {
            (name, entry.view): bytes(row) for name, row in zip(shard.object_ids, shard.column("weights"), strict=True)
        }
    fit_views = worker.fit_views
    monkeypatch.setattr(
        worker,
        "fit_views",
        lambda spec, keys, signals, config, seed, *rest: fit_views(spec, keys, signals, config, seed + 1, *rest),
    )

    report = repair_dataset(broken, data_root=pictures, retry_quarantine=True, **LOCAL)

    for entry in report.manifest.shards:
        shard = module.ShardReader(broken, entry)
        for name, row in zip(shard.object_ids, shard.column("weights"), strict=True):
            assert before.get((name, entry.view), bytes(row)) == bytes(row)


class Flaky:
    name, version, licence, fingerprint = "flaky", "1", "CC0", "0" * 16
    in_dim, out_dim, classes = 2, 1, ("a",)
    items = tuple(Item(f"o{number}", 0, ("train", "val", "test")[number // 2]) for number in range(6))

    def __init__(self, down):
        self.down = down

    def signal(self, index, view=0):
        if self.down and index in (1, 2, 3):
            raise SignalError("the store is down")
        return Signal(pixel_grid(4, 4), torch.linspace(0, 1, 16)[:, None] * (index + 1) / 6, facts={"n": index})


def test_a_source_written_in_python_is_retried_in_python(tmp_path):
    own = tiny(source={"collection": "own"}, limit=None, views=1)
    for out, down in (("broken", True), ("sound", False)):
        fit_dataset(own, tmp_path / out, source=Flaky(down), **LOCAL)

    with pytest.raises(UsageError, match="made in Python, from arrays or a Source"):
        repair_dataset(tmp_path / "broken", retry_quarantine=True, **LOCAL)
    repair_dataset(tmp_path / "broken", source=Flaky(False), retry_quarantine=True, **LOCAL)

    assert files(tmp_path / "broken") == files(tmp_path / "sound")


def test_the_command_says_how_many_left_the_quarantine(capsys, hurt, pictures, tmp_path):
    again = shutil.copytree(hurt[0], tmp_path / "again")

    code, out, _ = outcome(capsys, "repair", again, "--data-root", pictures, "--retry-quarantine", "--workers", 1)

    assert code == 0
    assert "left the quarantine, 0 stay in it" in out
