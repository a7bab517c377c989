"""Speed: INR-steps a second of the kernel, its share of the roofline, and candidate layouts.

Shape letters: N INRs, P points, I coordinates, O values.
"""

import csv
import multiprocessing
import shutil
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, replace
from time import perf_counter

import torch

from gpu.problems import IMAGE, SPEEDS, WIDE, cloud
from gpu.record import Record, median_seconds, one_line
from inr_factory.benchmarks.fit import work_of_step
from inr_factory.generation.fit_config import FitConfig
from inr_factory.generation.fitting import fused_cuda
from inr_factory.generation.fitting.fit_views import fit_views
from inr_factory.generation.fitting.optimizers import adam_settings
from inr_factory.generation.signals import Field, Signal
from inr_factory.inr.cpu import num_cores
from inr_factory.inr.initialization import initialize
from inr_factory.inr.spec import SirenSpec
from inr_factory.storage.manifest import ViewKey

STEPS, COUNT = 64, 4096
GOAL_RATE = 4e6  # INR-steps/s of 2-32-32-1; below it a kernel that keeps activations in registers is due


@dataclass(frozen=True)
class Launch:
    """One compiled form of the kernel, and a launch of it on random targets."""

    spec: SirenSpec
    points: int
    count: int
    steps: int
    tf32: bool = False
    batch_points: int | None = None
    shared: bool = True
    field: Field = "values"
    layout: fused_cuda.Layout | None = None

    def prepare(self, device: torch.device, stop: float = -1.0):  # type: ignore[no-untyped-def]
        """A function that launches it; INRs end at a loss of `stop`."""
        coords = cloud(self.spec, self.points, 0).coords.to(device)
        if not self.shared:
            coords = coords.expand(self.count, -1, -1).contiguous()
        targets = torch.rand(self.count, self.points, self.spec.out_dim, device=device)
        start = initialize(self.spec, range(self.count)).flatten().to(device)
        stops, adam = torch.full((self.count,), stop, device=device), adam_settings(FitConfig(steps=self.steps))
        return lambda: fused_cuda.run_steps(
            self.spec, coords, targets, start.clone(), adam, stops, self.field, self.batch_points, self.tf32, self.layout,
        )  # fmt: skip

    def rate(self, device: torch.device) -> float:
        """INR-steps a second of the kernel alone."""
        return self.count * self.steps / median_seconds(self.prepare(device), device)


def compile_apart(launch: Launch, device: str) -> str:
    """Compile a kernel in this process, into the cache that all share. The error, empty if there is none."""
    try:
        replace(launch, count=1).prepare(torch.device(device), stop=float("inf"))()
        torch.cuda.synchronize(device)
    except Exception as error:  # a layout that does not compile is a result
        return one_line(error)
    return ""


def num_processes(launches: Sequence[Launch]) -> int:
    return min(len(launches), max(1, num_cores() - 1), 12)


def compile_all(launches: Sequence[Launch], device: torch.device, limit: float = 60.0) -> list[str]:
    """Compile kernels in parallel processes, for `limit` seconds; the error of each, empty if there is none."""
    if device.type == "cpu":  # the interpreter compiles nothing
        return [""] * len(launches)
    pool = ProcessPoolExecutor(num_processes(launches), multiprocessing.get_context("spawn"))
    running = [pool.submit(compile_apart, launch, str(device)) for launch in launches]
    late = wait(running, timeout=limit).not_done
    if late:
        for child in multiprocessing.active_children():
            child.kill()
    pool.shutdown(wait=not late, cancel_futures=True)
    return [f"not compiled within {limit:.0f} s" if each in late else outcome(each) for each in running]


def outcome(compiled: "Future[str]") -> str:
    error = compiled.exception()  # of the process, as when it is killed for memory
    return one_line(error) if error else compiled.result()


