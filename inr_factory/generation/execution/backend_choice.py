"""Backend choice: Ray, or processes of this machine, for a fit that leaves it open. The bits do not depend on it."""

import contextlib
import sys
from importlib.util import find_spec
from time import monotonic

from inr_factory.generation.execution.fit_plan import FitPlan
from inr_factory.generation.execution.run_settings import Backend
from inr_factory.generation.execution.signal_reading import read_signals
from inr_factory.generation.fitting.fit_views import fit_views
from inr_factory.generation.fitting.tally import Tally
from inr_factory.inr.cpu import num_cores
from inr_factory.inr.threads import one_thread

SHORT_SECONDS = 60.0  # a run of this time on this machine's cores does without Ray, which takes 4 to 8 s to start
PROBE_INRS, PROBE_SECONDS = 2, 1.0
WITHOUT_RAY = "processes of this machine make the shards"


def choose_backend(plan: FitPlan, device: str, workers: int) -> tuple[Backend, str | None]:
    """The backend of a plan with tasks, and why, in one line, where "auto" does without Ray."""
    settings = plan.settings
    if settings.backend != "auto":
        return settings.backend, None
    if settings.remote or ("ray" in sys.modules and sys.modules["ray"].is_initialized()):
        return "ray", None
    if device.startswith("cuda:"):
        return "local", f"{device} is a GPU of this machine: {WITHOUT_RAY}"
    if find_spec("ray") is None:
        return "local", f'Ray is not installed: {WITHOUT_RAY}; pip install "inr-factory[ray]" for clusters'
    if device != "cpu":
        return "ray", None
    seconds = estimate_seconds(plan, workers)
    if seconds > SHORT_SECONDS:
        return "ray", None
    return "local", f"about {max(1, round(seconds))} s of work: {WITHOUT_RAY}; --backend ray takes Ray"


def estimate_seconds(plan: FitPlan, workers: int) -> float:
    """How long the tasks of a plan take on this machine's cores, by one or two INRs that are read and fitted.

    Costs at most about a second beside the reading. Fits that do not end in time count with all their steps, each in
    one attempt.
    """
    recipe, source, shards = plan.recipe, plan.source, plan.shards
    assert source is not None
    assert shards is not None, "only a plan with tasks is estimated"
    task = plan.tasks[0]
    started, latest = monotonic(), Tally()
    read = read_signals(source, shards.blocks[task.split][task.block][:PROBE_INRS], task.view)
    reading = monotonic() - started
    count = len(read.keys)

    def watch(tally: Tally) -> None:
        nonlocal latest
        latest = tally
        if monotonic() - started > PROBE_SECONDS:
            raise _TimeUpError

    started = monotonic()
    with one_thread(), contextlib.suppress(_TimeUpError):
        spec = recipe.spec.spec(source.in_dim, source.out_dim)
        fit_views(spec, read.keys, read.signals, recipe.fit, recipe.seed, "cpu", watch)
    fitting = monotonic() - started
    if latest.done < count:
        fitting *= count * recipe.fit.steps / max(1, latest.steps)
    inrs = sum(map(shards.num_objects, plan.tasks))
    cores = min(workers, len(plan.tasks), num_cores())
    return inrs * (reading + fitting) / max(1, count) / cores


class _TimeUpError(Exception):
    """The probe has run long enough."""
