"""Factory: the same shards for any backend and number of workers, and after any interruption."""

import json
import os
import shutil
import threading
import warnings
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from support import stand_in_gpu
from support.damage import SHARD, alter
from support.stand_in_gpu import see_gpus
from support.tiny_recipes import LOCAL, files, shards, tiny

from inr_factory.cli.main import run
from inr_factory.errors import IntegrityError, QuarantineWarning, ResourceError, UsageError
from inr_factory.generation.execution import estimate as module
from inr_factory.generation.execution import probe, run_fit
from inr_factory.generation.execution.estimate import estimate
from inr_factory.generation.execution.fit_dataset import fit_dataset
from inr_factory.generation.execution.probe import probe_plan
from inr_factory.generation.execution.shard_plan import make_shard_plan
from inr_factory.generation.execution.worker import Worker
from inr_factory.generation.fitting import fused_cpu
from inr_factory.generation.fitting.tally import Tally
from inr_factory.generation.recipe import load_recipe
from inr_factory.generation.sources import registry
from inr_factory.generation.sources.registry import open_source
from inr_factory.storage.manifest import MANIFEST
from inr_factory.storage.manifest_file import load_manifest
from inr_factory.storage.run_log import LOG_FOLDER


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A complete set, made without interruption."""
    out = tmp_path_factory.mktemp("whole") / "set"
    fit_dataset(tiny(), out, **LOCAL)
    return out


def test_a_set_has_every_view_of_every_object_once(whole):
    manifest = load_manifest(whole)
    assert manifest.rows == 48
    assert not manifest.missing(whole)
    assert {split: counts.objects for split, counts in manifest.splits.items()} == {"train": 17, "val": 2, "test": 5}
    assert sorted(entry.path for entry in manifest.shards) == sorted(shards(whole))


def test_a_finished_set_is_not_touched_and_its_source_not_read(whole, monkeypatch):
    before = {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in whole.rglob("*")}
    monkeypatch.setattr(registry, "open_source", lambda *_: pytest.fail("the source was opened"))

    report = fit_dataset(tiny(), whole, **LOCAL)
    assert len(repr(report)) < 1000  # a line, without the recipe and all shards

    assert (report.made, report.recovered, report.missing) == (0, 0, 0)
    assert {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in whole.rglob("*")} == before


def test_more_views_leave_those_there_are_as_they_are(whole, tmp_path):
    out = tmp_path / "set"
    fit_dataset(tiny(views=1), out, **LOCAL)
    first = {name: (out / name).stat().st_mtime_ns for name in shards(out)}

    report = fit_dataset(tiny(views=2), out, **LOCAL)

    assert report.inrs == 24
    assert {name: (out / name).stat().st_mtime_ns for name in first} == first
    assert files(out) == files(whole)


def test_fewer_views_than_there_are_ask_for_nothing(whole):
    report = fit_dataset(tiny(views=1), whole, **LOCAL)
    assert report.made == 0
    assert load_manifest(whole).views == 2


def test_a_shard_that_was_deleted_is_made_again_and_the_others_stay(whole, tmp_path):
    out = tmp_path / "set"
    fit_dataset(tiny(), out, **LOCAL)
    victim = "data/train-view001-00001.h5"
    (out / victim).unlink()
    times = {name: (out / name).stat().st_mtime_ns for name in shards(out)}

    report = fit_dataset(tiny(), out, **LOCAL)

    assert report.made == 1
    assert {name: (out / name).stat().st_mtime_ns for name in times} == times
    assert files(out) == files(whole)


def test_a_whole_shard_without_a_record_is_adopted_and_a_broken_one_made_again(whole, tmp_path):
    out = tmp_path / "set"
    fit_dataset(tiny(), out, **LOCAL)
    manifest = load_manifest(out)
    kept = [entry for entry in manifest.shards if entry.view == 0]
    (out / MANIFEST).write_text(manifest.model_copy(update={"shards": tuple(kept)}).to_json())
    broken = out / "data/test-view001-00000.h5"
    broken.write_bytes(broken.read_bytes()[:-100])
    edited = out / "data/val-view001-00000.h5"
    content = bytearray(edited.read_bytes())
    content[-1000] ^= 1
    edited.write_bytes(content)

    report = fit_dataset(tiny(), out, **LOCAL)

    assert report.made >= 1
    assert report.made + report.recovered == len(manifest.shards) - len(kept)
    assert report.recovered >= 3
    assert files(out) == files(whole)


def test_a_shard_of_another_recipe_is_not_adopted(whole, tmp_path):
    foreign, out = tmp_path / "foreign", tmp_path / "set"
    fit_dataset(tiny(seed=1), foreign, **LOCAL)
    (out / "data").mkdir(parents=True)
    for name, content in shards(foreign).items():
        (out / name).write_bytes(content)

    report = fit_dataset(tiny(), out, **LOCAL)

    assert report.recovered == 0
    assert files(out) == files(whole)


def test_parts_of_an_array_job_make_the_set_together(whole, tmp_path):
    out = tmp_path / "set"
    reports = [fit_dataset(tiny(), out, backend="local", workers=1, shard=f"{number}/3") for number in range(3)]
    assert [report.missing for report in reports] == [10 - 4, 10 - 7, 0]
    assert files(out) == files(whole)


def test_the_folder_of_another_recipe_is_refused_and_left_alone(whole):
    before = files(whole)
    with pytest.raises(UsageError, match=r"another recipe \(tiny: fit\.steps is 11 here, 10 there\)"):
        fit_dataset(tiny(fit={"steps": 11, "floor_psnr": 0, "lanes": 4}), whole, **LOCAL)
    assert files(whole) == before


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "set").write_text("mine")
    with pytest.raises(UsageError, match="is a file"):
        fit_dataset(tiny(), tmp_path / "set", **LOCAL)
    assert (tmp_path / "set").read_text() == "mine"


def test_other_data_than_a_set_was_begun_with_are_refused(tmp_path):
    from PIL import Image

    def paint(shade):
        for number in range(12):
            folder = tmp_path / "images" / "ab"[number % 2]
            folder.mkdir(parents=True, exist_ok=True)
            Image.new("L", (4 + shade, 4), number * 9).save(folder / f"{number}.bmp")

    paint(0)
    recipe = tiny(source={"collection": "image_folder", "mode": "grey"}, limit=None, views=1)
    how = {"backend": "local", "workers": 1, "data_root": tmp_path / "images"}
    fit_dataset(recipe, tmp_path / "set", **how)
    paint(20)
    with pytest.raises(IntegrityError, match="begun with other"):
        fit_dataset(recipe.model_copy(update={"views": 2}), tmp_path / "set", **how)


def test_a_broken_image_is_in_quarantine_by_name_and_the_others_are_fitted(tmp_path):
    from PIL import Image

    for number in range(10):
        folder = tmp_path / "images" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4), number * 20).save(folder / f"{number}.png")
    (tmp_path / "images/a/0.png").write_bytes(b"not an image")
    recipe = tiny(source={"collection": "image_folder", "mode": "grey"}, limit=None)

    where = {"backend": "local", "workers": 1, "data_root": tmp_path / "images"}
    with pytest.warns(QuarantineWarning, match=r"^10.0% of .*_threshold 1.0%; the reason of 2 of 2, as of a/0.png: "):
        report = fit_dataset(recipe, tmp_path / "set", **where)
    with warnings.catch_warnings(action="error", category=QuarantineWarning):
        fit_dataset(recipe, tmp_path / "other", settings=["quarantine_threshold=0.2"], **where)

    assert report.manifest.rows == 18
    assert [(row.object_id, row.view) for row in report.manifest.quarantine] == [("a/0.png", 0), ("a/0.png", 1)]
    assert report.manifest.quarantine[0].reason


def test_progress_ends_with_every_inr_counted(tmp_path):
    seen = []
    fit_dataset(
        tiny(), tmp_path / "set", **LOCAL, on_progress=lambda state: seen.append((state.tally.done, state.inrs))
    )
    assert seen[0] == (0, 48)
    assert seen[-1] == (48, 48)
    assert all(done <= total for done, total in seen)


def test_too_little_disk_is_told_before_anything_is_fitted(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    with pytest.raises(ResourceError, match=r"about 0\.\d MB, .* has 0\.0 MB free; free some space"):
        fit_dataset(tiny(), tmp_path / "set", **LOCAL)
    assert not list(tmp_path.rglob("*.h5"))


def test_a_full_disk_ends_the_run_and_leaves_what_is_complete(whole, tmp_path, monkeypatch):
    from inr_factory.storage import atomic_files

    out, real, calls = tmp_path / "set", os.fsync, []

    def full(handle):
        calls.append(handle)
        if 8 < len(calls) < 12:
            raise OSError(28, "No space left on device")
        real(handle)

    monkeypatch.setattr(atomic_files.os, "fsync", full)
    with pytest.raises(ResourceError, match="disk is full"):
        fit_dataset(tiny(), out, **LOCAL)
    monkeypatch.undo()

    assert not [name for name in files(out) if name.endswith(".tmp")]
    made = shards(out)
    assert made
    assert made.items() < shards(whole).items()
    fit_dataset(tiny(), out, **LOCAL)
    assert files(out) == files(whole)


def test_two_runs_at_once_make_one_whole_set(whole, tmp_path):
    out, errors = tmp_path / "set", []

    def make():
        try:
            fit_dataset(tiny(), out, **LOCAL)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=make) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert files(out) == files(whole)


def test_an_estimate_counts_what_is_missing_and_writes_nothing(whole, tmp_path):
    fresh = estimate(tiny(), tmp_path / "set", **LOCAL)
    assert (fresh.inrs, fresh.shards, fresh.objects) == (48, 10, {"train": 17, "val": 2, "test": 5})
    assert fresh.seconds is not None
    assert fresh.seconds > 0
    assert not (tmp_path / "set").exists()
    size = sum(len(content) for content in shards(whole).values())
    assert 0.3 * size < fresh.bytes < 3 * size
    done = estimate(tiny(), whole, **LOCAL)
    assert (done.inrs, done.seconds) == (0, None)


def test_an_estimate_for_a_gpu_fits_what_it_fits_side_by_side_and_counts_gpus_not_workers(tmp_path, monkeypatch):
    fits, now = [], [0.0]

    def fit(spec, keys, signals, config, seed, device, watch):
        fits.append(len(keys))
        now[0] += 1.0
        watch(Tally(len(keys)))
        return SimpleNamespace(psnr=np.zeros(len(keys)), status=np.zeros(len(keys)), failures=())

    see_gpus(monkeypatch, 2)
    monkeypatch.setattr(module, "choose_device", lambda _: "cuda")
    monkeypatch.setattr(probe, "fit_views", fit)
    monkeypatch.setattr(probe, "monotonic", lambda: now[0])

    reports = [estimate(tiny(), tmp_path / "set", backend="local", workers=count) for count in (1, 2, 6)]

    assert fits == [7, 21] * 3, "7 objects a shard, of which a GPU makes three at once"
    assert [report.inrs_per_second for report in reports] == [21, 42, 42]
    assert [report.workers for report in reports] == [1, 2, 6]


@pytest.mark.parametrize(
    ("shard", "message"),
    [("3/3", "counts from 0"), ("0/0", "counts from 0"), ("-1/2", "takes i/n"), ("2", "takes i/n")],
)
def test_a_part_outside_the_parts_is_refused(tmp_path, shard, message):
    with pytest.raises(UsageError, match=message):
        fit_dataset(tiny(), tmp_path / "set", shard=shard)


@pytest.fixture
def copy(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "copy")


def test_without_its_manifest_a_set_goes_on_for_its_own_recipe_and_for_no_other(whole, copy):
    (copy / MANIFEST).unlink()
    with pytest.raises(UsageError, match=r"holds a set of another recipe .*seed"):
        fit_dataset(tiny(seed=1), copy, **LOCAL)

    report = fit_dataset(tiny(), copy, **LOCAL)

    assert (report.made, report.missing) == (0, 0)
    assert files(copy) == files(whole)


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


def test_a_fit_on_a_gpu_says_which_engine_fitted(tmp_path, monkeypatch, capsys):
    see_gpus(monkeypatch, 1)
    stand_in_gpu.reset()
    monkeypatch.setattr(run_fit, "Worker", stand_in_gpu.StandIn)
    monkeypatch.setattr(run_fit, "choose_device", lambda name: "cuda")
    monkeypatch.setattr(fused_cpu, "obstacle", lambda spec: "its kernel fails its self-check")
    arguments = ["fit", "digits", "--limit", "20", "--set", "fit.steps=5", "--set", "fit.floor_psnr=-99"]
    assert run([*arguments, "--backend", "local", "--workers", "1", "--out", str(tmp_path / "set")]) == 0
    assert "fitted by batched on cuda" in capsys.readouterr().out
    (log,) = (tmp_path / "set" / LOG_FOLDER).iterdir()
    assert list(json.loads(log.read_text().splitlines()[-1])["made_by"]) == ["batched on cuda"]


def test_a_dry_run_of_slow_fits_says_what_the_finished_ones_reach(tmp_path, monkeypatch, capsys):
    def slow(plan, device, inrs, limit):
        probe = probe_plan(plan, device, inrs, limit)
        return replace(probe, fitted=None, seconds=3.0) if inrs == 16 else probe

    monkeypatch.setattr("inr_factory.generation.execution.estimate.probe_plan", slow)
    report = estimate(tiny(), tmp_path / "set", **LOCAL)
    assert (report.probed, report.finished) == (7, 2)
    assert report.psnr is not None
    assert run(["fit", "digits", "--dry-run", "--out", str(tmp_path / "set"), "--backend", "local"]) == 0
    assert " dB, by 2 INRs" in capsys.readouterr().out


def test_a_dry_run_says_what_its_probe_reaches_and_counts_the_start(tmp_path):
    good = estimate(tiny(), tmp_path / "set", **LOCAL)
    assert good.reached is not None
    assert 0 <= good.reached <= 1
    assert good.seconds >= 5
    assert good.core_hours == pytest.approx(good.inrs / good.inrs_per_second / 3600, rel=0.01)
    bad = load_recipe(tiny(), ["fit.floor_psnr=150", "fit.target_psnr=190", "fit.attempts=1"])
    report = estimate(bad, tmp_path / "set", **LOCAL)
    assert report.reached == 0
    assert report.psnr < 150
    assert "try" in report.advice
