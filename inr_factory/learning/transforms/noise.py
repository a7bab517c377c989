"""Noise: augmentations that change the function a little.

Shape letters: N INRs, D parameters of one INR.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Generator, Tensor

from inr_factory.inr.batch import INRBatch
from inr_factory.learning.option_strings import check_flag, check_number
from inr_factory.learning.transforms.random_transform import RandomTransform


@dataclass(frozen=True, kw_only=True)
class GaussianNoise(RandomTransform):
    """Add normal noise in proportion to the standard deviation of each layer's weights, and of its biases.

    The deviation is that of each INR, over one layer's weights or biases; that of a single number is 0.

    Args:
        scale: Deviation of the noise over that of the parameters, 0 to 100 (Shamsian et al. 2024 use 0.32).

    Raises:
        UsageError: For values outside their ranges.
    """

    name: ClassVar[str] = "noise"
    scale: float = 0.32

    def __post_init__(self) -> None:
        check_number(self, "scale", 0, 100)

    def apply(self, inrs: INRBatch, generator: Generator) -> INRBatch:
        noise = INRBatch.from_flat(inrs.spec, _normal(inrs, generator))
        return INRBatch(inrs.spec, self._add(inrs.weights, noise.weights), self._add(inrs.biases, noise.biases))

    def _add(self, tensors: tuple[Tensor, ...], noise: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(
            torch.addcmul(tensor, unit, _deviation(tensor), value=self.scale)
            for tensor, unit in zip(tensors, noise, strict=True)
        )


@dataclass(frozen=True, kw_only=True)
class MultiplicativeNoise(RandomTransform):
    """Multiply every parameter by 1 + scale z, z standard normal (as DAMP, Trinh et al. 2024, with 0.1 to 0.25).

    Args:
        scale: 0 to 100.

    Raises:
        UsageError: For values outside their ranges.
    """

    name: ClassVar[str] = "multiplicative_noise"
    scale: float = 0.2

    def __post_init__(self) -> None:
        check_number(self, "scale", 0, 100)

    def apply(self, inrs: INRBatch, generator: Generator) -> INRBatch:
        flat = inrs.flatten()
        return INRBatch.from_flat(inrs.spec, torch.addcmul(flat, flat, _normal(inrs, generator), value=self.scale))


@dataclass(frozen=True, kw_only=True)
class Dropout(RandomTransform):
    """Set random parameters to 0. The others are not rescaled: an INR is no network in training.

    Args:
        probability: How likely each parameter is set to 0, in [0, 1].

    Raises:
        UsageError: For values outside their ranges.
    """

    name: ClassVar[str] = "dropout"
    probability: float = 0.1

    def __post_init__(self) -> None:
        check_number(self, "probability", 0, 1)

    def apply(self, inrs: INRBatch, generator: Generator) -> INRBatch:
        flat = inrs.flatten()
        kept = torch.rand(flat.shape, generator=generator, device=generator.device) >= self.probability
        return INRBatch.from_flat(inrs.spec, flat * kept)


@dataclass(frozen=True, kw_only=True)
class QuantileDropout(RandomTransform):
    """Set the smallest parameters to 0: all |theta| below the q-quantile, q uniform in [0, max_quantile] for each INR.

    Args:
        max_quantile: In [0, 1].
        joint: Take the quantile over all parameters of an INR, as Shamsian et al. (2024), instead of over each layer's.

    Raises:
        UsageError: For values outside their ranges.
    """

    name: ClassVar[str] = "quantile_dropout"
    max_quantile: float = 0.1
    joint: bool = True

    def __post_init__(self) -> None:
        check_number(self, "max_quantile", 0, 1)
        check_flag(self, "joint")

    def apply(self, inrs: INRBatch, generator: Generator) -> INRBatch:
        flat = inrs.flatten()
        quantile = self.max_quantile * torch.rand(len(flat), 1, generator=generator, device=generator.device)
        sizes = [outputs * inputs + outputs for outputs, inputs in inrs.spec.layer_shapes]
        parts = [self._drop(part, quantile) for part in torch.split(flat, [sum(sizes)] if self.joint else sizes, dim=1)]
        return INRBatch.from_flat(inrs.spec, parts[0] if self.joint else torch.cat(parts, dim=1))

    def _drop(self, part: Tensor, quantile_N1: Tensor) -> Tensor:
        """Zero what lies below the quantile, whose linear interpolation ends at the next larger value."""
        last = part.shape[1] - 1
        smallest = _smallest(part.abs(), math.ceil(self.max_quantile * last) + 1)
        rank = (quantile_N1 * last).ceil().long().clamp(max=smallest.shape[1] - 1)
        return torch.where(part.abs() < smallest.gather(1, rank), 0, part)


def _normal(inrs: INRBatch, generator: Generator) -> Tensor:
    """(N, D) standard normal numbers."""
    shape = (len(inrs), inrs.spec.num_parameters)
    return torch.randn(shape, generator=generator, device=generator.device, dtype=inrs.dtype)


def _smallest(magnitudes_ND: Tensor, count: int) -> Tensor:
    """(N, count): the smallest entries of each row in rising order. On a CPU numpy, which lacks bfloat16, takes an eighth
    of torch's time."""
    if magnitudes_ND.device.type != "cpu" or magnitudes_ND.dtype == torch.bfloat16:
        return magnitudes_ND.topk(count, dim=1, largest=False).values
    smallest = np.partition(magnitudes_ND.detach().numpy(), count - 1, axis=1)[:, :count]
    return torch.from_numpy(np.sort(smallest, axis=1))


def _deviation(tensor: Tensor) -> Tensor:
    """Standard deviation of each INR's numbers, of the tensor's rank. Tensor.std takes ten times as long on a CPU."""
    flat = tensor.flatten(1)
    centred = flat - flat.mean(dim=1, keepdim=True)
    deviation: Tensor = torch.linalg.vector_norm(centred, dim=1) / math.sqrt(flat.shape[1])
    return deviation.reshape(-1, *[1] * (tensor.dim() - 1))
