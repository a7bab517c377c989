"""Starts: the start values of many fits at once, for engines that fit faster than one CPU core can start them.

Shape letters: N INRs, D parameters of one INR, P points, I coordinates, H hidden neurons, O values.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from inr_factory.generation.fitting.optimizers import start_weights
from inr_factory.generation.recipe import FitConfig
from inr_factory.generation.signals import Field, Signal
from inr_factory.inr.batch import INRBatch, start_values
from inr_factory.inr.spec import SirenSpec
from inr_factory.storage.manifest import ViewKey

# INRs and points that are solved at once. Always as many, so that the library takes the same algorithm, and an INR's
# start does not hang on its neighbours.
TOGETHER = 256
POINTS = 4096


@dataclass(frozen=True)
class Starts:
    """Where the fit of each signal starts, of one INR as `lanes.Start` has it, or of many."""

    spec: SirenSpec
    keys: Sequence[ViewKey]
    signals: Sequence[Signal]
    config: FitConfig
    run_seed: int

    def __call__(self, index: int, attempt: int) -> Tensor:
        seed = self.keys[index].seed(self.run_seed, attempt)
        return start_weights(self.spec, seed, self.signals[index], self.config)

    def together(self, attempts: Sequence[tuple[int, int]], coords: Tensor, targets: Tensor) -> Tensor:
        """(N, D) of the (index, attempt) pairs, the same as one by one but for rounding, on the device of the coords.

        coords (P, I), shared, or (N, P, I) and targets (N, P, O) are those of the signals.
        """
        seeds = [self.keys[index].seed(self.run_seed, attempt) for index, attempt in attempts]
        flat = start_values(self.spec, seeds).flatten().to(coords.device)
        if self.config.optimizer != "sprint":
            return flat
        field = self.signals[attempts[0][0]].field
        parts = []
        for at in range(0, len(flat), TOGETHER):
            some = slice(at, at + TOGETHER)
            own = coords if coords.dim() == 2 else _filled(coords[some])
            solved = solve_last_layers(
                self.spec, _filled(flat[some]), own, _filled(targets[some]), field, self.config.ridge
            )
            parts.append(solved[: len(flat[some])])
        return torch.cat(parts)


def solve_last_layers(
    spec: SirenSpec, flat: Tensor, coords: Tensor, targets: Tensor, field: Field, ridge: float
) -> Tensor:
    """(N, D): `schedule.solve_last_layer` of many INRs flat (N, D), on any device."""
    count, points = len(flat), targets.shape[1]
    inrs = INRBatch.from_flat(spec, flat)
    size = spec.hidden_dim + 1
    gram = torch.zeros(count, size, size, dtype=torch.float64, device=flat.device)
    wanted = torch.zeros(count, size, spec.out_dim, dtype=torch.float64, device=flat.device)
    for at in range(0, points, POINTS):
        hidden = coords[..., at : at + POINTS, :].expand(count, -1, -1)
        for W, b in zip(inrs.weights[:-1], inrs.biases[:-1], strict=True):
            hidden = torch.baddbmm(b[:, None], hidden, W.mT)
            hidden = torch.sin(spec.omega_0 * hidden) if spec.activation == "sine" else torch.relu(hidden)
        features = torch.cat([hidden, torch.ones_like(hidden[..., :1])], dim=2).double()
        values = targets[:, at : at + POINTS]
        values = (4 * values - 2 if field == "occupancy" else values).double() - spec.output_bias
        gram += features.mT @ features
        wanted += features.mT @ values
    penalty = ridge * torch.eye(size, dtype=torch.float64, device=flat.device)
    solution = torch.linalg.solve_ex(gram / points + penalty, wanted / points).result.float()
    last = torch.cat([solution[:, :-1].mT.flatten(1), solution[:, -1]], dim=1)
    usable = last.isfinite().all(dim=1, keepdim=True)
    size = last.shape[1]
    return torch.cat([flat[:, :-size], torch.where(usable, last, flat[:, -size:])], dim=1)


def _filled(part: Tensor) -> Tensor:
    """(TOGETHER, ...): the last one again in what is empty."""
    missing = TOGETHER - len(part)
    return torch.cat([part, part[-1:].expand(missing, *part.shape[1:])]) if missing else part
