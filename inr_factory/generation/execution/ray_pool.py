"""Ray pool: workers as actors of a Ray cluster. The only module that imports ray."""

import contextlib
import logging
import os
import pickle
import secrets
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from time import monotonic
from typing import Any

from inr_factory.errors import ResourceError, UsageError, needs_extra, one_line
from inr_factory.generation.execution.local_pool import unsendable
from inr_factory.generation.execution.prefetch import prefetch_part
from inr_factory.generation.execution.ray_address import RayUnavailableError, check_address, no_answer
from inr_factory.generation.execution.ray_driver import Driver
from inr_factory.generation.execution.run_settings import cluster_address
from inr_factory.generation.execution.scheduler import Scheduler, window_of
from inr_factory.generation.execution.shard_plan import ShardTask
from inr_factory.generation.execution.worker import Worker
from inr_factory.generation.execution.worker_events import Listener
from inr_factory.generation.fitting.tally import Tally
from inr_factory.generation.recipe import ShapeSource
from inr_factory.inr.cpu import num_cores
from inr_factory.storage.manifest import ShardEntry

RATE_SECONDS = 60.0


class _Actor:
    """A worker in a Ray process. Each shard that it makes has a thread, and one thread answers progress queries."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.tallies: dict[ShardTask, Tally] = {}

    def node_id(self) -> str:
        """The id of the node that runs this actor."""
        import ray

        return str(ray.get_runtime_context().get_node_id())

    def make(self, task: ShardTask) -> ShardEntry:
        def set_tally(tally: Tally) -> None:
            self.tallies[task] = tally

        try:
            return self.worker.make(task, set_tally)
        finally:
            self.tallies.pop(task, None)

    def progress(self) -> dict[ShardTask, Tally]:
        return dict(self.tallies)


@contextmanager
def connected(address: str | None, num_cpus: int | None) -> Iterator[Any]:
    """The ray module, connected to the cluster at `address` or in $RAY_ADDRESS, else to one started for the context.

    A cluster started here ends with the context, and only this machine can reach it. Raises UsageError if no cluster
    answers, RayUnavailableError if none starts.
    """
    where = "--address" if address else "$RAY_ADDRESS"
    address = cluster_address(address)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    given = {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys()
    if address is None:
        os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's 15 would starve beside other work
        if not given and "RAY_AUTH_MODE" not in os.environ:
            # Ray would write a token below HOME, which may be read-only; it accepts one in the environment.
            os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    elif given:
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    with needs_extra("ray", ", or use --backend local"):
        import ray
    if ray.is_initialized():
        yield ray
        return
    options: dict[str, Any] = {"num_cpus": num_cpus or num_cores(), "include_dashboard": False}
    if address:
        options = {"address": address}
        check_address(_resolved(ray, address, where), address, where)
    on_terminate = signal.getsignal(signal.SIGTERM)
    try:
        with contextlib.nullcontext() if address else _on_loopback(ray):
            ray.init(logging_level=logging.ERROR, log_to_driver=False, **options)
    except Exception as error:  # of any kind: a node that is slow to start raises a bare Exception
        ray.shutdown()
        if address:
            raise UsageError(no_answer(address, where, one_line(error))) from None
        raise RayUnavailableError(f"Ray cannot start here: {one_line(error)}; use --backend local") from None
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, on_terminate)  # Ray's own handler aborts the driver before it has cleaned up
    try:
        yield ray
    finally:
        ray.shutdown()


def _resolved(ray: Any, address: str, where: str) -> str:
    """HOST:PORT of an address; that of "auto" is where Ray last started a cluster on this machine."""
    if address.startswith("ray://"):
        return address
    try:
        return str(ray._private.services.canonicalize_bootstrap_address(address, None) or address)
    except Exception as error:
        raise UsageError(no_answer(address, where, one_line(error))) from None


@contextmanager
def _on_loopback(ray: Any) -> Iterator[None]:
    """Let the servers of a cluster that starts listen on the loopback alone, as Ray does where it supports one machine."""
    constants = ray._private.ray_constants
    before = getattr(constants, "ENABLE_RAY_CLUSTER", True)
    constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        constants.ENABLE_RAY_CLUSTER = before


def run_each(
    function: Callable[..., str], jobs: Sequence[tuple[Any, ...]], count: int | None, address: str | None
) -> Iterator[tuple[int, str]]:
    """(index of a job, result of the function), as they end: `count` at a time, one core or GPU each.

    The result of a job whose process died is the reason, in one line.
    """
    with connected(address, num_cpus=count) as ray:
        gpus = int(ray.cluster_resources().get("GPU", 0))
        maker = ray.remote(num_cpus=1, num_gpus=int(gpus > 0), max_retries=1)(function)
        limit = count or gpus or int(ray.cluster_resources().get("CPU", 1))
        waiting = deque(enumerate(jobs))
        running: dict[Any, int] = {}
        while waiting or running:
            while waiting and len(running) < limit:
                index, job = waiting.popleft()
                running[maker.remote(*job)] = index
            for reference in ray.wait(list(running), num_returns=1)[0]:
                try:
                    result = str(ray.get(reference))
                except ray.exceptions.RayError as error:
                    result = str(error).strip().splitlines()[-1]
                yield running.pop(reference), result


def run_ray(
    worker: Worker,
    tasks: Sequence[ShardTask],
    pending: Iterable[ShardTask],
    count: int | None,
    address: str | None,
    listener: Listener,
) -> None:
    """Make the shards of `pending`, those of `tasks` that no other run makes, with actors of one core or GPU each:
    `count` of them, which an autoscaling cluster provides, or as many as the cluster has resources for at the time.

    An actor makes one shard at a time, on a GPU several, and returns their entries; weights stay where they are written.
    An actor that dies is replaced, and its shards restart on any of them. An error in a worker is raised here, and
    stops all. Actors share GPUs only on this machine: a cluster at an address may grow.
    """
    on_gpu = worker.device == "cuda"
    with connected(address, num_cpus=None if on_gpu else count) as ray:
        kind = "GPU" if on_gpu else "CPU"
        capacity = int(ray.cluster_resources().get(kind, 0))
        if capacity < 1 and count is None:
            raise ResourceError(
                f"the Ray cluster has no {kind}; use --device cpu or another cluster, or --workers for one that grows"
            )
        # Absolute paths: an actor's working directory is not the driver's.
        absolute = replace(
            worker, out=worker.out.absolute(), data_root=worker.data_root and worker.data_root.absolute()
        )
        number, window = min(count or capacity, len(tasks)), window_of(worker.device)
        num_gpus = gpu_share(number, 0 if cluster_address(address) else capacity) if on_gpu else 0
        maker = ray.remote(_Actor).options(
            num_cpus=1, num_gpus=num_gpus, max_restarts=0, max_concurrency=window + 1
        )  # fmt: skip
        try:
            shared = ray.put(absolute)
        except (TypeError, AttributeError, pickle.PicklingError) as error:
            raise UsageError(unsendable(worker, error)) from error
        spare_cores = int(ray.cluster_resources().get("CPU", 0)) - number if on_gpu else 0
        helpers = _start_prefetch(ray, absolute, tasks, max(0, spare_cores))
        scheduler: Scheduler[Any] = Scheduler(pending, len(tasks), window)
        driver = Driver(ray, lambda: maker.remote(shared), scheduler, with_metrics(listener), kind, count)
        try:
            driver.run()
        finally:
            for helper in helpers:
                ray.cancel(helper, force=True)
            driver.stop()


def gpu_share(workers: int, gpus: int) -> float:
    """The part of a GPU that each worker takes: the largest 1/k by which they fit on the GPUs; 1 where their number is
    not known (0). Rounded down to the four decimals that Ray counts."""
    return 10_000 // -(-workers // gpus) / 10_000 if gpus else 1.0


def _start_prefetch(ray: Any, worker: Worker, tasks: Sequence[ShardTask], count: int) -> list[Any]:
    """Compute samples of shapes on `count` cores of the cluster before the actors request them."""
    if not isinstance(worker.recipe.source, ShapeSource):
        return []
    maker = ray.remote(num_cpus=1, max_retries=0)(prefetch_part)
    return [maker.remote(worker, tasks, part, count) for part in range(count)]


def with_metrics(listener: Listener) -> Listener:
    """The listener, which also counts its events in Ray's metrics, for a cluster's Prometheus."""
    from ray.util.metrics import Counter, Gauge

    inrs = Counter("inr_factory_inrs", "INRs that were fitted and stored.")
    shards = Counter("inr_factory_shards", "Shards that were made.")
    quarantined = Counter("inr_factory_quarantined", "INRs that were put in quarantine.")
    retries = Counter("inr_factory_retries", "Shards that restarted because their worker died.")
    rate = Gauge("inr_factory_inrs_per_second", "INRs a second over the last minute.")
    recent: deque[tuple[float, int]] = deque([(monotonic(), 0)])

    def done(task: ShardTask, entry: ShardEntry) -> None:
        now = monotonic()
        recent.append((now, entry.rows))
        while len(recent) > 2 and now - recent[0][0] > RATE_SECONDS:
            recent.popleft()
        rate.set(sum(rows for _, rows in islice(recent, 1, None)) / max(now - recent[0][0], 1e-6))
        shards.inc()
        for counter, count in ((inrs, entry.rows), (quarantined, len(entry.quarantine))):
            if count:
                counter.inc(count)
        listener.done(task, entry)

    def death(task: ShardTask, reason: str) -> None:
        retries.inc()
        listener.death(task, reason)

    return Listener(listener.progress, done, death)
