"""Fit: the fitting engines compared with the usual ways: INR-steps, INRs to a quality, one core and all cores.

Shape letters: N INRs, D parameters of one INR, P points, I coordinates, O values.
"""

import ctypes
import itertools
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from time import perf_counter
from typing import Literal

import torch
from torch import Tensor

from inr_factory.benchmarks.fitting_baselines import compiled_fit, fit_by_autograd, fit_in_loop, has_jax, jax_fit
from inr_factory.benchmarks.harness import (
    BenchmarkSettings,
    BenchmarkTable,
    Candidate,
    Measurement,
    measure,
    repeat,
)
from inr_factory.generation.fit_config import FitConfig
from inr_factory.generation.fitting import fused_cpu
from inr_factory.generation.fitting.fit_views import fit_views
from inr_factory.generation.recipe import ImageSource
from inr_factory.generation.signals import Signal
from inr_factory.generation.sources.registry import open_source
from inr_factory.inr.cpu import num_cores
from inr_factory.inr.initialization import initialize
from inr_factory.inr.pixel_grid import pixel_grid
from inr_factory.inr.spec import SirenSpec
from inr_factory.inr.threads import one_thread
from inr_factory.storage.manifest import ViewKey

GREY = SirenSpec(2, 1, hidden_dim=32, num_hidden=2, output_bias=0.5)
RGB = SirenSpec(2, 3, hidden_dim=32, num_hidden=2, output_bias=0.5)
SHAPE = SirenSpec(3, 1, hidden_dim=64, num_hidden=3, omega_0=10.0)
# A spec with the points of each of its steps: pixels along a side, or points in space.
PROBLEMS: tuple[tuple[SirenSpec, int], ...] = (
    (GREY, 28),
    (RGB, 32),
    (SHAPE, 2048),
    *((SirenSpec(2, 1, hidden_dim=width, num_hidden=2, output_bias=0.5), 28) for width in (128, 256, 512)),
    (SirenSpec(2, 1, hidden_dim=128, num_hidden=2, output_bias=0.5, start="linear", activation="relu"), 28),
)
Engine = Literal["reference", "batched", "fused"]

NUM_SLOTS = 16  # INRs of a batch
STEPS = 20  # of a timed call, fewer where they exceed CALL_FLOP
CALL_FLOP = 2.1e9
TARGETS = (35.0, 40.0)
WORST = -1000.0  # dB: no fit is rejected
NUM_IMAGES = 64  # images that are fitted to a target

PER_INR = "one INR at a time, PyTorch loop"
SHARE, MEMORY = "share of roofline", "peak MB"


def benchmark_fit(settings: BenchmarkSettings) -> tuple[BenchmarkTable, ...]:
    """INR-steps for several specs, INRs to 35 and 40 dB, and the engine on several cores."""
    steps = [_steps(Problem.make(spec, points), settings) for spec, points in PROBLEMS]
    images, name = _images(settings.data_root)
    return (*steps, *(_to_quality(images, name, target, settings) for target in TARGETS), _cores(settings))


@dataclass(frozen=True)
class Problem:
    """NUM_SLOTS INRs to be fitted to smooth random targets on the same points: their content does not change the rate."""

    spec: SirenSpec
    coords: Tensor
    targets: Tensor

    @classmethod
    def make(cls, spec: SirenSpec, points: int) -> "Problem":
        generator = torch.Generator().manual_seed(0)
        coords = 2 * torch.rand(points, spec.in_dim, generator=generator) - 1
        if spec.in_dim == 2:
            coords = pixel_grid(points, points)
        waves = 3 * torch.randn(NUM_SLOTS, spec.in_dim, spec.out_dim, generator=generator)
        return cls(spec, coords, 0.5 + 0.3 * torch.sin(coords @ waves))

    @property
    def start(self) -> Tensor:
        return initialize(self.spec, range(NUM_SLOTS)).flatten()

    def signals(self) -> list[Signal]:
        return [Signal(self.coords, targets) for targets in self.targets]


