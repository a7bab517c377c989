"""Convolutions: what encoders that read a regular grid share.

Shape letters: N INRs, R points of an axis of the grid, I inputs of an INR, C channels.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from inr_factory.errors import UsageError, shorten

STAGES = {
    1: (nn.Conv1d, nn.BatchNorm1d, nn.MaxPool1d),
    2: (nn.Conv2d, nn.BatchNorm2d, nn.MaxPool2d),
    3: (nn.Conv3d, nn.BatchNorm3d, nn.MaxPool3d),
}
"""By the inputs of an INR."""
LEAST_RESOLUTION, MOST_POINTS = 4, 2**22


def regular_grid(option: str, resolution: int, in_dim: int) -> Tensor:
    """Coordinates (R^I, I) of a grid over [-1, 1]^I, ends included; x varies fastest.

    Raises UsageError, which names the option that says R, unless R is a whole number of at least 4 and the grid has at
    most 2^22 points.
    """
    if type(resolution) is not int or resolution < LEAST_RESOLUTION or resolution**in_dim > MOST_POINTS:
        raise UsageError(
            f"{option} must be a whole number of at least {LEAST_RESOLUTION}, with at most {MOST_POINTS:,} points in all, "
            f"got {shorten(resolution)}"
        )
    axis = torch.linspace(-1, 1, resolution)
    return torch.stack(torch.meshgrid([axis] * in_dim, indexing="ij")[::-1], dim=-1).flatten(0, -2)


def convolution_stages(in_dim: int, channels: int, hidden_dim: int) -> nn.Sequential:
    """Three stages of convolution, batch norm, GELU and pooling: the grid is halved twice and has hidden_dim, 2 and 4
    times hidden_dim channels."""
    convolution, norm, pool = STAGES[in_dim]
    parts: list[nn.Module] = []
    for before, after in pairwise((channels, hidden_dim, 2 * hidden_dim, 4 * hidden_dim)):
        parts += [convolution(before, after, 3, padding=1, bias=False), norm(after), nn.GELU(), pool(2)]
    return nn.Sequential(*parts[:-1])


def read_grid(stages: nn.Sequential, values: Tensor, resolution: int, in_dim: int) -> Tensor:
    """Values (N, C, R^I) through the stages -> (N, 8 * hidden_dim): means and maxima over the last grid."""
    maps = stages(values.reshape(*values.shape[:2], *[resolution] * in_dim)).flatten(2)
    return torch.cat([maps.mean(-1), maps.amax(-1)], dim=1)
