"""Metrics of classifiers, against known values and scikit-learn."""

import pytest
import torch
from sklearn import metrics as baseline

from inr_factory.learning.training.metrics import calibration, calibration_error, confusion_matrix


def test_the_confusion_matrix_is_that_of_scikit_learn(generator):
    predicted, labels = torch.randint(4, (2, 60), generator=generator)

    matrix = confusion_matrix(predicted, labels, num_classes=5)

    assert matrix.tolist() == baseline.confusion_matrix(labels, predicted, labels=range(5)).tolist()
    assert matrix.tolist() != matrix.T.tolist(), "this example would not show rows and columns swapped"
    assert int(matrix[4].sum()) == 0, "a class that never came has a row too"


def test_calibration_sets_confidence_beside_accuracy():
    probabilities = torch.tensor([[0.95, 0.05], [0.93, 0.07], [0.36, 0.64], [0.5, 0.5]])
    labels = torch.tensor([0, 1, 1, 0])

    bins = calibration(probabilities, labels)

    assert [count for *_, count in bins] == [1, 1, 2]
    assert bins[-1] == (pytest.approx(0.94), 0.5, 2)
    assert calibration_error(bins) == pytest.approx((0.5 + 0.36 + 2 * 0.44) / 4)


def test_perfect_confidence_lies_in_the_last_bin():
    bins = calibration(torch.eye(3), torch.arange(3))

    assert bins == [(1.0, 1.0, 3)]
    assert calibration_error(bins) == 0
