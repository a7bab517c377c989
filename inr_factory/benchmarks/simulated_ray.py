"""Simulated Ray: actors and nodes on a clock of their own, to plan with a thousand of them and to test the driver.

It has of the ray module what `driver.py` uses. Time passes in `wait` alone.
"""

import heapq
from collections.abc import Callable, Sequence
from itertools import count
from types import SimpleNamespace
from typing import Any

from inr_factory.generation.execution.shard_plan import ShardTask
from inr_factory.storage.manifest import ShardEntry


class RayError(Exception):
    """The actor of a call is gone."""


class RayTaskError(RayError):
    """A call failed by an exception, `cause`."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


class Call:
    """What stands for a reference: a result, or an exception, that is there from `ready` on."""

    def __init__(self) -> None:
        self.ready, self.result = False, None


class Actor:
    """An actor on a node; None while it waits for a free core."""

    def __init__(self, ray: "SimulatedRay", name: int) -> None:
        self.ray, self.name, self.dead = ray, name, False
        self.node: str | None = None
        self.calls: set[Call] = set()
        self.started = Call()
        self.node_id = SimpleNamespace(remote=self._node_id)
        self.make = SimpleNamespace(remote=self._make)
        self.progress = SimpleNamespace(remote=lambda: self._after(0.0, {}))

    def _node_id(self) -> Call:
        self.calls.add(self.started)
        return self.started

    def _make(self, task: ShardTask) -> Call:
        self.ray.runs.append((self.name, self.node, task))
        seconds, result = self.ray.make(self, task)
        return self._after(seconds, result)

    def _after(self, seconds: float, result: Any) -> Call:
        call = Call()
        self.calls.add(call)
        if self.dead or seconds <= 0:
            self.ray.finish(self, call, RayError("the actor is gone") if self.dead else result, force=True)
        else:
            self.ray.at(self.ray.now + seconds, lambda: self.ray.finish(self, call, result))
        return call


class SimulatedRay:
    """A cluster of `nodes` (name -> cores). `make` says of an actor and a task how many seconds it takes and what comes
    of it: an entry, or an exception."""

    def __init__(
        self, nodes: dict[str, int], make: Callable[[Actor, ShardTask], tuple[float, ShardEntry | Exception]]
    ) -> None:
        self.held, self.make, self.now = dict(nodes), make, 0.0
        self.gone: set[str] = set()
        self.actors: list[Actor] = []
        self.waiting: list[Actor] = []
        self.used: dict[str, int] = {}
        self.runs: list[tuple[int, str | None, ShardTask]] = []
        self.exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order, self._names = count(), count()

    def at(self, time: float, event: Callable[[], None]) -> None:
        """Let something happen at a time."""
        heapq.heappush(self._events, (time, next(self._order), event))

    def start_actor(self) -> Actor:
        actor = Actor(self, next(self._names))
        self.actors.append(actor)
        self.waiting.append(actor)
        self._place()
        return actor

    def add_node(self, name: str, cores: int) -> None:
        self.held[name] = cores
        self._place()

    def remove_node(self, name: str) -> None:
        del self.held[name]
        self.gone.add(name)
        for actor in [actor for actor in self.actors if actor.node == name]:
            self._end(actor)

    def finish(self, actor: Actor, call: Call, result: Any, force: bool = False) -> None:
        if call.ready or (actor.dead and not force):
            return
        call.ready, call.result = True, result
        actor.calls.discard(call)

    def _place(self) -> None:
        """Start waiting actors on nodes that have a free core."""
        for actor in list(self.waiting):
            free = next((node for node, cores in self.held.items() if self.used.get(node, 0) < cores), None)
            if free is None:
                return
            self.waiting.remove(actor)
            actor.node = free
            self.used[free] = self.used.get(free, 0) + 1
            self.finish(actor, actor.started, free)

    def _end(self, actor: Actor) -> None:
        actor.dead = True
        self.actors.remove(actor)
        if actor.node is None:
            self.waiting.remove(actor)
        else:
            self.used[actor.node] -= 1
        for call in list(actor.calls):
            self.finish(actor, call, RayError("the actor is gone"), force=True)
        self._place()

    # What the ray module has.

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": float(sum(self.held.values()))}

    def nodes(self) -> list[dict[str, Any]]:
        return [{"NodeID": name, "Alive": name in self.held} for name in (*self.held, *self.gone)]

    def kill(self, actor: Actor) -> None:
        if not actor.dead:
            self._end(actor)

    def get(self, call: Call) -> Any:
        assert call.ready, "asked for what is not there yet"
        if isinstance(call.result, RayError):
            raise call.result
        if isinstance(call.result, Exception):
            raise RayTaskError(call.result)
        return call.result

    def wait(self, calls: Sequence[Call], num_returns: int, timeout: float) -> tuple[list[Call], list[Call]]:
        until = self.now + timeout
        ready = [call for call in calls if call.ready]
        while len(ready) < num_returns and self._events and self._events[0][0] <= until:
            self.now, _, event = heapq.heappop(self._events)
            event()
            ready = [call for call in calls if call.ready]
        if len(ready) < num_returns:
            self.now = until
        return ready, [call for call in calls if not call.ready]
