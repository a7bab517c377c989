"""Local pool: workers in this process, or in spawned processes, without Ray."""

import contextlib
import ctypes
import multiprocessing
import pickle
import signal
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from multiprocessing.connection import Connection, wait
from threading import Event, Lock, Thread
from time import monotonic
from typing import Any

import torch

from inr_factory.errors import FactoryError, ResourceError, UsageError, one_line
from inr_factory.generation.execution.main_guard import UNGUARDED
from inr_factory.generation.execution.scheduler import Scheduler, window_of
from inr_factory.generation.execution.shard_plan import ShardTask
from inr_factory.generation.execution.worker import Worker
from inr_factory.generation.execution.worker_events import Deaths, Listener, Throttle
from inr_factory.generation.fitting.tally import OnProgress, Tally

UNSENDABLE = (
    "the source{} cannot be sent to worker processes ({}): define its class in a module that can be imported and keep open "
    "files and functions out of its attributes, or use --backend local with --workers 1"
)
STOP_SECONDS = 10.0  # for threads to end at their next report of progress


def run_local(
    worker: Worker, tasks: Sequence[ShardTask], pending: Iterable[ShardTask], count: int, listener: Listener
) -> None:
    """Make the shards of `pending`, those of `tasks` that no other run makes, with `count` workers: one in this process,
    several in processes of their own.

    A shard is drawn when a worker is free for it. On a GPU a worker makes several at once, in threads, and the workers
    share the GPUs. A worker that dies is replaced and its shards restart. An error in a worker is raised here, and stops
    all. The listener is called from this thread only.
    """
    window, count = window_of(worker.device), min(count, len(tasks))
    if count == window == 1:
        for task in pending:
            listener.done(task, worker.make(task, Throttle(partial(listener.progress, task))))
        return
    scheduler: Scheduler[_Process] = Scheduler(pending, len(tasks), window)
    deaths = Deaths(listener)
    kind = _Threads if count == 1 else _Process
    processes = [kind(on_gpu(worker, number, count), window) for number in range(count)]
    try:
        for process in processes:
            process.assign(scheduler)
        while scheduler.remaining:
            for process in _ready(processes, scheduler):
                _handle(process, scheduler, listener, deaths)
    finally:
        for process in processes:
            process.stop()


def on_gpu(worker: Worker, number: int, count: int) -> Worker:
    """The worker on one of the machine's GPUs, in turn, unless its GPU is named; a single one on the current GPU."""
    if worker.device != "cuda":
        return worker
    gpu = torch.cuda.current_device() if count == 1 else number % torch.cuda.device_count()
    return replace(worker, device=f"cuda:{gpu}")


def _ready(processes: Sequence["_Process"], scheduler: "Scheduler[_Process]") -> list["_Process"]:
    """Wait for the first, then return all processes that have sent a message or died."""
    busy = [each for each in processes if scheduler.is_busy(each)]
    ready = wait([part for each in busy for part in each.signs])
    return [each for each in busy if not set(ready).isdisjoint(each.signs)]


def _handle(process: "_Process", scheduler: "Scheduler[_Process]", listener: Listener, deaths: Deaths) -> None:
    try:
        kind, task, content = process.pipe.recv()
    except (EOFError, OSError):
        exitcode = process.join()
        if exitcode == UNGUARDED:
            raise UsageError(
                "worker processes import the script that starts them, and this script starts workers on import; put the "
                "call below `if __name__ == '__main__':`, or use workers=1"
            ) from None
        deaths.add(scheduler.worker_died(process), f"exit code {exitcode}")
        process.start()
        process.assign(scheduler)
        return
    if kind == "progress":
        listener.progress(task, content)
    elif kind == "done":
        scheduler.done(process, task, monotonic())
        listener.done(task, content)
        process.assign(scheduler)
    else:
        raise content


