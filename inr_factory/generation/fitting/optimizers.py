"""Optimisers: the settings of Adam that `fit.optimizer` names.

- adam: Adam (Kingma and Ba 2015) at a constant rate, the field's usual setting.
- sprint: Adam with betas 0.6 and 0.97; the rate warms up over the first tenth of the steps and decays as
  sqrt(1 - progress). The last layer starts at its ridge least-squares solution (initial_values.py).

Shape letters: K steps, D parameters of one INR.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from inr_factory.generation.fit_config import FitConfig
from inr_factory.generation.start_file import decode_starts
from inr_factory.inr.spec import SirenSpec

EPSILON = 1e-8
MOMENTUM = 0.9  # of muon
LOOKS = 4  # epochs between two looks at the loss, which cost a quarter of the fit of a shape in every epoch


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
    if config.optimizer == "muon":
        warmup = ((step + 1) / max(1, config.steps // 10)).clamp(max=1)
        return AdamSettings((0.6, 0.97), config.learning_rate * warmup * (1 - step / config.steps), MOMENTUM, LOOKS)
    warmup = ((step + 1) / max(1, config.steps // 10)).clamp(max=1)
    return AdamSettings((0.6, 0.97), config.learning_rate * warmup * (1 - step / config.steps).sqrt())
