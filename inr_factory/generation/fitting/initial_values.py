"""Initial values: the weights at which fits start, of one INR on the CPU or of many at once on a GPU.

Shape letters: N INRs, D parameters of one INR, P points, I coordinates, O values.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from inr_factory.generation.fit_config import FitConfig
from inr_factory.generation.fitting.least_squares import SINGLE, solve_last_layers
from inr_factory.generation.signals import Field, Signal
from inr_factory.inr.initialization import initialize_flat
from inr_factory.inr.spec import SirenSpec
from inr_factory.storage.manifest import ViewKey

# INRs and points that are solved at once. The batch always has this size, so that the library takes the same algorithm
# and the initial values of an INR do not depend on its neighbours.
BATCH = 256
POINTS = 4096


VIEW_BITS, ATTEMPT_BITS = 14, 4  # of seeds of fits that start from a file
CHANGE = 0.01  # of a draw, added to the INR of a file for each further attempt


def seed_of(key: ViewKey, config: FitConfig, run_seed: int, attempt: int = 0) -> int:
    """The seed of an attempt of a fit, 63 bits. Where it starts from a file, the lowest 14 are the view, the next 4 the
    attempt."""
    seed = (key.of_all if config.starts == "shared" else key).seed(run_seed, attempt)
    if config.starts != "file":
        return seed
    high = seed >> (VIEW_BITS + ATTEMPT_BITS)
    return ((high << ATTEMPT_BITS | attempt) << VIEW_BITS) | key.view


def start_values(
    spec: SirenSpec,
    seeds: Sequence[int] | NDArray[np.int64],
    config: FitConfig,
    device: torch.device | str = "cpu",
) -> Tensor:
    """(N, D): the draws of seeds, or the INRs of the file that their views start from."""
    given = config.starting_inrs(spec.num_parameters)
    if given is None:
        return initialize_flat(spec, seeds, device)
    numbers = np.asarray(seeds, dtype=np.int64)
    rows = (numbers & (2**VIEW_BITS - 1)) % len(given)
    attempts = numbers >> VIEW_BITS & (2**ATTEMPT_BITS - 1)
    flat = torch.from_numpy(given[rows]).to(device)
    if attempts.any():
        flat += CHANGE * torch.from_numpy(attempts).to(flat)[:, None] * initialize_flat(spec, seeds, device)
    return flat


def initial_weights(spec: SirenSpec, seed: int, signal: Signal, config: FitConfig) -> Tensor:
    """(D,): where the fit of a signal starts, by the seed and, unless the optimizer is adam, by least squares.

    On the CPU, computed alone, so that all engines agree.
    """
    flat = start_values(spec, [seed], config)
    if config.optimizer != "adam" and config.start_rates is None:
        dtype = torch.float32 if config.ridge >= SINGLE else torch.float64
        flat = solve_last_layers(
            spec, flat, signal.coords, signal.targets[None], signal.field, config.ridge, dtype=dtype
        )
    return flat[0]


def initial_batch(
    spec: SirenSpec,
    seeds: Sequence[int] | NDArray[np.int64],
    coords: Tensor,
    targets: Tensor,
    field: Field,
    config: FitConfig,
) -> Tensor:
    """(N, D) for the seeds of N signals, on the device of the coords; equal to single calls up to rounding.

    coords (P, I), shared, or (N, P, I) and targets (N, P, O) are those of the signals.
    """
    flat = start_values(spec, seeds, config, coords.device)
    if config.optimizer == "adam" or config.start_rates is not None:
        return flat
    for begin in range(0, len(flat), BATCH):
        rows = slice(begin, begin + BATCH)
        points = coords if coords.dim() == 2 else _padded(coords[rows])
        solved = solve_last_layers(
            spec, _padded(flat[rows]), points, _padded(targets[rows]), field, config.ridge, chunk=POINTS
        )
        flat[rows] = solved[: len(flat[rows])]
    return flat


def _padded(part: Tensor) -> Tensor:
    """(BATCH, ...), filled with copies of the last row."""
    missing = BATCH - len(part)
    return torch.cat([part, part[-1:].expand(missing, *part.shape[1:])]) if missing else part
