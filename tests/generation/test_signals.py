"""Signals: where pixels lie, and what is no signal."""

import numpy as np
import pytest
import torch

from inr_factory.errors import UsageError
from inr_factory.generation.signals import Signal, SignalError
from inr_factory.inr.pixel_grid import pixel_grid


def test_the_grid_goes_row_by_row_from_the_top_left():
    grid = pixel_grid(2, 3)

    assert grid.tolist() == [[-1, -1], [0, -1], [1, -1], [-1, 1], [0, 1], [1, 1]]


@pytest.mark.parametrize(("height", "width"), [(2, 2), (3, 5), (7, 2)])
def test_the_corners_lie_at_one(height, width):
    grid = pixel_grid(height, width).view(height, width, 2)

    corners = [grid[row, column].tolist() for row in (0, -1) for column in (0, -1)]

    assert corners == [[-1, -1], [1, -1], [-1, 1], [1, 1]]
    assert float(grid.abs().max()) == 1


def test_a_signal_holds_what_it_was_given():
    signal = Signal(pixel_grid(2, 2), torch.zeros(4, 3), peak=2.0, facts={"height": 2})

    assert signal.coords is pixel_grid(2, 2)
    assert signal.facts == {"height": 2}


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("place", ["coords", "targets"])
def test_a_signal_with_a_value_that_is_no_number_is_refused(place, bad):
    fields = {"coords": pixel_grid(2, 2).clone(), "targets": torch.zeros(4, 1)}
    Signal(**fields)

    fields[place][3, 0] = bad
    with pytest.raises(SignalError, match="NaN or infinite"):
        Signal(**fields)


@pytest.mark.parametrize(
    ("coords", "targets", "message"),
    [
        ((4, 2), (3, 1), r"\(4, 2\) and targets \(3, 1\) do not pair up"),
        ((4, 2), (4,), "do not pair up"),
        ((8,), (8, 1), "do not pair up"),
        ((1, 4, 2), (1, 4, 1), "do not pair up"),
        ((0, 2), (0, 1), "no points"),
    ],
)
def test_coords_and_targets_that_do_not_pair_up_are_no_signal(coords, targets, message):
    with pytest.raises(SignalError, match=message):
        Signal(torch.zeros(coords), torch.zeros(targets))


def test_a_signal_of_numpy_arrays_holds_tensors():
    signal = Signal(np.zeros((4, 2)), np.ones((4, 1), dtype=np.uint8))

    assert (signal.coords.dtype, signal.targets.dtype) == (torch.float32, torch.float32)
    assert signal.targets.tolist() == [[1.0]] * 4
    with pytest.raises(UsageError, match="targets must be an array of numbers, got list"):
        Signal(np.zeros((1, 2)), ["a"])
