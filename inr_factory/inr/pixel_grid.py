"""The pixel grid: where the pixels of an image lie in the coordinates of INRs."""

from functools import lru_cache

import torch
from torch import Tensor


@lru_cache(maxsize=64)
def pixel_grid(height: int, width: int) -> Tensor:
    """Return pixel positions, (height * width, 2) as (x, y), row by row from the top left; the corners lie at ±1.

    Both axes are linspace(-1, 1), as Navon et al. (2023) place them; a single pixel lies at 0. Calls with the same size
    return the same tensor: do not write into it.

    Args:
        height: number of rows, at least 1.
        width: number of columns, at least 1.
    """
    y, x = (torch.linspace(-1, 1, side) if side > 1 else torch.zeros(1) for side in (height, width))
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).reshape(-1, 2)