def speed_launches(quick: bool) -> list[Launch]:
    if quick:
        return [Launch(IMAGE, 32, 2, 2), Launch(IMAGE, 32, 2, 2, tf32=True)]
    # Shapes are fitted in mini-batches of 2,048 of their 30,000 points, with points of their own.
    launches = [
        Launch(spec, points, COUNT, STEPS)
        if spec.in_dim == 2
        else Launch(spec, 30_000, 1024, STEPS, batch_points=points, shared=False)
        for spec, points in SPEEDS
    ]
    return [replace(launch, tf32=tf32) for launch in launches for tf32 in (False, True)]


def compile_needed(record: Record) -> None:
    """Compile what parity, sets, shapes and speed launch, in parallel, into Triton's cache."""
    if record.device.type == "cpu":
        record.skip("compilation", "the interpreter compiles nothing")
        return
    small = speed_launches(record.quick)
    small += [Launch(spec, 784, 1, 1, batch_points=262, shared=False) for spec, _ in SPEEDS[:2]]
    small += [Launch(spec, 784, 1, 1) for spec, _ in SPEEDS[2:]]
    small.append(Launch(IMAGE, 784, 1, 1, field="occupancy"))
    begin = perf_counter()
    for launch, error in zip(small, compile_all(small, record.device), strict=True):
        if error:
            record.fail(f"compilation for {launch.spec}", error)
    record.add(
        "Compilation, in parallel", kernels=len(small), processes=num_processes(small), seconds=perf_counter() - begin
    )


def speed(record: Record) -> None:
    peak = record.attempt("rates of the machine", 15, lambda: machine_rates(record.device, record.quick))
    for launch in speed_launches(record.quick):
        what = f"speed of {launch.spec}{' tf32' if launch.tf32 else ''}"
        rate = record.attempt(what, 8, lambda launch=launch: launch.rate(record.device))  # type: ignore[misc]
        if rate is None:
            continue
        points = launch.batch_points or launch.points
        flop, sines = work_of_step(launch.spec, points)
        share = None
        if peak is not None:
            share = rate * (flop / (peak["tf32 FLOP/s"] / 3) + sines / peak["sincos/s"])
        mode = "tf32" if launch.tf32 else "fp32"
        record.add(
            "Speed of the kernel", spec=str(launch.spec), **{"points a step": points}, mode=mode, INRs=launch.count,
            **{"INR-steps/s": rate, "TFLOP/s": rate * flop / 1e12, "share of the roofline": share},
        )  # fmt: skip
        if launch.spec == IMAGE and not launch.tf32:
            record.goal("kernel rate of 2-32-32-1, 784 points", rate, GOAL_RATE, "INR-steps/s")


def widths(record: Record) -> None:
    """The batched engine, which fits what the fused one refuses, and the image spec for comparison."""
    for spec, points in [(IMAGE, 25)] if record.quick else [(IMAGE, 784), *WIDE]:
        count = 2 if record.quick else 2**20 // (8 * spec.hidden_dim)
        what = f"batched engine, {spec}"
        record.attempt(what, 15, lambda spec=spec, points=points, count=count: batched_row(record, spec, points, count))  # type: ignore[misc]


def batched_row(record: Record, spec: SirenSpec, points: int, count: int) -> None:
    steps = 2 if record.quick else 200
    config = FitConfig(engine="batched", steps=steps, target_psnr=None, floor_psnr=-999, attempts=1)
    grid = cloud(spec, points, 0).coords
    signals = [Signal(grid, targets) for targets in torch.rand(count, points, spec.out_dim)]
    keys = [ViewKey(f"{number}", 0) for number in range(count)]
    taken = median_seconds(lambda: fit_views(spec, keys, signals, config, 0, record.device), record.device, repeats=1)
    rate, (flop, _) = count * steps / taken, work_of_step(spec, points)
    record.add(
        "Batched engine, initial values included", spec=str(spec), points=points, INRs=count, steps=steps,
        **{"INR-steps/s": rate, "TFLOP/s": rate * flop / 1e12},
    )  # fmt: skip


