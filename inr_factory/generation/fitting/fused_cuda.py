"""Fused engine, CUDA: passes INRs in chunks to fused_triton.py, where one program makes all of a fit.

Matrix products are split into three TF32 products each (Markidis et al. 2018), about as good as fp32. With `fit.tf32`
those of the gradients are one product, and sines are the hardware's, exact to 7e-7: faster. Losses, on which stopping
depends, then differ from fp32's by less than 1e-5 of themselves at 40 dB (estimated); weights differ from the
reference's. Sums are taken in one order, so that an INR is bit-identical whatever is fitted with it.

Shape letters: N INRs, D parameters of one INR, P points, I coordinates, O values, K steps.
"""

import math
import threading
from collections import deque
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import metadata
from importlib.util import find_spec
from time import perf_counter
from types import ModuleType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from inr_factory.generation.fit_config import FitConfig
from inr_factory.generation.fitting.equal_widths import narrow, widen, widened
from inr_factory.generation.fitting.fit_table import FitBatch, FitTable
from inr_factory.generation.fitting.initial_values import initial_batch
from inr_factory.generation.fitting.optimizers import EPSILON, AdamSettings, adam_settings
from inr_factory.generation.fitting.stopping import stop_losses
from inr_factory.generation.signal_stack import SignalStack, as_index, divided, select_signals, stack_signals
from inr_factory.generation.signals import Field
from inr_factory.inr.spec import SirenSpec

MAX_HIDDEN_DIM = 64
MAX_NUM_HIDDEN = 3
MAX_INPUTS = 15  # with the column of ones, the 16 of fused_triton.PAD
MAX_OUTPUTS = 16

FIRST_CHUNK = 256  # INRs of the first launch of a process, whose time decides the size of the next
MAX_CHUNK = 4096  # INRs of a launch: several times as many as a GPU runs at once
SECONDS = 0.5  # of a launch, so that there is progress to report, and Ctrl-C is obeyed
CHUNK_BYTES = 2**31  # of coords, targets and states
ADAM = 512  # parameters that a program updates at once

_OF_THREAD = threading.local()
_SIZES: dict[tuple[object, ...], int] = {}  # of chunks of such fits, as they were last
_LAUNCHING = threading.Lock()  # a launch may compile, which Triton does not do in several threads at once


def obstacle(spec: SirenSpec, device: torch.device) -> str:
    """Why this engine cannot fit such an INR on this GPU, empty if it can."""
    return _missing(device) or _beyond(spec) or _too_large(spec, device)


@lru_cache
def _missing(device: torch.device) -> str:
    """What this machine lacks."""
    if not torch.cuda.is_available() or torch.version.cuda is None:
        return "on a GPU it needs an NVIDIA one and a CUDA build of torch"
    if torch.cuda.get_device_capability(device) < (8, 0):
        return f"it needs compute capability 8.0, which {torch.cuda.get_device_name(device)} does not have"
    if find_spec("triton") is None:
        return "on a GPU it needs triton (pip install -c constraints.txt triton)"
    return ""


def triton_version() -> str | None:
    """The version of triton, which decides bits of the kernel's fits; None where it is not installed."""
    try:
        return metadata.version("triton")
    except metadata.PackageNotFoundError:
        return None


def _beyond(spec: SirenSpec) -> str:
    if spec.activation != "sine" or spec.frequencies:
        return f"it fits sine INRs of coordinates themselves, not {spec}"
    if spec.in_dim > MAX_INPUTS or spec.out_dim > MAX_OUTPUTS:
        return f"on a GPU it fits INRs of up to {MAX_INPUTS} coordinates and {MAX_OUTPUTS} values, not {spec}"
    if spec.hidden_dim > MAX_HIDDEN_DIM or spec.num_hidden > MAX_NUM_HIDDEN:
        return f"on a GPU it fits up to {MAX_NUM_HIDDEN} hidden layers of up to {MAX_HIDDEN_DIM} neurons, not {spec}"
    return ""


def _too_large(spec: SirenSpec, device: torch.device) -> str:
    properties = torch.cuda.get_device_properties(device)
    available = properties.shared_memory_per_multiprocessor - 1024  # which the system keeps
    if layout_of(spec).shared > available:
        return f"{spec} needs {layout_of(spec).shared} bytes of shared memory, {properties.name} has {available}"
    return ""


@dataclass(frozen=True)
class Layout:
    """Layout of a program: hidden neurons with padding, points of a tile, warps, and the limits of registers a thread
    and of bytes of shared memory (an H100 has 227 KB for all programs of a multiprocessor)."""

    width: int
    tile: int
    num_warps: int
    registers: int
    shared: int


