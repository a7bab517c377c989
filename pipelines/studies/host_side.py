"""The CPU time around the GPU's kernel: µs an INR of a whole shard by stage, now and at an older commit, in one run.

    python pipelines/studies/host_side.py [--commit 7db3e46] [--count 10000] [--rounds 3] [--json FILE]

`Worker.make` reads uint8 images of 28 x 28, draws initial values, fits and writes one shard. A stand-in replaces the
kernel: it returns the initial weights as fitted. The device is the CPU, so that copies to and from a GPU, which a GPU
makes by itself, are not in it. Both versions run in turn, each in processes of its own, on one thread. Run it from the
repository: the older version comes out of git.
"""

import argparse
import importlib
import importlib.util
import json
import math
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
GOAL = 20_000  # INRs a second that one GPU should make
SOLVE = "least squares (a GPU makes it)"
STAGES = ("signals", "start values", SOLVE, "stack", "launch, conclude", "seeds, gather", "columns", "shard")
OLD = "inr_factory.fitting"
NEW = "inr_factory.generation"
# For a layout of modules: worker, recipe, image source, shard task, CPU engine, GPU engine, and its functions by stage.
# A function's time is that of what it calls without what other stages have.
LAYOUTS = {
    OLD: (
        ("inr_factory.worker", "inr_factory.recipe", "inr_factory.images", "inr_factory.blocks"),
        {
            "signals": ["inr_factory.worker.read_signals"],
            "start values": [f"{OLD}.starts.Starts.together"],
            SOLVE: [f"{OLD}.starts.solve_last_layers"],
            "stack": [f"{OLD}.fused_cuda._stacked"],
            "launch, conclude": [f"{OLD}.fused_cuda.fit_fused"],
            "seeds, gather": ["inr_factory.worker.fit_views"],
            "columns": ["inr_factory.worker.Worker.make"],
            "shard": ["inr_factory.worker.write_shard"],
        },
    ),
    f"{NEW}.fitting": (
        (f"{NEW}.execution.worker", f"{NEW}.recipe", f"{NEW}.sources.image_collections", f"{NEW}.execution.shard_plan"),
        {
            "signals": [f"{NEW}.execution.worker.read_signals"],
            "start values": [f"{NEW}.fitting.fused_cuda.initial_batch"],
            SOLVE: [f"{NEW}.fitting.initial_values.solve_last_layers"],
            "stack": [f"{NEW}.fitting.fused_cuda.prepare_chunk", f"{NEW}.fitting.fused_cuda.copy_chunk"],
            "launch, conclude": [f"{NEW}.fitting.fused_cuda.fit_fused"],
            "seeds, gather": [f"{NEW}.execution.worker.fit_views"],
            "columns": [f"{NEW}.execution.worker.Worker.make"],
            "shard": [f"{NEW}.execution.worker.write_shard"],
        },
    ),
}


