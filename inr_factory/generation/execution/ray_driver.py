"""Driver: keeps the actors of a Ray cluster at work while its nodes come and go.

It is handed the ray module, or what stands for it in a simulation (benchmarks/simulated_ray.py).
"""

from collections.abc import Callable
from time import monotonic, sleep
from typing import Any

from inr_factory.errors import FactoryError, ResourceError
from inr_factory.generation.execution.local_pool import MAX_DEATHS, Deaths, Listener
from inr_factory.generation.execution.scheduler import Crew
from inr_factory.generation.execution.shard_plan import ShardTask

POLL_SECONDS, POLLS_A_SECOND = 0.5, 200
LOOK_SECONDS = 5.0  # between looks at what the cluster has


class Driver:
    """Has as many actors as the cluster can hold, or `count`, and keeps them at work until no shard is left.

    `hire` gives a new actor with the methods arrive, make and progress; `kind` is the resource that each takes one of.
    Ray never restarts an actor: one whose node is gone would wait for another such node, and its shard with it. An
    actor is given a shard when it has arrived, so that one that waits for room holds none.
    """

    def __init__(
        self,
        ray: Any,
        hire: Callable[[], Any],
        crew: Crew[Any],
        listener: Listener,
        kind: str = "CPU",
        count: int | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.ray, self.hire, self.crew, self.listener, self.clock = ray, hire, crew, listener, clock
        self.kind, self.count = kind, count
        self.deaths = Deaths(listener)
        self.members: dict[Any, str | None] = {}  # actor -> its node, None until it has arrived
        self.calls: dict[Any, tuple[Any, Callable[[Any, Any], None]]] = {}  # reference -> actor, who hears the result
        self.polls: dict[Any, tuple[Any, ShardTask]] = {}
        self.unborn = 0
        self.look_due = self.poll_due = 0.0

    def run(self) -> None:
        while self.crew.left:
            if self.clock() >= self.look_due:
                self._resize()
                self.look_due = self.clock() + LOOK_SECONDS
            if self.clock() >= self.poll_due:
                self._poll()
                self.poll_due = self.clock() + max(POLL_SECONDS, len(self.members) / POLLS_A_SECOND)
            for actor, task in self.crew.wake(self.clock()):
                self._call(actor, actor.make.remote(task), self._made)
            self._wait(max(0.0, min(self.look_due, self.poll_due) - self.clock()))

    def dismiss(self) -> None:
        for actor in self.members:
            self.ray.kill(actor)

    def _wait(self, seconds: float) -> None:
        """Hear what has come in: wait for the first, then take all there are."""
        if not self.calls:
            sleep(min(seconds, 0.1))
            return
        references = list(self.calls)
        ready, _ = self.ray.wait(references, num_returns=1, timeout=seconds)
        if ready and len(references) > 1:
            ready, _ = self.ray.wait(references, num_returns=len(references), timeout=0)
        for reference in ready:
            actor, hear = self.calls.pop(reference)
            if actor in self.members:
                hear(actor, reference)

    def _call(self, actor: Any, reference: Any, hear: Callable[[Any, Any], None]) -> None:
        self.calls[reference] = (actor, hear)

    def _resize(self) -> None:
        """Hire up to what the cluster has room for now, or `count`; who waits for room that is gone is sent away."""
        held = int(self.ray.cluster_resources().get(self.kind, 0))
        wanted = min(self.count or held, self.crew.left)
        while len(self.members) < wanted:
            actor = self.hire()
            self.members[actor] = None
            self._call(actor, actor.arrive.remote(), self._arrived)
        waiting = [actor for actor, node in self.members.items() if node is None]
        for actor in waiting[: max(0, len(self.members) - wanted)]:
            self._forget(actor)

    def _arrived(self, actor: Any, reference: Any) -> None:
        try:
            self.members[actor] = self.ray.get(reference)
        except self.ray.exceptions.RayError as error:
            self._forget(actor)
            self.look_due = 0.0
            self.unborn += 1
            if self.unborn >= MAX_DEATHS:
                raise ResourceError(f"{MAX_DEATHS} workers died before they began: {_reason(error)}") from None
            return
        self.unborn = 0
        self._give(actor)

    def _give(self, actor: Any) -> None:
        task = self.crew.give(actor, self.clock())
        if task is not None:
            self._call(actor, actor.make.remote(task), self._made)

    def _made(self, actor: Any, reference: Any) -> None:
        try:
            entry = self.ray.get(reference)
        except self.ray.exceptions.RayTaskError as error:
            raise _cause(error, self.crew.task_of(actor)) from None
        except self.ray.exceptions.RayError as error:
            self._lost(actor, error)
            return
        task, first = self.crew.done(actor, self.clock())
        if first:
            self.listener.done(task, entry)
        self._give(actor)

    def _lost(self, actor: Any, error: Exception) -> None:
        """An actor is gone. Its shard is to blame if it goes so with every worker, unless the whole node went."""
        task, node = self.crew.lose(actor), self.members[actor]
        self._forget(actor)
        self.look_due = 0.0
        if task is None:
            return
        if node in {each["NodeID"] for each in self.ray.nodes() if each["Alive"]}:
            self.deaths.add(task, _reason(error))
        else:
            self.listener.death(task, "its node is gone")

    def _forget(self, actor: Any) -> None:
        del self.members[actor]
        self.ray.kill(actor)

    def _poll(self) -> None:
        """Ask whoever leads at a shard how far it is; so seldom that a thousand of them are no burden."""
        if self.polls:
            asked = list(self.polls)
            for reference in self.ray.wait(asked, num_returns=len(asked), timeout=0)[0]:
                self._told(*self.polls.pop(reference), reference)
        waiting = {actor for actor, _ in self.polls.values()}
        for actor in self.members:
            task = self.crew.task_of(actor)
            if task is not None and actor not in waiting and self.crew.leads(actor):
                self.polls[actor.progress.remote()] = (actor, task)

    def _told(self, actor: Any, task: ShardTask, reference: Any) -> None:
        try:
            tally = self.ray.get(reference)
        except self.ray.exceptions.RayError:
            return  # the actor is gone, which its shard will tell
        if self.crew.task_of(actor) == task and self.crew.leads(actor):
            self.listener.progress(task, tally)


def _reason(error: Exception) -> str:
    """What Ray says of a death, in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def _cause(error: Any, task: ShardTask | None) -> Exception:
    """What a worker raised, as it was if it is ours; else with the worker's traceback."""
    where = task.path if task is not None else "no shard"
    return error.cause if isinstance(error.cause, FactoryError) else RuntimeError(f"worker failed at {where}:\n{error}")
