"""A worker that says it fits on a GPU, and fits on the CPU: what runs around a fit can be tested without a GPU."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Condition
from time import monotonic

import torch

from inr_factory.generation.execution.shard_plan import ShardTask
from inr_factory.generation.execution.worker import Worker
from inr_factory.generation.fitting.fit_views import fit_views

CHANGED = Condition()
MAKES = {"started": 0, "now": 0, "most": 0}  # of this process


def reset():
    MAKES.update(dict.fromkeys(MAKES, 0))


def see_gpus(patch, count):
    """Let torch report `count` GPUs; the first is the current one."""
    patch.setattr(torch.cuda, "device_count", lambda: count)
    patch.setattr(torch.cuda, "current_device", lambda: 0)
    patch.setattr(torch.cuda, "set_device", lambda _: None)


@dataclass
class StandIn(Worker):
    """Every shard but the first of a process waits until `together` are made at once, in it or in one that wrote `reached`,
    and fails if they never are: of several processes one may begin so late that it gets the last shards one by one.

    `before` is called with a task before its shard is made. Making the shard `deadly` ends the process.
    """

    together: int = 1
    reached: Path | None = None
    before: Callable[[ShardTask], None] | None = None
    deadly: ShardTask | None = None

    def __setstate__(self, state):
        torch.cuda.set_device = lambda _: None  # in a spawned process, which sees no GPU
        self.__dict__ |= state

    def make(self, task, on_progress=None):
        with CHANGED:
            MAKES["started"] += 1
            MAKES["now"] += 1
            MAKES["most"] = max(MAKES["most"], MAKES["now"])
            CHANGED.notify_all()
            deadline = monotonic() + 20
            while MAKES["started"] > 1 and not self._together():
                if monotonic() > deadline:
                    raise RuntimeError(f"{self.together} shards were never made at once")
                CHANGED.wait(0.1)
            if task == self.deadly:
                CHANGED.wait_for(lambda: MAKES["now"] >= 3, timeout=1)
                os._exit(9)
        try:
            if self.before is not None:
                self.before(task)
            return super().make(task, on_progress)
        finally:
            MAKES["now"] -= 1

    def _together(self):
        if MAKES["most"] >= self.together and self.reached:
            self.reached.touch()
        return MAKES["most"] >= self.together or (self.reached is not None and self.reached.exists())

    def fit(self, keys, signals, on_progress):
        recipe = self.recipe
        return fit_views(self.spec, keys, signals, recipe.fit, recipe.seed, "cpu", on_progress)


def stand_in(recipe, out, device="cuda", **settings):
    """A stand-in for the worker of a recipe, and all its tasks."""
    from inr_factory.generation.execution.shard_plan import make_shard_plan
    from inr_factory.generation.sources.registry import open_source

    source = open_source(recipe.source)
    worker = StandIn(recipe, None, out, device, source.fingerprint, **settings)
    return worker, list(make_shard_plan(recipe, source).tasks(recipe.views))
