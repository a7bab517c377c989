"""Fused engine, CUDA: passes INRs in chunks to fused_triton.py, where one program makes all of a fit.

Matrix products are split into three TF32 products each (Markidis et al. 2018), about as good as fp32. With `fit.tf32`
those of the gradients are one product: faster; losses and stopping tests stay those of fp32, the weights differ from
the reference's. Sums are taken in one order, so that an INR is bit-identical whatever is fitted with it.

Shape letters: N INRs, D parameters of one INR, P points, I coordinates, O values, K steps.
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from types import ModuleType

import torch
from torch import Tensor

from inr_factory.generation.fitting.initial_values import InitialValues
from inr_factory.generation.fitting.optimizers import EPSILON, AdamSettings, adam_settings
from inr_factory.generation.fitting.slots import FinishedFit, FitRequest, OnStep, Slot
from inr_factory.generation.fitting.stopping import stop_loss
from inr_factory.generation.recipe import FitConfig
from inr_factory.generation.signals import Field
from inr_factory.inr.spec import SirenSpec

MAX_HIDDEN_DIM = 64
MAX_NUM_HIDDEN = 3
MAX_INPUTS = 15  # with the column of ones, the 16 of fused_triton.PAD
MAX_OUTPUTS = 16

MAX_CHUNK = 4096  # INRs of a launch: several times as many as a GPU runs at once, about a second of a usual fit
CHUNK_BYTES = 2**31  # of coords, targets and states
ADAM = 512  # parameters that a program updates at once


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


def _beyond(spec: SirenSpec) -> str:
    if spec.activation != "sine":
        return f"it fits sine INRs, not {spec.activation} ones"
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
    """Chosen by what the compiler reports for compute capability 9.0 (registers, spills, shared memory, instructions a
    point), not yet by time: `pipelines/studies/gpu_figures.py --parts layouts` times all of them."""
    width = max(16, 2 ** (spec.hidden_dim - 1).bit_length())
    if width == 16:
        return Layout(width, tile=32, num_warps=2, registers=128, shared=48_000)
    if width == 32:
        return Layout(width, tile=32 if spec.num_hidden < 3 else 16, num_warps=4, registers=128, shared=72_000)
    return Layout(width, tile=16, num_warps=4, registers=255, shared=130_000 if spec.num_hidden < 3 else 200_000)


@dataclass(frozen=True)
class LaunchResult:
    """Result of a launch, still on the device: weights flat (N, D), their losses (N,) and the updates made (N,)."""

    flat: Tensor
    loss: Tensor
    steps: Tensor


def fit_fused(
    spec: SirenSpec,
    requests: Sequence[FitRequest],
    initial: InitialValues,
    config: FitConfig,
    device: torch.device,
    on_step: OnStep,
) -> None:
    """What `fit_reference` does, a chunk of INRs at a launch. `on_step` is called after every chunk.

    Two chunks are in flight, each on its own stream: while the GPU computes one, the CPU prepares the next.
    """
    shared, field = requests[0].shared_coords, requests[0].signal.field
    adam = adam_settings(config)
    coords = requests[0].signal.coords.to(device)  # those of all requests, if they are shared
    streams: list[torch.cuda.Stream | None] = [None]
    if device.type == "cuda":
        streams = [torch.cuda.Stream(device) for _ in range(2)]  # type: ignore[no-untyped-call]
        torch.cuda.synchronize(device)  # both streams read coords
    size = chunk_size(spec, requests[0])
    stops: dict[float, float] = {}
    waiting = deque(Slot(request) for request in requests)
    in_flight: deque[tuple[list[Slot], LaunchResult, torch.cuda.Stream | None]] = deque()

    def launch(stream: torch.cuda.Stream | None) -> None:
        slots = [waiting.popleft() for _ in range(min(size, len(waiting)))]
        signals = [slot.request.signal for slot in slots]
        with torch.cuda.stream(stream):
            points = coords if shared else _stacked([signal.coords for signal in signals], device)
            targets = _stacked([signal.targets for signal in signals], device)
            flat = initial.batch([(slot.request.index, slot.attempt) for slot in slots], points, targets)
            for peak in {signal.peak for signal in signals} - stops.keys():
                stops[peak] = stop_loss(config, peak)
            stop = torch.tensor([stops[signal.peak] for signal in signals]).to(device)
            result = run_steps(spec, points, targets, flat, adam, stop, field, config.batch_points, config.tf32)
        in_flight.append((slots, result, stream))

    def collect() -> None:
        slots, result, stream = in_flight.popleft()
        with torch.cuda.stream(stream):
            flat, losses, steps = result.flat.cpu(), result.loss.tolist(), result.steps.tolist()
        finished: list[FinishedFit] = []
        for slot, weights, loss, updates in zip(slots, flat, losses, steps, strict=True):
            slot.steps = updates
            fit = slot.finish(loss, weights, config)
            if fit is None:
                waiting.append(slot)
            else:
                finished.append(fit)
        on_step(finished, sum(steps))

    while waiting or in_flight:
        if waiting and len(in_flight) < len(streams):
            launch(next(stream for stream in streams if stream not in [used for _, _, used in in_flight]))
        else:
            collect()


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
    """Fit INRs from initial values flat (N, D), which become the weights, until their losses are at most stop (N,).

    coords (P, I), shared, or (N, P, I); targets (N, P, O). All on one device, contiguous.
    """
    count, points, _ = targets.shape
    batch = min(batch_points or points, points)
    constants, options = compile_settings(spec, field == "occupancy", batch < points, tf32, layout)
    mean, square = torch.zeros_like(flat), torch.zeros_like(flat)
    result = LaunchResult(flat, torch.empty_like(stop), torch.empty(count, dtype=torch.int32, device=flat.device))
    fused_triton().fit_kernel[(count,)](
        coords, targets, flat, mean, square, torch.empty_like(flat), _rates(adam).to(flat.device), stop,
        result.loss, result.steps, points, len(adam.rates), batch, coords[0].numel() if coords.dim() == 3 else 0,
        spec.omega_0 / math.pi, spec.omega_0, spec.output_bias,
        (1 if field == "occupancy" else 2) / (batch * spec.out_dim), 1 / (points * spec.out_dim),
        1 - adam.betas[0], adam.betas[1], 1 - adam.betas[1], EPSILON,
        **constants, **options,
    )  # fmt: skip
    return result


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


def chunk_size(spec: SirenSpec, request: FitRequest) -> int:
    """INRs of a launch."""
    points = len(request.signal.coords) * (spec.out_dim + (0 if request.shared_coords else spec.in_dim))
    return max(1, min(MAX_CHUNK, CHUNK_BYTES // (4 * (points + 4 * spec.num_parameters))))


def fused_triton() -> ModuleType:
    """The module of the kernel, imported on demand: a machine without a GPU may lack triton."""
    from inr_factory.generation.fitting import fused_triton

    return fused_triton


def _rates(adam: AdamSettings) -> Tensor:
    """(K, 2) float32: the rate of each step over its bias correction, and the factor that corrects sqrt(square)."""
    step = torch.arange(1, len(adam.rates) + 1, dtype=torch.float64)
    first, second = adam.betas
    return torch.stack([adam.rates / (1 - first**step), 1 / (1 - second**step).sqrt()], dim=1).float()


def _stacked(parts: Sequence[Tensor], device: torch.device) -> Tensor:
    return torch.stack(list(parts)).float().to(device)
