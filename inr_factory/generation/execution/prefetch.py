"""Prefetch: processes that compute the samples of shapes before a GPU requests them.

A core that fits computes the samples of its shapes itself, since all cores are busy. A GPU fits faster than one core
samples: the other cores run in advance of it and store their samples in the sample cache.
"""

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from inr_factory.generation.execution.shard_plan import ShardTask
from inr_factory.generation.execution.signal_reading import read_signal
from inr_factory.generation.execution.worker import Worker
from inr_factory.generation.recipe import Recipe, ShapeSource
from inr_factory.generation.signals import SignalError
from inr_factory.inr.cpu import num_cores


def prefetch_cores(recipe: Recipe, device: str, workers: int) -> int:
    """How many cores of this machine prefetch: for shapes fitted on GPUs, all but one for each worker."""
    return max(0, num_cores() - workers) if device.startswith("cuda") and isinstance(recipe.source, ShapeSource) else 0


def prefetch_part(worker: Worker, tasks: Sequence[ShardTask], part: int, parts: int) -> None:
    """Put the samples of every `parts`-th object, starting at `part`, into the sample cache, in task order."""
    source, done = worker.source, set()
    resampled = isinstance(worker.recipe.source, ShapeSource) and worker.recipe.source.views_resample
    for task in tasks:
        for index in worker.plan.blocks[task.split][task.block][part::parts]:
            drawn, view = worker.change(task, source.items[index].object_id), task.view if resampled else 0
            if (sample := (index, view, *drawn.values())) not in done:
                done.add(sample)
                with contextlib.suppress(SignalError):  # the worker will report it
                    read_signal(source, index, view, drawn)


@contextmanager
def prefetching(worker: Worker, tasks: Sequence[ShardTask], processes: int) -> Iterator[None]:
    """Inside the context, `processes` processes compute the samples that the tasks will request."""
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
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the process group; the driver ends its helpers
    os.environ["IGL_NUM_THREADS"] = "1"
    threading.Thread(target=_exit_with_parent, args=(parent,), daemon=True).start()
    prefetch_part(worker, tasks, part, parts)


def _exit_with_parent(parent: int) -> None:
    """End this process once its parent is gone."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