def _steps(problem: Problem, settings: BenchmarkSettings) -> BenchmarkTable:
    """INR-steps per second on one core; a step is one forward, backward and update of one INR."""
    spec, coords, targets = problem.spec, problem.coords, problem.targets
    start, keys, signals = problem.start, [ViewKey(str(at), 0) for at in range(NUM_SLOTS)], problem.signals()
    flop, sines = work_of_step(spec, len(coords))
    steps = max(4, min(STEPS, int(CALL_FLOP / flop)))

    def engine(name: Engine) -> Candidate:
        lanes = NUM_SLOTS if name == "reference" else FitConfig().lanes
        config = FitConfig(engine=name, steps=steps, target_psnr=None, floor_psnr=WORST, attempts=1, lanes=lanes)
        named = f"inr-factory, {name}" if name != "fused" else f"inr-factory, {name} ({fused_cpu.variants()[0]})"
        return Candidate(named, repeat(lambda: fit_views(spec, keys, signals, config, run_seed=0)), NUM_SLOTS * steps)

    slots = itertools.cycle(range(NUM_SLOTS))

    def one() -> object:
        slot = next(slots)
        return fit_in_loop(spec, start[slot], coords, targets[slot], steps)

    def autograd() -> object:
        return fit_by_autograd(spec, start, coords, targets, steps)

    ways = [
        Candidate(PER_INR, repeat(one), steps),
        Candidate("batched products, autograd", repeat(autograd), NUM_SLOTS * steps),
        engine("reference"),
        engine("batched"),
    ]
    if has_jax() and spec.activation == "sine":
        scan, arrays = jax_fit(spec), (start.numpy(), coords.numpy(), targets.numpy())
        ways.append(
            Candidate("JAX, vmap and scan", repeat(lambda: scan(*arrays, steps).block_until_ready()), NUM_SLOTS * steps)
        )
    elif not has_jax():
        settings.on_step("JAX is not installed here: measured without it")
    compiled = compiled_fit(spec)
    ways.append(
        Candidate(
            "torch.compile of the step", repeat(lambda: compiled(start, coords, targets, steps)), NUM_SLOTS * steps
        )
    )
    if obstacle := fused_cpu.obstacle(spec):
        settings.on_step(f"measured without the fused engine: {obstacle}")
    else:
        ways.append(engine("fused"))
    with one_thread(), torch.random.fork_rng(devices=[]):
        ways = [way for way in ways if _runs(way, settings)]
        peaks = {way.name: peak_bytes(lambda way=way: next(iter(way.start()))) for way in ways}  # type: ignore[misc]
        least = least_seconds(spec, len(coords))
        measured = measure(ways, settings)

    def with_facts(row: Measurement) -> Measurement:
        peak = peaks[row.name]
        memory = {} if peak is None else {MEMORY: peak / 1e6}
        return replace(row, facts={SHARE: least * row.per_second, **memory})

    setting = (
        f"{spec}, {len(coords):,} points, one core; a step is {flop / 1e6:.1f} MFLOP and {sines:,} sines with their "
        f"cosines, for which the core needs {least * 1e6:.0f} us"
    )
    return BenchmarkTable("INR-steps", PER_INR, setting, tuple(map(with_facts, measured)), "INR-steps")


def _runs(way: Candidate, settings: BenchmarkSettings) -> bool:
    """Whether a candidate runs on this machine; this compiles its code, before anything is measured."""
    settings.on_step(f"trying {way.name}")
    try:
        next(iter(way.start()))
    except Exception as error:
        # A baseline that cannot run (torch.compile without a C++ compiler) is left out and named.
        settings.on_step(f"measured without {way.name}: {type(error).__name__}: {str(error).strip().splitlines()[0]}")
        return False
    return True


def work_of_step(spec: SirenSpec, points: int) -> tuple[float, int]:
    """Floating-point operations of the matrix products of a step, and sines, each of which comes with its cosine.

    Forward; the gradients of weights; the gradients of what goes into a layer, of all layers but the first.
    """
    sizes = [outputs * inputs for outputs, inputs in spec.layer_shapes]
    sines = points * spec.hidden_dim * spec.num_hidden if spec.activation == "sine" else 0
    return 2.0 * points * (3 * sum(sizes) - sizes[0]), sines


def least_seconds(spec: SirenSpec, points: int) -> float:
    """Seconds of a step at the current rates of this core: those of a large matrix product and of the engine's sines
    and cosines, one after the other."""
    flop, sines = work_of_step(spec, points)
    square = torch.rand(768, 768)
    product = _fastest(lambda: square @ square) / (2 * 768**3)
    angles = torch.rand(65_536)
    both: Callable[[], object] = lambda: (angles.sin(), angles.cos())  # noqa: E731
    if names := fused_cpu.variants():
        both = lambda: fused_cpu.sincospi(angles.numpy(), names[0])  # noqa: E731
    return flop * product + sines * _fastest(both) / len(angles)


def _fastest(step: Callable[[], object], times: int = 30) -> float:
    """Seconds of the fastest of `times` calls."""
    seconds = []
    for _ in range(times):
        started = perf_counter()
        step()
        seconds.append(perf_counter() - started)
    return min(seconds)


def peak_bytes(step: Callable[[], object]) -> int | None:
    """The growth of this process's memory during a step; None where the system does not report it."""
    status = Path("/proc/self/status")
    try:
        ctypes.CDLL(None).malloc_trim(0)  # returns freed memory to the system
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak
        before = _kilobytes(status, "VmRSS")
        step()
        return 1024 * max(0, _kilobytes(status, "VmHWM") - before)
    except (OSError, AttributeError):
        return None


