"""Prefetch by processes and by Ray: the cache fills, and no process survives."""

import multiprocessing
import os
import subprocess
import sys
import time

import pytest
from support.small_shapes import entries, prepare

from inr_factory.generation.execution.prefetch import prefetching
from inr_factory.generation.execution.ray_pool import _start_prefetch, connected


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("INR_FACTORY_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


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
