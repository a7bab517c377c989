"""Plots: charts of training runs, evaluations, sweeps, benchmarks and comparisons, as PNGs."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from inr_factory.learning.training.run_config import best_record, metric_of
from inr_factory.reporting.figures import FOOT, Page, drawing, text_width
from inr_factory.reporting.palette import COLORS, DASHES, MARKERS, color_of, line_style, mark_of

if TYPE_CHECKING:
    from inr_factory.reporting.figures import Axes

MAX_CLASSES = 50  # of a confusion matrix
MAX_NUMBERS = 20  # classes up to which its cells have numbers
BLUE, ORANGE = COLORS[:2]
INK, SOFT = "#222222", "#777777"
METRICS = {
    "val_accuracy": ("validation accuracy, %", 100),
    "val_r2": ("validation R²", 1),
    "val_map": ("validation mean average precision, %", 100),
}
"""Title of each metric of a run, and its factor."""
TITLE: dict[str, Any] = {"loc": "left", "fontsize": 8}
BELOW: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.19), "borderaxespad": 0, "ncols": 2}


def draw_bars(charts: Mapping[str, Mapping[str, float]], path: Path, heading: str) -> None:
    """Write a PNG with a titled chart for each entry: a bar for each positive value, in their order from the top; on
    a logarithmic scale where they differ much."""
    heights = [0.28 * len(values) + 0.75 for values in charts.values()]
    with chart_page(path, heading, 8, sum(heights) + 0.4) as page:
        axes = page.figure.subplots(len(charts), 1, squeeze=False, height_ratios=heights)[:, 0]
        for axis, (title, values) in zip(axes, charts.items(), strict=True):
            logarithmic = max(values.values()) > 30 * min(values.values())
            names = [page.label(name, 3) for name in values]
            bars = axis.barh(range(len(values)), list(values.values()), log=logarithmic, color=BLUE)
            if logarithmic:
                _plain_numbers(axis.xaxis)
            axis.set_yticks(range(len(values)), names)
            labels = [f"{value:,.0f}" if value >= 100 else f"{value:.3g}" for value in values.values()]
            axis.bar_label(bars, labels=labels, fontsize=7, padding=2)
            axis.invert_yaxis()
            axis.margins(x=0.15)
            axis.set_title("\n".join(page.label(line, 7.5, lines=3) for line in title.split("\n")), **TITLE)


def draw_table(rows: Sequence[tuple[str, float, float, float | None]], path: Path, heading: str) -> None:
    """Write a PNG with a bar for each row (name, mean, spread, published figure or None), a diamond where published."""
    names, means, spreads, published = zip(*rows, strict=True)
    with chart_page(path, heading, 9, 1) as page:
        labels = [page.label(name.replace(", ", ",").replace(",", ", "), 3.6, lines=3) for name in names]
        lines = sum(label.count("\n") + 1 for label in labels)
        page.figure.set_size_inches(9, 0.15 * lines + 0.12 * len(rows) + 1.0)
        axis = page.figure.subplots()
        axis.barh(range(len(rows)), means, xerr=spreads, color=BLUE, alpha=0.85, error_kw={"linewidth": 1})
        known = [at for at, figure in enumerate(published) if figure is not None]
        if known:
            figures = [published[at] for at in known]
            axis.scatter(figures, known, marker="D", s=18, color=ORANGE, edgecolors=INK, label="published", zorder=3)
            page.figure.legend(loc="outside lower right")
        for at, (middle, spread) in enumerate(zip(means, spreads, strict=True)):
            axis.text(middle + spread, at, f" {middle:.1f}", va="center", fontsize=7)
        axis.set_yticks(range(len(rows)), labels)
        axis.set_ylim(len(rows) - 0.4, -0.6)
        axis.margins(x=0.12)
        axis.grid(axis="x")
        axis.set_xlabel("test accuracy, %" + ("; lines: standard deviation over seeds" if any(spreads) else ""))


@dataclass(frozen=True)
class Series:
    """Points (cost, mean, spread) that a line joins, each with a label of its own."""

    name: str
    points: tuple[tuple[float, float, float], ...]
    labels: tuple[str, ...]


def draw_trade(series: Iterable[Series], path: Path, heading: str, cost: str, note: str = "") -> None:
    """Write a PNG of test accuracies in percent over what they cost, on a logarithmic scale, a line for each series."""
    with chart_page(path, heading, 9, 5.5) as page:
        axis = page.figure.subplots()
        axis.set_xscale("log")
        axis.grid()
        for number, one in enumerate(series):
            x, y, spread = zip(*one.points, strict=True)
            axis.errorbar(
                x, y, yerr=spread, label=page.label(one.name), markersize=4, elinewidth=0.6, **line_style(number)
            )
            for at, label in enumerate(one.labels):
                axis.annotate(
                    page.label(label), (x[at], y[at]), (3, 3), textcoords="offset points", fontsize=6, color=SOFT
                )
        _plain_numbers(axis.xaxis)
        axis.set_xlabel(cost)
        axis.set_ylabel("test accuracy, %; lines: standard deviation over seeds")
        axis.legend(title=note, title_fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
        _drop_overlaps(page, axis)


def draw_training(
    history: Sequence[Mapping[str, float]], path: Path, heading: str, chance: float | None = None
) -> None:
    """Write a PNG of a run's losses, validation metric and learning rate by epoch; the best epoch is marked."""
    with chart_page(path, heading, 9, 3) as page:
        loss, accuracy, rate = page.figure.subplots(1, 3)
        epochs = [record["epoch"] + 1 for record in history]
        for number, (name, label) in enumerate((("train_loss", "training"), ("val_loss", "validation"))):
            style = {"color": COLORS[number], "linestyle": DASHES[number]} | _points(history, number)
            loss.plot(epochs, [record[name] for record in history], label=label, **style)
        metric = metric_of(history[0]) or "val_accuracy"
        title, factor = METRICS[metric]
        accuracy.plot(epochs, [factor * record[metric] for record in history], color=ORANGE, **_points(history, 1))
        rate.plot(epochs, [record["lr"] for record in history], color=SOFT, **_points(history, 2))
        _mark_best(history, loss, "val_loss", accuracy, chance)
        _name_epochs({"loss": loss, title: accuracy, "learning rate": rate})