def layout_of(spec: SirenSpec) -> Layout:
    """Chosen by what the compiler reports for compute capability 9.0, not yet by time: the clocks a point of issue and
    of the shared-memory pipe, then spills (pipelines/studies/gpu_kernel.py). One warp needs no barriers in a tile."""
    width = max(16, 2 ** (spec.hidden_dim - 1).bit_length())
    deep = spec.num_hidden > 2
    if width < 64:
        return Layout(width, tile=16, num_warps=2 if deep and width == 32 else 1, registers=255, shared=72_000)
    return Layout(width, tile=16, num_warps=4, registers=255, shared=200_000 if deep else 130_000)


def candidate_layouts(spec: SirenSpec) -> list[Layout]:
    """Six layouts that are worth timing on a device, `layout_of` the first. `pipelines/studies/gpu_figures.py` times
    them, `pipelines/studies/gpu_kernel.py --layouts` lists what they compile to."""
    usual = layout_of(spec)
    if usual.width < 64:
        sizes = [(16, 1, 255), (16, 1, 168), (16, 2, 255), (16, 2, 168), (32, 2, 255), (16, 4, 128)]
    else:
        sizes = [(16, 4, 255), (16, 4, 168), (16, 2, 255), (32, 4, 255), (16, 8, 128), (64, 4, 255)]
    layouts = [Layout(usual.width, tile, warps, registers, usual.shared) for tile, warps, registers in sizes]
    return sorted(layouts, key=lambda layout: layout != usual)


@dataclass(frozen=True)
class LaunchResult:
    """Result of a launch, still on the device: weights flat (N, D), their losses (N,) and the updates made (N,)."""

    flat: Tensor
    loss: Tensor
    steps: Tensor


@dataclass(frozen=True)
class Chunk:
    """INRs of one launch: their rows in the table, their signals, seeds and the losses at which they stop."""

    rows: NDArray[np.int64]
    signals: SignalStack
    seeds: NDArray[np.int64]
    stop: Tensor


def fit_fused(spec: SirenSpec, batch: FitBatch, config: FitConfig, device: torch.device, fits: FitTable) -> None:
    """What `fit_reference` does, a chunk of INRs at a launch; a step is a chunk, of about SECONDS.

    Two chunks are in flight, each on its own stream: while the GPU computes one, the CPU prepares the next. Each passes
    through `prepare_chunk`, `launch_chunk` (with `copy_chunk`, `initial_batch` and `run_steps`) and `conclude_chunk`.
    The size of the chunks follows from the time that they take; the results do not depend on it.
    """
    streams = streams_of_thread(device) if device.type == "cuda" else [None]
    stop = torch.from_numpy(stop_losses(config, fits.peaks[batch.rows]))
    most = largest_chunk(spec, batch)
    kind = (spec, len(batch.signals[0].coords), config.steps, str(device))
    size, waiting = min(_SIZES.get(kind, FIRST_CHUNK), most), np.arange(len(batch))
    in_flight: deque[tuple[Chunk, LaunchResult, torch.cuda.Stream | None, float]] = deque()
    concluded = 0.0
    while len(waiting) or in_flight:
        if len(waiting) and len(in_flight) < len(streams):
            stream = next(stream for stream in streams if stream not in [used for _, _, used, _ in in_flight])
            chunk = prepare_chunk(batch, waiting[:size], stop, fits, device)
            waiting = waiting[size:]
            with torch.cuda.stream(stream):
                result = launch_chunk(spec, chunk, config, device)
            in_flight.append((chunk, result, stream, perf_counter()))
            continue
        chunk, result, stream, launched = in_flight.popleft()
        with torch.cuda.stream(stream):
            again = conclude_chunk(chunk, result, fits)
        waiting = np.concatenate([waiting, np.searchsorted(batch.rows, again)])
        now = perf_counter()
        new = next_size(len(chunk.rows), now - max(launched, concluded), most)
        if len(chunk.rows) == size or new > size or new < len(chunk.rows):  # the rest of a batch says less
            _SIZES[kind] = size = new
        concluded = now


def streams_of_thread(device: torch.device) -> list[torch.cuda.Stream | None]:
    """Two streams of this thread, the same for all its fits: torch keeps the free memory of each stream apart."""
    kept: dict[str, list[torch.cuda.Stream | None]] = vars(_OF_THREAD)
    if str(device) not in kept:
        kept[str(device)] = [torch.cuda.Stream(device) for _ in range(2)]  # type: ignore[no-untyped-call]
    return kept[str(device)]


def next_size(size: int, seconds: float, most: int) -> int:
    """INRs of the next chunk, after one of `size` took so many seconds: about SECONDS, at most `most`, at least 1."""
    return max(1, min(most, 8 * size, round(size * SECONDS / max(seconds, 1e-9))))


def prepare_chunk(batch: FitBatch, at: NDArray[np.int64], stop: Tensor, fits: FitTable, device: torch.device) -> Chunk:
    """The signals at some positions of the batch, stacked, in memory that a GPU reads by itself."""
    index, rows = as_index(at), batch.rows[at]
    signals = stack_signals(select_signals(batch.signals, index), batch.shared_coords)
    chunk = Chunk(rows, signals, fits.seeds[rows], stop[index])
    if device.type != "cuda":
        return chunk
    coords = signals.coords if signals.shared_coords else signals.coords.pin_memory()
    signals = replace(signals, coords=coords, values=signals.values.contiguous().pin_memory())
    return replace(chunk, signals=signals, stop=chunk.stop.pin_memory())


