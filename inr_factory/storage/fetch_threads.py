"""Fetch threads: run a function over items, several at a time, so that an interruption ends all of them soon."""

import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

GRACE_SECONDS = 2.0


def in_threads(
    function: Callable[[ItemT], ResultT],
    items: Sequence[ItemT],
    workers: int,
    stop: threading.Event,
    on_result: Callable[[ItemT, ResultT], None],
) -> None:
    """Call on_result(item, function(item)) in this thread as results come, in any order; raise the first error.

    Whatever ends this sets `stop`, which the function may watch. Threads that wait for a network then have a moment to
    end. After that the program can end without them, which those of concurrent.futures would not allow.
    """
    todo: queue.SimpleQueue[ItemT] = queue.SimpleQueue()
    done: queue.SimpleQueue[tuple[ItemT, ResultT] | BaseException] = queue.SimpleQueue()

    def work() -> None:
        while not stop.is_set():
            try:
                item = todo.get_nowait()
            except queue.Empty:
                return
            try:
                done.put((item, function(item)))
            except BaseException as error:
                done.put(error)
                stop.set()

    for item in items:
        todo.put(item)
    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(workers, len(items)))]
    for thread in threads:
        thread.start()
    try:
        for _ in items:
            outcome = done.get()
            if isinstance(outcome, BaseException):
                raise outcome
            on_result(*outcome)
    finally:
        stop.set()
        deadline = time.monotonic() + GRACE_SECONDS
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        while not done.empty():  # what other threads completed meanwhile counts, too
            outcome = done.get()
            if not isinstance(outcome, BaseException):
                on_result(*outcome)
