"""Rivals: the usual ways to fit many INRs at once on a GPU, compared with the kernel in one run.

All make the same steps of Adam on the same points, in single precision without TF32, and never look at their losses.

Shape letters: N INRs, D parameters of one INR, P points, I coordinates, O values.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor
from torch.func import grad_and_value, vmap

from gpu.problems import IMAGE, SPEEDS, cloud
from gpu.record import Record, median_seconds
from gpu.speed import COUNT, Launch
from inr_factory.benchmarks.fitting_baselines import (
    BETAS,
    RATE,
    State,
    batched_step,
    compiled_fit,
    has_jax,
    initial_state,
)
from inr_factory.generation.fitting.optimizers import EPSILON
from inr_factory.generation.fitting.reference import objective_and_error
from inr_factory.inr.initialization import initialize
from inr_factory.inr.spec import SirenSpec

TITLE = "Speed compared with the usual ways, fp32"
STEPS = 16
Fit = Callable[[], object]
"""Makes STEPS steps of all INRs."""


def problem(spec: SirenSpec, points: int, count: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Initial weights (N, D), points (P, I), targets (N, P, O)."""
    targets = torch.rand(count, points, spec.out_dim, device=device)
    return initialize(spec, range(count)).flatten().to(device), cloud(spec, points, 0).coords.to(device), targets


def eager(spec: SirenSpec, flat: Tensor, coords: Tensor, targets: Tensor) -> Fit:
    """vmap of the gradient of one INR by torch.func, without compilation."""
    slope_of = vmap(grad_and_value(objective_and_error(spec, "values"), has_aux=True), in_dims=(0, None, 0))

    def fit() -> None:
        weights, mean, square, _ = initial_state(flat)
        for step in range(1, STEPS + 1):
            slope, _ = slope_of(weights, coords, targets)
            mean, square = torch.lerp(mean, slope, 1 - BETAS[0]), torch.lerp(square, slope * slope, 1 - BETAS[1])
            root = (square / (1 - BETAS[1] ** step)).sqrt() + EPSILON
            weights = weights - RATE / (1 - BETAS[0] ** step) * mean / root

    return fit


def compiled(spec: SirenSpec, flat: Tensor, coords: Tensor, targets: Tensor) -> Fit:
    """Batched products and autograd, each step compiled by torch.compile."""
    torch._dynamo.reset()
    fit = compiled_fit(spec)
    return lambda: fit(flat, coords, targets, STEPS)


def graph(spec: SirenSpec, flat: Tensor, coords: Tensor, targets: Tensor) -> Fit:
    """Batched products (baddbmm) and autograd, all steps in one CUDA graph."""
    step = batched_step(spec)

    def steps(state: State) -> State:
        for _ in range(STEPS):
            state = step(state, coords, targets)
        return state

    start = initial_state(flat)
    side = torch.cuda.Stream(flat.device)  # capture needs a warm-up outside the default stream
    side.wait_stream(torch.cuda.current_stream(flat.device))
    with torch.cuda.stream(side):
        step(start, coords, targets)
    torch.cuda.current_stream(flat.device).wait_stream(side)
    captured = torch.cuda.CUDAGraph()
    with torch.cuda.graph(captured):
        steps(start)
    return captured.replay


EAGER, COMPILED = "torch.func, eager", "torch.compile, batched products"
GRAPH = "CUDA graph, batched products"
WAYS = {EAGER: eager, GRAPH: graph, COMPILED: compiled}
SECONDS = {EAGER: 6, GRAPH: 8, COMPILED: 45}  # that they may take, in their order


def rivals(record: Record) -> None:
    """The image spec by all ways."""
    compare(record, [(IMAGE, 32)] if record.quick else SPEEDS[:1])


def more_rivals(record: Record) -> None:
    """The other specs, those ways first that need no compilation."""
    compare(record, [] if record.quick else SPEEDS[1:])


