"""Local pool: workers in this process, or in spawned processes, without Ray."""

import contextlib
import multiprocessing
import signal
import traceback
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from inr_factory.errors import FactoryError, ResourceError, UsageError
from inr_factory.generation.execution.main_guard import UNGUARDED
from inr_factory.generation.execution.shard_plan import ShardTask
from inr_factory.generation.execution.worker import Worker
from inr_factory.generation.execution.worker_events import Deaths, Listener, Throttle


def run_local(worker: Worker, tasks: Iterable[ShardTask], count: int, listener: Listener) -> None:
    """Make the shards of all tasks with `count` workers: one in this process, several in processes of their own.

    A task is drawn when a worker is free for it. A worker that dies is replaced and its shard restarts. An error in a
    worker is raised here, and stops all.
    """
    if count == 1:
        for task in tasks:
            listener.done(task, worker.make(task, Throttle(partial(listener.progress, task))))
        return
    pending, deaths = iter(tasks), Deaths(listener)
    processes = [_WorkerProcess(_on_gpu(worker, number)) for number in range(count)]
    try:
        for process in processes:
            process.assign_next(pending)
        while any(process.task for process in processes):
            for process in _ready(processes):
                _handle(process, pending, listener, deaths)
    finally:
        for process in processes:
            process.kill()


def _on_gpu(worker: Worker, number: int) -> Worker:
    """The worker on a GPU of its own, if it fits on GPUs."""
    return replace(worker, device=f"cuda:{number}") if worker.device == "cuda" else worker


def _ready(processes: Sequence["_WorkerProcess"]) -> list["_WorkerProcess"]:
    """Wait for the first, then return all processes that have sent a message or died."""
    busy = [each for each in processes if each.task]
    ready = wait([part for each in busy for part in (each.pipe, each.process.sentinel)])
    return [each for each in busy if each.pipe in ready or each.process.sentinel in ready]


def _handle(process: "_WorkerProcess", pending: Iterator[ShardTask], listener: Listener, deaths: Deaths) -> None:
    task = process.task
    assert task is not None
    try:
        kind, content = process.pipe.recv()
    except (EOFError, OSError):
        process.process.join()
        if process.process.exitcode == UNGUARDED:
            raise UsageError(
                "worker processes import the script that starts them, and this script starts workers on import; put the "
                "call below `if __name__ == '__main__':`, or use workers=1"
            ) from None
        deaths.add(task, f"exit code {process.process.exitcode}")
        process.restart()
        process.assign(task)
        return
    if kind == "progress":
        listener.progress(task, content)
    elif kind == "done":
        listener.done(task, content)
        process.assign_next(pending)
    else:
        raise content


class _WorkerProcess:
    """A spawned process with a worker, and the shard that it makes."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.task: ShardTask | None = None
        self.restart()

    def restart(self) -> None:
        context = multiprocessing.get_context("spawn")  # threads of torch do not survive a fork
        self.pipe, child_end = context.Pipe()
        self.process: BaseProcess = context.Process(target=_serve, args=(child_end, self.worker), daemon=True)
        self.process.start()
        child_end.close()

    def assign_next(self, pending: Iterator[ShardTask]) -> None:
        self.task = None
        task = next(pending, None)
        if task is not None:
            self.assign(task)

    def assign(self, task: ShardTask) -> None:
        self.task = task
        with contextlib.suppress(BrokenPipeError):  # it is dead, as the next receive will show
            self.pipe.send(task)

    def kill(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()


def _serve(pipe: Connection, worker: Worker) -> None:
    """Make one shard after the other, until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the process group; the driver ends its workers

    def send(kind: str, content: Any) -> None:
        with contextlib.suppress(BrokenPipeError):
            pipe.send((kind, content))

    with contextlib.suppress(EOFError, OSError):
        while True:
            task = pipe.recv()
            try:
                entry = worker.make(task, Throttle(partial(send, "progress")))
            except FactoryError as error:
                send("error", error)
            except MemoryError as error:
                send("error", ResourceError(f"no memory for {task.path} ({error}); use fewer --workers"))
            except Exception:
                send("error", RuntimeError(f"worker failed at {task.path}:\n{traceback.format_exc()}"))
            else:
                send("done", entry)
