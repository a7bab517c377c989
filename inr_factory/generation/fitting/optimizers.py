"""Schedules: how fast an INR learns at each of its steps, and where it starts.

- adam: Adam (Kingma and Ba 2015) at a constant rate, the field's way.
- sprint: the last layer, which is linear, starts at its ridge least-squares solution; Adam with betas 0.6 and 0.97; the
  rate warms up over the first tenth of the steps and falls as sqrt(1 - progress). The ridge is large: a small one starts
  nearer to the signal, but by large weights that a classifier cannot read (docs/fitting.md).

Shape letters: K steps, P points, H hidden neurons, O values.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from inr_factory.generation.recipe import FitConfig
from inr_factory.generation.signals import Signal
from inr_factory.inr.batch import INRBatch, start_values
from inr_factory.inr.spec import SirenSpec

EPSILON = 1e-8
SINGLE = 1e-2  # the least ridge that goes with single precision


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
    return (solve_last_layer(inr, signal, config.ridge) if config.optimizer == "sprint" else inr).flatten()[0]


def solve_last_layer(inr: INRBatch, signal: Signal, ridge: float) -> INRBatch:
    """The INR (N = 1) with the last layer that fits the signal best, by ridge regression on its last hidden values.

    Minimises the mean squared error + ridge |w|², bias included. The solution is found in double precision; the sums
    over points that it needs are taken in single where the ridge drowns their rounding. Where it is not finite
    (values that overflow), the start values stay.
    """
    hidden = signal.coords
    for W, b in zip(inr.weights[:-1], inr.biases[:-1], strict=True):
        hidden = torch.nn.functional.linear(hidden, W[0], b[0])
        hidden = hidden.mul_(inr.spec.omega_0).sin_() if inr.spec.activation == "sine" else hidden.relu_()
    wanted = 4 * signal.targets - 2 if signal.field == "occupancy" else signal.targets  # logits of 12 and 88 %
    dtype, size = torch.float32 if ridge >= SINGLE else torch.float64, hidden.shape[1] + 1
    columns = torch.empty(len(hidden), size + wanted.shape[1], dtype=dtype)  # features, a one, targets
    columns[:, : size - 1], columns[:, size - 1], columns[:, size:] = hidden, 1, wanted
    columns[:, size:] -= inr.spec.output_bias
    sums = (columns[:, :size].T @ columns).double() / len(columns)
    sums.diagonal().add_(ridge)
    solution = torch.linalg.solve(sums[:, :size], sums[:, size:]).float()
    if not bool(solution.isfinite().all()):
        return inr
    weights = (*inr.weights[:-1], solution[:-1].T[None])
    return INRBatch(inr.spec, weights, (*inr.biases[:-1], solution[-1][None]))
