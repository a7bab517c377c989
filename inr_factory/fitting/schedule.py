"""Schedules: how fast an INR learns at each of its steps, and where it starts.

- adam: Adam (Kingma and Ba 2015) at a constant rate, the field's way.
- sprint: the last layer, which is linear, starts at its ridge least-squares solution; Adam with betas 0.6 and 0.97; the
  rate warms up over the first tenth of the steps and falls as sqrt(1 - progress).

Shape letters: K steps, P points, H hidden neurons, O values.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from inr_factory.inr import INRBatch, SirenSpec, start_values
from inr_factory.recipe import FitConfig
from inr_factory.signals import Signal

RIDGE = 1e-4
EPSILON = 1e-8


@dataclass(frozen=True)
class Schedule:
    """Betas of Adam, and its rate at each of the steps, (K,) float64."""

    betas: tuple[float, float]
    rates: Tensor


def schedule(config: FitConfig) -> Schedule:
    step = torch.arange(config.steps, dtype=torch.float64)
    if config.optimizer == "adam":
        return Schedule((0.9, 0.999), torch.full_like(step, config.learning_rate))
    warmth = ((step + 1) / max(1, config.steps // 10)).clamp(max=1)
    return Schedule((0.6, 0.97), config.learning_rate * warmth * (1 - step / config.steps).sqrt())


def start_weights(spec: SirenSpec, seed: int, signal: Signal, config: FitConfig) -> Tensor:
    """(D,): where the fit of a signal starts. On the CPU, of this INR alone, so that all engines agree."""
    inr = start_values(spec, [seed])
    return (solve_last_layer(inr, signal) if config.optimizer == "sprint" else inr).flatten()[0]


def solve_last_layer(inr: INRBatch, signal: Signal) -> INRBatch:
    """The INR (N = 1) with the last layer that fits the signal best, by ridge regression on its last hidden values.

    Minimises the mean squared error + RIDGE |w|², bias included, in double precision. Where the solution is not
    finite (values that overflow), the start values stay.
    """
    hidden = signal.coords
    for W, b in zip(inr.weights[:-1], inr.biases[:-1], strict=True):
        hidden = torch.nn.functional.linear(hidden, W[0], b[0])
        hidden = torch.sin(inr.spec.omega_0 * hidden) if inr.spec.activation == "sine" else torch.relu(hidden)
    features = torch.cat([hidden, torch.ones_like(hidden[:, :1])], dim=1).double()
    wanted = 4 * signal.targets - 2 if signal.field == "occupancy" else signal.targets  # logits of 12 and 88 %
    targets = wanted.double() - inr.spec.output_bias
    gram = features.T @ features / len(features) + RIDGE * torch.eye(features.shape[1], dtype=torch.float64)
    solution = torch.linalg.solve(gram, features.T @ targets / len(features)).float()
    if not bool(solution.isfinite().all()):
        return inr
    weights = (*inr.weights[:-1], solution[:-1].T[None])
    return INRBatch(inr.spec, weights, (*inr.biases[:-1], solution[-1][None]))
