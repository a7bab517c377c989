"""Ray pool: workers as actors of a Ray cluster. The only module that imports ray."""

import logging
import os
import secrets
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from time import monotonic
from typing import Any

from inr_factory.ahead import compute_part
from inr_factory.blocks import ShardTask
from inr_factory.errors import FactoryError, ResourceError, UsageError
from inr_factory.fitting import Tally
from inr_factory.local_pool import Deaths, Listener, num_cores
from inr_factory.manifest import ShardEntry
from inr_factory.recipe import ShapeSource
from inr_factory.worker import Worker

POLL_SECONDS = 0.5


class _Actor:
    """A worker in a process of Ray's. Two threads: one makes a shard, the other tells how far it is."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.so_far = Tally()

    def make(self, task: ShardTask) -> ShardEntry:
        def note(tally: Tally) -> None:
            self.so_far = tally

        self.so_far = Tally()
        return self.worker.make(task, note)

    def progress(self) -> Tally:
        return self.so_far


@contextmanager
def connected(address: str | None, num_cpus: int | None) -> Iterator[Any]:
    """The ray module, connected to the cluster at `address` or in $RAY_ADDRESS, else to one started here.

    What was started here is ended here. Raises UsageError where no cluster answers, ResourceError where none starts.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    address = address or os.environ.get("RAY_ADDRESS")
    if address is None and not {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys():
        # Ray would write a token under HOME, which may be read-only; one in the environment is as good.
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    try:
        import ray
    except ImportError as error:
        raise UsageError(f"Ray cannot be imported ({error}); install it, or use --backend local") from None
    if ray.is_initialized():
        yield ray
        return
    options: dict[str, Any] = (
        {"address": address} if address else {"num_cpus": num_cpus or num_cores(), "include_dashboard": False}
    )
    on_terminate = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(logging_level=logging.ERROR, log_to_driver=False, **options)
    except (ConnectionError, ValueError, RuntimeError, OSError, TimeoutError) as error:
        reason = " ".join(str(error).split())
        if address:
            raise UsageError(f"no Ray cluster answers at {address}: {reason}") from None
        raise ResourceError(f"Ray cannot start here: {reason}; use --backend local") from None
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, on_terminate)  # Ray's own handler aborts the driver before it has cleaned up
    try:
        yield ray
    finally:
        ray.shutdown()


def run_each(
    function: Callable[..., str], jobs: Sequence[tuple[Any, ...]], count: int | None, address: str | None
) -> Iterator[tuple[int, str]]:
    """(place of a job, what the function gave for it), as they end: `count` at a time, one core or GPU each.

    A job whose process died is given the reason in one line.
    """
    with connected(address, num_cpus=count) as ray:
        gpus = int(ray.cluster_resources().get("GPU", 0))
        maker = ray.remote(num_cpus=1, num_gpus=int(gpus > 0), max_retries=1)(function)
        most = count or gpus or int(ray.cluster_resources().get("CPU", 1))
        waiting = deque(enumerate(jobs))
        at_work: dict[Any, int] = {}
        while waiting or at_work:
            while waiting and len(at_work) < most:
                place, job = waiting.popleft()
                at_work[maker.remote(*job)] = place
            for reference in ray.wait(list(at_work), num_returns=1)[0]:
                try:
                    found = str(ray.get(reference))
                except ray.exceptions.RayError as error:
                    found = str(error).strip().splitlines()[-1]
                yield at_work.pop(reference), found


def run_ray(
    worker: Worker, tasks: Sequence[ShardTask], count: int | None, address: str | None, listener: Listener
) -> None:
    """Make the shards of all tasks with `count` actors, one core or GPU each; None is as many as the cluster has.

    Each actor is at one shard at a time; its results are records, weights stay where they are written. An actor that
    dies is restarted by Ray and its shard begun anew. An error in a worker is raised here, and stops all.
    """
    on_gpu = worker.device == "cuda"
    with connected(address, num_cpus=None if on_gpu else count) as ray:
        held = int(ray.cluster_resources().get("GPU" if on_gpu else "CPU", 0))
        if held < 1:
            raise ResourceError(
                f"the Ray cluster has no {'GPU' if on_gpu else 'CPU'}; use --device cpu or another cluster"
            )
        number = min(count or held, held, len(tasks))
        # Absolute paths: an actor's working directory is not the driver's.
        sent = replace(worker, out=worker.out.absolute(), data_root=worker.data_root and worker.data_root.absolute())
        options = {"num_cpus": 1, "num_gpus": int(on_gpu), "max_restarts": -1, "max_concurrency": 2}
        maker = ray.remote(_Actor).options(**options)
        actors = [maker.remote(sent) for _ in range(number)]
        ahead = int(ray.cluster_resources().get("CPU", 0)) - number if on_gpu else 0
        helpers = _start_ahead(ray, sent, tasks, max(0, ahead))
        try:
            _drive(ray, actors, deque(tasks), listener)
        finally:
            for helper in helpers:
                ray.cancel(helper, force=True)
            for actor in actors:
                ray.kill(actor)


def _start_ahead(ray: Any, worker: Worker, tasks: Sequence[ShardTask], count: int) -> list[Any]:
    """On so many cores of the cluster, samples of shapes are computed before the actors ask for them."""
    if not isinstance(worker.recipe.source, ShapeSource):
        return []
    maker = ray.remote(num_cpus=1, max_retries=0)(compute_part)
    return [maker.remote(worker, tasks, part, count) for part in range(count)]


def _drive(ray: Any, actors: Sequence[Any], waiting: deque[ShardTask], listener: Listener) -> None:
    """Keep every actor at a shard until none is left."""
    deaths = Deaths(listener)
    at_work = {actor.make.remote(task): (actor, task) for actor, task in zip(actors, _take(waiting), strict=False)}
    polls: dict[Any, ShardTask] = {}
    due = monotonic() + POLL_SECONDS
    while at_work:
        ready, _ = ray.wait([*at_work, *polls], num_returns=1, timeout=max(0.0, due - monotonic()))
        for reference in ready:
            if reference in polls:
                _hear(ray, reference, polls.pop(reference), listener)
                continue
            actor, task = at_work.pop(reference)
            try:
                entry = ray.get(reference)
            except ray.exceptions.RayTaskError as error:
                raise _cause(error, task) from None
            except (
                ray.exceptions.RayActorError,
                ray.exceptions.WorkerCrashedError,
                ray.exceptions.OutOfMemoryError,
            ) as error:
                deaths.add(task, str(error).splitlines()[0])
                at_work[actor.make.remote(task)] = (actor, task)
                continue
            listener.done(task, entry)
            for following in _take(waiting, 1):
                at_work[actor.make.remote(following)] = (actor, following)
        if monotonic() >= due:
            busy = {id(task) for task in polls.values()}
            polls |= {actor.progress.remote(): task for actor, task in at_work.values() if id(task) not in busy}
            due = monotonic() + POLL_SECONDS


def _take(waiting: deque[ShardTask], count: int | None = None) -> Iterator[ShardTask]:
    while waiting and count != 0:
        count = None if count is None else count - 1
        yield waiting.popleft()


def _hear(ray: Any, reference: Any, task: ShardTask, listener: Listener) -> None:
    try:
        listener.progress(task, ray.get(reference))
    except ray.exceptions.RayError:
        return  # the actor is gone, which its shard will tell


def _cause(error: Any, task: ShardTask) -> Exception:
    """What a worker raised, as it was if it is ours; else with the worker's traceback."""
    return (
        error.cause
        if isinstance(error.cause, FactoryError)
        else RuntimeError(f"worker failed at {task.path}:\n{error}")
    )
