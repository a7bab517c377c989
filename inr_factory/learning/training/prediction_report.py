"""Prediction reports: the predicted classes of INRs, and of objects by all their views, as tables.

Shape letters: N INRs, C classes.
"""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from inr_factory.errors import csv_cell
from inr_factory.learning.training.metrics import mean_per_object
from inr_factory.learning.training.value_metrics import label_figures, number_figures
from inr_factory.storage.atomic_files import make_folder, write_atomically

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

    @property
    def score(self) -> str:
        """The accuracy in words; empty where no class is known."""
        return "" if self.accuracy is None else f"accuracy {self.accuracy:.2%}"

    def figures(self) -> dict[str, Any]:
        """What `--json` says besides the rows."""
        return {"accuracy": self.accuracy}

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
                "view": view_text(self.views[index]),
                "class": self.true_classes[index],
                "predicted": self.classes[label],
                "probability": f"{self.probabilities[index, label]:.4f}",
            }

    def to_csv(self, path: str | Path | None = None) -> str:
        """The rows as CSV, see `rows_to_csv`."""
        return rows_to_csv(("object_id", "view", "class", "predicted", "probability"), self.rows(), path)


@dataclass(frozen=True)
class ValuePredictionReport:
    """Predictions of values for N INRs.

    Attributes:
        object_ids: N names of the INRs' objects.
        views: Number of each INR's view, (N,) int64; AVERAGED for the average of an object's views.
        target: Name of the target.
        outputs: K names of components or labels; for a number that of the target.
        predicted: (N, K) float32, numbers in the target's unit or probabilities of labels.
        true: (N, K) float64 as the data set has them; None where it does not.
        labels: Whether the values are probabilities of labels.
        incomplete: Shards of the split and views that are missing.
    """

    object_ids: tuple[str, ...]
    views: NDArray[np.int64]
    target: str
    outputs: tuple[str, ...]
    predicted: NDArray[np.float32]
    true: NDArray[np.float64] | None
    labels: bool = False
    incomplete: int = 0

    def __len__(self) -> int:
        return len(self.predicted)

    def figures(self) -> dict[str, Any]:
        """R², errors and Kendall's tau, or average precision, see ValueReport; none where true values are missing."""
        if self.true is None:
            return {}
        figures = (label_figures if self.labels else number_figures)(self.predicted, self.true)
        return {name: value for name, value in figures.items() if value is not None}

    @property
    def score(self) -> str:
        """R² of the predictions, or mean average precision, in words; empty where true values are missing."""
        figures = self.figures()
        if self.labels:
            return f"mean average precision {figures['mean_average_precision']:.2%}" if figures else ""
        return f"R² {figures['r2']:.4f}" if figures else ""

    def per_object(self) -> "ValuePredictionReport":
        """One row for each object: the mean of the predictions of its views."""
        means, first = mean_per_object(torch.from_numpy(self.predicted), np.array(self.object_ids, dtype=object))
        return replace(
            self,
            object_ids=tuple(self.object_ids[row] for row in first),
            views=np.full(len(first), AVERAGED),
            predicted=means.numpy(),
            true=None if self.true is None else self.true[first],
        )

    def rows(self) -> Iterator[dict[str, str]]:
        """One mapping per INR: object_id, view or "all", and for each output its value, where known, and the prediction."""
        for index in range(len(self)):
            row = {"object_id": self.object_ids[index], "view": view_text(self.views[index])}
            for number, name in enumerate(self.outputs):
                row[name] = "" if self.true is None else repr(float(self.true[index, number]))
                row[f"predicted {name}"] = str(self.predicted[index, number])
            yield row

    def to_csv(self, path: str | Path | None = None) -> str:
        """The rows as CSV, see `rows_to_csv`."""
        columns = [column for name in self.outputs for column in (name, f"predicted {name}")]
        return rows_to_csv(("object_id", "view", *columns), self.rows(), path)


def view_text(view: int) -> str:
    """The number of a view, or "all"."""
    return "all" if view == AVERAGED else str(view)


def rows_to_csv(columns: Sequence[str], rows: Iterator[Mapping[str, str]], path: str | Path | None) -> str:
    """Rows as CSV, which is also written to `path`, atomically, where one is given.

    Names that a spreadsheet would take for formulas begin with an apostrophe; control characters are escaped.
    """
    table = io.StringIO()
    writer = csv.DictWriter(table, [csv_cell(name) for name in columns], lineterminator="\n")
    writer.writeheader()
    names = {"object_id", "class", "predicted"}
    for row in rows:
        writer.writerow({csv_cell(name): csv_cell(text) if name in names else text for name, text in row.items()})
    if path is not None:
        make_folder(Path(path).parent)
        write_atomically(Path(path), table.getvalue().encode())
    return table.getvalue()
