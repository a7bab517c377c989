"""Prefetch by processes and by Ray: the cache fills, and no process survives."""

import multiprocessing
import os
import subprocess
import sys
import time

import pytest

from inr_factory.generation.execution.prefetch import prefetching
from inr_factory.generation.execution.ray_pool import _start_prefetch, connected
from inr_factory.generation.execution.shard_plan import make_shard_plan
from inr_factory.generation.execution.worker import Worker
from inr_factory.generation.recipe import check_recipe
from inr_factory.generation.sources.registry import open_source

FIELDS = {
    "name": "few",
    "source": {"collection": "primitives", "per_class": 1, "num_points": 200, "num_truth": 50, "num_surface": 20},
    "limit": 9,
    "views": 2,
    "shard_objects": 4,
}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("INR_FACTORY_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def prepare(tmp_path, **source):
    """A worker and all its tasks."""
    recipe = check_recipe(FIELDS | {"source": FIELDS["source"] | source}, origin="test")
    opened = open_source(recipe.source)
    worker = Worker(recipe, None, tmp_path / "set", "cpu", opened.fingerprint)
    return worker, list(make_shard_plan(recipe, opened).tasks(recipe.views))


def entries(cache):
    return {path.name for path in cache.rglob("*.samples")}


def wait_for(condition, seconds=60.0):
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.05)
    return condition()


def test_processes_fill_the_cache_meanwhile_and_end(tmp_path, cache):
    worker, tasks = prepare(tmp_path)

    with prefetching(worker, tasks, 2):
        filled = wait_for(lambda: len(entries(cache)) == 9)

    assert filled
    assert not multiprocessing.active_children()


def test_ray_fills_the_cache_too(tmp_path, cache):
    worker, tasks = prepare(tmp_path)

    with connected(None, 2) as ray:
        ray.get(_start_prefetch(ray, worker, tasks, 2))

    assert len(entries(cache)) == 9


def test_helpers_exit_with_the_process_that_started_them():
    code = (
        "import multiprocessing, os, time\n"
        "from inr_factory.generation.execution.prefetch import _exit_with_parent\n"
        "if __name__ == '__main__':\n"
        "    helper = multiprocessing.get_context('fork').Process(target=_exit_with_parent, args=(os.getpid(),))\n"
        "    helper.start()\n"
        "    print(helper.pid, flush=True)\n"
        "    time.sleep(60)\n"
    )
    driver = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    helper = int(driver.stdout.readline())
    driver.kill()
    driver.communicate()

    assert wait_for(lambda: not alive(helper), seconds=10)


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat") as stat:
        return stat.read().split()[2] != "Z"
