"""Symmetries: other weights, the same function. Exact transforms of INRs and the moves that they are made of.

Shape letters: N INRs, H hidden neurons of a layer, L hidden layers, O outputs and I inputs of a layer.
"""

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from torch import Generator, Tensor

from inr_factory.errors import UsageError
from inr_factory.inr import INRBatch
from inr_factory.options import Option, check_number, check_whole


def permute_neurons(inrs: INRBatch, layer: int, permutation_NH: Tensor) -> INRBatch:
    """Reorder the neurons of one hidden layer: neuron j becomes the one that was at permutation[:, j].

    permutation is (N, H) of whole numbers. Rows of W_l and b_l and columns of W_{l+1} move; values do not change.
    """
    weights, biases = list(inrs.weights), list(inrs.biases)
    count, hidden, inputs = weights[layer].shape
    start_N1 = torch.arange(0, count * hidden, hidden, device=inrs.device)[:, None]
    rows = (permutation_NH + start_N1).flatten()
    weights[layer] = weights[layer].reshape(-1, inputs).index_select(0, rows).view(count, hidden, inputs)
    biases[layer] = biases[layer].gather(1, permutation_NH)
    onward = weights[layer + 1]
    weights[layer + 1] = onward.gather(2, permutation_NH[:, None, :].expand_as(onward))
    return replace(inrs, weights=tuple(weights), biases=tuple(biases))


def scale_neurons(inrs: INRBatch, layer: int, incoming_NH: Tensor, outgoing_NH: Tensor) -> INRBatch:
    """Multiply W_l and b_l of each neuron of one hidden layer by incoming, its column of W_{l+1} by outgoing."""
    weights, biases = list(inrs.weights), list(inrs.biases)
    weights[layer] = weights[layer] * incoming_NH[:, :, None]
    biases[layer] = biases[layer] * incoming_NH
    weights[layer + 1] = weights[layer + 1] * outgoing_NH[:, None, :]
    return replace(inrs, weights=tuple(weights), biases=tuple(biases))


def shift_phases(inrs: INRBatch, layer: int, half_turns_NH: Tensor) -> INRBatch:
    """Add half_turns * pi / omega_0 to b_l, and negate the columns of W_{l+1} where half_turns is odd.

    half_turns is (N, H), whole numbers in the dtype of the weights. Exact for sine INRs: sin(z + k pi) =
    (-1)^k sin(z); in float32 the biases are rounded, about 1e-7 for each half turn.
    """
    weights, biases = list(inrs.weights), list(inrs.biases)
    biases[layer] = biases[layer] + half_turns_NH * (math.pi / inrs.spec.omega_0)
    weights[layer + 1] = weights[layer + 1] * parity(half_turns_NH)[:, None, :]
    return replace(inrs, weights=tuple(weights), biases=tuple(biases))


def random_orders(shape: tuple[int, int], generator: Generator) -> Tensor:
    """(N, H): N independent uniform permutations of H places."""
    keys = torch.rand(shape, generator=generator, device=generator.device)
    if keys.device.type != "cpu":
        return keys.argsort(dim=1)
    # numpy sorts short rows three times as fast as torch.
    return torch.from_numpy(np.argsort(keys.numpy(), axis=1))


def parity(half_turns: Tensor) -> Tensor:
    """(-1)^k for whole numbers k of either sign."""
    return 1 - 2 * half_turns.remainder(2)


def require_sine(asked: object, inrs: INRBatch) -> None:
    """Raise UsageError unless the hidden layers are sines."""
    if inrs.spec.activation != "sine":
        raise UsageError(f"{asked} is exact for sine INRs only, got {inrs.spec}")


@dataclass(frozen=True)
class PermuteNeurons(Option):
    """Put the neurons of every hidden layer in a random order, one uniform permutation an INR and layer."""

    name: ClassVar[str] = "permute"

    def __call__(self, inrs: INRBatch, generator: Generator) -> INRBatch:
        shape = (len(inrs), inrs.spec.hidden_dim)
        for layer in range(inrs.spec.num_hidden):
            inrs = permute_neurons(inrs, layer, random_orders(shape, generator))
        return inrs


@dataclass(frozen=True)
class FlipSigns(Option):
    """Negate random hidden neurons, each with `probability`. Exact, since sin is odd: -sin(-z) = sin(z)."""

    name: ClassVar[str] = "flip"
    probability: float = 0.5

    def __post_init__(self) -> None:
        check_number(self, "probability", 0, 1)

    def __call__(self, inrs: INRBatch, generator: Generator) -> INRBatch:
        require_sine(self, inrs)
        shape = (inrs.spec.num_hidden, len(inrs), inrs.spec.hidden_dim)
        chosen = torch.rand(shape, generator=generator, device=generator.device) < self.probability
        for layer, sign_NH in enumerate((1 - 2 * chosen.to(inrs.dtype)).unbind()):
            inrs = scale_neurons(inrs, layer, sign_NH, sign_NH)
        return inrs


@dataclass(frozen=True)
class ShiftPhases(Option):
    """Shift the phase of every hidden neuron by k half turns, k uniform in -max_k..max_k ("SIREN bias").

    Exact for sine INRs: b += k pi / omega_0, outgoing weights times (-1)^k. Published with k in -4..3, which
    spreads the biases 13-fold and costs most of the accuracy (Shamsian et al. 2024); max_k = 1 does not.
    """

    name: ClassVar[str] = "phase"
    max_k: int = 1

    def __post_init__(self) -> None:
        check_whole(self, "max_k", 1, 64)

    def __call__(self, inrs: INRBatch, generator: Generator) -> INRBatch:
        require_sine(self, inrs)
        shape = (inrs.spec.num_hidden, len(inrs), inrs.spec.hidden_dim)
        k = torch.randint(-self.max_k, self.max_k + 1, shape, generator=generator, device=generator.device)
        for layer, half_turns_NH in enumerate(k.to(inrs.dtype).unbind()):
            inrs = shift_phases(inrs, layer, half_turns_NH)
        return inrs


@dataclass(frozen=True)
class ScaleReLU(Option):
    """Multiply W_l and b_l of every hidden neuron by c and divide its outgoing weights by it, for ReLU INRs.

    c is log-uniform in [1 / max_factor, max_factor]. Exact, since relu(c z) = c relu(z) for c > 0.
    """

    name: ClassVar[str] = "scale_relu"
    max_factor: float = 2.0

    def __post_init__(self) -> None:
        check_number(self, "max_factor", 1, 1000)

    def __call__(self, inrs: INRBatch, generator: Generator) -> INRBatch:
        if inrs.spec.activation != "relu":
            raise UsageError(f"{self} is exact for ReLU INRs only, got {inrs.spec}; sine INRs have flip and phase")
        shape = (inrs.spec.num_hidden, len(inrs), inrs.spec.hidden_dim)
        power = 2 * torch.rand(shape, generator=generator, device=generator.device, dtype=inrs.dtype) - 1
        for layer, factor_NH in enumerate((power * math.log(self.max_factor)).exp().unbind()):
            inrs = scale_neurons(inrs, layer, factor_NH, 1 / factor_NH)
        return inrs