class _Process:
    """A spawned process with a worker, which makes up to `window` shards at once."""

    def __init__(self, worker: Worker, window: int) -> None:
        self.worker, self.window = worker, window
        self.start()

    def start(self) -> None:
        context = multiprocessing.get_context("spawn")  # threads of torch do not survive a fork
        self.pipe, child_end = context.Pipe()
        try:
            pickled = pickle.dumps(self.worker)
        except Exception as error:  # of any kind: a source's own code may run
            raise UsageError(unsendable(self.worker, error)) from error
        self.process = context.Process(target=_run, args=(child_end, pickled, self.window), daemon=True)
        self.process.start()
        child_end.close()
        self.signs: list[Any] = [self.pipe, self.process.sentinel]

    def assign(self, scheduler: "Scheduler[_Process]") -> None:
        while (task := scheduler.assign(self, monotonic())) is not None:
            with contextlib.suppress(BrokenPipeError):  # it is dead, as the next receive will show
                self.pipe.send(task)

    def join(self) -> int | None:
        self.process.join()
        return self.process.exitcode

    def stop(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()


class _Threads(_Process):
    """A worker in threads of this process: with a pipe as a process has, but it cannot die."""

    def start(self) -> None:
        self.pipe, other_end = multiprocessing.Pipe()
        self.maker = _Maker(other_end, self.worker)
        self.threads = [Thread(target=self.maker, daemon=True) for _ in range(self.window)]
        for thread in self.threads:
            thread.start()
        self.signs = [self.pipe]

    def stop(self) -> None:
        """Wait until all threads have ended: those that wait by the closed pipe, others at their next report, and those
        that give none at their next line of Python. A process that exits while one of them computes aborts."""
        self.maker.stopping.set()
        self.pipe.close()
        deadline = monotonic() + STOP_SECONDS
        for thread in self.threads:
            thread.join(max(0.0, deadline - monotonic()))
            while thread.is_alive():
                _raise_in(thread, SystemExit)
                thread.join(1.0)


def unsendable(worker: Worker, error: Exception) -> str:
    """The message for a worker that cannot be pickled, which only a source of the user's can cause."""
    return UNSENDABLE.format(f" {type(worker.given_source).__name__}", one_line(error))


def _raise_in(thread: Thread, error: type[BaseException]) -> None:
    assert thread.ident is not None
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(error))


def _run(pipe: Connection, pickled: bytes, window: int) -> None:
    """What a process does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the process group; the driver ends its workers
    try:
        worker = pickle.loads(pickled)
    except Exception as error:  # such as a class that this process cannot import
        pipe.send(("error", None, UsageError(UNSENDABLE.format("", one_line(error)))))
        pipe.recv()  # until the driver has read it
        return
    maker = _Maker(pipe, worker)
    others = [Thread(target=maker, daemon=True) for _ in range(window - 1)]
    for thread in others:
        thread.start()
    maker()
    for thread in others:
        thread.join()


class _Maker:
    """Makes one shard after the other, in each thread that calls it, until the pipe closes. Its messages are
    (kind, task, content). Once `stopping` is set, the next report of a shard ends its thread."""

    def __init__(self, pipe: Connection, worker: Worker) -> None:
        self.pipe, self.worker, self.stopping = pipe, worker, Event()
        self.receiving, self.sending = Lock(), Lock()

    def __call__(self) -> None:
        with contextlib.suppress(EOFError, OSError, SystemExit):
            while True:
                with self.receiving:
                    task = self.pipe.recv()
                forward = Throttle(partial(self._send, "progress", task))
                self._send(*_outcome(self.worker, task, partial(self._report, forward)))

    def _report(self, forward: OnProgress, tally: Tally) -> None:
        if self.stopping.is_set():
            raise SystemExit
        forward(tally)

    def _send(self, kind: str, task: ShardTask, content: Any) -> None:
        with self.sending:
            self.pipe.send((kind, task, content))


def _outcome(worker: Worker, task: ShardTask, on_progress: OnProgress) -> tuple[str, ShardTask, Any]:
    """("done", task, its entry), or ("error", task, an error that can be sent)."""
    try:
        if worker.device.startswith("cuda:"):
            torch.cuda.set_device(worker.device)  # each thread has its own current device
        return "done", task, worker.make(task, on_progress)
    except FactoryError as error:
        return "error", task, error
    except (MemoryError, torch.OutOfMemoryError) as error:
        return "error", task, ResourceError(f"no memory for {task.path} ({error}); use fewer --workers")
    except Exception:
        return "error", task, RuntimeError(f"worker failed at {task.path}:\n{traceback.format_exc()}")
