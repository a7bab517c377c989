"""Fused engine, CPU: passes INRs one by one to fused.c, which keeps all of a fit inside the cache.

Shape letters: D parameters of one INR, P points, I coordinates, O values, K steps.
"""

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from inr_factory.generation.fit_config import FitConfig
from inr_factory.generation.fitting.equal_widths import narrow, widen
from inr_factory.generation.fitting.fit_table import FitBatch, FitTable
from inr_factory.generation.fitting.initial_values import initial_weights
from inr_factory.generation.fitting.optimizers import EPSILON, AdamSettings, adam_settings, learned_rates
from inr_factory.generation.fitting.scope_regularizer import Scope, scope_of
from inr_factory.generation.fitting.stopping import stop_loss
from inr_factory.generation.signals import Signal
from inr_factory.inr.compiled_library import load_library
from inr_factory.inr.forward_pass import encode
from inr_factory.inr.spec import SirenSpec

LIBRARY = Path(__file__).parent / "_fused.so"
SOURCE = LIBRARY.with_name("fused.c")

MAX_HIDDEN_DIM = 512
MAX_NUM_HIDDEN = 16
MAX_DIM = 64  # of inputs, and of outputs

Floats = NDArray[np.float32]


class _Problem(ctypes.Structure):
    """`problem` of fused.c."""

    _fields_ = (
        *((name, ctypes.c_int32) for name in ("in_dim", "out_dim", "hidden_dim", "num_hidden")),
        *((name, ctypes.c_int32) for name in ("num_points", "num_steps")),
        *((name, ctypes.c_int32) for name in ("batch_points", "relu", "occupancy", "rows", "cols")),
        *((name, ctypes.c_double) for name in ("omega_0", "output_bias")),
        *((name, ctypes.c_double) for name in ("beta_1", "beta_2", "epsilon", "stop_loss", "first_factor")),
        ("num_learned", ctypes.c_int64),
        ("learned", ctypes.c_void_p),
        ("momentum", ctypes.c_double),
        ("looks", ctypes.c_int64),
        ("scope", ctypes.c_double),
        ("scope_std", ctypes.c_void_p),
    )


@dataclass(frozen=True)
class Library:
    """The compiled code and the names of its variants that this machine can run, the best first."""

    functions: ctypes.CDLL
    variants: tuple[str, ...]


def available() -> bool:
    """Whether the library was built when the program was installed."""
    return not isinstance(_library(), str)


def obstacle(spec: SirenSpec) -> str:
    """Why this engine cannot fit such an INR here, empty if it can."""
    library = _library()
    return library if isinstance(library, str) else _beyond(spec)


def variants() -> tuple[str, ...]:
    """The vector widths that this machine can run, the best, which is used, first."""
    library = _library()
    return () if isinstance(library, str) else library.variants


def fit_fused(spec: SirenSpec, batch: FitBatch, config: FitConfig, device: torch.device, fits: FitTable) -> None:
    """What `fit_reference` does, one INR after the other; a step is an attempt."""
    assert device.type == "cpu"
    adam, scope, learned = adam_settings(config), scope_of(spec, config), learned_rates(spec, config)
    coords, encoded, grid = None, None, (0, 0)
    for row, signal in zip(batch.rows, batch.signals, strict=True):
        if signal.coords is not coords:  # they may be shared
            coords, encoded, grid = signal.coords, encode(spec, signal.coords), grid_shape(signal.coords)
        stop = stop_loss(config, signal.peak)
        again = row[None]
        while len(again):
            flat = initial_weights(spec, int(fits.seeds[row]), signal, config)
            flat, loss, steps = run_steps(
                spec, signal, flat, adam, stop, grid, config.batch_points, scope=scope, learned=learned, encoded=encoded
            )
            again = fits.stop(again, flat[None], [loss], [steps])
            fits.step(steps)


