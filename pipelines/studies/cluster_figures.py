"""Measures runs on a cluster. Each part can be run separately.

    python pipelines/studies/cluster_figures.py --data-root ../shared/datasets --out /tmp/cluster.json

Prints Markdown and writes the same figures as JSON to --out. The parts (`--parts`, default all):

- share: a real fit of Fashion-MNIST by two Ray actors, and the CPU time of everything except the actors
- bytes: the messages of one shard to and from the driver
- plan: ten million INRs on a simulated cluster of 1,000 cores whose nodes fail and join; the driver's memory and time
  per shard
- same: the sha256 of a set for 1, 2 and 4 Ray actors, in shuffled order, and for two nodes of which one is killed
"""

import argparse
import contextlib
import hashlib
import json
import os
import pickle
import random
import resource
import shutil
import sys
import tempfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from time import monotonic, perf_counter, process_time
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from inr_factory.benchmarks.pipeline import full_speed
from inr_factory.benchmarks.simulated_ray import Actor, SimulatedRay
from inr_factory.generation.execution import fit_plan
from inr_factory.generation.execution.fit_dataset import fit_dataset
from inr_factory.generation.execution.fit_plan import describe_set
from inr_factory.generation.execution.progress_recorder import FitProgress, ProgressRecorder
from inr_factory.generation.execution.ray_driver import Driver
from inr_factory.generation.execution.ray_pool import connected
from inr_factory.generation.execution.scheduler import Scheduler
from inr_factory.generation.execution.shard_plan import ShardPlan, ShardTask, make_shard_plan
from inr_factory.generation.fitting.tally import Tally
from inr_factory.generation.recipe import check_recipe, load_recipe
from inr_factory.generation.signals import Item
from inr_factory.storage.manifest import PSNRSummary, ShardEntry
from inr_factory.storage.manifest_file import update_manifest
from inr_factory.storage.run_log import RunLog

ACTORS, CORES = 1000, 8
SHARD_OBJECTS = 500
SECONDS_A_SHARD = 25.0  # 500 INRs at 20 a second and core


def measure_share(data_root: Path | None, count: int) -> dict[str, Any]:
    """CPU time of all processes of a run but its actors, from its first INR to its last: over that of all processes,
    and over the time of two cores. On a machine that does nothing else both are the same; Ray's processes beat at all
    times, so that where others take most of the cores the first is too high."""
    recipe = full_speed("digits" if data_root is None else "fashion_mnist_40db", count, "auto")
    seen: list[dict[str, float]] = []
    last = 0.0

    def watch(progress: FitProgress) -> None:
        nonlocal last
        if progress.tally.done and (not seen or monotonic() - last > 1 or progress.tally.done == progress.inrs):
            last = monotonic()
            seen[1:] = [cpu_seconds() | {"clock": last}]

    with tempfile.TemporaryDirectory() as folder, connected(None, num_cpus=2):
        started = monotonic()
        report = fit_dataset(
            recipe, Path(folder) / "set", data_root=data_root, backend="ray", workers=2, on_progress=watch
        )
        seconds = monotonic() - started
    between = seen[-1].pop("clock") - seen[0].pop("clock")
    spent = {name: seen[-1][name] - seen[0].get(name, 0.0) for name in seen[-1]}
    actors = sum(took for name, took in spent.items() if "ray::_Actor" in name)
    driver = sum(took for name, took in spent.items() if name == "driver")
    all_of_it = sum(spent.values())
    return {
        "INRs": report.inrs,
        "seconds": round(seconds, 1),
        "CPU seconds of actors": round(actors, 1),
        "CPU seconds of the driver": round(driver, 2),
        "CPU seconds of Ray's own processes": round(all_of_it - actors - driver, 2),
        "cores that this run had, of 2": round(all_of_it / between, 2),
        "driver and Ray, share of the CPU time": f"{(all_of_it - actors) / all_of_it:.2%}",
        "driver and Ray, share of the time of 2 cores": f"{(all_of_it - actors) / (2 * between):.2%}",
    }


def cpu_seconds() -> dict[str, float]:
    """CPU time so far of this process ("driver") and of all below it, by the first words of their commands."""
    parents, names, spent = {}, {}, {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                pid = int(folder.name)
                parents[pid], names[pid] = int(fields[1]), f"{command[:60]} {pid}"
                spent[pid] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    own = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in own} - own:
        own |= more
    return {"driver" if pid == os.getpid() else names[pid]: spent[pid] for pid in own}


