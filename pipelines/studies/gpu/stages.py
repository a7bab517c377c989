"""Stages: the time of functions that a fit calls one after the other."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from time import perf_counter
from types import ModuleType
from typing import Any

import torch

from gpu.record import synchronize

# Functions of fused_cuda.py and of execution/worker.py, in their order, and what they do.
ENGINE = {
    "prepare_chunk": "stack and pin, s", "copy_chunk": "copy, s", "initial_batch": "start, s", "run_steps": "kernel, s",
    "conclude_chunk": "conclude, s",
}  # fmt: skip
WORKER = {"read_signals": "read, s", "fit_views": "fit, s", "measure_quality": "quality, s", "write_shard": "shard, s"}


@contextmanager
def stage_times(module: ModuleType, stages: Mapping[str, str], device: torch.device) -> Iterator[dict[str, float]]:
    """Seconds of functions of a module within the block, by the names of their stages.

    Each call waits for the device, so that stages do not overlap: together they take longer than they do in a fit.
    """
    taken = dict.fromkeys(stages.values(), 0.0)

    def timed(name: str, function: Any) -> Any:
        @wraps(function)
        def call(*args: Any, **settings: Any) -> Any:
            synchronize(device)
            begin = perf_counter()
            result = function(*args, **settings)
            synchronize(device)
            taken[stages[name]] += perf_counter() - begin
            return result

        return call

    before = {name: getattr(module, name) for name in stages}
    try:
        for name, function in before.items():
            setattr(module, name, timed(name, function))
        yield taken
    finally:
        for name, function in before.items():
            setattr(module, name, function)
