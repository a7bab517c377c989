"""Targets: one-hot labels, and how they are smoothed."""

import pytest
import torch

from inr_factory.errors import UsageError
from inr_factory.learning.targets import one_hot, smooth_labels


def test_one_hot_targets_have_their_one_at_the_label():
    targets = one_hot(torch.tensor([2, 0]), 3)

    assert torch.equal(targets, torch.tensor([[0.0, 0, 1], [1, 0, 0]]))


def test_smoothed_labels_sum_to_one_and_keep_their_class():
    targets = torch.eye(4)[[2, 0, 3]]

    smooth = smooth_labels(targets, 0.2)

    torch.testing.assert_close(smooth.sum(dim=1), torch.ones(3))
    torch.testing.assert_close(smooth[0], torch.tensor([0.05, 0.05, 0.85, 0.05]))
    assert torch.equal(targets, torch.eye(4)[[2, 0, 3]])


@pytest.mark.parametrize(
    "refused",
    [
        lambda: smooth_labels(torch.eye(3), 1.5),
        lambda: smooth_labels(torch.tensor([1, 2])),
        lambda: smooth_labels(torch.ones(2, 3, dtype=torch.long)),
    ],
)
def test_values_outside_their_range_are_refused(refused):
    with pytest.raises(UsageError):
        refused()
