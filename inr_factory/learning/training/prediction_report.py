"""Prediction reports: the predicted classes of INRs, and of objects by all their views, as tables.

Shape letters: N INRs, C classes.
"""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from inr_factory.errors import csv_cell
from inr_factory.learning.training.metrics import mean_per_object
from inr_factory.storage.atomic_files import write_atomically

AVERAGED = -1  # instead of the number of a view


@dataclass(frozen=True)
class PredictionReport:
    """Predictions of a classifier for N INRs.

    Attributes:
        object_ids: N names of the INRs' objects.
        views: Number of each INR's view, (N,) int64; AVERAGED for the average of an object's views.
        true_classes: N names of classes, as the data set labels the objects; empty where it does not.
        labels: Number of the predicted class, (N,) int64.
        probabilities: Probabilities of the classes, (N, C) float32.
        classes: C names of the classes that the classifier knows.
        incomplete: Shards of the split and views that are missing.
    """

    object_ids: tuple[str, ...]
    views: NDArray[np.int64]
    true_classes: tuple[str, ...]
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float32]
    classes: tuple[str, ...]
    incomplete: int = 0

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def accuracy(self) -> float | None:
        """Share of INRs whose class is predicted, in [0, 1], of those whose class is one of `classes`; None of none."""
        known = [number for number, name in enumerate(self.true_classes) if name in self.classes]
        right = [self.true_classes[number] == self.classes[self.labels[number]] for number in known]
        return sum(right) / len(right) if right else None

    def per_object(self) -> "PredictionReport":
        """One row for each object: the mean of the probabilities of its views."""
        means, first = mean_per_object(torch.from_numpy(self.probabilities), np.array(self.object_ids, dtype=object))
        return PredictionReport(
            object_ids=tuple(self.object_ids[row] for row in first),
            views=np.full(len(first), AVERAGED),
            true_classes=tuple(self.true_classes[row] for row in first),
            labels=means.argmax(1).numpy(),
            probabilities=means.numpy(),
            classes=self.classes,
            incomplete=self.incomplete,
        )

    def rows(self) -> Iterator[dict[str, str]]:
        """One mapping per INR: object_id, view or "all", class, predicted class and its probability, as text."""
        for index, label in enumerate(self.labels.tolist()):
            yield {
                "object_id": self.object_ids[index],
                "view": "all" if self.views[index] == AVERAGED else str(self.views[index]),
                "class": self.true_classes[index],
                "predicted": self.classes[label],
                "probability": f"{self.probabilities[index, label]:.4f}",
            }

    def to_csv(self, path: str | Path | None = None) -> str:
        """The rows as CSV, which is also written to `path`, atomically, where one is given.

        Names that a spreadsheet would take for formulas begin with an apostrophe; control characters are escaped.
        """
        table = io.StringIO()
        writer = csv.DictWriter(table, ("object_id", "view", "class", "predicted", "probability"), lineterminator="\n")
        writer.writeheader()
        for row in self.rows():
            writer.writerow({name: csv_cell(text) for name, text in row.items()})
        if path is not None:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            write_atomically(Path(path), table.getvalue().encode())
        return table.getvalue()