def machine_rates(device: torch.device, quick: bool) -> dict[str, float]:
    """Peak rates: FLOP/s of matrix products, and the kernel's pairs of sine and cosine a second."""
    size = 256 if quick else 8192
    a, b = torch.randn(2, size, size, device=device)
    rates = {}
    for name, precision in (("fp32 FLOP/s", "highest"), ("tf32 FLOP/s", "high")):
        torch.set_float32_matmul_precision(precision)
        rates[name] = 2 * size**3 / median_seconds(lambda: a @ b, device)
    torch.set_float32_matmul_precision("highest")
    programs, repeats = (2, 3) if quick else (132 * 16, 2000)
    z = torch.rand(programs * 512, device=device)
    kernel, sine, cosine = fused_cuda.fused_triton().sincospi_kernel, torch.empty_like(z), torch.empty_like(z)
    rates["sincos/s"] = (
        programs
        * 512
        * repeats
        / median_seconds(lambda: kernel[(programs,)](z, sine, cosine, repeats, COUNT=512), device)
    )
    return rates


def layouts(record: Record) -> None:
    """Candidate layouts of the image spec, compiled in parallel."""
    chosen = fused_cuda.layout_of(IMAGE)
    launch = Launch(IMAGE, 32, 2, 2) if record.quick else Launch(IMAGE, 784, COUNT, STEPS)
    candidates = fused_cuda.candidate_layouts(IMAGE)[: 1 if record.quick else None]
    launches = [replace(launch, layout=layout) for layout in candidates]
    errors = compile_all(launches, record.device)
    for launch, error in zip(launches, errors, strict=True):
        layout = launch.layout
        assert layout is not None
        facts = {"tile": layout.tile, "warps": layout.num_warps, "registers": layout.registers}
        rate = None
        if not error:
            rate = record.attempt(f"layout {facts}", 4, lambda launch=launch: launch.rate(record.device))  # type: ignore[misc]
        record.add("Layouts of 2-32-32-1", **facts, **{"INR-steps/s": rate, "in use": layout == chosen, "error": error})


def profile(record: Record) -> None:
    """Hardware counters of one launch, where the profiler is installed and may read them."""
    if shutil.which("ncu") is None:
        record.skip("hardware profile", "ncu is not installed")
        return
    record.attempt("hardware profile", 30, lambda: counters(record))


METRICS = {
    "sm__throughput.avg.pct_of_peak_sustained_elapsed": "SM, % of peak",
    "smsp__issue_active.avg.pct_of_peak_sustained_active": "issue slots, %",
    "l1tex__data_pipe_lsu_wavefronts_mem_shared.avg.pct_of_peak_sustained_elapsed": "shared memory pipe, %",
    "sm__inst_executed_pipe_tensor.avg.pct_of_peak_sustained_active": "tensor pipe, %",
    "sm__inst_executed_pipe_fma.avg.pct_of_peak_sustained_active": "FMA pipe, %",
    "sm__warps_active.avg.pct_of_peak_sustained_active": "occupancy, %",
    "launch__registers_per_thread": "registers",
    "gpu__time_duration.sum": "duration",
}


def counters(record: Record) -> None:
    script = (
        f"import sys; sys.path[:0] = {sys.path[:2]!r}\n"
        "import torch; from gpu.speed import *; Launch(IMAGE, 784, COUNT, 4).prepare(torch.device('cuda'))()"
    )
    command = ["ncu", "--clock-control", "none", "--csv", "-k", "fit_kernel", "-c", "1", "--metrics", ",".join(METRICS)]
    done = subprocess.run([*command, sys.executable, "-c", script], capture_output=True, text=True, timeout=record.left)
    lines = [line for line in done.stdout.splitlines() if line.startswith('"')]
    if done.returncode or len(lines) < 2:
        record.skip("hardware profile", f"ncu gave no figures: {' '.join((done.stdout + done.stderr).split())[-200:]}")
        return
    for row in csv.DictReader(lines):
        name = METRICS.get(row["Metric Name"], row["Metric Name"])
        record.add("Hardware profile of one launch", metric=name, value=row["Metric Value"], unit=row["Metric Unit"])