def measure_bytes() -> dict[str, Any]:
    """Pickled sizes of what goes between an actor and the driver for a shard of 500 INRs, and of its line in the
    manifest. Weights do not."""
    recipe = full_speed("digits", SHARD_OBJECTS, "none")
    with tempfile.TemporaryDirectory() as folder:
        manifest = fit_dataset(recipe, Path(folder) / "set", backend="local", workers=1).manifest
    sizes = {
        "task to an actor": max(len(pickle.dumps(ShardTask(e.split, e.view, e.block))) for e in manifest.shards),
        "entry to the driver": max(len(pickle.dumps(entry)) for entry in manifest.shards),
        "progress to the driver, each poll": len(pickle.dumps(Tally(500, 500, 20123.456, 40000))),
        "line in the manifest": max(len(entry.model_dump_json()) for entry in manifest.shards),
    }
    return {
        **sizes,
        "a shard of 25 s, polled every 5 s": sum(sizes.values()) + 4 * sizes["progress to the driver, each poll"],
    }


class _ManyObjects:
    """A source of so many objects that has no signals: enough to plan with."""

    name, version, licence, fingerprint = "simulated", "1", "none", "0" * 16
    in_dim, out_dim, classes = 2, 1, ("one",)

    def __init__(self, count: int) -> None:
        self.items = [Item(f"object-{number:08d}", 0, None) for number in range(count)]


