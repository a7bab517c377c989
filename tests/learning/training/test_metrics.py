"""Classifier metrics: against known values and scikit-learn."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn import metrics as sklearn_metrics

from inr_factory.learning.training.metrics import (
    EvaluationReport,
    calibration,
    calibration_error,
    confusion_matrix,
    mean_per_object,
)


def test_the_confusion_matrix_is_that_of_scikit_learn(generator):
    predicted, labels = torch.randint(4, (2, 60), generator=generator)

    matrix = confusion_matrix(predicted, labels, num_classes=5)

    assert matrix.tolist() == sklearn_metrics.confusion_matrix(labels, predicted, labels=range(5)).tolist()
    assert matrix.tolist() != matrix.T.tolist(), "this example would not show rows and columns swapped"
    assert int(matrix[4].sum()) == 0, "a class that never came has a row too"


def test_calibration_pairs_confidence_with_accuracy():
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


def test_a_report_names_the_class_that_each_is_mistaken_for_most():
    report = EvaluationReport(
        0.5, 1.0, 8, [0.5, 1.0, None], [[2, 1, 1], [0, 4, 0], [0, 0, 0]], [], 0.0, classes=("a", "b", "c")
    )

    assert [row["mistaken_for"] for row in report.most_confused()] == [("b", 1), None, None]
    assert [row["count"] for row in report.most_confused()] == [4, 4, 0]
    assert list(report.metrics()) == [
        "accuracy", "loss", "count", "per_class_accuracy", "confusion", "calibration", "calibration_error",
        "objects", "incomplete",
    ]  # fmt: skip
    assert replace(report, object_accuracy=0.75).metrics()["object_accuracy"] == 0.75


def test_probabilities_are_averaged_over_the_views_of_each_object_in_the_order_of_objects() -> None:
    probabilities = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.0, 1.0], [0.3, 0.7]])

    means, first = mean_per_object(probabilities, np.array(["b", "a", "b", "c", "b"], dtype=object))

    assert first.tolist() == [0, 1, 3]
    torch.testing.assert_close(means, torch.tensor([[1.6 / 3, 1.4 / 3], [0.2, 0.8], [0.0, 1.0]]))


def test_accuracies_of_small_splits_are_shown_with_their_standard_error() -> None:
    report = EvaluationReport(0.9, 0.1, 100, [0.9], [[100]], [], 0.0)
    assert report.standard_error == pytest.approx(0.03)
    assert report.percent == "90.00% ± 3.0 points"
    assert replace(report, count=10_000).percent == "90.00%"
    assert report.object_percent == ""
    assert replace(report, objects=50, object_accuracy=0.5).object_percent == "50.00% ± 7.1 points"