def run_steps(
    spec: SirenSpec,
    signal: Signal,
    flat: Tensor,
    adam: AdamSettings,
    stop: float,
    grid: tuple[int, int] = (0, 0),
    batch_points: int | None = None,
    variant: str | None = None,
    scope: Scope | None = None,
    learned: Tensor | None = None,
    encoded: Tensor | None = None,
) -> tuple[Tensor, float, int]:
    """Fit one INR from initial values flat (D,) until its loss is at most `stop`: weights (D,), their loss, updates.

    `grid` is the `grid_shape` of the coords, or (0, 0) to treat them as points; `batch_points` is the number of points
    of each step, None for all; `learned` (S, D) are the rates of the first steps, which are those of gradient descent;
    `scope` penalises the distance of the weights' standard deviations from its targets; `encoded` are the coords with
    the spec's encoding, where they have been computed already.
    """
    library = _library()
    assert not isinstance(library, str), library
    count = len(signal.coords)
    batch, occupancy = min(batch_points or count, count), int(signal.field == "occupancy")
    learned = None if learned is None else widen(learned, spec).contiguous()
    stds = np.array(scope.stds if scope else (1.0,) * (spec.num_hidden + 1), dtype=np.float64)
    problem = _Problem(
        spec.encoded_dim, spec.out_dim, spec.hidden_dim, spec.num_hidden, count, len(adam.rates), batch,
        int(spec.activation == "relu"), occupancy, *grid,
        spec.omega_0, spec.output_bias, *adam.betas, EPSILON, stop, spec.first_factor,
        0 if learned is None else len(learned), None if learned is None else learned.data_ptr(),
        adam.momentum, adam.looks,
        scope.strength if scope else 0.0, stds.ctypes.data_as(ctypes.c_void_p),
    )  # fmt: skip
    weights = np.array(widen(flat, spec).numpy(), dtype=np.float32)  # a copy, which is written into
    encoded = encode(spec, signal.coords) if encoded is None else encoded
    coords, targets = _floats(encoded), _floats(signal.targets)
    rates = np.ascontiguousarray(adam.rates.numpy(), dtype=np.float64)
    loss = ctypes.c_float()
    fit = getattr(library.functions, f"fused_fit_{variant or library.variants[0]}")
    pointers = (array.ctypes.data_as(ctypes.c_void_p) for array in (coords, targets, rates, weights))
    steps = fit(ctypes.byref(problem), *pointers, ctypes.byref(loss))
    if steps < 0:
        raise MemoryError(f"no memory to fit {spec} to {count} points")
    return narrow(torch.from_numpy(weights), spec), loss.value, steps


def grid_shape(coords: Tensor) -> tuple[int, int]:
    """(rows, cols) if coords (P, 2) are a product grid as `pixel_grid` makes it, x fastest; else (0, 0).

    Small grids are left as points: the sines of their axes save nothing.
    """
    if coords.shape[1] != 2:
        return 0, 0
    x, y = coords.unbind(dim=1)
    cols = int((y == y[0]).to(torch.int8).cumprod(dim=0).sum())
    rows = len(coords) // cols
    if min(rows, cols) < 4 or rows * cols != len(coords):
        return 0, 0
    x, y = x.view(rows, cols), y.view(rows, cols)
    return (rows, cols) if bool((x == x[0]).all()) and bool((y == y[:, :1]).all()) else (0, 0)


def sincospi(z: Floats, variant: str, out: tuple[Floats, Floats] | None = None) -> tuple[Floats, Floats]:
    """sin(pi z) and cos(pi z) as the engine computes them; the size of z is a multiple of 16. `out` may contain z."""
    library = _library()
    assert not isinstance(library, str), library
    assert z.size % 16 == 0
    sine, cosine = out or (np.empty_like(z), np.empty_like(z))
    pointers = (array.ctypes.data_as(ctypes.c_void_p) for array in (z, sine, cosine))
    getattr(library.functions, f"fused_sincospi_{variant}")(*pointers, z.size)
    return sine, cosine


def _beyond(spec: SirenSpec) -> str:
    if spec.activation not in ("sine", "relu"):
        return f"it fits sine and ReLU INRs, not {spec}"
    if max(spec.encoded_dim, spec.out_dim) > MAX_DIM:
        return f"it fits INRs of up to {MAX_DIM} coordinates, with their encoding, and values, not {spec}"
    if spec.hidden_dim > MAX_HIDDEN_DIM or spec.num_hidden > MAX_NUM_HIDDEN:
        return f"it fits up to {MAX_NUM_HIDDEN} hidden layers of up to {MAX_HIDDEN_DIM} neurons, not {spec}"
    return ""


@lru_cache(maxsize=1)
def _library() -> Library | str:
    """The library, or the reason why it is missing. Loaded at the first call; its functions run without the GIL."""
    functions = load_library(SOURCE, LIBRARY, "fused_built_from")
    if isinstance(functions, str):
        return functions
    functions.fused_variants.restype = ctypes.c_char_p
    names = tuple(functions.fused_variants().decode().split())
    for name in names:
        fit: Callable[..., int] = getattr(functions, f"fused_fit_{name}")
        fit.argtypes = [ctypes.POINTER(_Problem), *[ctypes.c_void_p] * 4, ctypes.POINTER(ctypes.c_float)]  # type: ignore[attr-defined]
        fit.restype = ctypes.c_int32  # type: ignore[attr-defined]
        probe = getattr(functions, f"fused_sincospi_{name}")
        probe.argtypes = [*[ctypes.c_void_p] * 3, ctypes.c_int32]
        probe.restype = None
    return Library(functions, names)


def _floats(tensor: Tensor) -> Floats:
    return np.ascontiguousarray(tensor.numpy(), dtype=np.float32)
