"""Symmetries: other weights, the same function. Exact transforms of INRs and the moves that they are made of.

Shape letters: N INRs, H hidden neurons of a layer, L hidden layers, O outputs and I inputs of a layer.
"""

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Generator, Tensor

from inr_factory.errors import UsageError
from inr_factory.inr.batch import INRBatch
from inr_factory.learning.option_strings import Option, check_number, check_whole
from inr_factory.learning.transforms import neuron_ops as moves


def permute_neurons(inrs: INRBatch, layer: int, permutation_NH: Tensor) -> INRBatch:
    """Reorder the neurons of one hidden layer: neuron j becomes the one that was at permutation[:, j].

    permutation is (N, H) of whole numbers. Rows of W_l and b_l and columns of W_{l+1} move; values do not change.
    """
    weights, biases = list(inrs.weights), list(inrs.biases)
    weights[layer] = _pick_rows(weights[layer], permutation_NH)
    biases[layer] = biases[layer].gather(1, permutation_NH)
    weights[layer + 1] = _pick_columns(weights[layer + 1], permutation_NH)
    return replace(inrs, weights=tuple(weights), biases=tuple(biases))


def permute_layers(inrs: INRBatch, permutations_LNH: Tensor) -> INRBatch:
    """Reorder the neurons of all hidden layers, each as `permute_neurons` does, with one move of each weight."""
    if moves.usable(inrs):
        return moves.move_neurons(inrs, order_LNH=permutations_LNH)
    first, *inner, last = inrs.weights
    columns, rows = permutations_LNH[:-1], permutations_LNH[1:]
    weights = (
        _pick_rows(first, permutations_LNH[0]),
        *[_pick_entries(W, here, there) for W, here, there in zip(inner, rows, columns, strict=True)],
        _pick_columns(last, permutations_LNH[-1]),
    )
    moved = [b.gather(1, permutation) for b, permutation in zip(inrs.biases[:-1], permutations_LNH, strict=True)]
    return replace(inrs, weights=weights, biases=(*moved, inrs.biases[-1]))


def _pick_rows(weight_NOI: Tensor, rows_NO: Tensor) -> Tensor:
    count, outputs, inputs = weight_NOI.shape
    if inputs == 2 and weight_NOI.dtype in (torch.float32, torch.float64):
        # Rows of two numbers move twice as fast as complex ones, which need their own, even strides.
        pairs = torch.view_as_complex(weight_NOI.clone(memory_format=torch.contiguous_format))
        return torch.view_as_real(pairs.gather(1, rows_NO))
    start_N1 = torch.arange(0, count * outputs, outputs, device=weight_NOI.device)[:, None]
    rows = (rows_NO + start_N1).flatten()
    return weight_NOI.reshape(-1, inputs).index_select(0, rows).view(count, outputs, inputs)


def _pick_columns(weight_NOI: Tensor, columns_NI: Tensor) -> Tensor:
    return weight_NOI.gather(2, columns_NI[:, None, :].expand_as(weight_NOI))


def _pick_entries(weight_NOI: Tensor, rows_NO: Tensor, columns_NI: Tensor) -> Tensor:
    """Entry (i, j) becomes the one at (rows[i], columns[j]): one look-up an entry, which is what a CPU is slow at."""
    count, outputs, inputs = weight_NOI.shape
    if weight_NOI.stride()[1:] != (inputs, 1):
        weight_NOI = weight_NOI.contiguous()
    # All that lies between the first and the last entry, without copying views into flat weights.
    step = weight_NOI.stride(0)
    line = weight_NOI.as_strided(((count - 1) * step + outputs * inputs if count else 0,), (1,))
    dtype = torch.int32 if len(line) < 2**31 else torch.int64
    start_N1 = step * torch.arange(count, device=line.device, dtype=dtype)[:, None]
    rows = rows_NO.to(dtype) * inputs + start_N1
    entries = rows[:, :, None] + columns_NI.to(dtype)[:, None, :]
    return line.index_select(0, entries.view(-1)).view(count, outputs, inputs)


