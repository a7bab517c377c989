"""CPU time around the GPU's kernel: µs an INR by stage, now and at an older commit, in one run.

    python pipelines/studies/host_side.py [--commit 7db3e46] [--count 10000] [--shard 500] [--rounds 5] [--json FILE]

`Worker.make` reads uint8 images of 28 x 28, draws initial values, fits, and writes shards, one after the other. A stand-in replaces the
kernel and returns the initial weights as fitted, and the CPU stands in for the GPU: what the driver does to copy and to
launch is not in the figures. Both versions run in turn, each time in a process of its own, on one thread. The older one
comes out of git.
"""

import argparse
import importlib
import json
import math
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import reduce
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
GOAL = 20_000  # INRs a second that one GPU should make
DRAW, SOLVE = "initial values drawn on the CPU", "least squares of sprint"
ON_GPU = (DRAW, SOLVE)  # which a GPU makes, now
STAGES = (
    "signals",
    "initial values",
    "stack",
    "launch and conclude",
    "seeds, gather",
    "columns",
    "shard",
    "file",
    *ON_GPU,
)

OLD, NEW = "inr_factory.fitting", "inr_factory.generation.fitting"
RUN = "inr_factory.generation.execution.worker"
# Of each version: worker, recipe, images, plan; and functions by stage. One that calls another's counts the rest.
MODULES = {
    OLD: ["inr_factory.worker", "inr_factory.recipe", "inr_factory.images", "inr_factory.blocks"],
    NEW: [
        RUN,
        *(f"inr_factory.generation.{name}" for name in ("recipe", "sources.image_collections", "execution.shard_plan")),
    ],
}
TIMED = {
    OLD: {
        "inr_factory.worker:read_signals": "signals", "inr_factory.worker:fit_views": "seeds, gather",
        "inr_factory.worker:Worker.make": "columns", "inr_factory.worker:write_shard": "shard",
        "inr_factory.shards:write_atomically": "file",
        f"{OLD}.starts:Starts.together": "initial values", f"{OLD}.starts:solve_last_layers": SOLVE,
        f"{OLD}.fused_cuda:_stacked": "stack", f"{OLD}.fused_cuda:fit_fused": "launch and conclude",
    },
    NEW: {
        f"{RUN}:read_signals": "signals", f"{RUN}:fit_views": "seeds, gather",
        f"{RUN}:Worker.make": "columns", f"{RUN}:write_shard": "shard",
        "inr_factory.storage.shards:write_atomically": "file",
        f"{NEW}.fused_cuda:initial_batch": "initial values", f"{NEW}.initial_values:solve_last_layers": SOLVE,
        f"{NEW}.initial_values:initialize_flat": DRAW, f"{NEW}.fused_cuda:prepare_chunk": "stack",
        f"{NEW}.fused_cuda:copy_chunk": "stack", f"{NEW}.fused_cuda:fit_fused": "launch and conclude",
    },
}  # fmt: skip


