"""Classifier metrics: accuracy, confusion and calibration of predictions.

Shape letters: N INRs, C classes.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

SMALL_SPLIT = 1000
"""Objects of a split below which accuracies are shown with their standard errors, of up to 1.6 points at this size."""


@dataclass(frozen=True)
class EvaluationReport:
    """Metrics of a classifier over a number of INRs, as plain values.

    Attributes:
        accuracy: Share of INRs whose class is predicted, in [0, 1].
        loss: Mean cross-entropy.
        count: N, the number of INRs.
        per_class_accuracy: C shares, None for a class without INRs.
        confusion: C rows of C counts; rows are true classes, columns predicted ones.
        calibration: (mean confidence, accuracy, count) of each bin of confidence that is not empty.
        calibration_error: Expected calibration error, in [0, 1].
        classes: Names of the classes; empty where only a model was evaluated.
        split: The split that was evaluated, or empty.
        dataset: Name of the data set, or empty.
        objects: How many objects the INRs show; 0 where only a model was evaluated.
        object_accuracy: Share of objects whose class has the highest probability on average over their views, in [0, 1];
            None where each object has one view.
        incomplete: Shards of the split and views that are missing.
    """

    accuracy: float
    loss: float
    count: int
    per_class_accuracy: list[float | None]
    confusion: list[list[int]]
    calibration: list[tuple[float, float, int]]
    calibration_error: float
    classes: tuple[str, ...] = ()
    split: str = ""
    dataset: str = ""
    objects: int = 0
    object_accuracy: float | None = None
    incomplete: int = 0

    @property
    def standard_error(self) -> float:
        """Of the accuracy, as a share: sqrt(p (1 - p) / objects), at most, since views of an object may err together."""
        return self._error_of(self.accuracy)

    @property
    def percent(self) -> str:
        """The accuracy as text, with its standard error where there are fewer than SMALL_SPLIT objects."""
        return self._percent_of(self.accuracy)

    @property
    def headline(self) -> str:
        """The accuracy in words."""
        return f"accuracy {self.percent}"

    @property
    def score(self) -> float:
        """The figure by which runs are compared: the accuracy."""
        return self.accuracy

    @property
    def object_percent(self) -> str:
        """The accuracy of objects as text, as `percent`; empty where each object has one view."""
        return "" if self.object_accuracy is None else self._percent_of(self.object_accuracy)

    def _error_of(self, accuracy: float) -> float:
        return math.sqrt(accuracy * (1 - accuracy) / (self.objects or self.count))

    def _percent_of(self, accuracy: float) -> str:
        small = (self.objects or self.count) < SMALL_SPLIT
        return f"{accuracy:.2%}" + (f" ± {100 * self._error_of(accuracy):.1f} points" if small else "")

    def metrics(self) -> dict[str, Any]:
        """The metrics by name, without classes, split and data set: what `--json` prints."""
        context = ("classes", "split", "dataset", *(["object_accuracy"] if self.object_accuracy is None else []))
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name not in context}

    def most_confused(self) -> list[Mapping[str, Any]]:
        """Per class: name, count, accuracy, and the class it is most often mistaken for with that count, or None."""
        rows: list[Mapping[str, Any]] = []
        for number, (name, share) in enumerate(zip(self.classes, self.per_class_accuracy, strict=True)):
            counts = self.confusion[number]
            wrong = [(count, -other) for other, count in enumerate(counts) if other != number and count]
            mistaken = (self.classes[-max(wrong)[1]], max(wrong)[0]) if wrong else None
            rows.append({"class": name, "count": sum(counts), "accuracy": share, "mistaken_for": mistaken})
        return rows


def mean_per_object(probabilities: Tensor, objects_N: NDArray[Any]) -> tuple[Tensor, NDArray[np.int64]]:
    """Mean of the probabilities (N, C) of each object's INRs, (M, C), and the row (M,) of its first one, in their order."""
    _, first, number = np.unique(objects_N, return_index=True, return_inverse=True)
    order = first.argsort()
    place = torch.from_numpy(order.argsort()[number]).to(probabilities.device)
    sums = probabilities.new_zeros(len(first), probabilities.shape[1]).index_add_(0, place, probabilities)
    return sums / torch.bincount(place)[:, None], first[order]


def confusion_matrix(predicted: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """(C, C) counts, rows the true class and columns the predicted one, of predicted and labels (N,)."""
    return torch.bincount(labels * num_classes + predicted, minlength=num_classes**2).view(num_classes, num_classes)


def calibration(probabilities: Tensor, labels: Tensor, num_bins: int = 10) -> list[tuple[float, float, int]]:
    """(mean confidence, accuracy, count) of the predictions in each of num_bins equal bins of confidence, empty bins
    left out, of probabilities (N, C) and labels (N,). Guo et al., ICML 2017."""
    confidence, predicted = probabilities.max(dim=1)
    correct = (predicted == labels).double()
    bin_of = (confidence * num_bins).long().clamp(max=num_bins - 1)
    rows = []
    for number in sorted(set(bin_of.tolist())):
        inside = bin_of == number
        rows.append((float(confidence[inside].double().mean()), float(correct[inside].mean()), int(inside.sum())))
    return rows


def calibration_error(bins: list[tuple[float, float, int]]) -> float:
    """Expected calibration error: the mean distance of confidence from accuracy over all predictions."""
    total = sum(count for _, _, count in bins)
    return sum(count * abs(confidence - correct) for confidence, correct, count in bins) / total
