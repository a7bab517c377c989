"""Factory: the same shards for any backend and number of workers, and after any interruption."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from support.paths import ROOT
from support.tiny_recipes import LOCAL, files, long, processes_named, shards, tiny

from inr_factory.errors import IntegrityError, ResourceError, UsageError
from inr_factory.generation.execution.estimate import estimate
from inr_factory.generation.execution.fit_dataset import fit_dataset
from inr_factory.generation.execution.local_pool import run_local
from inr_factory.generation.execution.worker import Worker
from inr_factory.generation.execution.worker_events import Listener
from inr_factory.generation.sources import registry
from inr_factory.storage.manifest import MANIFEST
from inr_factory.storage.manifest_file import load_manifest


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A complete set, made without interruption."""
    out = tmp_path_factory.mktemp("whole") / "set"
    fit_dataset(tiny(), out, **LOCAL)
    return out


@pytest.fixture(scope="module")
def ray_cluster():
    from inr_factory.generation.execution.ray_pool import connected

    with connected(None, num_cpus=2) as ray:
        yield ray


def test_a_set_has_every_view_of_every_object_once(whole):
    manifest = load_manifest(whole)
    assert manifest.rows == 48
    assert not manifest.missing(whole)
    assert {split: counts.objects for split, counts in manifest.splits.items()} == {"train": 17, "val": 2, "test": 5}
    assert sorted(entry.path for entry in manifest.shards) == sorted(shards(whole))


@pytest.mark.parametrize("workers", [2, 3])
def test_local_processes_make_the_same_bytes_as_one(whole, tmp_path, workers):
    fit_dataset(tiny(), tmp_path / "set", backend="local", workers=workers)
    assert files(tmp_path / "set") == files(whole)


@pytest.mark.parametrize("workers", [1, 2])
def test_ray_actors_make_the_same_bytes_as_one_process(whole, tmp_path, workers, ray_cluster):
    fit_dataset(tiny(), tmp_path / "set", backend="ray", workers=workers)
    assert files(tmp_path / "set") == files(whole)


def test_a_finished_set_is_not_touched_and_its_source_not_read(whole, monkeypatch):
    before = {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in whole.rglob("*")}
    monkeypatch.setattr(registry, "open_source", lambda *_: pytest.fail("the source was opened"))

    report = fit_dataset(tiny(), whole, **LOCAL)

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

    report = fit_dataset(recipe, tmp_path / "set", backend="local", workers=1, data_root=tmp_path / "images")

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
    with pytest.raises(ResourceError, match="free some space"):
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


def test_a_worker_that_is_killed_is_replaced_and_the_set_is_the_same(whole, tmp_path, monkeypatch):
    out, killed, notes = tmp_path / "set", [], []

    def kill_one(state):
        notes[:] = state.notes
        children = _children(os.getpid())
        if state.tally.done > 3 and not killed and children:
            killed.append(children[-1])
            os.kill(children[-1], signal.SIGKILL)

    fit_dataset(tiny(), out, backend="local", workers=2, on_progress=kill_one)

    assert killed
    assert files(out) == files(whole)


def test_an_actor_that_is_killed_is_replaced_and_the_set_is_the_same(long_whole, tmp_path, ray_cluster):
    out, killed = tmp_path / "set", []

    def kill_one(state):
        actors = [pid for pid in processes_named("ray::_Actor") if pid not in killed]
        if len(killed) < 2 and state.tally.done >= 40 * (len(killed) + 1) and actors:
            killed.append(actors[0])
            os.kill(actors[0], signal.SIGKILL)

    fit_dataset(long(), out, backend="ray", workers=2, on_progress=kill_one)

    assert killed
    assert files(out) == files(long_whole)


def test_a_shard_that_kills_every_worker_is_given_up(tmp_path):
    deaths = []
    worker = Worker(tiny(), None, tmp_path, "cpu", "")
    object.__setattr__(worker, "recipe", _Deadly())
    listener = Listener(lambda *_: None, lambda *_: pytest.fail("it was made"), lambda task, why: deaths.append(why))
    from inr_factory.generation.execution.shard_plan import ShardTask

    with pytest.raises(ResourceError, match=r"5 workers died at data/train-view000-00000\.h5"):
        run_local(worker, [ShardTask("train", 0, 0)], 2, listener)
    assert len(deaths) == 5


class _Deadly:
    """Ends the process that unpickles it."""

    def __reduce__(self):
        return (os._exit, (9,))


def test_an_error_in_a_worker_process_reaches_the_caller_as_it_is(tmp_path):
    how = {"backend": "local", "workers": 2, "data_root": tmp_path}
    recipe = tiny(source={"collection": "image_folder"})
    with pytest.raises(UsageError):
        fit_dataset(recipe, tmp_path / "set", **how)


DRIVER = """
import pathlib, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # these tests may run where it is ignored
sys.path.insert(0, {tests!r})
from support.tiny_recipes import long
from inr_factory.generation.execution.fit_dataset import fit_dataset
if __name__ == "__main__":
    fit_dataset(long(), pathlib.Path({out!r}), backend={backend!r}, workers=2)
"""


@pytest.mark.parametrize("backend", ["local", "ray"])
@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGINT])
def test_a_driver_that_is_struck_down_leaves_a_set_that_the_next_run_completes(long_whole, tmp_path, backend, blow):
    out = tmp_path / "set"
    script = DRIVER.format(tests=str(ROOT / "tests"), out=str(out), backend=backend)
    (tmp_path / "driver.py").write_text(script)
    driver = subprocess.Popen([sys.executable, tmp_path / "driver.py"], stderr=subprocess.PIPE, start_new_session=True)
    deadline = time.monotonic() + 120
    while len(list((out / "data").glob("*.h5"))) < 4:
        assert driver.poll() is None, driver.stderr.read().decode()
        assert time.monotonic() < deadline, "the driver made nothing"
        time.sleep(0.02)
    os.kill(driver.pid, blow)
    driver.communicate(timeout=60)
    assert driver.returncode != 0
    made = len(list((out / "data").glob("*.h5")))

    report = fit_dataset(long(), out, **LOCAL)

    assert 0 < made < len(report.manifest.shards), "the driver was finished already: the test shows nothing"
    assert files(out) == files(long_whole)


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


@pytest.mark.parametrize(
    ("shard", "message"),
    [("3/3", "counts from 0"), ("0/0", "counts from 0"), ("-1/2", "takes i/n"), ("2", "takes i/n")],
)
def test_a_part_outside_the_parts_is_refused(tmp_path, shard, message):
    with pytest.raises(UsageError, match=message):
        fit_dataset(tiny(), tmp_path / "set", shard=shard)


def _children(pid):
    """Process ids of the processes that a process started with multiprocessing."""
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in text.split() if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]


def test_a_script_without_a_guard_is_told_so(tmp_path):
    script = tmp_path / "mine.py"
    script.write_text(
        "from pathlib import Path\n"
        "from inr_factory.generation.execution.fit_dataset import fit_dataset\n"
        "from inr_factory.generation.recipe import load_recipe\n"
        "recipe = load_recipe('digits', ['limit=8', 'fit.engine=none', 'shard_objects=2'])\n"
        "fit_dataset(recipe, Path(__file__).parent / 'set', backend='local', workers=2)\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False, timeout=200)
    assert "if __name__ == '__main__'" in done.stderr.splitlines()[-1]
    assert done.stderr.count("Traceback") == 1
