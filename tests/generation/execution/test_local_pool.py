"""Local pool, in threads of this process: several shards at once for a GPU, and one thread that listens.

A stand-in fits on the CPU; its processes are in tests/system/test_gpu_workers.py.
"""

import signal
import threading
import time

import pytest
from support import stand_in_gpu
from support.stand_in_gpu import MAKES, see_gpus, stand_in
from support.tiny_recipes import long, shards, tiny

from inr_factory.errors import ResourceError, UsageError
from inr_factory.generation.execution import local_pool
from inr_factory.generation.execution.local_pool import run_local
from inr_factory.generation.execution.worker_events import Listener


@pytest.fixture(autouse=True)
def one_gpu(monkeypatch):
    see_gpus(monkeypatch, 1)
    stand_in_gpu.reset()


class Recording:
    """A listener that keeps what it is called with, and refuses calls from other threads."""

    def __init__(self, progress=lambda task, tally: None):
        self.made = []
        self.listener = Listener(self._checked(progress), self._checked(self._done), pytest.fail)

    def _checked(self, function):
        def checked(*given):
            assert threading.current_thread() is threading.main_thread()
            function(*given)

        return checked

    def _done(self, task, entry):
        assert entry.path == task.path
        self.made.append(task)


def run(worker, tasks, count=1, **how):
    recording = Recording(**how)
    run_local(worker, tasks, tasks, count, recording.listener)
    return recording.made


def pool_threads():
    return [each for each in threading.enumerate() if each is not threading.main_thread() and each.is_alive()]


def test_a_gpu_makes_three_shards_at_once_and_the_bytes_are_those_of_one_at_a_time(tmp_path, monkeypatch):
    worker, tasks = stand_in(tiny(), tmp_path / "three", together=3)
    assert sorted(run(worker, tasks), key=tasks.index) == tasks
    assert MAKES["most"] == 3

    stand_in_gpu.reset()
    monkeypatch.setattr(local_pool, "window_of", lambda device: 1)
    worker, tasks = stand_in(tiny(), tmp_path / "one")
    assert run(worker, tasks) == tasks
    assert MAKES["most"] == 1
    assert shards(tmp_path / "three") == shards(tmp_path / "one")


def test_a_cpu_makes_one_shard_at_a_time_in_the_callers_thread(tmp_path):
    threads = []
    worker, tasks = stand_in(
        tiny(), tmp_path, device="cpu", before=lambda _: threads.append(threading.current_thread())
    )
    run(worker, tasks)
    assert set(threads) == {threading.main_thread()}


def test_no_thread_survives_a_run(tmp_path):
    before = pool_threads()
    run(*stand_in(tiny(), tmp_path))
    assert set(pool_threads()) <= set(before)


@pytest.mark.parametrize(
    ("error", "kind", "match"),
    [
        (UsageError("another source"), UsageError, "another source"),
        (KeyError("x"), RuntimeError, r"worker failed at data/test.*\n(.*\n)*KeyError: 'x'"),
        (MemoryError("8 GB"), ResourceError, r"no memory for data/test.*8 GB"),
    ],
    ids=["usage", "internal", "memory"],
)
def test_the_first_error_of_a_thread_ends_the_run_and_keeps_what_was_made(tmp_path, error, kind, match):
    def fail(task):
        if task == tasks[4]:
            raise error

    worker, tasks = stand_in(tiny(), tmp_path, before=fail)
    with pytest.raises(kind, match=match):
        run(worker, tasks)
    assert (tmp_path / tasks[0].path).exists()
    assert not (tmp_path / tasks[4].path).exists()


def test_an_interrupted_run_ends_the_threads_in_the_middle_of_their_shards(tmp_path):
    def interrupt(task, tally):
        raise KeyboardInterrupt

    before = pool_threads()
    worker, tasks = stand_in(long(), tmp_path, before=lambda task: time.sleep(0.2))
    with pytest.raises(KeyboardInterrupt):
        run(worker, tasks, progress=interrupt)
    assert set(pool_threads()) <= set(before)
    assert len(list(tmp_path.glob("data/*.h5"))) < len(tasks)
    assert not list(tmp_path.glob("data/.*"))


def test_an_interrupted_run_ends_threads_that_read(tmp_path, monkeypatch):
    """Objects that are read one by one, each of them slowly."""
    worker, tasks = stand_in(long(), tmp_path)
    signal_of, read = worker.source.signal, []

    def slowly(index, view=0):
        read.append(index)
        if len(worker.plan.blocks[tasks[0].split][tasks[0].block]) < len(read):
            time.sleep(0.1)
        return signal_of(index, view)

    monkeypatch.setattr(type(worker.source), "signal_stack", lambda self, indices, view=0: None)
    monkeypatch.setattr(worker.source, "signal", slowly)
    monkeypatch.setattr(local_pool, "STOP_SECONDS", 1e9)

    def interrupt(task, entry):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_local(worker, tasks, tasks, 1, Listener(lambda *_: None, interrupt, pytest.fail))
    assert len(read) < sum(map(len, worker.plan.blocks[tasks[0].split]))


def test_an_interrupted_run_ends_threads_that_report_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(local_pool, "STOP_SECONDS", 0.1)

    def report_nothing(task):
        while task != tasks[0]:
            time.sleep(0.01)

    def interrupt(task, entry):
        signal.setitimer(signal.ITIMER_REAL, 0.3)

    before = pool_threads()
    worker, tasks = stand_in(tiny(), tmp_path, before=report_nothing)
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    with pytest.raises(KeyboardInterrupt):
        run_local(worker, tasks, tasks, 1, Listener(lambda *_: None, interrupt, pytest.fail))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    assert set(pool_threads()) <= set(before)


def test_workers_take_the_gpus_in_turn_unless_one_is_named(tmp_path, monkeypatch):
    def devices(device, count):
        worker, _ = stand_in(tiny(), tmp_path, device=device)
        return [local_pool.on_gpu(worker, number, count).device for number in range(count)]

    assert devices("cuda", 2) == ["cuda:0", "cuda:0"]
    assert devices("cuda:1", 3) == ["cuda:1"] * 3
    assert devices("cpu", 2) == ["cpu", "cpu"]
    see_gpus(monkeypatch, 2)
    assert devices("cuda", 3) == ["cuda:0", "cuda:1", "cuda:0"]
    monkeypatch.setattr("torch.cuda.current_device", lambda: 1)
    assert devices("cuda", 1) == ["cuda:1"]


def test_each_thread_sets_its_device(tmp_path, monkeypatch):
    chosen = []
    monkeypatch.setattr("torch.cuda.set_device", lambda device: chosen.append((threading.current_thread(), device)))
    run(*stand_in(tiny(), tmp_path, together=3))
    assert {device for _, device in chosen} == {"cuda:0"}
    assert len({thread for thread, _ in chosen}) >= 3