class Stopwatch:
    """CPU seconds by stage; a stage that another calls counts for itself alone."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.running: list[str] = []
        self.since = process_time()

    def switch(self) -> None:
        now = process_time()
        if self.running:
            self.seconds[self.running[-1]] += now - self.since
        self.since = now

    def watch(self, stage: str, path: str) -> None:
        """Replace the function of a dotted path by one that is timed."""
        *owners, name = path.split(".")
        owner: Any = importlib.import_module(
            ".".join(part for part in owners if part[0] != part[0].upper() or part[0] == "_")
        )
        for part in owners:
            if part[0].isupper():
                owner = getattr(owner, part)
        function: Callable[..., Any] = getattr(owner, name)

        def timed(*values: Any, **named: Any) -> Any:
            self.switch()
            self.running.append(stage)
            try:
                return function(*values, **named)
            finally:
                self.switch()
                self.running.pop()

        setattr(owner, name, timed)


def measure(count: int, optimizer: str) -> dict[str, float]:
    """µs an INR by stage, in the version that is on the path."""
    import numpy as np
    import torch

    package = next(
        name for name in LAYOUTS if importlib.util.find_spec(name.rpartition(".")[0] + "." + name.rpartition(".")[2])
    )
    (worker_at, recipe_at, images_at, plan_at), stages = LAYOUTS[package]
    worker, recipes, images, plan = map(importlib.import_module, (worker_at, recipe_at, images_at, plan_at))
    cpu, cuda = (importlib.import_module(f"{package}.{name}") for name in ("fused_cpu", "fused_cuda"))
    result = getattr(cuda, "LaunchResult", None) or cuda.Ended

    def no_kernel(spec: object, coords: object, targets: Any, flat: Any, *rest: object) -> Any:
        return result(flat, torch.full((len(flat),), 1e-6), torch.full((len(flat),), 60, dtype=torch.int32))

    cuda.run_steps = no_kernel
    watch = Stopwatch()
    for stage, paths in stages.items():
        for path in paths:
            watch.watch(stage, path)
    cpu.fit_fused, cpu.obstacle = cuda.fit_fused, lambda spec: ""
    random = np.random.default_rng(0)
    source = images.ArraySource(
        recipes.ImageSource(collection="fashion_mnist"), "fashion_mnist", "1", "none", tuple("0123456789"),
        random.integers(0, 256, (count, 28, 28), dtype=np.uint8), random.integers(0, 10, count), {"train": count},
    )  # fmt: skip
    fields = {
        "name": "host", "source": {"collection": "fashion_mnist"}, "shard_objects": count,
        "splits": {"val": 0, "test": 0}, "fit": {"optimizer": optimizer, "engine": "fused"},
    }  # fmt: skip
    recipe = recipes.check_recipe(fields, "")
    for _ in range(2):  # the first makes what is made once a process
        watch.seconds.clear()
        with tempfile.TemporaryDirectory() as out:
            made = worker.Worker(recipe, None, Path(out), "cpu", source.fingerprint, source)
            assert made.plan
            made.make(plan.ShardTask("train", 0, 0))
    return {stage: 1e6 * watch.seconds[stage] / count for stage in STAGES}


def run(tree: Path, count: int, optimizer: str) -> dict[str, float]:
    """`measure` in a process of its own, with the package of a tree."""
    environment = os.environ | {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--measure", optimizer, "--count", str(count)]
    done = subprocess.run(command, env=environment, cwd=tree, check=True, capture_output=True, text=True)
    measured: dict[str, float] = json.loads(done.stdout)
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--commit", default="7db3e46", help="the older version")
    parser.add_argument("--count", type=int, default=10_000, help="INRs of the shard")
    parser.add_argument("--rounds", type=int, default=3, help="processes of each version; their medians count")
    parser.add_argument("--json", type=Path, help="a file for the figures")
    parser.add_argument("--measure", choices=["adam", "sprint"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.count, options.measure)))
        return
    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        archive = subprocess.run(
            ["git", "archive", options.commit, "inr_factory"], cwd=ROOT, check=True, capture_output=True
        )
        subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
        trees = {options.commit: Path(folder), "now": ROOT}
        for optimizer in ("adam", "sprint"):
            rounds = [
                {name: run(tree, options.count, optimizer) for name, tree in trees.items()}
                for _ in range(options.rounds)
            ]
            figures[optimizer] = {
                name: {stage: median(each[name][stage] for each in rounds) for stage in STAGES} for name in trees
            }
    for optimizer, versions in figures.items():
        before, now = versions[options.commit], versions["now"]
        print(f"\n## {optimizer}: CPU µs an INR, {options.count:,} uint8 images of 28 x 28 in one shard\n")
        print(f"| stage | {options.commit} | now | times |\n|---|---|---|---|")
        total = [sum(version[stage] for stage in STAGES if stage != SOLVE) for version in (before, now)]
        for stage, old, new in [
            *((stage, before[stage], now[stage]) for stage in STAGES),
            ("sum without least squares", *total),
        ]:
            if old or new:
                print(f"| {stage} | {old:.1f} | {new:.1f} | {old / max(new, 0.05):.1f} |")
        cores = [math.ceil(GOAL * µs / 1e6) for µs in total]
        print(f"\n{GOAL:,} INRs/s take {cores[0]} workers at {options.commit}, {cores[1]} now.")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
