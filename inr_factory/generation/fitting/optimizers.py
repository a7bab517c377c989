"""Optimisers: the settings of Adam that `fit.optimizer` names.

- adam: Adam (Kingma and Ba 2015) at a constant rate, the field's usual setting.
- sprint: Adam with betas 0.6 and 0.97; the rate warms up over the first tenth of the steps and decays as
  sqrt(1 - progress). The last layer starts at its ridge least-squares solution (initial_values.py).
- muon: the matrices between hidden layers move by Muon (Jordan et al. 2024), all else by Adam with betas 0.9 and 0.97.
  The start and the warm-up are those of sprint, and the rate decays to 0 in a line.

Shape letters: N INRs, K steps, D parameters of one INR, H and G rows and columns of a matrix.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from inr_factory.generation.fit_config import FitConfig
from inr_factory.generation.start_file import decode_starts
from inr_factory.inr.spec import SirenSpec

EPSILON = 1e-8
# Of muon: its momentum, and the coefficients and number of its Newton-Schulz steps.
MOMENTUM, NEWTON_SCHULZ, NEWTON_SCHULZ_STEPS = 0.9, (3.4445, -4.7750, 2.0315), 4
LOOKS = 4  # epochs of muon between two looks at the loss; one in each epoch would be a quarter of the fit of a shape


@dataclass(frozen=True)
class AdamSettings:
    """Betas of Adam, and its learning rate at each step, (K,) float64.

    `momentum` above 0 moves the matrices between hidden layers by Muon. `looks` is how many epochs of `batch_points`
    pass between two looks at the loss over all points.
    """

    betas: tuple[float, float]
    rates: Tensor
    momentum: float = 0.0
    looks: int = 1


def rate_factors(spec: SirenSpec) -> Tensor:
    """(D,): what the rate of each parameter is multiplied by, `first_factor` in the first layer, 1 elsewhere.

    Adam makes steps of the size of its rate, and the first layer is stored times `first_factor`.
    """
    first = sum(spec.parameter_sizes[:2])
    return torch.cat([torch.full((first,), spec.first_factor), torch.ones(spec.num_parameters - first)])


def learned_rates(spec: SirenSpec, config: FitConfig, device: torch.device | str = "cpu") -> Tensor | None:
    """(S, D), the rates of a learned start: in step s < S a fit moves by -rates[s] * gradient, and not by Adam."""
    if config.start_rates is None:
        return None
    return torch.from_numpy(decode_starts(config.start_rates, spec.num_parameters).copy()).to(device)


def adam_settings(config: FitConfig) -> AdamSettings:
    """The settings of `config.optimizer` at `config.learning_rate` for `config.steps` steps."""
    step = torch.arange(config.steps, dtype=torch.float64)
    if config.optimizer == "adam":
        return AdamSettings((0.9, 0.999), torch.full_like(step, config.learning_rate))
    warmup = ((step + 1) / max(1, config.steps // 10)).clamp(max=1)
    if config.optimizer == "muon":
        return AdamSettings((0.9, 0.97), config.learning_rate * warmup * (1 - step / config.steps), MOMENTUM, LOOKS)
    return AdamSettings((0.6, 0.97), config.learning_rate * warmup * (1 - step / config.steps).sqrt())


def rate_table(adam: AdamSettings) -> Tensor:
    """(K + 1, 4) float32, of each step: the factor of mean / (sqrt(square) + epsilon) and epsilon, with the bias
    corrections of Adam, taken in double precision; the rate itself and 1 - second^step, for Muon. The last moves nothing.
    """
    step = torch.arange(1, len(adam.rates) + 1, dtype=torch.float64)
    first, second = adam.betas
    root = (1 - second**step).sqrt()
    columns = [adam.rates / (1 - first**step) * root, EPSILON * root, adam.rates, 1 - second**step]
    return torch.cat([torch.stack(columns, dim=1).float(), torch.tensor([[0.0, EPSILON, 0.0, 1.0]])])


class Muon:
    """Muon's state for one matrix (H, G) of N INRs, as fused.c has it.

    A step is the Nesterov momentum with all singular values brought near 1 (Jordan et al. 2024), each row divided by its
    running size (NorMuon, Li et al. 2025). The entries of a step have the mean square 1, so that the rate is that of
    Adam.
    """

    def __init__(self, count: int, *shape: int, device: torch.device | str) -> None:
        self.momentum = torch.zeros(count, *shape, device=device)
        self.square = torch.zeros(count, shape[0], 1, device=device)

    def reset(self, index: Tensor | int) -> None:
        """Forget the steps of some INRs."""
        self.momentum[index], self.square[index] = 0, 0

    def step(self, gradient: Tensor, settings: AdamSettings, unbiased: Tensor) -> Tensor:
        """The step (N, H, G) for a gradient (N, H, G); `unbiased` (N, 1, 1) is 1 - betas[1] to the power of its number."""
        a, b, c = NEWTON_SCHULZ
        self.momentum.mul_(settings.momentum).add_(gradient)
        step = gradient + settings.momentum * self.momentum
        step /= step.square().sum((1, 2), keepdim=True).sqrt().clamp(min=torch.finfo(step.dtype).tiny)
        for _ in range(NEWTON_SCHULZ_STEPS):
            gram = step.mT @ step
            step = torch.baddbmm(step, step, b * gram + c * (gram @ gram), beta=a)
        size = step.square().mean(2, keepdim=True)
        self.square.lerp_(size, 1 - settings.betas[1])
        step /= (self.square / unbiased).sqrt() + EPSILON
        return step / step.square().mean((1, 2), keepdim=True).sqrt().clamp(min=torch.finfo(step.dtype).tiny)
