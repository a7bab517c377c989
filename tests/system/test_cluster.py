"""A cluster of Ray whose nodes come and go: the same bytes as one process."""

import contextlib
import os
import signal
import time
import urllib.request
from pathlib import Path

import pytest
from support.tiny_recipes import files, long, processes_named

from inr_factory.generation.execution import ray_driver as driver
from inr_factory.generation.execution import scheduler
from inr_factory.generation.execution.fit_dataset import fit_dataset

QUICK = {
    "health_check_initial_delay_ms": 500,
    "health_check_period_ms": 500,
    "health_check_failure_threshold": 2,
    "metrics_report_interval_ms": 500,
}


@pytest.fixture(scope="module")
def cluster():
    """A head of one core, to which nodes can be added; this process is connected to it."""
    with pytest.MonkeyPatch.context() as patch:
        # Ray reads its token once a process: the one of earlier tests, or this one for later ones.
        os.environ.setdefault("RAY_AUTH_TOKEN", "0" * 64)
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setattr(driver, "RESIZE_SECONDS", 0.3)
        import ray
        from ray.cluster_utils import Cluster

        made = Cluster(
            initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False, "_system_config": QUICK}
        )
        ray.init(address=made.address, log_to_driver=False, logging_level="ERROR")
        try:
            yield ray, made
        finally:
            ray.shutdown()
            made.shutdown()


@pytest.mark.faults
def test_a_node_that_joins_is_used_and_when_it_is_lost_others_make_its_shards(cluster, long_whole, tmp_path):
    _, nodes = cluster
    out, events, seen = tmp_path / "set", [], set()
    makers = driver.Driver._assign

    def fail_node(state):
        if not events:
            events.append(nodes.add_node(num_cpus=1))
        elif len(events) == 1 and len(seen) > 1 and state.tally.done > 60:
            nodes.remove_node(events[0], allow_graceful=False)
            events.append("lost")

    def give(self, actor):
        seen.add(self.actors[actor])
        makers(self, actor)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(driver.Driver, "_assign", give)
        fit_dataset(long(), out, backend="ray", on_progress=fail_node)

    assert len(seen) == 2, "the new node had no actor"
    assert events[1:] == ["lost"]
    assert files(out) == files(long_whole)


@pytest.mark.faults
def test_an_actor_that_hangs_is_overtaken(cluster, long_whole, tmp_path, monkeypatch):
    _, nodes = cluster
    node = nodes.add_node(num_cpus=1)
    out, hung, runs = tmp_path / "set", [], []
    monkeypatch.setattr(driver, "RESIZE_SECONDS", 0.3)
    monkeypatch.setattr(scheduler, "STRAGGLER_SECONDS", 1.0)
    give = scheduler.Scheduler.next_assignments
    monkeypatch.setattr(
        scheduler.Scheduler, "next_assignments", lambda self, now: (woken := give(self, now), runs.extend(woken))[0]
    )

    def hang(state):
        if not hung and state.tally.done > 60:
            hung.append(next(pid for pid in processes_named("ray::_Actor") if is_ours(pid)))
            os.kill(hung[0], signal.SIGSTOP)

    try:
        fit_dataset(long(), out, backend="ray", workers=2, on_progress=hang)
    finally:
        for pid in hung:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        nodes.remove_node(node)

    assert len(runs) == 1, "its shard was not given to the other"
    assert files(out) == files(long_whole)


def test_what_a_run_makes_is_counted_in_the_metrics_of_ray(cluster, tmp_path):
    from support.tiny_recipes import tiny

    ray, _ = cluster
    before, seen = read_metrics(ray), None
    while before != seen:  # what earlier runs counted may still be on its way
        seen = before
        time.sleep(2)
        before = read_metrics(ray)
    fit_dataset(tiny(), tmp_path / "set", backend="ray", workers=1)
    deadline = time.monotonic() + 30
    while counted(before, read_metrics(ray)) != {"inrs": 48, "shards": 10} and time.monotonic() < deadline:
        time.sleep(0.3)
    after = read_metrics(ray)
    assert counted(before, after) == {"inrs": 48, "shards": 10}
    assert after["ray_inr_factory_inrs_per_second"] > 0


def is_ours(pid):
    """Whether a process is below this one: others on the machine may run Ray, too."""
    while pid > 1 and pid != os.getpid():
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return pid == os.getpid()


def read_metrics(ray):
    """The sums of this program's metrics, as Prometheus would read them from all nodes."""
    sums = {}
    for node in ray.nodes():
        if node["Alive"]:
            url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=5) as page:
                for line in page.read().decode().splitlines():
                    name, _, value = line.rpartition(" ")
                    if "inr_factory" in name and not line.startswith("#"):
                        sums[name.partition("{")[0]] = sums.get(name.partition("{")[0], 0.0) + float(value)
    return sums


def counted(before, after):
    names = {"inrs": "ray_inr_factory_inrs_total", "shards": "ray_inr_factory_shards_total"}
    return {short: after.get(name, 0.0) - before.get(name, 0.0) for short, name in names.items()}
