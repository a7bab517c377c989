"""Backend choice: Ray, or processes of this machine, for a fit that leaves it open. The bits do not depend on it."""

import sys
from collections.abc import Callable
from importlib.util import find_spec

from inr_factory.generation.execution.fit_plan import FitPlan
from inr_factory.generation.execution.probe import probe_plan
from inr_factory.generation.execution.run_settings import Backend
from inr_factory.inr.cpu import num_cores

SHORT_SECONDS = 60.0  # a run of this time on this machine's cores does without Ray, which takes 4 to 8 s to start
PROBE_INRS, PROBE_SECONDS = 2, 1.0
WITHOUT_RAY = "processes of this machine make the shards"


def choose_backend(
    plan: FitPlan, device: str, workers: int, seconds_of: Callable[[], float] | None = None
) -> tuple[Backend, str | None]:
    """The backend of a plan with tasks, and why, in one line, where "auto" does without Ray.

    `seconds_of` gives the time of the run, where it has been estimated.
    """
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
    seconds = estimate_seconds(plan, workers) if seconds_of is None else seconds_of()
    if seconds > SHORT_SECONDS:
        return "ray", None
    return "local", f"about {max(1, round(seconds))} s of work: {WITHOUT_RAY}; --backend ray takes Ray"


def estimate_seconds(plan: FitPlan, workers: int) -> float:
    """How long the tasks of a plan take on this machine's cores, by INRs that are read and fitted for a second."""
    assert plan.shards is not None, "only a plan with tasks is estimated"
    seconds = probe_plan(plan, "cpu", PROBE_INRS, PROBE_SECONDS).seconds
    inrs = sum(map(plan.shards.num_objects, plan.tasks))
    return 0.0 if seconds is None else inrs * seconds / min(workers, len(plan.tasks), num_cores())
