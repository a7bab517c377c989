"""Scope regulariser: weight scope alignment in fits (Weight Scope Alignment, arXiv 2408.12237).

Weights of INRs that are fitted separately differ in scale, so that their averages represent neither signal. While an
INR is fitted, a penalty therefore pulls the standard deviation of each layer's weights to a target: with the weights
of layer l taken as normal, of mean mu_l and standard deviation sigma_l, the objective gains
strength * sum over l of KL(N(mu_l, sigma_l) || N(0, std_l)). The paper leaves the targets std_l open; the default here
is the standard deviation of the initial values. `fit.scope` is the strength, `fit.scope_std` the targets.

Shape letters: L layers of weights, D parameters of one INR.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from inr_factory.errors import UsageError
from inr_factory.generation.fit_config import FitConfig
from inr_factory.inr.initialization import initialize
from inr_factory.inr.spec import SirenSpec

SAMPLE = 64  # INRs whose initial values give the default targets


@dataclass(frozen=True)
class Scope:
    """Strength of the penalty, and the targets (L,) of the standard deviations of the layers' weights."""

    strength: float
    stds: tuple[float, ...]


def scope_of(spec: SirenSpec, config: FitConfig) -> Scope | None:
    """The scope of a configuration, None without one. Raises UsageError for another number of layers."""
    if not config.scope:
        return None
    layers = spec.num_hidden + 1
    if config.scope_std is None:
        initial = initialize(spec, range(SAMPLE))
        return Scope(config.scope, tuple(float(W.std()) for W in initial.weights))
    if len(config.scope_std) != layers:
        raise UsageError(f"fit.scope_std needs a number for each of {layers} layers, got {len(config.scope_std)}")
    return Scope(config.scope, config.scope_std)


def scope_penalty(spec: SirenSpec, flat: Tensor, scope: Scope) -> Tensor:
    """strength * sum over l of KL(N(mu_l, sigma_l) || N(0, std_l)) of one INR's parameters (D,), a scalar."""
    total = flat.new_zeros(())
    parts = torch.split(flat, list(spec.parameter_sizes))
    for W, target in zip(parts[::2], scope.stds, strict=True):
        mean = W.mean()
        variance = (W - mean).square().mean() + 1e-12
        total = total + (variance + mean.square()) / (2 * target**2) - variance.log() / 2
    return scope.strength * total
