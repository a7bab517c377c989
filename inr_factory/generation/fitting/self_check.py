"""Self-check: an engine on a GPU is compared with the reference before its fits are used.

At the first launch of a process, for each device and each kind of fit that an engine is compiled for, two INRs are
fitted for five steps by the engine and by the reference. Then the losses that the engine reports with its first fits
are compared with those of a plain forward pass of their weights. Nothing is checked later in the process.

Has not run on a GPU yet. In Triton's interpreter five steps differ by 2e-5 of their size, with `fit.tf32` by 2e-3.

Shape letters: N INRs, D parameters of one INR, P points, I coordinates, O values.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.func import grad, vmap

from inr_factory.errors import FactoryError, ResourceError, one_line
from inr_factory.generation.fit_config import FitConfig
from inr_factory.generation.fitting.fit_table import FitBatch, FitEngine, FitTable
from inr_factory.generation.fitting.initial_values import initial_weights
from inr_factory.generation.fitting.reference import fit_reference, objective_and_error
from inr_factory.generation.fitting.scope_regularizer import scope_of
from inr_factory.generation.signal_stack import SignalStack, as_index, divided, select_signals, stack_signals
from inr_factory.generation.signals import Field
from inr_factory.inr.spec import SirenSpec
from inr_factory.storage.manifest import ViewKey

STEPS, RATE = 5, 1e-4
POINTS, BATCH_POINTS = 100, 48  # which end within a tile of the kernel
PASS_VALUES = 2**25  # of a hidden layer, in one forward pass

# Weights whose first gradient is below this part of the root mean square of its tensor are left out: Adam's first step
# is the sign of the gradient, which rounding may turn.
UNSETTLED = 0.05


@dataclass(frozen=True)
class Tolerance:
    """How far an engine may be from the reference.

    Attributes:
        change: Norm of the difference of a layer's weights, or biases, as a part of that of their change.
        loss: Difference of root mean square errors, as a part of them.
        floor: What is added to it, as a part of the signal's peak.
    """

    change: float
    loss: float
    floor: float


EXACT = Tolerance(change=1e-3, loss=1e-3, floor=1e-4)
ROUNDED = Tolerance(change=5e-2, loss=3e-2, floor=1e-2)  # of fit.tf32, whose factors have 11 bits


class EngineFault(Exception):
    """An engine failed its self-check; `fault_of` has the reason."""


@dataclass(frozen=True)
class CheckReport:
    """How an engine compares with the reference.

    Attributes:
        difference: Of the weights or biases of the worst layer, as a part of their change; NaN where the engine raised
            an error.
        tolerance: What is accepted.
        reason: Why the engine failed, in one line; empty if it passed.
    """

    difference: float
    tolerance: float
    reason: str


_CHECKING = Lock()  # the threads of a worker compare once
_faults: dict[tuple[str, torch.device], str] = {}
_compared: set[tuple[object, ...]] = set()  # kinds of fits whose five steps are right
_passed: set[tuple[object, ...]] = set()  # and whose losses are


def fault_of(name: str, device: torch.device) -> str:
    """Why an engine failed its self-check on a device in this process; empty if it did not."""
    return _faults.get((name, _numbered(device)), "") if _faults else ""


def checked(name: str, engine: FitEngine) -> FitEngine:
    """The engine with its self-check.

    A call raises EngineFault before the table has any fit that fails the check, and ResourceError where a device has no
    memory.
    """

    def fit(spec: SirenSpec, batch: FitBatch, config: FitConfig, device: torch.device, fits: FitTable) -> None:
        signal = batch.signals[0]
        batches = config.batch_points is not None and config.batch_points < len(signal.coords)
        kind = (name, _numbered(device), spec, signal.field, batches, batch.shared_coords, config.tf32, config.scope)
        if kind in _passed:
            engine(spec, batch, config, device, fits)
            return

        def fault(reason: str) -> EngineFault:
            _faults[name, _numbered(device)] = reason
            return EngineFault(reason)

        def on_stop(rows: NDArray[np.int64], flat: Tensor, losses: Sequence[float]) -> None:
            at = as_index(np.searchsorted(batch.rows, rows))
            signals = stack_signals(select_signals(batch.signals, at), batch.shared_coords)
            count, reason = compare_losses(spec, signals, fits.peaks[rows], flat, losses, device, _tolerance(config))
            if reason:
                raise fault(reason)
            if count:
                _passed.add(kind)
                fits.on_stop = None

        with _CHECKING:
            if reason := fault_of(name, device):
                raise EngineFault(reason)  # as another thread found
            if kind not in _compared:
                report = compare(engine, spec, config, device, signal.field, batches, batch.shared_coords)
                if report.reason:
                    raise fault(report.reason)
                _compared.add(kind)
        before, fits.on_stop = fits.tally, on_stop
        try:
            engine(spec, batch, config, device, fits)
        except (EngineFault, FactoryError, MemoryError):
            raise
        except Exception as error:
            if fits.tally != before:  # it has fitted something, or who watches the table has raised the error
                raise
            raise fault(_reason(error, device)) from None
        finally:
            fits.on_stop = None

    return fit


def compare(
    engine: FitEngine,
    spec: SirenSpec,
    config: FitConfig,
    device: torch.device,
    field: Field = "values",
    batches: bool = False,
    shared: bool = True,
) -> CheckReport:
    """Fit two INRs for five steps by an engine and by the reference, and compare their weights and losses.

    Args:
        engine: What is checked.
        spec: Architecture of the INRs.
        config: Configuration of the fits that follow.
        device: Their device.
        field: What their targets are.
        batches: Whether a step takes a part of the points.
        shared: Whether all INRs have the same points; never those of batches, which each INR has in its own order.

    Raises:
        ResourceError: The device has no memory, or cannot be used any more after the engine failed on it.
    """
    config, tolerance = _five_steps(config, batches), _tolerance(config)
    signals = _two_signals(spec, field, shared and not batches)
    keys = [ViewKey("self-check", view) for view in range(2)]

    def fit_by(each: FitEngine) -> FitTable:
        fits = FitTable(spec, keys, np.ones(2), config, run_seed=0)
        each(spec, FitBatch(np.arange(2), signals, signals.shared_coords), config, device, fits)
        return fits

    try:
        fits = fit_by(engine)
    except (FactoryError, MemoryError):
        raise
    except Exception as error:
        return CheckReport(float("nan"), tolerance.change, _reason(error, device))
    expected = fit_by(fit_reference).flat
    start = torch.stack(
        [initial_weights(spec, seed, signals[row], config) for row, seed in enumerate(fits.seeds.tolist())]
    )
    settled, sizes = _settled(spec, start, signals, config), list(spec.parameter_sizes)
    gaps = torch.split((fits.flat - expected) * settled, sizes, dim=1)
    changes = torch.split((expected - start) * settled, sizes, dim=1)
    differences = [float(gap.norm() / change.norm().clamp(min=RATE)) for gap, change in zip(gaps, changes, strict=True)]
    difference = float(np.max(differences))  # NaN if one is
    if difference <= tolerance.change:
        reason = compare_losses(spec, signals, fits.peaks, fits.flat, fits.loss.tolist(), device, tolerance)[1]
    else:
        reason = (
            f"its first {STEPS} steps differ from the reference's by {difference:.2g} of their size, "
            f"{tolerance.change:g} is accepted"
        )
    return CheckReport(difference, tolerance.change, reason)


def compare_losses(
    spec: SirenSpec,
    signals: SignalStack,
    peaks: NDArray[np.float64],
    flat: Tensor,
    losses: Sequence[float],
    device: torch.device,
    tolerance: Tolerance = EXACT,
) -> tuple[int, str]:
    """Compare reported losses with those of a plain forward pass of the weights in double precision.

    Only those above 0 dB: the values of an INR whose fit diverged depend on rounding.

    Args:
        spec: Architecture of the INRs.
        signals: What they were fitted to, (N, P, O).
        peaks: (N,), ranges of the targets.
        flat: (N, D), their weights.
        losses: (N,), what the engine reported.
        device: Where the pass is computed.
        tolerance: What is accepted.

    Returns:
        How many were compared, and what is wrong, in one line; empty if nothing is.
    """
    reported = np.array(losses, dtype=np.float64)
    rows = np.flatnonzero(reported <= peaks**2)
    size = max(1, PASS_VALUES // (signals.values.shape[1] * spec.widest))
    loss = vmap(objective_and_error(spec, signals.field), in_dims=(0, None if signals.shared_coords else 0, 0))
    for begin in range(0, len(rows), size):
        part = rows[begin : begin + size]
        some = signals[part]
        weights, targets = flat[torch.from_numpy(part).to(flat.device)], divided(some.values.to(device), some.white)
        values = (tensor.to(device).double() for tensor in (weights, some.coords, targets))
        actual = loss(*values)[1].cpu().numpy()
        gap = np.abs(np.sqrt(reported[part]) - np.sqrt(actual))
        wrong = ~(gap <= tolerance.loss * np.sqrt(actual) + tolerance.floor * peaks[part])
        if wrong.any():
            first = int(np.flatnonzero(wrong)[0])
            return len(rows), (
                f"{int(wrong.sum())} of {len(part)} losses are wrong: it reports {reported[part][first]:.4g} for weights "
                f"that have {actual[first]:.4g}"
            )
    return len(rows), ""


def no_memory(device: torch.device, error: Exception) -> ResourceError:
    """The error for a device whose memory a fit has used up."""
    return ResourceError(
        f"{device} has no memory for the fit ({one_line(error)}); end other programs on it, or use fewer --workers"
    )


def _reason(error: Exception, device: torch.device) -> str:
    """The error of an engine in one line. Raises ResourceError where the reference would fail on this device too."""
    line = f"{type(error).__name__}: {one_line(error)}"
    if isinstance(error, torch.OutOfMemoryError) or "out of memory" in str(error):
        raise no_memory(device, error) from None
    if device.type == "cuda":
        try:
            torch.cuda.synchronize(device)
        except RuntimeError:  # after such a failure CUDA refuses everything in this process
            remedy = "run again with --set fit.engine=reference"
            raise ResourceError(f"{device} cannot be used after a failed fit ({line}); {remedy}") from None
    return line


def _numbered(device: torch.device) -> torch.device:
    """The device with its number, so that cuda and cuda:0 are one."""
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return device


def _tolerance(config: FitConfig) -> Tolerance:
    return ROUNDED if config.tf32 else EXACT


def _five_steps(config: FitConfig, batches: bool) -> FitConfig:
    """Five steps of Adam from random weights, which all engines take from the CPU."""
    settings = {"steps": STEPS, "optimizer": "adam", "learning_rate": RATE, "target_psnr": None, "target_error": None}
    settings |= {"floor_psnr": -1e9, "attempts": 1, "batch_points": BATCH_POINTS if batches else None}
    return config.model_copy(update=settings)


def _two_signals(spec: SirenSpec, field: Field, shared: bool) -> SignalStack:
    """Two smooth signals at random points."""
    generator = torch.Generator().manual_seed(0)
    coords = 2 * torch.rand(2, POINTS, spec.in_dim, generator=generator) - 1
    coords = coords[:1].expand(2, -1, -1) if shared else coords
    phase = torch.arange(2)[:, None, None] + torch.arange(spec.out_dim)
    values = 0.5 + 0.4 * torch.sin(3 * coords.sum(dim=2, keepdim=True) + phase)
    values = (values > 0.5).float() if field == "occupancy" else values
    return SignalStack(coords[0] if shared else coords, values, field=field)


def _settled(spec: SirenSpec, start: Tensor, signals: SignalStack, config: FitConfig) -> Tensor:
    """(N, D) bool: weights whose first gradient is far enough from 0, see UNSETTLED."""
    objective = objective_and_error(spec, signals.field, scope_of(spec, config))
    some = slice(config.batch_points)
    shared = signals.shared_coords
    gradient = vmap(grad(objective, has_aux=True), in_dims=(0, None if shared else 0, 0))(
        start, signals.coords if shared else signals.coords[:, some], signals.values[:, some]
    )[0]
    parts = torch.split(gradient, list(spec.parameter_sizes), dim=1)
    return torch.cat([part.abs() > UNSETTLED * part.square().mean().sqrt() for part in parts], dim=1)