def draw_pretraining(
    history: Sequence[Mapping[str, float]],
    positions: NDArray[np.float64],
    labels: Sequence[int],
    classes: Sequence[str],
    path: Path,
    heading: str,
    chance: float | None = None,
) -> None:
    """Write a PNG of a run's loss and accuracy by neighbours, and a map (N, 2) of features in the colours of classes."""
    with chart_page(path, heading, 10, 3.6) as page:
        loss, accuracy, plane = page.figure.subplots(1, 3, width_ratios=(1, 1, 1.6))
        probed = [record for record in history if "val_accuracy" in record]
        loss.plot(
            [r["epoch"] + 1 for r in history], [r["train_loss"] for r in history], color=BLUE, **_points(history, 0)
        )
        shares = [100 * record["val_accuracy"] for record in probed]
        accuracy.plot([record["epoch"] + 1 for record in probed], shares, color=ORANGE, **_points(probed, 1))
        _mark_best(history, loss, "train_loss", accuracy, chance)
        objective = "decoding" if "val_psnr" in history[0] else "contrastive"
        _name_epochs({f"{objective} loss": loss, "neighbours on validation, %": accuracy})
        numbers = np.array(labels)
        present, counts = np.unique(numbers, return_counts=True)
        distinct = len(COLORS) * len(MARKERS)
        frequent = np.sort(present[np.argsort(-counts, kind="stable")[:distinct]])
        rest = positions[~np.isin(numbers, frequent)]
        for at, label in enumerate(frequent.tolist()):
            name = page.label(classes[label], 1.2, number=label)
            marker = MARKERS[mark_of(at)]
            plane.scatter(
                *positions[numbers == label].T, s=7, color=color_of(at), marker=marker, label=name, linewidths=0
            )
        if len(rest):
            plane.scatter(*rest.T, s=5, color="#cccccc", label=f"{len(present) - distinct} more classes", zorder=0)
        plane.set(xticks=[], yticks=[], xlabel="first principal component", ylabel="second")
        plane.set_title(f"features: a point is one of {len(numbers):,} INRs", **TITLE)
        plane.legend(markerscale=2, loc="center left", bbox_to_anchor=(1, 0.5), ncols=1 + (len(frequent) > 14))