def simulate(objects: int, views: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Plan a set and drive it on a simulated cluster; the driver, the records and the manifest on disk are the real ones.

    A node of 8 cores dies every minute and another comes; shards take 25 s, give or take, one in a thousand ten times as long.
    """
    recipe = check_recipe(
        {
            "name": "plan", "source": {"collection": "digits"}, "views": views, "shard_objects": SHARD_OBJECTS,
            "splits": {"val": 0, "test": 0},
        }, origin="plan",
    )  # fmt: skip
    started, before = perf_counter(), _memory()
    source: Any = _ManyObjects(objects)
    plan = make_shard_plan(recipe, source)
    tasks = plan.tasks(views)
    planned, of_plan = perf_counter() - started, _memory() - before
    rng = random.Random(0)
    samples: list[tuple[int, float, float]] = []

    def make(actor: Actor, task: ShardTask) -> tuple[float, ShardEntry | Exception]:
        slow = 10.0 if rng.random() < 1e-3 else 1.0
        return SECONDS_A_SHARD * slow * rng.uniform(0.8, 1.25), _entry(plan, task)

    ray = SimulatedRay({f"node{number}": CORES for number in range(ACTORS // CORES)}, make)

    def fail_node(number: int) -> None:
        ray.remove_node(sorted(ray.held)[number % len(ray.held)])
        ray.add_node(f"later{number}", CORES)
        ray.at(ray.now + 60, lambda: fail_node(number + 1))

    ray.at(60, lambda: fail_node(0))
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "set"
        manifest = update_manifest(out, describe_set(recipe, source, plan))
        busy = process_time()

        def clock() -> float:  # work takes its real time
            return ray.now + process_time() - busy

        recorder = ProgressRecorder(out, manifest, plan, tasks, set(), RunLog(out, (0, 1)), None, clock)
        record_done = recorder.listener.done

        most = 0

        def done(task: ShardTask, entry: ShardEntry) -> None:
            nonlocal most
            record_done(task, entry)
            most = max(most, len(driver.actors))
            if len(recorder.made) % max(1, len(tasks) // 10) == 0:
                samples.append((len(recorder.made), process_time() - busy, _memory()))
                say(f"{len(recorder.made):,} shards, {samples[-1][1]:.1f} s of CPU, {samples[-1][2]:.0f} MB")

        listener = type(recorder.listener)(recorder.listener.progress, done, recorder.listener.death)
        driver = Driver(
            ray, ray.start_actor, Scheduler(recorder.pending_tasks(), len(tasks)), listener, clock=lambda: ray.now
        )
        driver.run()
        recorder.finish()
        size = (out / "manifest.json").stat().st_size
        whole = len(recorder.manifest.shards) == len(tasks)
    tenths = [1000 * (second[1] - first[1]) / (second[0] - first[0]) for first, second in pairwise(samples)]
    return {
        "INRs": objects * views,
        "shards": len(tasks),
        "actors at most": most,
        "nodes lost": len(ray.gone),
        "shards started": len(ray.runs),
        "all recorded": whole,
        "hours of the cluster": round(ray.now / 3600, 2),
        "plan: seconds": round(planned, 1),
        "plan: MB": round(of_plan),
        "driver: ms a shard, each tenth": [round(ms, 2) for ms in tenths],
        "driver: MB, each tenth": [round(megabytes) for _, _, megabytes in samples],
        "manifest: MB": round(size / 1e6, 1),
    }


def _entry(plan: ShardPlan, task: ShardTask) -> ShardEntry:
    rows = plan.num_objects(task)
    digest = hashlib.sha256(task.path.encode()).hexdigest()
    return ShardEntry(
        path=task.path, split=task.split, view=task.view, block=task.block, rows=rows, bytes=rows * 4800, sha256=digest,
        psnr=PSNRSummary(mean=40.123, median=40.012, min=38.123), mean_steps=61.2,
    )  # fmt: skip


def _memory() -> float:
    """MB that this process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def compare_runs(say: Callable[[str], None]) -> dict[str, Any]:
    """Fit the same 1,797 digits, two views, in many ways, and compare every byte of the sets."""
    recipe = load_recipe(
        "digits", ["fit.optimizer=sprint", "fit.learning_rate=8e-3", "fit.steps=80", "shard_objects=60"]
    )
    with tempfile.TemporaryDirectory() as folder:
        sets: dict[str, str] = {}

        def fit(name: str, settings: dict[str, Any], watch: Callable[[Any], None] | None = None) -> None:
            out = Path(folder) / "set"
            fit_dataset(recipe, out, **settings, on_progress=watch)
            sets[name] = _digest(out)
            say(f"{name}: {sets[name][:16]}")
            shutil.rmtree(out)

        fit("one process", {"backend": "local", "workers": 1})
        for workers in (1, 2, 4):
            fit(f"Ray, {workers} actors", {"backend": "ray", "workers": workers})
        fit_shuffled(lambda: fit("Ray, 2 actors, shuffled", {"backend": "ray", "workers": 2}))
        fit_on_two_nodes(lambda watch: fit("Ray, two nodes, one killed", {"backend": "ray"}, watch))
    return {**{name: digest[:16] for name, digest in sets.items()}, "all the same": len(set(sets.values())) == 1}


def fit_shuffled(fit: Callable[[], None]) -> None:
    """A fit whose tasks come in random order."""
    in_order = fit_plan._tasks_of_part
    fit_plan._tasks_of_part = lambda *given: random.Random(1).sample(tasks := in_order(*given), len(tasks))
    try:
        fit()
    finally:
        fit_plan._tasks_of_part = in_order


def fit_on_two_nodes(fit: Callable[[Callable[[Any], None]], None]) -> None:
    """A fit on a local cluster of two nodes, one of which is killed when a third of the set is there."""
    os.environ.setdefault("RAY_AUTH_TOKEN", "0" * 64)
    import ray
    from ray.cluster_utils import Cluster

    quick = {f"health_check_{name}": value for name, value in (("initial_delay_ms", 500), ("period_ms", 500))}
    head = {"num_cpus": 1, "include_dashboard": False, "_system_config": quick | {"health_check_failure_threshold": 2}}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    doomed = [cluster.add_node(num_cpus=1)]
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")

    def fail_node(progress: Any) -> None:
        if doomed and progress.tally.done > progress.inrs / 3:
            cluster.remove_node(doomed.pop(), allow_graceful=False)

    try:
        fit(fail_node)
        assert not doomed, "the run was over before the node was killed"
    finally:
        ray.shutdown()
        cluster.shutdown()


def _digest(out: Path) -> str:
    """One hash over the names and bytes of manifest and shards."""
    digest = hashlib.sha256()
    for path in [out / "manifest.json", *sorted((out / "data").iterdir())]:
        digest.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, help="where Fashion-MNIST is; else the share is of scans of digits")
    parser.add_argument("--parts", default="bytes,plan,same,share")
    parser.add_argument("--inrs", type=int, default=10_000_000, help="of the plan")
    parser.add_argument("--views", type=int, default=10, help="of the plan")
    parser.add_argument("--count", type=int, default=10_000, help="INRs of the share")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    known: dict[str, Callable[[], dict[str, Any]]] = {
        "bytes": lambda: measure_bytes(),
        "plan": lambda: simulate(given.inrs // given.views, given.views, say),
        "same": lambda: compare_runs(say),
        "share": lambda: measure_share(given.data_root, given.count),
    }
    found = {part: known[part]() for part in given.parts.split(",")}
    for part, figures in found.items():
        print(f"\n**{part}**\n\n| | |\n|---|---|")
        for name, figure in figures.items():
            text = (
                ", ".join(map(str, figure))
                if isinstance(figure, list)
                else f"{figure:,}"
                if isinstance(figure, int) and not isinstance(figure, bool)
                else str(figure)
            )
            print(f"| {name} | {text} |")
    if given.out:
        given.out.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