def compare(record: Record, problems: Sequence[tuple[SirenSpec, int]]) -> None:
    quick, device = record.quick, record.device
    counts = [2] if quick else [1024, COUNT]
    rates: dict[str, float] = {}
    for spec, points in problems:
        launch = Launch(spec, points, counts[-1], 2 if quick else 64)
        rate = record.attempt(f"kernel for {spec}", 8, lambda launch=launch: launch.rate(device))  # type: ignore[misc]
        if rate is not None:
            rates[str(spec)] = rate
            add(record, spec, points, "INR Factory, fused kernel", launch.count, rate, rates)
    best: dict[str, int] = {}
    for name, limit in SECONDS.items():
        for spec, points in problems:
            if device.type == "cpu" and name != EAGER:
                record.skip(f"{name}, {spec}", "needs a GPU: the interpreter run checks everything else")
                continue
            tried = [best[str(spec)]] if str(spec) in best and name == COMPILED else counts
            result = record.attempt(
                f"{name}, {spec}", limit,
                lambda name=name, spec=spec, points=points, tried=tried:  # type: ignore[misc]
                best_rate(name, spec, points, tried, device),
            )  # fmt: skip
            if result is not None:
                rate, best[str(spec)] = result
                add(record, spec, points, name, best[str(spec)], rate, rates)
    if problems:
        jax_rival(record, problems, counts, rates)


def add(
    record: Record, spec: SirenSpec, points: int, way: str, count: int, rate: float, rates: dict[str, float]
) -> None:
    kernel = rates.get(str(spec))
    record.add(
        TITLE, spec=str(spec), points=points, way=way, INRs=count,
        **{"INR-steps/s": rate, "the kernel is times as fast": kernel and kernel / rate},
    )  # fmt: skip


def best_rate(
    name: str, spec: SirenSpec, points: int, counts: Sequence[int], device: torch.device
) -> tuple[float, int]:
    """INR-steps a second, the highest of several batch sizes, and that size."""
    best = (0.0, 0)
    for count in counts:
        try:
            run = WAYS[name](spec, *problem(spec, points, count, device))
            best = max(best, (count * STEPS / median_seconds(run, device), count))
        except torch.OutOfMemoryError:
            break
        finally:
            if device.type == "cuda":
                torch.cuda.empty_cache()
    if not best[1]:
        raise RuntimeError(f"no memory for {counts[0]} INRs")
    return best


def jax_rival(
    record: Record, problems: Sequence[tuple[SirenSpec, int]], counts: Sequence[int], rates: dict[str, float]
) -> None:
    """JAX in a process of its own, whose memory pool would take the GPU's from torch."""
    what = "JAX, vmap, grad and scan in jit"
    if not has_jax():
        record.skip(what, "jax is not installed")
        return
    if not record.affords(20 + 10 * len(problems), what):
        return
    with jax_process(problems, counts, min(record.left, 120)) as lines:
        for line in lines:
            if not line.startswith("{"):  # a note of the library
                continue
            row = json.loads(line)
            spec, points = problems[row["problem"]]
            if "error" in row:
                record.fail(f"{what}, {spec}", row["error"])
            else:
                add(record, spec, points, f"{what} ({row['device']})", row["count"], row["rate"], rates)


@contextmanager
def jax_process(
    problems: Sequence[tuple[SirenSpec, int]], counts: Sequence[int], limit: float
) -> Iterator[Iterator[str]]:
    """The lines that jax_rival.py prints; it ends after `limit` seconds."""
    arguments = json.dumps({"problems": [(spec.to_dict(), points) for spec, points in problems], "counts": counts})
    environment = os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    script = Path(__file__).with_name("jax_rival.py")
    process = subprocess.Popen(
        ["timeout", f"{limit:.0f}", sys.executable, str(script), arguments], env=environment, stdout=subprocess.PIPE, text=True
    )  # fmt: skip
    assert process.stdout is not None
    try:
        yield iter(process.stdout)
    finally:
        process.kill()
        process.wait()