def scale_neurons(inrs: INRBatch, layer: int, incoming_NH: Tensor, outgoing_NH: Tensor) -> INRBatch:
    """Multiply W_l and b_l of each neuron of one hidden layer by incoming, its column of W_{l+1} by outgoing."""
    weights, biases = list(inrs.weights), list(inrs.biases)
    weights[layer] = weights[layer] * incoming_NH[:, :, None]
    biases[layer] = biases[layer] * incoming_NH
    weights[layer + 1] = weights[layer + 1] * outgoing_NH[:, None, :]
    return replace(inrs, weights=tuple(weights), biases=tuple(biases))


def scale_layers(inrs: INRBatch, incoming_LNH: Tensor, outgoing_LNH: Tensor) -> INRBatch:
    """Multiply the neurons of all hidden layers, each as `scale_neurons` does."""
    if moves.usable(inrs):
        return moves.move_neurons(inrs, incoming_LNH=incoming_LNH, outgoing_LNH=outgoing_LNH)
    weights, biases = list(inrs.weights), list(inrs.biases)
    for layer, factor_NH in enumerate(incoming_LNH):
        weights[layer] = weights[layer] * factor_NH[:, :, None]
        biases[layer] = biases[layer] * factor_NH
    for layer, factor_NH in enumerate(outgoing_LNH[:-1], 1):
        weights[layer].mul_(factor_NH[:, None, :])  # a new tensor already
    weights[-1] = weights[-1] * outgoing_LNH[-1][:, None, :]
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


def random_orders(shape: tuple[int, ...], generator: Generator) -> Tensor:
    """(..., H): independent uniform permutations of H places.

    Random numbers that carry their place in their last bits are sorted, which is several times as fast as an
    argsort; at least 24 random bits stand before the place.
    """
    place_bits = (shape[-1] - 1).bit_length()
    dtype = torch.int32 if place_bits <= 7 else torch.int64
    count, place_mask = math.prod(shape), 2**place_bits - 1
    words = torch.empty(-(-count * dtype.itemsize // 8), dtype=torch.int64, device=generator.device)
    keys = words.random_(generator=generator).view(dtype)[:count].view(shape)
    # Without the sign, which is random in every second 32 bits only.
    keys.bitwise_and_(torch.iinfo(dtype).max - place_mask)
    keys.bitwise_or_(torch.arange(shape[-1], device=keys.device, dtype=dtype))
    if keys.device.type == "cpu":
        keys.numpy().sort(axis=-1)  # three times as fast as torch
    else:
        keys = keys.sort(dim=-1).values
    return keys.bitwise_and_(place_mask).long()


def parity(half_turns: Tensor) -> Tensor:
    """(-1)^k for whole numbers k of either sign, which are floats. Tensor.remainder takes twice as long."""
    return 1 - 2 * (half_turns - 2 * (half_turns / 2).floor())


def require_sine(asked: object, inrs: INRBatch) -> None:
    """Raise UsageError unless the hidden layers are sines."""
    if inrs.spec.activation != "sine":
        raise UsageError(f"{asked} is exact for sine INRs only, got {inrs.spec}")


@dataclass(frozen=True)
class PermuteNeurons(Option):
    """Put the neurons of every hidden layer in a random order, one uniform permutation an INR and layer."""

    name: ClassVar[str] = "permute"

    def __call__(self, inrs: INRBatch, generator: Generator) -> INRBatch:
        shape = (inrs.spec.num_hidden, len(inrs), inrs.spec.hidden_dim)
        return permute_layers(inrs, random_orders(shape, generator))


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
        unit = torch.rand(shape, generator=generator, device=generator.device)
        sign_LNH = torch.ones(shape, device=inrs.device, dtype=inrs.dtype).copysign_(unit.sub_(self.probability))
        return scale_layers(inrs, sign_LNH, sign_LNH)


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
        half_turns_LNH = k.to(inrs.dtype)
        if moves.usable(inrs):
            shift_LNH = half_turns_LNH * (math.pi / inrs.spec.omega_0)
            return moves.move_neurons(inrs, outgoing_LNH=parity(half_turns_LNH), shift_LNH=shift_LNH)
        for layer, half_turns_NH in enumerate(half_turns_LNH):
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
        factor_LNH = (power * math.log(self.max_factor)).exp()
        return scale_layers(inrs, factor_LNH, 1 / factor_LNH)
