"""Scheduler: assigns shards to workers, again where a worker dies, and twice where one is slow."""

from collections import deque
from collections.abc import Hashable, Iterable
from statistics import median
from typing import Generic, TypeVar

from inr_factory.generation.execution.shard_plan import ShardTask

# A shard that takes this multiple of the median time, and at least this many seconds, is given to a second worker.
STRAGGLER_TIMES, STRAGGLER_SECONDS = 2.0, 5.0
RECENT_SHARDS = 101  # the median is that of the last so many shards
GPU_WINDOW = 3  # one is read, one is fitted, one is written

W = TypeVar("W", bound=Hashable)


def window_of(device: str) -> int:
    """How many shards a worker on such a device makes at once: on a CPU one, which keeps its core busy."""
    return GPU_WINDOW if device.startswith("cuda") else 1


class Scheduler(Generic[W]):
    """Assigns shards to workers of any kind, to each up to `window` at once.

    A worker makes its first shard alone: that opens the source and compiles the kernel. A shard whose worker died also
    runs alone, so that the next death shows whether it is the cause. The last shards go to workers without any.

    `tasks` is advanced only when a worker is free; `total` is its length at most. All times are seconds of one clock.
    Each call takes constant time whatever the number of shards; `next_assignments` scans the running ones.
    """

    def __init__(self, tasks: Iterable[ShardTask], total: int, window: int = 1) -> None:
        self._tasks, self._not_yet_drawn, self.window = iter(tasks), total, window
        self._retries: deque[ShardTask] = deque()
        self._alone: set[ShardTask] = set()  # shards whose worker died
        self._running: dict[ShardTask, dict[W, float]] = {}  # task -> its workers and their start times, primary first
        self._tasks_of: dict[W, dict[ShardTask, None]] = {}
        self._warm: set[W] = set()  # workers that have completed a shard
        self._durations: deque[float] = deque(maxlen=RECENT_SHARDS)
        self.idle: dict[W, None] = {}

    @property
    def remaining(self) -> int:
        """Shards that run, and at most how many are still to run."""
        return len(self._running) + len(self._retries) + self._not_yet_drawn

    def is_busy(self, worker: W) -> bool:
        """Whether a worker makes a shard."""
        return bool(self._tasks_of.get(worker))

    def is_primary(self, worker: W, task: ShardTask) -> bool:
        """Whether a worker runs a shard, and is the first of those that run it."""
        return next(iter(self._running.get(task, ())), None) == worker

    def assign(self, worker: W, now: float) -> ShardTask | None:
        """The next shard for a worker, to be called until it gives None: the worker is full, or no shard is left. A
        worker that has no shard then becomes idle."""
        running = self._tasks_of.setdefault(worker, {})
        if running and not self._takes_more(worker, running):
            return None
        if self._retries and not running:
            task: ShardTask | None = self._retries.popleft()
        else:
            task = next(self._tasks, None)
            self._not_yet_drawn = self._not_yet_drawn - 1 if task is not None else 0
        if task is not None:
            self._start(worker, task, now)
        elif not running:
            self.idle[worker] = None
        return task

    def done(self, worker: W, task: ShardTask, now: float) -> bool:
        """Whether a worker was the first to complete a shard. It may take another one then."""
        self._tasks_of[worker].pop(task)
        self._warm.add(worker)
        workers = self._running.get(task)
        if workers is None or worker not in workers:
            return False
        self._durations.append(now - workers[worker])
        self._alone.discard(task)
        del self._running[task]
        return True

    def worker_died(self, worker: W) -> list[ShardTask]:
        """Forget a dead worker. Returns the shards that it ran, without complete ones; those that nobody else runs are
        retried."""
        self.idle.pop(worker, None)
        self._warm.discard(worker)
        lost = [task for task in self._tasks_of.pop(worker, ()) if worker in self._running.get(task, ())]
        for task in lost:
            del self._running[task][worker]
            if not self._running[task]:
                del self._running[task]
                self._retries.append(task)
                self._alone.add(task)
        return lost

    def next_assignments(self, now: float) -> list[tuple[W, ShardTask]]:
        """Idle workers with the shards that they should run now: first retries, then stragglers."""
        assignments = []
        while self.idle and self._retries:
            worker = next(iter(self.idle))
            task = self._retries.popleft()
            self._start(worker, task, now)
            assignments.append((worker, task))
        if self.idle:
            for task, worker in zip(self._stragglers(now), list(self.idle), strict=False):
                self._start(worker, task, now)
                assignments.append((worker, task))
        return assignments

    def _takes_more(self, worker: W, running: dict[ShardTask, None]) -> bool:
        return (
            len(running) < self.window
            and worker in self._warm
            and self._not_yet_drawn >= len(self._tasks_of)
            and not running.keys() & self._alone
        )

    def _stragglers(self, now: float) -> list[ShardTask]:
        """Shards that a single worker has run for too long, the longest first."""
        if not self._durations:
            return []
        limit = max(STRAGGLER_SECONDS, STRAGGLER_TIMES * median(self._durations))
        single = [(next(iter(workers.values())), task) for task, workers in self._running.items() if len(workers) == 1]
        return [task for since, task in sorted(single, key=lambda pair: pair[0]) if now - since > limit]

    def _start(self, worker: W, task: ShardTask, now: float) -> None:
        self.idle.pop(worker, None)
        self._running.setdefault(task, {})[worker] = now
        self._tasks_of[worker][task] = None
