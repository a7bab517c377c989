"""Scope: draws the spread of each layer's weights to a target while an INR is fitted, so that INRs mix better.

Weight scope alignment (arXiv 2408.12237): with the weights of layer l taken as normal, of mean mu_l and spread sigma_l,
strength * sum over l of KL(N(mu_l, sigma_l) || N(0, std_l)) is added to what is minimised. The paper leaves the target
open; here it is by default the spread of the start values, so that no INR outgrows the others.

Shape letters: L layers of weights, D parameters of one INR.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from inr_factory.errors import UsageError
from inr_factory.generation.recipe import FitConfig
from inr_factory.inr.batch import start_values
from inr_factory.inr.spec import SirenSpec

SAMPLE = 64  # INRs of which the spread of start values is taken


@dataclass(frozen=True)
class Scope:
    """Targets (L,) of the standard deviations of the layers' weights, and how strongly they are drawn there."""

    strength: float
    stds: tuple[float, ...]


def scope_of(spec: SirenSpec, config: FitConfig) -> Scope | None:
    """The scope that a configuration asks for. Raises UsageError where it names another number of layers."""
    if not config.scope:
        return None
    layers = spec.num_hidden + 1
    if config.scope_std is None:
        start = start_values(spec, range(SAMPLE))
        return Scope(config.scope, tuple(float(W.std()) for W in start.weights))
    if len(config.scope_std) != layers:
        raise UsageError(f"fit.scope_std needs a number for each of {layers} layers, got {len(config.scope_std)}")
    return Scope(config.scope, config.scope_std)


def divergence(spec: SirenSpec, flat: Tensor, scope: Scope) -> Tensor:
    """strength * sum over l of KL(N(mu_l, sigma_l) || N(0, std_l)) of one INR's parameters (D,), a scalar."""
    total = flat.new_zeros(())
    parts = torch.split(flat, list(spec.parameter_sizes))
    for W, target in zip(parts[::2], scope.stds, strict=True):
        mean = W.mean()
        variance = (W - mean).square().mean() + 1e-12
        total = total + (variance + mean.square()) / (2 * target**2) - variance.log() / 2
    return scope.strength * total
