"""Random transforms: how all transforms are called, and the numbers that they draw.

Shape letters: N INRs, I coordinates, O values.
"""

import torch
from torch import Generator, Tensor

from inr_factory.inr.batch import INRBatch
from inr_factory.learning.option_strings import Option
from inr_factory.learning.transforms.call_arguments import default_generator


class RandomTransform(Option):
    """A transform of INRs: frozen settings, called with a batch. A subclass defines `apply`."""

    def __call__(self, inrs: INRBatch, generator: Generator | None = None) -> INRBatch:
        """Transform each INR by random numbers of its own.

        Args:
            inrs: N INRs; they stay as they are.
            generator: Where all random numbers come from, on the INRs' device; else a new generator with a seed of
                the operating system, so that every call draws other numbers.

        Returns:
            N new INRs of the same spec.

        Raises:
            UsageError: For anything but an INRBatch, INRs that the transform is not made for, or a generator on
                another device.
        """
        return self.apply(inrs, default_generator(inrs, generator, self.name))

    def apply(self, inrs: INRBatch, generator: Generator) -> INRBatch:
        """The new INRs, with all randomness from this generator."""
        raise NotImplementedError


class AffineTransform(RandomTransform):
    """A random affine change. Whoever needs to undo it calls `draw` and `change` separately."""

    def draw(self, inrs: INRBatch, generator: Generator) -> tuple[Tensor, Tensor]:
        """matrix (N, K, K) and offset (N, K), an independent draw for every INR; K is I or O."""
        raise NotImplementedError

    def apply(self, inrs: INRBatch, generator: Generator) -> INRBatch:
        return self.change(inrs, *self.draw(inrs, generator))

    def change(self, inrs: INRBatch, matrix_NKK: Tensor, offset_NK: Tensor) -> INRBatch:
        """The INRs with this change applied."""
        raise NotImplementedError


def uniform(inrs: INRBatch, generator: Generator, size: int, low: float, high: float) -> Tensor:
    """(N, size), uniform in [low, high)."""
    unit = torch.rand(len(inrs), size, generator=generator, device=generator.device, dtype=inrs.dtype)
    return low + (high - low) * unit


def random_sign(inrs: INRBatch, generator: Generator, probability: float) -> Tensor:
    """(N, 1): -1 with `probability`, else 1."""
    return 1 - 2 * (uniform(inrs, generator, 1, 0, 1) < probability).to(inrs.dtype)


def identity(inrs: INRBatch, size: int) -> Tensor:
    """(N, size, size), free to be written."""
    return torch.eye(size, device=inrs.device, dtype=inrs.dtype).repeat(len(inrs), 1, 1)


def no_offset(inrs: INRBatch, size: int) -> Tensor:
    """(N, size) zeros."""
    return torch.zeros(len(inrs), size, device=inrs.device, dtype=inrs.dtype)


def replace_rows(inrs: INRBatch, rows: Tensor, changed: INRBatch) -> INRBatch:
    """The INRs with those at rows (K,) replaced by K others."""
    if len(rows) == len(inrs):
        return changed
    weights = tuple(old.index_copy(0, rows, new) for old, new in zip(inrs.weights, changed.weights, strict=True))
    biases = tuple(old.index_copy(0, rows, new) for old, new in zip(inrs.biases, changed.biases, strict=True))
    return INRBatch(inrs.spec, weights, biases)
