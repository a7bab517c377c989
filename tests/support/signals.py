"""Small signals for tests of fitting."""

import torch

from inr_factory.generation.signals import Signal


def cloud(count, in_dim, seed=0):
    return 2 * torch.rand(count, in_dim, generator=torch.Generator().manual_seed(seed)) - 1


def smooth(coords, out_dim=1, shift=0.0):
    """Values in [0.1, 0.9] that change slowly."""
    values = [
        0.5 + 0.4 * torch.sin(2 * coords.sum(dim=1) + out + shift) * torch.cos(coords[:, 0] - out)
        for out in range(out_dim)
    ]
    return Signal(coords, torch.stack(values, dim=1))
