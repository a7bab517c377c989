"""Fitter: a process that fits the shards that a trainer asks for, until the trainer ends:

    python -m inr_factory.streaming POOL SHARDS PARENT NUMBER
    python -m inr_factory.streaming POOL SHARDS PARENT COUNT ADDRESS

The second keeps COUNT of them on a Ray cluster.
"""

import os
import pickle
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from inr_factory.errors import UsageError, one_line
from inr_factory.generation.execution.local_pool import on_gpu
from inr_factory.generation.execution.shard_plan import ShardTask
from inr_factory.generation.execution.worker import Worker
from inr_factory.storage.manifest import Manifest
from inr_factory.storage.manifest_file import update_manifest
from inr_factory.streaming.pool import JOB, Claim, Demand, Pool
from inr_factory.streaming.schedule import Shard

POLL_SECONDS = 0.05
REPORT_SECONDS = 0.5
NICENESS = 5  # training comes first
SUCCESSORS = 100  # of a fitter on a cluster, one after the other where processes or nodes die


@dataclass(frozen=True)
class FitterJob:
    """What a fitter has to know: the worker that makes shards and, where they are kept, the manifest that lists them."""

    worker: Worker
    kept: Manifest | None


def serve(folder: str, shards: str, number: int = 0) -> str:
    """Make what the trainer asks for until it ends. What it fails of is left in the pool, for the trainer to raise."""
    pool = Pool(Path(folder), Path(shards))
    try:
        job = _load(pool)
        worker = on_gpu(job.worker, number, 0)
        name, figures = f"{socket.gethostname()}-{os.getpid()}", {"inrs": 0, "busy": 0.0, "idle": 0.0}
        reported = time.monotonic()
        while (demand := pool.demand()) is not None and not demand.closed:
            begin = time.monotonic()
            taken = _take(pool, demand)
            if taken is None:
                time.sleep(POLL_SECONDS)
                figures["idle"] += time.monotonic() - begin
                if begin - reported > REPORT_SECONDS:
                    reported = begin
                    pool.report(name, figures)
                continue
            (view, block), claim = taken
            entry = worker.make(ShardTask("train", view, block), claim.beat)
            if job.kept is not None:
                update_manifest(pool.shards, job.kept.with_views(view + 1), [entry])
            claim.release()
            figures["inrs"] += entry.rows
            figures["busy"] += time.monotonic() - begin
            pool.report(name, figures)
    except Exception as error:
        pool.fail(error)
        raise
    return "ended"


def _load(pool: Pool) -> FitterJob:
    content = (pool.folder / JOB).read_bytes()
    try:
        job = pickle.loads(content)
    except Exception as error:  # such as a class that this process cannot import
        raise UsageError(
            f"the source cannot be sent to fitters ({one_line(error)}): define its class in a module that can be imported"
        ) from error
    assert isinstance(job, FitterJob)
    return job


def _take(pool: Pool, demand: Demand) -> tuple[Shard, Claim] | None:
    """The first shard of a demand that nobody makes or has made."""
    for shard in demand.shards:
        if (claim := pool.claim(shard)) is not None:
            if pool.path(shard).exists():  # its fitter ended between the two looks
                claim.release()
                continue
            return shard, claim
    return None


def _serve_on_ray(folder: str, shards: str, address: str, count: int) -> None:
    """Keep fitters on a cluster, each with a core or a GPU of its own; one whose process or node dies is replaced."""
    from inr_factory.generation.execution.ray_pool import run_each

    pool = Pool(Path(folder), Path(shards))
    try:
        while (demand := pool.demand()) is not None and not demand.closed:
            for _ in run_each(serve, [(folder, shards)] * (SUCCESSORS * count), count, address):
                if (now := pool.demand()) is None or now.closed:
                    return
    except Exception as error:
        pool.fail(error)
        raise


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _terminated(*_: object) -> None:
    sys.exit(0)


def main(arguments: list[str]) -> None:
    folder, shards, parent, number, *address = arguments
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the process group; the trainer ends its fitters
    threading.Thread(target=_end_with, args=(int(parent),), daemon=True).start()
    if address:
        signal.signal(signal.SIGTERM, _terminated)  # so that Ray's processes end, too
        _serve_on_ray(folder, shards, address[0], int(number))
        return
    with suppress(OSError, AttributeError):
        os.nice(NICENESS)
    serve(folder, shards, int(number))
