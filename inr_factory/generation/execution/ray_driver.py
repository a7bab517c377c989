"""Driver: keeps the actors of a Ray cluster busy while its nodes come and go.

It is given the ray module, or a simulation of it (benchmarks/simulated_ray.py).
"""

from collections.abc import Callable
from functools import partial
from time import monotonic, sleep
from typing import Any

from inr_factory.errors import FactoryError, ResourceError
from inr_factory.generation.execution.scheduler import Scheduler
from inr_factory.generation.execution.shard_plan import ShardTask
from inr_factory.generation.execution.worker_events import MAX_DEATHS, Deaths, Listener

POLL_SECONDS, POLLS_A_SECOND = 0.5, 200
RESIZE_SECONDS = 5.0  # between two queries of the cluster's resources


class Driver:
    """Runs as many actors as the cluster can hold, or `count`, until no shard is left.

    `start_actor` gives a new actor with the methods node_id, make and progress; `kind` is the resource of which each
    takes one. Ray never restarts an actor: it would wait for a node like the lost one, and its shard with it. An actor
    gets a shard only once it runs, so that one that waits for resources holds none.
    """

    def __init__(
        self,
        ray: Any,
        start_actor: Callable[[], Any],
        scheduler: Scheduler[Any],
        listener: Listener,
        kind: str = "CPU",
        count: int | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.ray, self.start_actor, self.scheduler = ray, start_actor, scheduler
        self.listener, self.clock, self.kind, self.count = listener, clock, kind, count
        self.deaths = Deaths(listener)
        self.actors: dict[Any, str | None] = {}  # actor -> its node, None until it runs
        self.calls: dict[Any, tuple[Any, Callable[[Any, Any], None]]] = {}  # reference -> actor, handler of the result
        self.polls: dict[Any, Any] = {}  # reference -> actor
        self.failed_starts = 0
        self.resize_due = self.poll_due = 0.0

    def run(self) -> None:
        while self.scheduler.remaining:
            if self.clock() >= self.resize_due:
                self._resize()
                self.resize_due = self.clock() + RESIZE_SECONDS
            if self.clock() >= self.poll_due:
                self._poll()
                self.poll_due = self.clock() + max(POLL_SECONDS, len(self.actors) / POLLS_A_SECOND)
            for actor, task in self.scheduler.next_assignments(self.clock()):
                self._make(actor, task)
            self._wait(max(0.0, min(self.resize_due, self.poll_due) - self.clock()))

    def stop(self) -> None:
        for actor in self.actors:
            self.ray.kill(actor)

    def _wait(self, seconds: float) -> None:
        """Wait for the first result, then handle all that are ready."""
        if not self.calls:
            sleep(min(seconds, 0.1))
            return
        references = list(self.calls)
        ready, _ = self.ray.wait(references, num_returns=1, timeout=seconds)
        if ready and len(references) > 1:
            ready, _ = self.ray.wait(references, num_returns=len(references), timeout=0)
        for reference in ready:
            actor, handle = self.calls.pop(reference)
            if actor in self.actors:
                handle(actor, reference)

    def _call(self, actor: Any, reference: Any, handle: Callable[[Any, Any], None]) -> None:
        self.calls[reference] = (actor, handle)

    def _resize(self) -> None:
        """Start actors up to the cluster's capacity, or `count`; cancel those that wait for resources that are gone."""
        capacity = int(self.ray.cluster_resources().get(self.kind, 0))
        wanted = min(self.count or capacity, self.scheduler.remaining)
        while len(self.actors) < wanted:
            actor = self.start_actor()
            self.actors[actor] = None
            self._call(actor, actor.node_id.remote(), self._on_started)
        waiting = [actor for actor, node in self.actors.items() if node is None]
        for actor in waiting[: max(0, len(self.actors) - wanted)]:
            self._drop(actor)

    def _on_started(self, actor: Any, reference: Any) -> None:
        try:
            self.actors[actor] = self.ray.get(reference)
        except self.ray.exceptions.RayError as error:
            self._drop(actor)
            self.resize_due = 0.0
            self.failed_starts += 1
            if self.failed_starts >= MAX_DEATHS:
                raise ResourceError(f"{MAX_DEATHS} workers died before they began: {_reason(error)}") from None
            return
        self.failed_starts = 0
        self._assign(actor)

    def _assign(self, actor: Any) -> None:
        while (task := self.scheduler.assign(actor, self.clock())) is not None:
            self._make(actor, task)

    def _make(self, actor: Any, task: ShardTask) -> None:
        self._call(actor, actor.make.remote(task), partial(self._on_made, task))

    def _on_made(self, task: ShardTask, actor: Any, reference: Any) -> None:
        try:
            entry = self.ray.get(reference)
        except self.ray.exceptions.RayTaskError as error:
            raise _cause(error, task) from None
        except self.ray.exceptions.RayError as error:
            self._on_actor_died(actor, error)
            return
        if self.scheduler.done(actor, task, self.clock()):
            self.listener.done(task, entry)
        self._assign(actor)

    def _on_actor_died(self, actor: Any, error: Exception) -> None:
        """Count the death against its shard, which may kill every worker, unless the node is gone."""
        tasks, node = self.scheduler.worker_died(actor), self.actors[actor]
        self._drop(actor)
        self.resize_due = 0.0
        if node in {each["NodeID"] for each in self.ray.nodes() if each["Alive"]}:
            self.deaths.add(tasks, _reason(error))
            return
        for task in tasks:
            self.listener.death(task, "its node is gone")

    def _drop(self, actor: Any) -> None:
        del self.actors[actor]
        self.ray.kill(actor)

    def _poll(self) -> None:
        """Query the progress of each busy actor; at a rate that stays low with a thousand actors."""
        if self.polls:
            references = list(self.polls)
            for reference in self.ray.wait(references, num_returns=len(references), timeout=0)[0]:
                self._on_progress(self.polls.pop(reference), reference)
        for actor in self.actors.keys() - self.polls.values():
            if self.scheduler.is_busy(actor):
                self.polls[actor.progress.remote()] = actor

    def _on_progress(self, actor: Any, reference: Any) -> None:
        try:
            tallies = self.ray.get(reference)
        except self.ray.exceptions.RayError:
            return  # the actor is gone, as the result of its shard will show
        for task, tally in tallies.items():
            if self.scheduler.is_primary(actor, task):
                self.listener.progress(task, tally)


def _reason(error: Exception) -> str:
    """The last line of Ray's description of a death."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def _cause(error: Any, task: ShardTask) -> Exception:
    """The error that a worker raised: unchanged if it is one of this package, else with the worker's traceback."""
    if isinstance(error.cause, FactoryError):
        return error.cause
    return RuntimeError(f"worker failed at {task.path}:\n{error}")
