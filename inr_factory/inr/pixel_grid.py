"""The pixel grid: where the pixels of an image lie in the coordinates of INRs."""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from inr_factory.errors import UsageError, shorten


def pixel_grid(height: int, width: int) -> Tensor:
    """Coordinates of the pixels of an image: linspace(-1, 1) on both axes, as in Navon et al. (2023).

    Args:
        height: Number of rows, at least 1.
        width: Number of columns, at least 1.

    Returns:
        (height * width, 2) as (x, y), row by row from the top left. The corners are at ±1; an axis of one pixel is at
        0. Calls with the same size return the same tensor: do not write into it.

    Raises:
        UsageError: A size is no whole number of at least 1.
    """
    if not all(isinstance(side, int | np.integer) and side >= 1 for side in (height, width)):
        got = f"{shorten(height)} and {shorten(width)}"
        raise UsageError(f"height and width must be whole numbers of at least 1, got {got}")
    return _grid(height, width)


@lru_cache(maxsize=64)
def _grid(height: int, width: int) -> Tensor:
    y, x = (torch.linspace(-1, 1, side) if side > 1 else torch.zeros(1) for side in (height, width))
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).reshape(-1, 2)