def draw_evaluation(
    confusion: Sequence[Sequence[int]],
    classes: Sequence[str],
    bins: Sequence[tuple[float, float, int]],
    path: Path,
    heading: str,
) -> None:
    """Write a PNG of a confusion matrix, rows the true class in percent, and of confidence against accuracy."""
    counts = np.array(confusion, dtype=np.float64)
    shares = 100 * counts / counts.sum(axis=1, keepdims=True).clip(min=1)
    kept = np.arange(len(classes))
    if len(classes) > MAX_CLASSES:
        kept = np.sort(np.argsort(counts.diagonal() - counts.sum(1), kind="stable")[:MAX_CLASSES])
        heading = f"{heading}; the {MAX_CLASSES} of {len(classes):,} classes with most errors"
        shares = shares[np.ix_(kept, kept)]
    side, plot = max(2.4, min(0.28, 10 / len(kept)) * len(kept)), 2.4
    size = 7 if len(kept) <= 30 else 6
    with drawing(path, 1, 1) as page:
        names = [page.label(classes[number], 1.1, size, number=number) for number in kept.tolist()]
        names_wide = max(text_width(name, size) for name in names) / 72 + 0.15  # with ticks
        left, bottom = 0.4 + names_wide, 0.3 + names_wide + (FOOT if page.unreadable else 0)
        width = left + side + 1.5 + plot + 0.25
        head = page.label(heading, width - 0.3, 9, lines=3)
        height = bottom + side + 0.45 + 0.16 * (head.count("\n") + 1)
        page.figure.set_size_inches(width, height)
        page.figure.text(0.1 / width, 1 - 0.08 / height, head, fontsize=9, va="top")

        def inches(left: float, bottom: float, wide: float, tall: float) -> "Axes":
            return page.figure.add_axes((left / width, bottom / height, wide / width, tall / height))

        matrix = inches(left, bottom, side, side)
        curve = inches(left + side + 1.5, bottom + side - plot, plot, plot)
        shown = matrix.imshow(shares, cmap="Blues", vmin=0, vmax=100)
        matrix.set_xticks(range(len(kept)), names, rotation=90)
        matrix.set_yticks(range(len(kept)), names)
        matrix.tick_params(labelsize=size)
        matrix.set_xlabel("predicted class")
        matrix.set_ylabel("true class")
        matrix.set_title("confusion", **TITLE)
        matrix.spines[:].set_visible(True)
        bar = page.figure.colorbar(shown, cax=inches(left + side + 0.12, bottom + side - plot, 0.12, plot))
        bar.set_label("share of the INRs of a true class, %")
        if len(kept) <= MAX_NUMBERS:
            for row, line in enumerate(shares):
                for column, share in enumerate(line):
                    if round(share):
                        color = "white" if share > 50 else "black"
                        matrix.text(column, row, f"{share:.0f}", ha="center", va="center", fontsize=6, color=color)
        total = max(1, sum(count for *_, count in bins))
        curve.plot([0, 100], [0, 100], color=SOFT, linestyle="--", linewidth=1, label="calibrated: both are equal")
        confidences, accuracies, numbers = (np.array(values) for values in zip(*bins, strict=True))
        curve.bar(100 * confidences, 100 * accuracies, width=6, color=BLUE, alpha=0.35)
        sizes = 12 + 300 * numbers / total
        curve.scatter(
            100 * confidences, 100 * accuracies, s=sizes, color=BLUE, alpha=0.8, label="bin; area: number of INRs"
        )
        curve.set(xlim=(0, 104), ylim=(0, 104), xlabel="mean confidence, %", ylabel="accuracy, %")
        curve.set_title("calibration", **TITLE)
        curve.legend(loc="upper center", bbox_to_anchor=(0.5, -0.17), markerscale=0.6, borderaxespad=0)