def copy_chunk(chunk: Chunk, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Coords (P, I) or (N, P, I), targets (N, P, O) and stop losses (N,) on the device."""
    coords, values, stop = (
        part.to(device, non_blocking=True) for part in (chunk.signals.coords, chunk.signals.values, chunk.stop)
    )
    return coords, divided(values, chunk.signals.white).contiguous(), stop


def launch_chunk(spec: SirenSpec, chunk: Chunk, config: FitConfig, device: torch.device) -> LaunchResult:
    """Start the fits of a chunk and return before they end."""
    coords, targets, stop = copy_chunk(chunk, device)
    field, adam = chunk.signals.field, adam_settings(config)
    flat = initial_batch(spec, chunk.seeds, coords, targets, field, config)
    with _LAUNCHING:
        return run_steps(spec, coords, targets, flat, adam, stop, field, config.batch_points, config.tf32)


def conclude_chunk(chunk: Chunk, result: LaunchResult, fits: FitTable) -> NDArray[np.int64]:
    """Wait for a chunk and record its fits. Returns the rows to start again."""
    losses, steps = result.loss.tolist(), result.steps.tolist()
    again = fits.stop(chunk.rows, result.flat, losses, steps)
    fits.step(sum(steps))
    return again


def run_steps(
    spec: SirenSpec,
    coords: Tensor,
    targets: Tensor,
    flat: Tensor,
    adam: AdamSettings,
    stop: Tensor,
    field: Field = "values",
    batch_points: int | None = None,
    tf32: bool = False,
    layout: Layout | None = None,
) -> LaunchResult:
    """Fit INRs from initial values flat (N, D), which are written over, until their losses are at most stop (N,).

    coords (P, I), shared, or (N, P, I); targets (N, P, O). All on one device, contiguous.
    """
    count, points, _ = targets.shape
    batch = min(batch_points or points, points)
    wide = widened(spec)[0]
    constants, options = compile_settings(wide, field == "occupancy", batch < points, tf32, layout)
    flat = widen(flat, spec)
    mean, square = torch.zeros_like(flat), torch.zeros_like(flat)
    result = LaunchResult(flat, torch.empty_like(stop), torch.empty(count, dtype=torch.int32, device=flat.device))
    fused_triton().fit_kernel[(count,)](
        coords, targets, flat, mean, square, torch.empty_like(flat), _rates(adam).to(flat.device, non_blocking=True), stop,
        result.loss, result.steps, points, len(adam.rates), batch, coords[0].numel() if coords.dim() == 3 else 0,
        spec.omega_0 / math.pi, spec.omega_0, spec.output_bias,
        (1 if field == "occupancy" else 2) / (batch * spec.out_dim), 1 / (points * spec.out_dim),
        1 - adam.betas[0], adam.betas[1], 1 - adam.betas[1], EPSILON, spec.first_factor,
        **constants, **options,
    )  # fmt: skip
    return replace(result, flat=narrow(result.flat, spec))


def compile_settings(
    spec: SirenSpec, occupancy: bool = False, batches: bool = False, tf32: bool = False, layout: Layout | None = None
) -> tuple[dict[str, int | bool], dict[str, int]]:
    """What the kernel is compiled for: its constants, and the options of the compiler."""
    layout = layout or layout_of(spec)
    constants = {
        "I": spec.in_dim, "O": spec.out_dim, "H": spec.hidden_dim, "L": spec.num_hidden, "D": spec.num_parameters,
        "HP": layout.width, "T": layout.tile, "A": ADAM,
        "BATCHES": batches, "OCCUPANCY": occupancy, "EXACT": not tf32,
    }  # fmt: skip
    return constants, {"num_warps": layout.num_warps, "maxnreg": layout.registers}


def largest_chunk(spec: SirenSpec, batch: FitBatch) -> int:
    """INRs of a launch at most, by their number and by the memory that they take."""
    numbers = batch.signals[0].targets.numel() + 4 * spec.num_parameters
    if not batch.shared_coords:
        numbers += batch.signals[0].coords.numel()
    return max(1, min(MAX_CHUNK, CHUNK_BYTES // (4 * numbers)))


def fused_triton() -> ModuleType:
    """The module of the kernel, imported on demand: a machine without a GPU may lack triton."""
    from inr_factory.generation.fitting import fused_triton

    return fused_triton


def _rates(adam: AdamSettings) -> Tensor:
    """(K, 2) float32: the rate of each step over its bias correction, and the factor that corrects sqrt(square)."""
    step = torch.arange(1, len(adam.rates) + 1, dtype=torch.float64)
    first, second = adam.betas
    return torch.stack([adam.rates / (1 - first**step), 1 / (1 - second**step).sqrt()], dim=1).float()