def _kilobytes(status: Path, name: str) -> int:
    return int(next(line.split()[1] for line in status.read_text().splitlines() if line.startswith(name)))


def _images(data_root: Path | None) -> tuple[list[Signal], str]:
    """Grey images of 28 x 28, each class in turn: Fashion-MNIST where it is, else scikit-learn's digits."""
    config = ImageSource(collection="digits" if data_root is None else "fashion_mnist")
    source = open_source(config, data_root)
    chosen = range(0, len(source.items), max(1, len(source.items) // NUM_IMAGES))
    return [source.signal(index) for index in chosen[:NUM_IMAGES]], source.name


def _to_quality(images: Sequence[Signal], name: str, target: float, settings: BenchmarkSettings) -> BenchmarkTable:
    """INRs per second on one core until each reaches the target, initialization included."""
    adam = FitConfig(target_psnr=target, floor_psnr=0, attempts=1)
    configs = {
        "adam 5e-4, 1,000 steps": adam,
        "adam 1e-3, 1,000 steps": adam.model_copy(update={"learning_rate": 1e-3}),
        "sprint, 80 steps": FitConfig(optimizer="sprint", target_psnr=target, floor_psnr=0, attempts=1),
    }
    stop = 10 ** (-target / 10)
    indices = itertools.cycle(range(len(images)))

    def one() -> object:
        index = next(indices)
        flat = initialize(GREY, [ViewKey(str(index), 0).seed(0)]).flatten()[0]
        return fit_in_loop(GREY, flat, images[index].coords, images[index].targets, 1000, stop)

    def batch(config: FitConfig, count: int) -> object:
        chosen = [next(indices) for _ in range(count)]
        keys = [ViewKey(str(index), 0) for index in chosen]
        return fit_views(GREY, keys, [images[index] for index in chosen], config, run_seed=0)

    def engine(named: str, config: FitConfig) -> Candidate:
        keys = [ViewKey(str(at), 0) for at in range(len(images))]
        fitted = fit_views(GREY, keys, images, config, run_seed=0)
        facts = {
            "reached": float((fitted.psnr >= target - 1e-3).mean()) * len(fitted.keys) / len(images),
            "median dB": float(torch.from_numpy(fitted.psnr).median()),
            "mean steps": float(fitted.steps.mean()),
        }
        return Candidate(f"inr-factory, {named}", repeat(lambda: batch(config, 8)), 8, facts=facts)

    with one_thread():
        ways = [engine(named, config) for named, config in configs.items()]
        per_inr = f"{PER_INR}, adam 5e-4"
        measured = measure([Candidate(per_inr, repeat(one), 1, warm_up=0), *ways], settings)
    setting = (
        f"{GREY}, {name} 28 x 28, one core, to {target:g} dB or all steps; start and last layer's solution included"
    )
    return BenchmarkTable("INRs to a quality", per_inr, setting, measured, "INRs")


def _cores(settings: BenchmarkSettings) -> BenchmarkTable:
    """INR-steps per second of one process, and of one process for each core."""
    cores = num_cores()
    spec, points = PROBLEMS[0]
    tasks = 200 if fused_cpu.available() else 2
    with _processes(cores, spec, points) as connections:

        def by(count: int) -> Callable[[], object]:
            def step() -> None:
                for connection in connections[:count]:
                    connection.send(tasks)
                for connection in connections[:count]:
                    connection.recv()

            return step

        counts = sorted({1, cores})
        names = {count: f"{count} {'process' if count == 1 else 'processes'}" for count in counts}
        ways = [Candidate(names[count], repeat(by(count)), count * tasks * STEPS) for count in counts]
        measured = measure(ways, settings)
    setting = f"{spec}, {points**2:,} points, the engine that fit takes, one thread each"
    return BenchmarkTable("cores", names[1], setting, measured, "INR-steps")


@contextmanager
def _processes(count: int, spec: SirenSpec, points: int) -> Iterator[list[Connection]]:
    """Processes that fit the number of INRs that they receive, for STEPS steps each."""
    context = multiprocessing.get_context("spawn")
    pipes = [context.Pipe() for _ in range(count)]
    workers = [context.Process(target=_work, args=(child, spec, points), daemon=True) for _, child in pipes]
    try:
        for worker in workers:
            worker.start()
        yield [parent for parent, _ in pipes]
    finally:
        for worker in workers:
            worker.kill()
            worker.join()


def _work(connection: Connection, spec: SirenSpec, points: int) -> None:
    torch.set_num_threads(1)
    signals = Problem.make(spec, points).signals()
    config = FitConfig(steps=STEPS, target_psnr=None, floor_psnr=WORST, attempts=1)
    while True:
        count = connection.recv()
        keys = [ViewKey(str(at), 0) for at in range(count)]
        fit_views(spec, keys, [signals[at % NUM_SLOTS] for at in range(count)], config, run_seed=0)
        connection.send(count)
