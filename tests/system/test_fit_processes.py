"""Fits with several processes and with Ray: the same bytes as one process, whoever dies."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from support.paths import ROOT
from support.tiny_recipes import LOCAL, files, long, processes_named, tiny

from inr_factory.errors import ResourceError, UsageError
from inr_factory.generation.execution.fit_dataset import fit_dataset
from inr_factory.generation.execution.local_pool import run_local
from inr_factory.generation.execution.shard_plan import ShardTask
from inr_factory.generation.execution.worker import Worker
from inr_factory.generation.execution.worker_events import Listener
from inr_factory.generation.signals import Item, Signal
from inr_factory.inr.pixel_grid import pixel_grid


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


@pytest.mark.parametrize("workers", [2, 3])
def test_local_processes_make_the_same_bytes_as_one(whole, tmp_path, workers):
    fit_dataset(tiny(), tmp_path / "set", backend="local", workers=workers)
    assert files(tmp_path / "set") == files(whole)


@pytest.mark.parametrize("workers", [1, 2])
def test_ray_actors_make_the_same_bytes_as_one_process(whole, tmp_path, workers, ray_cluster):
    fit_dataset(tiny(), tmp_path / "set", backend="ray", workers=workers)
    assert files(tmp_path / "set") == files(whole)


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
    tasks = [ShardTask("train", 0, block) for block in range(2)]
    with pytest.raises(ResourceError, match=r"5 workers died at data/train-view000-0000[01]\.h5"):
        run_local(worker, tasks, tasks, 2, listener)
    assert 5 <= len(deaths) <= 9


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
@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGINT])
def test_a_driver_that_is_killed_leaves_a_set_that_the_next_run_completes(long_whole, tmp_path, backend, signal_number):
    out = tmp_path / "set"
    script = DRIVER.format(tests=str(ROOT / "tests"), out=str(out), backend=backend)
    (tmp_path / "driver.py").write_text(script)
    driver = subprocess.Popen([sys.executable, tmp_path / "driver.py"], stderr=subprocess.PIPE, start_new_session=True)
    deadline = time.monotonic() + 120
    while len(list((out / "data").glob("*.h5"))) < 4:
        assert driver.poll() is None, driver.stderr.read().decode()
        assert time.monotonic() < deadline, "the driver made nothing"
        time.sleep(0.02)
    os.kill(driver.pid, signal_number)
    driver.communicate(timeout=60)
    assert driver.returncode != 0
    made = len(list((out / "data").glob("*.h5")))

    report = fit_dataset(long(), out, **LOCAL)

    assert 0 < made < len(report.manifest.shards), "the driver was finished already: the test shows nothing"
    assert files(out) == files(long_whole)


def _children(pid):
    """Process ids of the processes that a process started with multiprocessing."""
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in text.split() if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]


def test_a_script_without_a_main_guard_is_refused(tmp_path):
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


def test_a_finished_set_is_recognised_without_torch(whole):
    script = (
        "import sys\n"
        "from inr_factory.generation.execution.fit_dataset import fit_dataset\n"
        "from inr_factory.generation.recipe import check_recipe\n"
        f"recipe = check_recipe({tiny().model_dump(mode='json')!r}, 'test')\n"
        f"report = fit_dataset(recipe, {str(whole)!r}, backend='local')\n"
        "print(report.made, report.missing, 'torch' in sys.modules, 'h5py' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=100)
    assert done.stdout == "0 0 False False\n"


class Locked:
    """A source that cannot be pickled, or not be unpickled, as one of a notebook's is."""

    name, version, licence, fingerprint = "locked", "1", "CC0", "0" * 16
    in_dim, out_dim, classes = 2, 1, ("a",)
    items = tuple(Item(f"o{number}", 0, None) for number in range(12))

    def __init__(self, how):
        self.how = how

    def signal(self, index, view=0):
        return Signal(pixel_grid(4, 4), torch.linspace(0, 1, 16)[:, None] * (index + 1) / 12)

    def __reduce__(self):
        return (_elsewhere, (self.how,)) if self.how == "unpickled" else (lambda: None, ())


def _elsewhere(how):
    raise AttributeError("module '__main__' has no attribute 'Locked'")


@pytest.mark.parametrize("how", ["pickled", "unpickled"])
def test_a_source_that_cannot_be_sent_to_processes_is_refused_in_one_line(tmp_path, how):
    own = tiny(source={"collection": "own"}, limit=None, views=1)

    with pytest.raises(UsageError, match=r"^the source.* cannot be sent to worker processes \(.*--workers 1$"):
        fit_dataset(own, tmp_path / "set", source=Locked(how), backend="local", workers=2)

    assert fit_dataset(own, tmp_path / "set", source=Locked(how), backend="local", workers=1).manifest.rows == 12
