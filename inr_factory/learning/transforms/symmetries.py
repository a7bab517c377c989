"""Symmetries: transforms that change the weights of INRs and not their functions.

Shape letters: N INRs, H hidden neurons of a layer, L hidden layers.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from inr_factory.errors import UsageError
from inr_factory.inr.batch import INRBatch
from inr_factory.learning.option_strings import check_integer, check_number
from inr_factory.learning.transforms import neuron_ops
from inr_factory.learning.transforms.random_transform import RandomTransform


def random_permutations(shape: tuple[int, ...], generator: Generator) -> Tensor:
    """(..., H): independent uniform permutations of H positions.

    Random numbers that carry their position in their last bits are sorted, which is several times as fast as an
    argsort; at least 24 random bits stand before the position.
    """
    position_bits = (shape[-1] - 1).bit_length()
    dtype = torch.int32 if position_bits <= 7 else torch.int64
    count, position_mask = math.prod(shape), 2**position_bits - 1
    words = torch.empty(-(-count * dtype.itemsize // 8), dtype=torch.int64, device=generator.device)
    keys = words.random_(generator=generator).view(dtype)[:count].view(shape)
    # Without the sign, which is random in every second 32 bits only.
    keys.bitwise_and_(torch.iinfo(dtype).max - position_mask)
    keys.bitwise_or_(torch.arange(shape[-1], device=keys.device, dtype=dtype))
    if keys.device.type == "cpu":
        keys.numpy().sort(axis=-1)  # three times as fast as torch
    else:
        keys = keys.sort(dim=-1).values
    return keys.bitwise_and_(position_mask).long()


def require_sine(operation: object, inrs: INRBatch) -> None:
    """Raise UsageError unless the hidden layers are sines."""
    if inrs.spec.activation != "sine":
        raise UsageError(f"{operation} is exact for sine INRs only, got {inrs.spec}")


@dataclass(frozen=True, kw_only=True)
class PermuteNeurons(RandomTransform):
    """Reorder the neurons of every hidden layer at random: a uniform permutation for each INR and layer. Exact."""

    name: ClassVar[str] = "permute"

    def apply(self, inrs: INRBatch, generator: Generator) -> INRBatch:
        shape = (inrs.spec.num_hidden, len(inrs), inrs.spec.hidden_dim)
        return neuron_ops.change_neurons(inrs, order_LNH=random_permutations(shape, generator))


@dataclass(frozen=True, kw_only=True)
class FlipSigns(RandomTransform):
    """Negate random hidden neurons of sine INRs. Exact, since sin is odd: -sin(-z) = sin(z).

    Args:
        probability: How likely each neuron is negated, in [0, 1].

    Raises:
        UsageError: For values outside their ranges.
    """

    name: ClassVar[str] = "flip"
    probability: float = 0.5

    def __post_init__(self) -> None:
        check_number(self, "probability", 0, 1)

    def apply(self, inrs: INRBatch, generator: Generator) -> INRBatch:
        require_sine(self, inrs)
        shape = (inrs.spec.num_hidden, len(inrs), inrs.spec.hidden_dim)
        unit = torch.rand(shape, generator=generator, device=generator.device)
        sign_LNH = torch.ones(shape, device=inrs.device, dtype=inrs.dtype).copysign_(unit.sub_(self.probability))
        return neuron_ops.change_neurons(inrs, incoming_LNH=sign_LNH, outgoing_LNH=sign_LNH)


@dataclass(frozen=True, kw_only=True)
class ShiftPhases(RandomTransform):
    """Shift the phase of every hidden neuron of sine INRs by k half turns, k uniform in -max_k..max_k ("SIREN bias").

    Exact: b += k pi / omega_0, outgoing weights times (-1)^k. Published with k in -4..3, which spreads the biases 13-fold
    and costs most of the accuracy (Shamsian et al. 2024); max_k = 1 does not.

    Args:
        max_k: The largest number of half turns, 1 to 64.

    Raises:
        UsageError: For values outside their ranges.
    """

    name: ClassVar[str] = "phase"
    max_k: int = 1

    def __post_init__(self) -> None:
        check_integer(self, "max_k", 1, 64)

    def apply(self, inrs: INRBatch, generator: Generator) -> INRBatch:
        require_sine(self, inrs)
        shape = (inrs.spec.num_hidden, len(inrs), inrs.spec.hidden_dim)
        k = torch.randint(-self.max_k, self.max_k + 1, shape, generator=generator, device=generator.device)
        outgoing, shift = neuron_ops.half_turns(inrs, k.to(inrs.dtype))
        return neuron_ops.change_neurons(inrs, outgoing_LNH=outgoing, shift_LNH=shift)


@dataclass(frozen=True, kw_only=True)
class ScaleReLU(RandomTransform):
    """Multiply W_l and b_l of every hidden neuron of ReLU INRs by c and divide its outgoing weights by it.

    Exact, since relu(c z) = c relu(z) for c > 0.

    Args:
        max_factor: c is log-uniform in [1 / max_factor, max_factor]; 1 to 1000.

    Raises:
        UsageError: For values outside their ranges.
    """

    name: ClassVar[str] = "scale_relu"
    max_factor: float = 2.0

    def __post_init__(self) -> None:
        check_number(self, "max_factor", 1, 1000)

    def apply(self, inrs: INRBatch, generator: Generator) -> INRBatch:
        if inrs.spec.activation != "relu":
            raise UsageError(f"{self} is exact for ReLU INRs only, got {inrs.spec}; sine INRs have flip and phase")
        shape = (inrs.spec.num_hidden, len(inrs), inrs.spec.hidden_dim)
        power = 2 * torch.rand(shape, generator=generator, device=generator.device, dtype=inrs.dtype) - 1
        factor_LNH = (power * math.log(self.max_factor)).exp()
        return neuron_ops.change_neurons(inrs, incoming_LNH=factor_LNH, outgoing_LNH=1 / factor_LNH)
