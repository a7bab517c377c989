"""Whole fits: `fit_dataset` through local workers that share the GPU, from images on disk to a complete set."""

import shutil
from time import perf_counter

from gpu.record import Record
from gpu.stages import WORKER, stage_times
from inr_factory.generation.execution import worker
from inr_factory.generation.execution.fit_dataset import fit_dataset
from inr_factory.generation.execution.progress_recorder import FitProgress
from inr_factory.generation.recipe import Limit, Recipe, load_recipe

TITLE, RECIPE = "A whole fit through workers", "fashion_mnist_40db"
WORKERS = (1, 4, 2)
GOAL_RATE = 20_000.0  # INRs/s
SECONDS = 45.0  # that a run may take


def image_recipe(name: str, quick: bool, engine: str) -> Recipe:
    """A built-in recipe as users have it, unless the fused engine has failed; for --quick two steps for a few images."""
    small = (
        [
            "limit=24",
            "fit.engine=reference",
            "splits.val=4",
            "fit.steps=2",
            "fit.floor_psnr=-99",
            "spec.hidden_dim=4",
            "shard_objects=8",
        ]
        if quick
        else []
    )
    engine = "reference" if quick else engine
    return load_recipe(name, small if engine == "fused" else [*small, f"fit.engine={engine}"])


def whole_fit(record: Record) -> None:
    if record.data is None:
        record.skip(TITLE, "needs the images of Fashion-MNIST; make gpu-bundle carries them")
        return
    record.attempt("time of one shard", 10, lambda: one_shard(record))
    best = 0.0
    for workers in WORKERS[:1] if record.quick else WORKERS:
        rate = record.attempt(f"{TITLE}, {workers} workers", SECONDS, lambda workers=workers: one_fit(record, workers))  # type: ignore[misc]
        best = max(best, rate or 0.0)
    if best:
        record.goal("sprint to 40 dB, shards written, workers running", best, GOAL_RATE, "INRs/s")


def one_shard(record: Record) -> None:
    """The stages of one shard, made in this process."""
    recipe = image_recipe(RECIPE, record.quick, record.engine)
    recipe = recipe.model_copy(update={"limit": Limit(train=recipe.shard_objects, val=0, test=0)})
    out = record.scratch / "shard"
    with stage_times(worker, WORKER, record.device) as stages:
        report = fit_dataset(
            recipe, out, workers=1, backend="local", device=record.device_name, data_root=record.data
        )  # fmt: skip
    rest = report.seconds - sum(stages.values())
    record.add(
        "Time of one shard by stage", recipe=RECIPE, INRs=report.inrs, **stages, **{"plan, manifest and all else, s": rest},
    )  # fmt: skip


def one_fit(record: Record, workers: int) -> float:
    """Fit all images of one view. Returns INRs a second between the first INRs and the end."""
    out, events = record.scratch / f"set-{workers}", []  # type: tuple[object, list[tuple[float, int]]]

    def note(progress: FitProgress) -> None:
        events.append((perf_counter(), progress.tally.done))

    begin = perf_counter()
    report = fit_dataset(
        image_recipe(RECIPE, record.quick, record.engine), out, views=1, workers=workers, backend="local", device=record.device_name,
        data_root=record.data, on_progress=note,
    )  # fmt: skip
    end = perf_counter()
    first, done = next(event for event in events if event[1])
    rate = (report.inrs - done) / (end - first)
    record.add(
        TITLE, recipe=RECIPE, workers=workers, INRs=report.inrs, shards=report.made, seconds=end - begin,
        **{"seconds to the first INRs": first - begin, "INRs/s after them": rate, "INRs/s in all": report.inrs / (end - begin)},
        quarantined=len(report.quarantined),
    )  # fmt: skip
    shutil.rmtree(out)
    return rate
