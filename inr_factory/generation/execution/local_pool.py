"""Local pool: workers in this process, or in a few processes beside it, without Ray."""

import contextlib
import multiprocessing
import os
import signal
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from time import monotonic
from typing import Any

from inr_factory.errors import FactoryError, ResourceError, UsageError
from inr_factory.generation.execution.shard_plan import ShardTask
from inr_factory.generation.execution.worker import Worker
from inr_factory.generation.fitting.tally import Tally
from inr_factory.storage.manifest import ShardEntry

MAX_DEATHS = 5
UNGUARDED = 77  # exit code of a worker that was started by a script without a guard

OnProgress = Callable[[ShardTask, Tally], None]
OnDone = Callable[[ShardTask, ShardEntry], None]
OnDeath = Callable[[ShardTask, str], None]


@dataclass(frozen=True)
class Listener:
    """Who is told how shards come along: (task, tally of it), (task, entry), (task, what happened)."""

    progress: OnProgress
    done: OnDone
    death: OnDeath


class Deaths:
    """Workers that died, by the shard they were at; gives up on a shard that takes one after the other with it."""

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self.counts: Counter[ShardTask] = Counter()

    def add(self, task: ShardTask, reason: str) -> None:
        self.counts[task] += 1
        self.listener.death(task, reason)
        if self.counts[task] >= MAX_DEATHS:
            raise ResourceError(
                f"{MAX_DEATHS} workers died at {task.path} ({reason}); out of memory? "
                "try fewer --workers or a smaller --set shard_objects in another --out"
            )


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def end_if_starting() -> None:
    """End a worker process that is only just reading the script that called for it, and in it calls for workers again."""
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        os._exit(UNGUARDED)


def run_local(worker: Worker, tasks: Iterable[ShardTask], count: int, listener: Listener) -> None:
    """Make the shards of all tasks with `count` workers: one in this process, several in processes of their own.

    The next task is taken when a worker is free for it. A worker that dies is replaced and its shard begun anew. An error in a worker is raised here, and stops all.
    """
    if count == 1:
        for task in tasks:
            listener.done(task, worker.make(task, Throttle(partial(listener.progress, task))))
        return
    waiting, deaths = iter(tasks), Deaths(listener)
    members = [_Member(_placed(worker, number)) for number in range(count)]
    try:
        for member in members:
            member.give(waiting)
        while any(member.task for member in members):
            for member in _ready(members):
                _listen(member, waiting, listener, deaths)
    finally:
        for member in members:
            member.end()


def _placed(worker: Worker, number: int) -> Worker:
    """The worker on a GPU of its own, where it works on GPUs."""
    return replace(worker, device=f"cuda:{number}") if worker.device == "cuda" else worker


def _ready(members: Sequence["_Member"]) -> list["_Member"]:
    """Members that have something to say or are dead; waits for the first."""
    busy = [member for member in members if member.task]
    ready = wait([part for member in busy for part in (member.pipe, member.process.sentinel)])
    return [member for member in busy if member.pipe in ready or member.process.sentinel in ready]


def _listen(member: "_Member", waiting: Iterator[ShardTask], listener: Listener, deaths: Deaths) -> None:
    task = member.task
    assert task is not None
    try:
        kind, content = member.pipe.recv()
    except (EOFError, OSError):
        member.process.join()
        if member.process.exitcode == UNGUARDED:
            raise UsageError(
                "each worker process reads the script that calls for it, and this one makes sets as it is read; put the "
                "call below `if __name__ == '__main__':`, or take workers=1"
            ) from None
        deaths.add(task, f"exit code {member.process.exitcode}")
        member.restart()
        member.assign(task)
        return
    if kind == "progress":
        listener.progress(task, content)
    elif kind == "done":
        listener.done(task, content)
        member.give(waiting)
    else:
        raise content


class _Member:
    """A process with a worker in it, and the shard it is at."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.task: ShardTask | None = None
        self.restart()

    def restart(self) -> None:
        context = multiprocessing.get_context("spawn")  # threads of torch do not survive a fork
        self.pipe, theirs = context.Pipe()
        self.process: BaseProcess = context.Process(target=_serve, args=(theirs, self.worker), daemon=True)
        self.process.start()
        theirs.close()

    def give(self, waiting: Iterator[ShardTask]) -> None:
        self.task = None
        task = next(waiting, None)
        if task is not None:
            self.assign(task)

    def assign(self, task: ShardTask) -> None:
        self.task = task
        with contextlib.suppress(BrokenPipeError):  # it is dead, which shows when it is listened to
            self.pipe.send(task)

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()


def _serve(pipe: Connection, worker: Worker) -> None:
    """Make one shard after the other, until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the driver ends its workers

    def tell(kind: str, content: Any) -> None:
        with contextlib.suppress(BrokenPipeError):
            pipe.send((kind, content))

    with contextlib.suppress(EOFError, OSError):
        while True:
            task = pipe.recv()
            try:
                entry = worker.make(task, Throttle(partial(tell, "progress")))
            except FactoryError as error:
                tell("error", error)
            except MemoryError as error:
                tell("error", ResourceError(f"no memory for {task.path} ({error}); take fewer --workers"))
            except Exception:
                tell("error", RuntimeError(f"worker failed at {task.path}:\n{traceback.format_exc()}"))
            else:
                tell("done", entry)


class Throttle:
    """Passes on what it is called with when it has changed, at most five times a second."""

    def __init__(self, tell: Callable[[Tally], None], interval: float = 0.2) -> None:
        self.tell = tell
        self.interval = interval
        self.last, self.due = 0, 0.0

    def __call__(self, tally: Tally) -> None:
        if tally.done != self.last and monotonic() >= self.due:
            self.last, self.due = tally.done, monotonic() + self.interval
            self.tell(tally)
