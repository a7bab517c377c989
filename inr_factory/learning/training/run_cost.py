"""Run cost: what the model of a run reads, and what an INR costs it: columns of a table of readers."""

from itertools import pairwise
from statistics import median
from typing import Any

from inr_factory.learning.models.flops import forward_flops
from inr_factory.learning.training.trained_run import TrainedRun


def run_cost(run: TrainedRun) -> dict[str, Any]:
    """What a run reads (`reads`), FLOPs of a forward pass (`flops_per_inr`), and milliseconds of training
    (`ms_per_inr`, None where the run does not record its batch size), as `train --json` prints them."""
    model = run.model("cpu")
    return {
        "reads": model.encoder.reads,
        "flops_per_inr": forward_flops(model, model.spec),
        "ms_per_inr": _milliseconds(run),
    }


def _milliseconds(run: TrainedRun) -> float | None:
    """Time of training steps per INR, the median of the epochs, with loading and augmentation."""
    if not isinstance(batch_size := run.meta.get("batch_size"), int):
        return None
    steps = [0, *(int(record["step"]) for record in run.history)]
    per_step = [
        record["seconds"] / (after - before)
        for (before, after), record in zip(pairwise(steps), run.history, strict=True)
        if after > before
    ]
    return 1e3 * median(per_step) / (batch_size * int(run.meta.get("ranks", 1))) if per_step else None
