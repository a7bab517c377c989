"""Probe: reads and fits a few INRs of a plan, to tell how long all of them take. Writes nothing."""

import contextlib
from dataclasses import dataclass
from time import monotonic

import numpy as np

from inr_factory.generation.execution.fit_plan import FitPlan
from inr_factory.generation.execution.scheduler import window_of
from inr_factory.generation.execution.signal_reading import ReadSignals, read_signals
from inr_factory.generation.fitting.fit_views import FittedViews, fit_views
from inr_factory.generation.fitting.tally import Tally
from inr_factory.generation.signal_stack import select_signals
from inr_factory.inr.threads import one_thread


@dataclass(frozen=True)
class Probe:
    """What a probe measured.

    Attributes:
        read: the objects that were read.
        seconds: that one core or GPU takes for an INR, reading included on a CPU; None if no object has a signal.
        inrs: how many INRs were fitted.
        fitted: the fits; None where time was up.
    """

    read: ReadSignals
    seconds: float | None
    inrs: int
    fitted: FittedViews | None


class _TimeUpError(Exception):
    """The probe has run long enough."""


def probe_plan(plan: FitPlan, device: str, inrs: int, limit: float) -> Probe:
    """Fit about this number of INRs of a plan with tasks, for at most `limit` seconds beside the reading.

    A GPU fits the INRs of several shards side by side: there the probe is of that size, and one that compiles comes
    before. If time is up before half of the INRs are done, each counts with all its steps, in one attempt.
    """
    recipe, source, shards = plan.recipe, plan.source, plan.shards
    assert source is not None
    assert shards is not None, "only a plan with tasks is probed"
    task = plan.tasks[0]
    block = shards.blocks[task.split][task.block]
    started, latest = monotonic(), Tally()
    read = read_signals(source, block[:: max(1, len(block) // inrs)][:inrs], task.view)
    count, fitted = len(read.keys), None
    reading = (monotonic() - started) / max(1, count) if device == "cpu" else 0.0  # a GPU reads beside its fits
    if not count:
        return Probe(read, None, 0, None)
    rounds = [1] if device == "cpu" else [1, -(-min(window_of(device), len(plan.tasks)) * len(block) // count)]
    spec = recipe.spec.spec(source.in_dim, source.out_dim)

    def watch(tally: Tally) -> None:
        nonlocal latest
        latest = tally
        if monotonic() - started > limit:
            raise _TimeUpError

    with one_thread():
        for copies in dict.fromkeys(rounds):
            started, fitted = monotonic(), None
            with contextlib.suppress(_TimeUpError):
                signals = select_signals(read.signals, np.tile(np.arange(count), copies))
                fitted = fit_views(spec, [*read.keys] * copies, signals, recipe.fit, recipe.seed, device, watch)
    seconds, total = max(monotonic() - started, 1e-6), copies * count
    if latest.done >= total / 2:
        return Probe(read, reading + seconds / latest.done, latest.done, fitted)
    return Probe(read, reading + seconds * recipe.fit.steps / max(latest.steps, 1), total, fitted)
