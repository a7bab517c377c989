"""Value plots: predicted against true numbers, and the average precision of each label, as PNGs."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from inr_factory.reporting.plots import BLUE, SOFT, TITLE, chart_page, draw_bars

if TYPE_CHECKING:
    from inr_factory.learning.training.value_metrics import ValueReport

MOST_OUTPUTS, MOST_POINTS = 6, 5_000


def draw_values(
    true_NK: NDArray[Any], predicted_NK: NDArray[Any], report: "ValueReport", path: Path, heading: str
) -> None:
    """Write a PNG of predictions (N, K): of numbers a point an INR for each of the first MOST_OUTPUTS, of labels bars."""
    if report.mean_average_precision is not None:
        pairs = zip(report.outputs, report.per_output, strict=True)
        scores = {name: 100 * score for name, score in pairs if score}
        draw_bars({"average precision, %": scores}, path, heading)
        return
    outputs = min(len(report.outputs), MOST_OUTPUTS)
    columns = min(outputs, 3)
    lines = -(-outputs // columns)
    rows = np.linspace(0, len(true_NK) - 1, min(len(true_NK), MOST_POINTS)).astype(int)
    with chart_page(path, heading, max(4.2, 3.2 * columns), 3.2 * lines + 0.4) as page:
        axes = page.figure.subplots(lines, columns, squeeze=False).ravel()
        for number, axis in enumerate(axes):
            if number >= outputs:
                axis.set_axis_off()
                continue
            true, predicted = true_NK[rows, number], predicted_NK[rows, number]
            ends = [float(true_NK[:, number].min()), float(true_NK[:, number].max())]
            axis.plot(ends, ends, color=SOFT, linestyle="--", linewidth=1)
            axis.scatter(true, predicted, s=6, color=BLUE, alpha=0.5, linewidths=0)
            unit = f", {report.unit}" if report.unit else ""
            name = page.label(report.outputs[number], 2)
            axis.set(xlabel=f"true{unit}", ylabel=f"predicted{unit}")
            axis.set_title(f"{name}: R² {report.per_output[number]:.4f}", **TITLE)
