"""Training at the published size: ten views of Fashion-MNIST, fitted on the spot, and four runs side by side on the GPU.

55,000 objects to train, 5,000 to validate, 10,000 to test; each epoch has one view of every object. The number of epochs
follows from the time that is left; settings are those of docs/results/readers.md and of the published table.
"""

import contextlib
import multiprocessing
from dataclasses import dataclass
from multiprocessing.queues import Queue
from pathlib import Path
from queue import Empty
from time import monotonic
from typing import Any

from gpu.record import Record, one_line
from gpu.whole_fit import image_recipe

TITLE, RECIPE = "Training at the published size", "fashion_mnist_10view"
FIT_WORKERS = 4
RESERVE = 60.0  # seconds for training below which nothing is fitted
EVALUATION = 8.0  # seconds for the test at the end of a run


class OutOfTimeError(Exception):
    pass


@dataclass(frozen=True)
class Training:
    """Arguments of `inr_factory.train`, and the epochs of a complete run."""

    name: str
    epochs: int
    settings: dict[str, Any]


PARITY = {"model": "parity", "batch_size": 128, "learning_rate": 5e-3, "schedule": "cosine"}
DWS = {"model": "dws", "batch_size": 256, "learning_rate": 1e-3, "warmup_steps": 1000}
ALIGNED = {"mixup": "mixup:match=phase"}
TRAININGS = (
    Training("parity", 30, PARITY),
    Training("parity, phase-aligned MixUp", 30, PARITY | ALIGNED),
    Training("dws", 200, DWS),
    Training("dws, phase-aligned MixUp", 200, DWS | ALIGNED),
)


def then_train(record: Record) -> None:
    if record.data is None:
        record.skip(TITLE, "needs the images of Fashion-MNIST; make gpu-bundle carries them")
        return
    if not record.affords(RESERVE + 60, TITLE):
        return
    views = record.attempt("ten views", 0, lambda: fit_views_in_time(record))
    if not views:
        record.skip(TITLE, "no view was complete in time")
        return
    train_side_by_side(record, views)


def fit_views_in_time(record: Record) -> int:
    """Fit up to ten views, view by view, and return how many are complete."""
    from inr_factory.generation.execution.fit_dataset import fit_dataset

    begin = monotonic()
    recipe = image_recipe(RECIPE, record.quick, record.engine)
    if record.quick:
        recipe = recipe.model_copy(update={"views": 2})

    def stop_in_time(_: object) -> None:
        if record.left < RESERVE and not record.quick:
            raise OutOfTimeError

    try:
        report = fit_dataset(
            recipe, record.scratch / "views", workers=1 if record.quick else FIT_WORKERS, backend="local",
            device=record.device_name, data_root=record.data, on_progress=stop_in_time,
        )  # fmt: skip
        views = report.recipe.views
    except OutOfTimeError:
        views = complete_views(record.scratch / "views")
    taken = monotonic() - begin
    record.add("Ten views of Fashion-MNIST", recipe=recipe.name, **{"complete views": views}, seconds=taken)
    return views


def complete_views(folder: Path) -> int:
    """How many of the first views have all their shards."""
    from inr_factory.storage.locations import parse_location
    from inr_factory.storage.manifest_file import load_manifest

    manifest = load_manifest(parse_location(folder))
    recorded = {entry.path for entry in manifest.shards}
    views = 0
    while views < manifest.views and set(manifest.with_views(views + 1).shard_names()) <= recorded:
        views += 1
    return views


def train_side_by_side(record: Record, views: int) -> None:
    """One process a run. They leave the GPU gaps, since their steps are short."""
    context = multiprocessing.get_context("spawn")
    rows: Queue[dict[str, Any]] = context.Queue()
    trainings = TRAININGS[::2] if record.quick else TRAININGS
    folder, seconds = record.scratch, 3600.0 if record.quick else record.left - 10
    processes = [
        context.Process(
            target=train_one,
            args=(training, str(folder / "views"), views, str(folder / f"run-{number}"), seconds, record.quick, record.device_name, rows),
        )
        for number, training in enumerate(trainings)
    ]  # fmt: skip
    for process in processes:
        process.start()
    while any(process.is_alive() for process in processes) or not rows.empty():
        try:
            row = rows.get(timeout=1)
        except Empty:
            if record.left < 2 and not record.quick:
                record.fail(TITLE, "a run did not end in time and was stopped")
                break
            continue
        title = row.pop("title")
        record.fail(f"training {row['run']}", row["error"]) if "error" in row else record.add(title, **row)
    for process in processes:
        process.kill()
        process.join()


def train_one(
    training: Training,
    data: str,
    views: int,
    out: str,
    seconds: float,
    quick: bool,
    device: str,
    rows: "Queue[dict[str, Any]]",
) -> None:
    """Train and test one model in a process of its own; rows go through the queue."""
    try:
        _train(training, data, views, Path(out), monotonic() + seconds, quick, device, rows)
    except Exception as error:
        rows.put({"title": TITLE, "run": training.name, "error": one_line(error)})


def _train(
    training: Training,
    data: str,
    views: int,
    out: Path,
    deadline: float,
    quick: bool,
    device: str,
    rows: "Queue[dict[str, Any]]",
) -> None:
    import inr_factory as inr
    from inr_factory.learning.training.run_config import BEST
    from inr_factory.learning.training.trained_run import TrainedRun

    settings = training.settings | {"views": views, "views_per_object": 1, "canonical": False, "device": device}
    if quick:
        settings |= {"batch_size": 4, "warmup_steps": 1}
    times: list[float] = []
    inr.train(
        data, epochs=1 if quick else 2, out=out / "trial", on_epoch=lambda _: times.append(monotonic()), **settings
    )
    # The second epoch has no start-up. All runs are in their trials at the same time, so that this is their pace.
    pace = times[-1] - times[0] if len(times) > 1 else 0.0
    left = deadline - EVALUATION - monotonic()
    epochs = 1 if quick else min(training.epochs, int(0.9 * left / pace))
    if epochs < 1:
        raise TimeoutError(f"an epoch takes {pace:.0f} s, {left:.0f} s are left")

    def note(epoch: Any) -> None:
        shown = {
            name: epoch[name]
            for name in ("epoch", "train_loss", "val_loss", "val_accuracy", "seconds")
            if name in epoch
        }
        rows.put({"title": "Epochs", "run": training.name, **shown})
        if monotonic() > deadline - EVALUATION:
            raise OutOfTimeError

    with contextlib.suppress(OutOfTimeError):
        inr.train(data, epochs=epochs, out=out, on_epoch=note, **settings)
    run = TrainedRun(out, out / BEST)
    report = run.evaluate(data, device=device)
    made = len(run.history)
    rows.put({
        "title": TITLE, "run": training.name, "views": views, "epochs": made, "of": training.epochs, "test objects": report.count,
        "test accuracy, %": 100 * report.accuracy,
    })  # fmt: skip
