"""The pixel grid: x is the column, y the row, and corners lie at ±1."""

import pytest
import torch

from inr_factory.errors import UsageError
from inr_factory.inr.pixel_grid import pixel_grid


def test_x_is_the_column_and_y_the_row():
    image = torch.arange(12.0).view(3, 4)
    x, y = pixel_grid(3, 4).unbind(dim=1)

    assert image.flatten()[x == 1].tolist() == [3, 7, 11], "the right column"
    assert image.flatten()[y == -1].tolist() == [0, 1, 2, 3], "the top row"
    turned = torch.nn.functional.grid_sample(image[None, None], pixel_grid(3, 4).view(1, 3, 4, 2), align_corners=True)
    torch.testing.assert_close(turned[0, 0], image)


def test_steps_of_the_grid_are_even():
    grid = pixel_grid(5, 9).view(5, 9, 2)

    torch.testing.assert_close(grid[:, 1:, 0] - grid[:, :-1, 0], torch.full((5, 8), 0.25))
    torch.testing.assert_close(grid[1:, :, 1] - grid[:-1, :, 1], torch.full((4, 9), 0.5))


def test_one_pixel_lies_in_the_middle():
    assert pixel_grid(1, 1).tolist() == [[0, 0]]
    assert pixel_grid(1, 3).tolist() == [[-1, 0], [0, 0], [1, 0]]
    assert pixel_grid(3, 1).tolist() == [[0, -1], [0, 0], [0, 1]]


def test_images_of_one_size_share_their_grid():
    assert pixel_grid(6, 4) is pixel_grid(6, 4)
    assert pixel_grid(6, 4) is not pixel_grid(4, 6)


@pytest.mark.parametrize("size", [(0, 3), (3, -1), (2.5, 2), ("3", 3)])
def test_a_grid_of_no_whole_size_is_refused_in_one_line(size):
    with pytest.raises(UsageError, match="whole numbers of at least 1, got"):
        pixel_grid(*size)
