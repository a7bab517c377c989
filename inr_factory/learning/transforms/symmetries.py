"""Symmetries: transforms that change the weights of INRs and not their functions.

Shape letters: N INRs, H hidden neurons of a layer, L hidden layers.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from inr_factory.errors import UsageError
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.spec import Activation, SirenSpec
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


ACTIVATIONS: Mapping[str, tuple[Activation, ...]] = {
    "signs": ("sine", "tanh", "finer", "gauss"),
    "phases": ("sine",),
    "scales": ("relu",),
}
"""The activations of which a symmetry is exact, besides the order of neurons, which is exact for all."""


def require_symmetry(symmetry: str, operation: object, spec: SirenSpec) -> None:
    """Raise UsageError unless the INRs have a symmetry, one of ACTIVATIONS."""
    exact = ACTIVATIONS[symmetry]
    if spec.activation not in exact:
        has = ["permutations", *(name for name, those in ACTIVATIONS.items() if spec.activation in those)]
        raise UsageError(
            f"{operation} is exact for {', '.join(exact)} INRs only, got {spec}; their symmetries are {' and '.join(has)}"
        )


def outgoing_signs(spec: SirenSpec, sign: Tensor) -> Tensor | None:
    """What outgoing weights of negated neurons are multiplied by: the sign, since -f(-z) = f(z); of gauss, f(-z) = f(z),
    None."""
    return sign if spec.is_odd else None


@dataclass(frozen=True, kw_only=True)
class PermuteNeurons(RandomTransform):
    """Reorder the neurons of every hidden layer at random: a uniform permutation for each INR and layer. Exact."""

    name: ClassVar[str] = "permute"

    def apply(self, inrs: INRBatch, generator: Generator) -> INRBatch:
        order_LNH = random_permutations(_shape(inrs), generator)
        for order_NH, width in zip(order_LNH, inrs.spec.hidden_dims, strict=True):
            if width < inrs.spec.hidden_dim:
                order_NH[:, :width] = random_permutations((len(inrs), width), generator)
        return neuron_ops.change_neurons(inrs, order_LNH=order_LNH)


@dataclass(frozen=True, kw_only=True)
class FlipSigns(RandomTransform):
    """Negate W_l and b_l of random hidden neurons, and their outgoing weights where the activation f is odd.

    Exact: -f(-z) = f(z) of sine, tanh and FINER, f(-z) = f(z) of Gaussians, whose outgoing weights stay. Refuses ReLU.

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
        require_symmetry("signs", self, inrs.spec)
        shape = _shape(inrs)
        unit = torch.rand(shape, generator=generator, device=generator.device)
        sign_LNH = torch.ones(shape, device=inrs.device, dtype=inrs.dtype).copysign_(unit.sub_(self.probability))
        return neuron_ops.change_neurons(inrs, incoming_LNH=sign_LNH, outgoing_LNH=outgoing_signs(inrs.spec, sign_LNH))


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
        require_symmetry("phases", self, inrs.spec)
        k = torch.randint(-self.max_k, self.max_k + 1, _shape(inrs), generator=generator, device=generator.device)
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
        require_symmetry("scales", self, inrs.spec)
        power = 2 * torch.rand(_shape(inrs), generator=generator, device=generator.device, dtype=inrs.dtype) - 1
        factor_LNH = (power * math.log(self.max_factor)).exp()
        return neuron_ops.change_neurons(inrs, incoming_LNH=factor_LNH, outgoing_LNH=1 / factor_LNH)


def _shape(inrs: INRBatch) -> tuple[int, int, int]:
    """(L, N, H), H the largest width."""
    return inrs.spec.num_hidden, len(inrs), inrs.spec.hidden_dim