def draw_spreads(spreads: Mapping[str, tuple[Sequence[float], Sequence[float]]], path: Path, heading: str) -> None:
    """Write a PNG of bars, a group a layer: the spreads of weights and of biases of each set, on a logarithmic axis."""
    with chart_page(path, heading, 8, 3.4) as page:
        axes = page.figure.subplots(1, 2, sharey=True)
        for kind, axis in enumerate(axes):
            width = 0.8 / len(spreads)
            for at, (name, values) in enumerate(spreads.items()):
                positions = [layer + (at - (len(spreads) - 1) / 2) * width for layer in range(len(values[kind]))]
                axis.bar(
                    positions, values[kind], width, label=page.label(name, 2.2), color=color_of(at), edgecolor="white"
                )
            layers = max(len(values[kind]) for values in spreads.values())
            axis.set_xticks(range(layers), [f"layer {layer}" for layer in range(layers)])
            axis.set_yscale("log")
            _plain_numbers(axis.yaxis)
            axis.grid(axis="y")
            axis.set_title(("weights", "biases")[kind], **TITLE)
        axes[0].set_ylabel("standard deviation, logarithmic")
        axes[1].legend(loc="center left", bbox_to_anchor=(1, 0.5))


@contextmanager
def chart_page(path: Path, heading: str, width: float, height: float) -> Iterator[Page]:
    """A page for charts, which matplotlib places below the heading."""
    with drawing(path, width, height, layout="constrained") as page:
        yield page
        width = float(page.figure.get_figwidth())
        page.figure.suptitle(page.label(heading, width - 0.4, 9, lines=3), fontsize=9, x=0.01, ha="left")


def _points(history: Sequence[Mapping[str, float]], number: int) -> dict[str, Any]:
    """Markers of a line, of which long histories show some."""
    return {"marker": MARKERS[number], "markersize": 3.5, "markevery": max(1, len(history) // 12)}


def _mark_best(
    history: Sequence[Mapping[str, float]], loss: "Axes", loss_name: str, accuracy: "Axes", chance: float | None
) -> None:
    """A line at the best epoch, a star at its accuracy, a line at the accuracy of chance; legends above the axes."""
    best = best_record([dict(record) for record in history])
    if best is not None:
        metric = metric_of(best) or "val_accuracy"
        epoch, share = best["epoch"] + 1, METRICS[metric][1] * best[metric]
        for axis, value in ((loss, best[loss_name]), (accuracy, share)):
            axis.axvline(epoch, color=SOFT, linewidth=0.8, linestyle=":", zorder=0)
            figure = f"{share:.1f} %" if METRICS[metric][1] > 1 else f"{share:.3f}"
            star: dict[str, Any] = {"label": f"best: epoch {epoch}, {figure}"} if axis is accuracy else {}
            axis.plot([epoch], [value], marker="*", markersize=9, color=INK, linestyle="", zorder=3, **star)
    if chance is not None:
        accuracy.axhline(100 * chance, color=SOFT, linestyle="--", linewidth=1, label=f"chance: {100 * chance:.1f} %")
    for axis in (loss, accuracy):
        if axis.get_legend_handles_labels()[0]:
            axis.legend(**BELOW)


def _name_epochs(axes: "Mapping[str, Axes]") -> None:
    for title, axis in axes.items():
        axis.set_title(title, **TITLE)
        axis.set_xlabel("epoch")
        axis.grid()
        axis.xaxis.get_major_locator().set_params(integer=True)  # type: ignore[call-arg]


def _plain_numbers(axis: Any) -> None:
    """Numbers without formulas on a logarithmic axis."""
    low, high = axis.get_view_interval()
    axis.get_major_locator().set_params(subs=(1, 2, 5) if high < 300 * low else (1,))
    axis.set_major_formatter(lambda value, _: f"{value:,g}")
    axis.set_minor_formatter(lambda *_: "")


def _drop_overlaps(page: Page, axis: "Axes") -> None:
    """Remove labels of points that would cover another label."""
    page.figure.draw_without_rendering()
    kept: list[Any] = []
    for text in list(axis.texts):
        box = text.get_window_extent()
        if any(box.overlaps(other) for other in kept):
            text.remove()
        else:
            kept.append(box)
