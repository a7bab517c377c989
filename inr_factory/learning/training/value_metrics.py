"""Metrics of predicted values: R², absolute error and Kendall's tau of numbers, average precision of labels.

Shape letters: N INRs, M objects, K outputs.
"""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inr_factory.errors import UsageError


@dataclass(frozen=True)
class ValueReport:
    """Metrics of a predictor over a number of INRs, as plain values. Figures of numbers are None for labels, and the reverse.

    Attributes:
        target: Name of the target.
        outputs: K names of components or labels; for a number that of the target.
        unit: Of `mae` and `rmse`.
        count: N, the number of INRs.
        loss: Mean loss, of numbers in units of the training split's standard deviation.
        r2: Share of the variance that is explained, 1 - sum of squares of errors / of distances from the mean, mean over K.
        mae: Mean absolute error, mean over K.
        rmse: Root of the mean squared error over INRs and outputs.
        kendall_tau: Rank correlation tau-b of Kendall (1945), mean over K.
        mean_average_precision: Mean over labels of the average precision: sum over thresholds of the gain in recall times
            precision; labels that no INR has are left out.
        per_output: K values of r2 or average precision; None for labels that no INR has.
        split: The split that was evaluated, or empty.
        dataset: Name of the data set, or empty.
        objects: How many objects the INRs show; 0 where only a model was evaluated.
        object_score: r2 or mean average precision of the mean predictions of objects; None where each has one view.
        incomplete: Shards of the split and views that are missing.
    """

    target: str
    outputs: tuple[str, ...]
    unit: str
    count: int
    loss: float
    r2: float | None
    mae: float | None
    rmse: float | None
    kendall_tau: float | None
    mean_average_precision: float | None
    per_output: list[float | None]
    split: str = ""
    dataset: str = ""
    objects: int = 0
    object_score: float | None = None
    incomplete: int = 0

    @property
    def score(self) -> float:
        """r2 of numbers, mean_average_precision of labels: what decides on the best epoch."""
        score = self.mean_average_precision if self.r2 is None else self.r2
        assert score is not None, "one of the two is measured"
        return score

    @property
    def headline(self) -> str:
        """The metrics in one line."""
        if self.r2 is None:
            return f"mean average precision {self.score:.2%}"
        unit = f" {self.unit}" if self.unit else ""
        return f"R² {self.r2:.4f}, MAE {self.mae:.4g}{unit}, RMSE {self.rmse:.4g}{unit}, Kendall's tau {self.kendall_tau:.4f}"

    def metrics(self) -> dict[str, Any]:
        """The metrics by name: what `--json` prints."""
        shown = {
            field.name: getattr(self, field.name) for field in fields(self) if field.name not in ("split", "dataset")
        }
        return {name: value for name, value in shown.items() if value is not None}


def number_figures(predicted_NK: NDArray[Any], true_NK: NDArray[Any]) -> dict[str, Any]:
    """r2, mae, rmse, kendall_tau and per_output of ValueReport. Raises UsageError for an output without spread."""
    from scipy.stats import kendalltau  # slow to import

    predicted, true = np.asarray(predicted_NK, np.float64), np.asarray(true_NK, np.float64)
    spread = ((true - true.mean(0)) ** 2).sum(0)
    if not spread.all():
        raise UsageError(
            f"output {int(np.flatnonzero(spread == 0)[0])} is the same number in all {len(true)} rows; R² needs two that differ"
        )
    shares = 1 - ((predicted - true) ** 2).sum(0) / spread
    # A constant prediction has no ranks: tau is NaN, which counts as none.
    taus = [np.nan_to_num(kendalltau(*pair).statistic) for pair in zip(predicted.T, true.T, strict=True)]
    return {
        "r2": float(shares.mean()), "mae": float(np.abs(predicted - true).mean()),
        "rmse": float(np.sqrt(((predicted - true) ** 2).mean())), "kendall_tau": float(np.mean(taus)),
        "per_output": shares.tolist(), "mean_average_precision": None,
    }  # fmt: skip


def label_figures(predicted_NK: NDArray[Any], true_NK: NDArray[Any]) -> dict[str, Any]:
    """mean_average_precision and per_output of ValueReport, of labels 0 and 1. Raises UsageError where no INR has one."""
    from sklearn.metrics import average_precision_score  # a bare GPU machine trains without it

    true = np.asarray(true_NK) > 0.5
    scores = [
        float(average_precision_score(has, predicted)) if has.any() else None
        for has, predicted in zip(true.T, np.asarray(predicted_NK).T, strict=True)
    ]
    known = [score for score in scores if score is not None]
    if not known:
        raise UsageError(f"none of the {len(true)} rows has any label; average precision needs one that has")
    return {
        "mean_average_precision": float(np.mean(known)), "per_output": scores,
        "r2": None, "mae": None, "rmse": None, "kendall_tau": None,
    }  # fmt: skip
