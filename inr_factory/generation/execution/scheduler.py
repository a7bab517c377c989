"""Crew: which worker is at which shard; what becomes of the shards of workers that die or are slow."""

from collections import deque
from collections.abc import Hashable, Iterable
from statistics import median
from typing import Generic, TypeVar

from inr_factory.generation.execution.shard_plan import ShardTask

# A shard that takes so many times as long as others did, and at least so many seconds, is given to a second worker.
STRAGGLER_TIMES, STRAGGLER_SECONDS = 2.0, 5.0
REMEMBERED = 101  # how many of the last shards say how long one takes

W = TypeVar("W", bound=Hashable)


Job = dict[W, float]
"""Who is at a shard, and since when; the first of them leads."""


class Crew(Generic[W]):
    """Gives shards to workers of any kind. `tasks` is asked for the next one only when a worker is free for it; `total`
    is how many it has at most. All times are in seconds of one clock.

    Every call takes the same time however many shards there are; `wake` looks at those at work.
    """

    def __init__(self, tasks: Iterable[ShardTask], total: int) -> None:
        self._tasks, self._unseen = iter(tasks), total
        self._again: deque[ShardTask] = deque()
        self._jobs: dict[ShardTask, Job[W]] = {}
        self._of: dict[W, ShardTask] = {}
        self._took: deque[float] = deque(maxlen=REMEMBERED)
        self.idle: dict[W, None] = {}

    @property
    def left(self) -> int:
        """Shards at work and, at most, to do."""
        return len(self._jobs) + len(self._again) + self._unseen

    def task_of(self, worker: W) -> ShardTask | None:
        return self._of.get(worker)

    def leads(self, worker: W) -> bool:
        """Whether a worker is at a shard, and is the first of those that are at it."""
        task = self._of.get(worker)
        return task is not None and task in self._jobs and next(iter(self._jobs[task])) == worker

    def give(self, worker: W, now: float) -> ShardTask | None:
        """The shard that a free worker should make; None, and the worker is idle, where none is to do."""
        if self._again:
            task: ShardTask | None = self._again.popleft()
        else:
            task = next(self._tasks, None)
            self._unseen = self._unseen - 1 if task is not None else 0
        if task is None:
            self.idle[worker] = None
            return None
        self._assign(worker, task, now)
        return task

    def done(self, worker: W, now: float) -> tuple[ShardTask, bool]:
        """What a worker has made, and whether it is the first who did. It is free then."""
        task = self._of.pop(worker)
        job = self._jobs.get(task)
        if job is None or worker not in job:
            return task, False
        self._took.append(now - job[worker])
        del self._jobs[task]
        return task, True

    def lose(self, worker: W) -> ShardTask | None:
        """Forget a worker that died. The shard that it was at, if no other has made it: it is given out again, unless
        another is at it."""
        self.idle.pop(worker, None)
        task = self._of.pop(worker, None)
        job = self._jobs.get(task) if task is not None else None
        if task is None or job is None or worker not in job:
            return None
        del job[worker]
        if not job:
            del self._jobs[task]
            self._again.append(task)
        return task

    def wake(self, now: float) -> list[tuple[W, ShardTask]]:
        """Idle workers with what they should make now: shards of the dead first, then those that take too long."""
        woken = []
        while self.idle and self._again:
            worker = next(iter(self.idle))
            del self.idle[worker]
            task = self._again.popleft()
            self._assign(worker, task, now)
            woken.append((worker, task))
        if self.idle:
            for task, worker in zip(self._overdue(now), list(self.idle), strict=False):
                del self.idle[worker]
                self._jobs[task][worker] = now
                self._of[worker] = task
                woken.append((worker, task))
        return woken

    def _overdue(self, now: float) -> list[ShardTask]:
        """Shards that one worker alone has been at for too long, the longest first."""
        if not self._took:
            return []
        most = max(STRAGGLER_SECONDS, STRAGGLER_TIMES * median(self._took))
        late = [(next(iter(job.values())), task) for task, job in self._jobs.items() if len(job) == 1]
        return [task for since, task in sorted(late, key=lambda pair: pair[0]) if now - since > most]

    def _assign(self, worker: W, task: ShardTask, now: float) -> None:
        self._jobs[task] = {worker: now}
        self._of[worker] = task
