"""Ahead: processes that compute the samples of shapes before a GPU asks for them, so that it need not wait.

A core that fits computes the samples of its shapes itself: all cores are busy as it is. A GPU fits faster than one core
samples, so the other cores go before it and leave what they compute in the sample cache.
"""

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from inr_factory.generation.execution.local_pool import num_cores
from inr_factory.generation.execution.shard_plan import ShardTask
from inr_factory.generation.execution.worker import Worker
from inr_factory.generation.recipe import Recipe, ShapeSource
from inr_factory.generation.signals import SignalError


def cores_ahead(recipe: Recipe, device: str, workers: int) -> int:
    """How many cores of this machine go ahead: for shapes fitted on GPUs, all but one for each worker."""
    return max(0, num_cores() - workers) if device.startswith("cuda") and isinstance(recipe.source, ShapeSource) else 0


def compute_part(worker: Worker, tasks: Sequence[ShardTask], part: int, parts: int) -> None:
    """Put the samples of every `parts`-th object, from `part` on, into the sample cache, in the order of the tasks."""
    source, done = worker.source, set()
    resampled = isinstance(worker.recipe.source, ShapeSource) and worker.recipe.source.views_resample
    for task in tasks:
        for index in worker.plan.blocks[task.split][task.block][part::parts]:
            what = (index, task.view if resampled else 0)
            if what not in done:
                done.add(what)
                with contextlib.suppress(SignalError):  # the worker will say it
                    source.signal(*what)


@contextmanager
def computing_ahead(worker: Worker, tasks: Sequence[ShardTask], processes: int) -> Iterator[None]:
    """Meanwhile, so many processes beside this one compute the samples that the tasks will ask for."""
    context = multiprocessing.get_context("spawn")
    helpers = [
        context.Process(target=_serve, args=(os.getpid(), worker, tasks, part, processes), daemon=True)
        for part in range(processes)
    ]
    try:
        for helper in helpers:
            helper.start()
        yield
    finally:
        for helper in helpers:
            helper.kill()
            helper.join()


def _serve(parent: int, worker: Worker, tasks: Sequence[ShardTask], part: int, parts: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the driver ends its helpers
    os.environ["IGL_NUM_THREADS"] = "1"
    threading.Thread(target=_end_after, args=(parent,), daemon=True).start()
    compute_part(worker, tasks, part, parts)


def _end_after(parent: int) -> None:
    """End this process when the one that started it is gone."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
