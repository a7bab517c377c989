"""Workers of GPUs in processes and in Ray, by a stand-in that fits on the CPU: several shards at once, whoever dies."""

import os
import signal
import subprocess
import sys
import time

import pytest
from support import stand_in_gpu
from support.paths import ROOT
from support.stand_in_gpu import see_gpus, stand_in
from support.tiny_recipes import LOCAL, long, shards, tiny

from inr_factory.errors import ResourceError
from inr_factory.generation.execution.fit_dataset import fit_dataset
from inr_factory.generation.execution.local_pool import run_local
from inr_factory.generation.execution.ray_driver import Driver
from inr_factory.generation.execution.worker_events import Listener


@pytest.fixture(autouse=True)
def two_gpus(monkeypatch):
    see_gpus(monkeypatch, 2)
    stand_in_gpu.reset()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The shards of a stand-in that makes one at a time."""
    out = tmp_path_factory.mktemp("whole")
    worker, tasks = stand_in(tiny(), out)
    for task in tasks:
        worker.make(task)
    return shards(out)


def listen(deaths, made):
    return Listener(lambda *_: None, lambda task, _: made.append(task), lambda task, _: deaths.append(task))


def test_processes_make_several_shards_at_once_and_the_same_bytes(whole, tmp_path):
    worker, tasks = stand_in(tiny(shard_objects=2), tmp_path / "overlap", together=2, reached=tmp_path / "reached")
    made = []
    run_local(worker, tasks, tasks, 2, listen([], made))
    assert sorted(made, key=tasks.index) == tasks

    worker, tasks = stand_in(tiny(), tmp_path / "set")
    run_local(worker, tasks, tasks, 2, listen([], []))
    assert shards(tmp_path / "set") == whole


def test_a_deadly_shard_is_named_and_its_neighbours_run_again_alone(tmp_path):
    worker, tasks = stand_in(tiny(shard_objects=2), tmp_path)
    worker.deadly, deaths = tasks[6], []
    with pytest.raises(ResourceError, match=f"5 workers died at {tasks[6].path}"):
        run_local(worker, tasks, tasks, 2, listen(deaths, []))
    assert deaths.count(tasks[6]) > 5, "it did not die in company: the test shows nothing"
    assert all(deaths.count(task) == 1 for task in set(deaths) - {tasks[6]})


def test_ray_actors_share_a_gpu_and_each_makes_several_shards_at_once_and_the_same_bytes(whole, tmp_path, monkeypatch):
    import ray

    from inr_factory.generation.execution.ray_pool import run_ray

    started, on_started = [], Driver._on_started
    monkeypatch.setattr(Driver, "_on_started", lambda *given: (started.append(given[1]), on_started(*given)))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    listener = Listener(lambda *_: None, lambda *_: None, pytest.fail)
    paths = {"PYTHONPATH": os.pathsep.join([str(ROOT / "tests"), os.environ.get("PYTHONPATH", str(ROOT))])}
    ray.init(num_cpus=2, num_gpus=1, include_dashboard=False, logging_level="ERROR", runtime_env={"env_vars": paths})
    try:
        worker, tasks = stand_in(tiny(), tmp_path / "overlap", together=2)
        run_ray(worker, tasks, tasks, 1, None, listener)
        worker, tasks = stand_in(long(), tmp_path / "share")
        run_ray(worker, tasks, tasks, 2, None, listener)
    finally:
        ray.shutdown()
    assert shards(tmp_path / "overlap") == whole
    assert len(started) == 1 + 2


DRIVER = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # these tests may run where it is ignored
sys.path.insert(0, {tests!r})
import pytest
from support import tiny_recipes
from support.stand_in_gpu import StandIn, see_gpus
from inr_factory.cli import main
from inr_factory.generation.execution import fit_plan, run_fit
run_fit.Worker, run_fit.choose_device = StandIn, lambda name: "cuda"
fit_plan.load_recipe = lambda *_, **__: tiny_recipes.long()
see_gpus(pytest.MonkeyPatch(), 1)
if __name__ == "__main__":
    sys.exit(main.run(["fit", "digits", "--out", {out!r}, "--backend", "local", "--workers", "{workers}"]))
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_ends_threads_and_processes_with_130_and_leaves_a_set_that_resumes(tmp_path, workers):
    out = tmp_path / "set"
    (tmp_path / "driver.py").write_text(DRIVER.format(tests=str(ROOT / "tests"), out=str(out), workers=workers))
    driver = subprocess.Popen([sys.executable, tmp_path / "driver.py"], stderr=subprocess.PIPE, start_new_session=True)
    deadline = time.monotonic() + 120
    while len(list((out / "data").glob("*.h5"))) < 4:
        assert driver.poll() is None, driver.stderr.read().decode()
        assert time.monotonic() < deadline, "the driver made nothing"
        time.sleep(0.02)
    os.killpg(driver.pid, signal.SIGINT)
    driver.communicate(timeout=30)
    made = len(list((out / "data").glob("*.h5")))
    assert driver.returncode == 130

    report = fit_dataset(long(), out, **LOCAL)
    assert 0 < made < len(report.manifest.shards), "the driver was finished already: the test shows nothing"
    assert report.missing == 0
    assert not list((out / "data").glob(".*"))
