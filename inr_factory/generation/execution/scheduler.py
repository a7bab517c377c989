"""Scheduler: assigns shards to workers, again where a worker dies, and twice where one is slow."""

from collections import deque
from collections.abc import Hashable, Iterable
from statistics import median
from typing import Generic, TypeVar

from inr_factory.generation.execution.shard_plan import ShardTask

# A shard that takes this multiple of the median time, and at least this many seconds, is given to a second worker.
STRAGGLER_TIMES, STRAGGLER_SECONDS = 2.0, 5.0
RECENT_SHARDS = 101  # the median is that of the last so many shards

W = TypeVar("W", bound=Hashable)


class Scheduler(Generic[W]):
    """Assigns shards to workers of any kind.

    `tasks` is advanced only when a worker is free; `total` is its length at most. All times are seconds of one clock.
    Each call takes constant time whatever the number of shards; `next_assignments` scans the running ones.
    """

    def __init__(self, tasks: Iterable[ShardTask], total: int) -> None:
        self._tasks, self._not_yet_drawn = iter(tasks), total
        self._retries: deque[ShardTask] = deque()
        self._running: dict[ShardTask, dict[W, float]] = {}  # task -> its workers and their start times, primary first
        self._task_of: dict[W, ShardTask] = {}
        self._durations: deque[float] = deque(maxlen=RECENT_SHARDS)
        self.idle: dict[W, None] = {}

    @property
    def remaining(self) -> int:
        """Shards that run, and at most how many are still to run."""
        return len(self._running) + len(self._retries) + self._not_yet_drawn

    def task_of(self, worker: W) -> ShardTask | None:
        return self._task_of.get(worker)

    def is_primary(self, worker: W) -> bool:
        """Whether a worker runs a shard, and is the first of those that run it."""
        task = self._task_of.get(worker)
        return task is not None and task in self._running and next(iter(self._running[task])) == worker

    def assign(self, worker: W, now: float) -> ShardTask | None:
        """The next shard for a free worker; None, and the worker becomes idle, if no shard is left."""
        if self._retries:
            task: ShardTask | None = self._retries.popleft()
        else:
            task = next(self._tasks, None)
            self._not_yet_drawn = self._not_yet_drawn - 1 if task is not None else 0
        if task is None:
            self.idle[worker] = None
            return None
        self._start(worker, task, now)
        return task

    def done(self, worker: W, now: float) -> tuple[ShardTask, bool]:
        """The shard that a worker completed, and whether it was the first to complete it. The worker is free then."""
        task = self._task_of.pop(worker)
        workers = self._running.get(task)
        if workers is None or worker not in workers:
            return task, False
        self._durations.append(now - workers[worker])
        del self._running[task]
        return task, True

    def worker_died(self, worker: W) -> ShardTask | None:
        """Forget a dead worker. Returns the shard that it ran, unless that is complete; it is retried if nobody else
        runs it."""
        self.idle.pop(worker, None)
        task = self._task_of.pop(worker, None)
        workers = self._running.get(task) if task is not None else None
        if task is None or workers is None or worker not in workers:
            return None
        del workers[worker]
        if not workers:
            del self._running[task]
            self._retries.append(task)
        return task

    def next_assignments(self, now: float) -> list[tuple[W, ShardTask]]:
        """Idle workers with the shards that they should run now: first retries, then stragglers."""
        assignments = []
        while self.idle and self._retries:
            worker = next(iter(self.idle))
            del self.idle[worker]
            task = self._retries.popleft()
            self._start(worker, task, now)
            assignments.append((worker, task))
        if self.idle:
            for task, worker in zip(self._stragglers(now), list(self.idle), strict=False):
                del self.idle[worker]
                self._running[task][worker] = now
                self._task_of[worker] = task
                assignments.append((worker, task))
        return assignments

    def _stragglers(self, now: float) -> list[ShardTask]:
        """Shards that a single worker has run for too long, the longest first."""
        if not self._durations:
            return []
        limit = max(STRAGGLER_SECONDS, STRAGGLER_TIMES * median(self._durations))
        single = [(next(iter(workers.values())), task) for task, workers in self._running.items() if len(workers) == 1]
        return [task for since, task in sorted(single, key=lambda pair: pair[0]) if now - since > limit]

    def _start(self, worker: W, task: ShardTask, now: float) -> None:
        self._running[task] = {worker: now}
        self._task_of[worker] = task
