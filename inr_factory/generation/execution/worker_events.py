"""Worker events: what a backend reports while workers make shards."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic

from inr_factory.errors import ResourceError
from inr_factory.generation.execution.shard_plan import ShardTask
from inr_factory.generation.fitting.tally import Tally
from inr_factory.storage.manifest import ShardEntry

MAX_DEATHS = 5


@dataclass(frozen=True)
class Listener:
    """Callbacks: progress(task, tally of it), done(task, entry), death(task, reason)."""

    progress: Callable[[ShardTask, Tally], None]
    done: Callable[[ShardTask, ShardEntry], None]
    death: Callable[[ShardTask, str], None]


class Deaths:
    """Counts the workers that died at each shard; gives up on a shard that kills one after the other.

    A worker that made several shards counts against none of them: each runs alone the next time.
    """

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self.counts: Counter[ShardTask] = Counter()

    def add(self, tasks: Sequence[ShardTask], reason: str) -> None:
        for task in tasks:
            self.counts[task] += len(tasks) == 1
            self.listener.death(task, reason)
            if self.counts[task] >= MAX_DEATHS:
                raise ResourceError(
                    f"{MAX_DEATHS} workers died at {task.path} ({reason}); out of memory? "
                    "try fewer --workers or a smaller --set shard_objects in another --out"
                )


class Throttle:
    """Forwards a tally if INRs were done since the last one, at most five times a second; else, if it has changed at all,
    every two seconds."""

    def __init__(self, forward: Callable[[Tally], None], interval: float = 0.2, steps_interval: float = 2.0) -> None:
        self.forward = forward
        self.interval, self.steps_interval = interval, steps_interval
        self.last, self.sent = Tally(), 0.0

    def __call__(self, tally: Tally) -> None:
        if tally == self.last:
            return
        interval = self.steps_interval if tally.done == self.last.done else self.interval
        if monotonic() >= self.sent + interval:
            self.last, self.sent = tally, monotonic()
            self.forward(tally)
