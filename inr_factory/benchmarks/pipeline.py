"""Pipeline: a complete run, and the same without fitting: the cost of sources, Ray, writing and recording."""

import shutil
from pathlib import Path
from statistics import median
from time import monotonic
from typing import Any

from inr_factory.benchmarks.fixtures import scratch_folder, set_bytes
from inr_factory.benchmarks.harness import BenchmarkSettings, BenchmarkTable, summarize
from inr_factory.generation.execution.fit_dataset import fit_dataset
from inr_factory.generation.execution.progress_recorder import FitProgress
from inr_factory.generation.execution.run_settings import Backend
from inr_factory.generation.recipe import Recipe, load_recipe
from inr_factory.inr.cpu import num_cores

TURNS = 3
MOST_INRS = 10_000  # of one run, at most; otherwise --rows
SHARD_OBJECTS = 500
BACKENDS: tuple[Backend, ...] = ("local", "ray")
SHARE = "share of the fit's time"


def benchmark_pipeline(settings: BenchmarkSettings) -> tuple[BenchmarkTable]:
    """INRs per second of complete runs with all cores, between their start and end: by `sprint`, and by the engine that
    fits nothing. The share is that of everything except fitting in the time of a fit."""
    count = min(settings.rows, MOST_INRS)
    base = "digits" if settings.data_root is None else "fashion_mnist_40db"
    rates: dict[str, list[float]] = {}
    starts: dict[str, list[float]] = {}
    with scratch_folder(set_bytes(count)) as folder:
        for turn in range(TURNS):
            for backend in BACKENDS:
                for name, engine in (("fit by sprint", "auto"), ("without fitting", "none")):
                    recipe = full_speed(base, count, engine)
                    rate, start = timed_fit(
                        recipe, folder / "set", {"data_root": settings.data_root, "backend": backend}
                    )
                    rates.setdefault(f"{name}, {backend}", []).append(rate)
                    starts.setdefault(f"{name}, {backend}", []).append(start)
            settings.on_step(f"turn {turn + 1} of {TURNS} done")
    baseline = f"fit by sprint, {BACKENDS[0]}"
    rows = []
    for name, measured in rates.items():
        facts = {"start and end s": median(starts[name])}
        if name.startswith("without"):
            fit = rates[name.replace("without fitting", "fit by sprint")]
            facts[SHARE] = median(fitted / null for fitted, null in zip(fit, measured, strict=True))
        rows.append(summarize(name, measured, rates[baseline], facts))
    setting = f"{count:,} INRs of {base} to {recipe.fit.target_psnr:g} dB, {num_cores()} workers, beyond start and end"
    return (BenchmarkTable("pipeline", baseline, setting, tuple(rows), "INRs"),)


def full_speed(base: str, count: int, engine: str) -> Recipe:
    """A recipe that makes `count` INRs by `sprint`, in several views where there are too few objects."""
    objects = 1797 if base == "digits" else count
    views = -(-count // objects)
    size = [f"views={views}", f"limit={min(objects, count)}", f"fit.engine={engine}", f"shard_objects={SHARD_OBJECTS}"]
    floor = ["fit.floor_psnr=-1"] if engine == "none" else []
    return load_recipe(base, ["fit.optimizer=sprint", "fit.learning_rate=8e-3", "fit.steps=80", *size, *floor])


def timed_fit(recipe: Recipe, out: Path, settings: dict[str, Any]) -> tuple[float, float]:
    """INRs per second of a run from its first INRs to its last, and all its other seconds. The set is removed."""
    started = monotonic()
    seen: list[tuple[int, float]] = []

    def watch(progress: FitProgress) -> None:
        done = progress.tally.done
        if done and (not seen or done > seen[-1][0]):
            seen[1:] = [(done, monotonic())]

    try:
        fit_dataset(recipe, out, **settings, on_progress=watch)
    finally:
        shutil.rmtree(out, ignore_errors=True)
    (first, since), (last, until) = seen[0], seen[-1]
    seconds = max(until - since, 1e-6)
    return max(last - first, 1) / seconds, monotonic() - started - seconds