class Stopwatch:
    """CPU seconds by stage; the time of a stage inside another counts for itself alone."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.stages: list[str] = []
        self.since = process_time()

    def switch(self) -> None:
        now = process_time()
        if self.stages:
            self.seconds[self.stages[-1]] += now - self.since
        self.since = now

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        self.switch()
        self.stages.append(name)
        try:
            yield
        finally:
            self.switch()
            self.stages.pop()

    def watch(self, place: str, stage: str) -> None:
        """Time the function at MODULE:NAME or MODULE:CLASS.NAME."""
        module, _, path = place.partition(":")
        *owners, name = path.split(".")
        owner = reduce(getattr, owners, importlib.import_module(module))
        function = getattr(owner, name)

        def timed(*values: Any, **named: Any) -> Any:
            with self.stage(stage):
                return function(*values, **named)

        setattr(owner, name, timed)


def measure(version: str, count: int, shard: int, optimizer: str) -> dict[str, float]:
    """µs an INR by stage, in the version that is on the path."""
    import numpy as np
    import torch

    worker, recipes, images, plan = map(importlib.import_module, MODULES[version])
    cpu, cuda = (importlib.import_module(f"{version}.{name}") for name in ("fused_cpu", "fused_cuda"))
    result = cuda.Ended if version == OLD else cuda.LaunchResult

    def no_kernel(spec: object, coords: object, targets: object, flat: Any, *rest: object) -> Any:
        return result(flat, torch.full((len(flat),), 1e-6), torch.full((len(flat),), 60, dtype=torch.int32))

    cuda.run_steps = no_kernel
    watch = Stopwatch()
    for place, stage in TIMED[version].items():
        watch.watch(place, stage)
    cpu.fit_fused, cpu.obstacle = cuda.fit_fused, lambda spec: ""
    if version == NEW:
        draw_as_on_gpu(watch)
    random = np.random.default_rng(0)
    source = images.ArraySource(
        recipes.ImageSource(collection="fashion_mnist"), "fashion_mnist", "1", "none", tuple("0123456789"),
        random.integers(0, 256, (count, 28, 28), dtype=np.uint8), random.integers(0, 10, count), {"train": count},
    )  # fmt: skip
    fields = {
        "name": "host", "source": {"collection": "fashion_mnist"}, "shard_objects": shard,
        "splits": {"val": 0, "test": 0}, "fit": {"optimizer": optimizer, "engine": "fused"},
    }  # fmt: skip
    for _ in range(2):  # the first makes what a process makes once
        watch.seconds.clear()
        with tempfile.TemporaryDirectory() as out:
            made = worker.Worker(recipes.check_recipe(fields, ""), None, Path(out), "cpu", source.fingerprint, source)
            for block in range(len(made.plan.blocks["train"])):
                made.make(plan.ShardTask("train", 0, block))
    return {stage: 1e6 * watch.seconds[stage] / count for stage in STAGES}


def draw_as_on_gpu(watch: Stopwatch) -> None:
    """Make the operations that draw the numbers on a GPU, with one number, in addition to the drawing on the CPU."""
    import torch

    initial_values = importlib.import_module(f"{NEW}.initial_values")
    draw_on_device = importlib.import_module("inr_factory.inr.initialization").draw_on_device
    draw = initial_values.initialize_flat

    def twice(*values: Any) -> Any:
        draw_on_device(torch.zeros(1, dtype=torch.int64), torch.zeros(1))
        return draw(*values)

    initial_values.initialize_flat = twice


def run(tree: Path, version: str, count: int, shard: int, optimizer: str) -> dict[str, float]:
    """`measure` in a process of its own, with the package of a tree."""
    environment = os.environ | {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(Path(__file__).resolve()), "--measure", version, optimizer]
    command += ["--count", str(count), "--shard", str(shard)]
    done = subprocess.run(command, env=environment, cwd=tree, check=True, stdout=subprocess.PIPE, text=True)
    measured: dict[str, float] = json.loads(done.stdout)
    return measured


def table(optimizer: str, commit: str, shard: int, before: dict[str, float], now: dict[str, float]) -> str:
    """Markdown: the stages, their sum, and the workers that GOAL takes."""
    rows = [(stage, before[stage], now[stage]) for stage in STAGES if stage not in ON_GPU]
    total = "**sum**", sum(old for _, old, _ in rows), sum(new for _, _, new in rows)
    lines = [f"| stage | {commit} | now | ratio |", "|---|---|---|---|"]
    lines += [f"| {stage} | {old:.1f} | {new:.1f} | {old / max(new, 0.05):.1f} |" for stage, old, new in [*rows, total]]
    for stage in ON_GPU:
        if now[stage]:
            old = f"{before[stage]:.1f}" if before[stage] else ""
            lines.append(f"| {stage}; a GPU makes it: not in the sum | {old} | {now[stage]:.1f} | |")
    cores = [math.ceil(GOAL * microseconds / 1e6) for microseconds in total[1:]]
    head = f"{optimizer}: CPU µs an INR, shards of {shard:,} uint8 images of 28 x 28"
    return "\n".join(
        ["", head, "", *lines, "", f"{GOAL:,} INRs/s take {cores[0]} workers at {commit}, {cores[1]} now."]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--commit", default="7db3e46", help="the older version")
    parser.add_argument("--count", type=int, default=10_000, help="INRs")
    parser.add_argument("--shard", type=int, default=500, help="INRs of a shard (default: 500, as recipes have it)")
    parser.add_argument("--rounds", type=int, default=5, help="processes of each version; the medians count")
    parser.add_argument("--json", type=Path, help="a file for the figures")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure[0], options.count, options.shard, options.measure[1])))
        return
    figures: dict[str, dict[str, dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        archive = subprocess.Popen(["git", "archive", options.commit, "inr_factory"], cwd=ROOT, stdout=subprocess.PIPE)
        subprocess.run(["tar", "-x", "-C", folder], stdin=archive.stdout, check=True)
        for optimizer in ("adam", "sprint"):
            rounds = [
                {
                    version: run(tree, version, options.count, options.shard, optimizer)
                    for version, tree in ((OLD, Path(folder)), (NEW, ROOT))
                }
                for _ in range(options.rounds)
            ]
            figures[optimizer] = {
                version: {stage: median(each[version][stage] for each in rounds) for stage in STAGES}
                for version in (OLD, NEW)
            }
            print(table(optimizer, options.commit, options.shard, figures[optimizer][OLD], figures[optimizer][NEW]))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
