"""Metrics: against known values and scikit-learn."""

import math

import pytest
import torch
from sklearn import metrics as yardstick

from inr_factory.inr.metrics import accuracy, calibration, calibration_error, confusion_matrix, psnr


def test_psnr_follows_its_formula():
    assert float(psnr(torch.tensor(0.01))) == pytest.approx(20.0, abs=1e-4)
    assert float(psnr(torch.tensor(1.0))) == pytest.approx(0.0, abs=1e-6)
    assert float(psnr(torch.tensor(0.01), peak=2.0)) == pytest.approx(20 + 20 * math.log10(2), abs=1e-4)
    assert float(psnr(torch.tensor(0.0))) == math.inf


def test_psnr_takes_a_peak_for_each():
    values = psnr(torch.full((3,), 0.01, dtype=torch.float64), torch.tensor([1, 2, 10]))

    assert values.dtype == torch.float64
    torch.testing.assert_close(values, torch.tensor([20.0, 26.0206, 40.0], dtype=torch.float64), atol=1e-4, rtol=0)


def test_accuracy_is_the_share_of_rows_that_are_right(generator):
    logits = torch.randn(50, 4, generator=generator)
    labels = torch.randint(4, (50,), generator=generator)

    assert accuracy(logits, labels) == pytest.approx(yardstick.accuracy_score(labels, logits.argmax(1)))
    assert accuracy(logits, logits.argmax(1)) == 1
    assert accuracy(logits, logits.argmin(1)) == 0


def test_the_confusion_matrix_is_that_of_scikit_learn(generator):
    predicted, labels = torch.randint(4, (2, 60), generator=generator)

    matrix = confusion_matrix(predicted, labels, num_classes=5)

    assert matrix.tolist() == yardstick.confusion_matrix(labels, predicted, labels=range(5)).tolist()
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
