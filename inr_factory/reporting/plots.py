"""Plots: PNGs of INRs, training runs and benchmarks. The only module that imports matplotlib.

Shape letters: H height, W width, O values of a pixel.
"""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from inr_factory.errors import needs_extra, printable
from inr_factory.storage.atomic_files import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_CLASSES = 100  # of a confusion matrix; 0.28 inch each


@dataclass(frozen=True)
class Reconstruction:
    """An INR's image (H, W, O), and the image it was fitted to, if that is at hand; values in [0, 1]."""

    title: str
    inr: NDArray[np.float32]
    source: NDArray[np.float32] | None


def draw_reconstructions(reconstructions: Sequence[Reconstruction], path: Path, heading: str) -> None:
    """Write a PNG with a column for each INR: source, INR, and their difference, ten times enlarged."""
    rows = ["source", "INR", "difference x10"] if any(r.source is not None for r in reconstructions) else ["INR"]
    columns = []
    for one in reconstructions:
        images = {"INR": one.inr}
        if one.source is not None:
            images |= {"source": one.source, "difference x10": 0.5 + 5 * (one.inr - one.source)}
        columns.append((one.title, images))
    draw_columns(columns, rows, path, heading, inches=1.15)


def draw_columns(
    columns: Sequence[tuple[str, Mapping[str, NDArray[np.float32]]]],
    rows: Sequence[str],
    path: Path,
    heading: str,
    inches: float,
) -> None:
    """Write a PNG with a titled column for each entry: its images (H, W, O) by their row, in [0, 1], so many wide."""
    lines = max(title.count("\n") for title, _ in columns) + 1
    figure = _figure(inches * len(columns) + 0.6, inches * len(rows) + 0.6 + 0.12 * lines)
    axes = figure.subplots(len(rows), len(columns), squeeze=False)
    for column, (title, images) in enumerate(columns):
        for row, name in enumerate(rows):
            axis = axes[row][column]
            axis.set_xticks([])
            axis.set_yticks([])
            if name in images:
                _draw(axis, images[name])
            if column == 0:
                axis.set_ylabel(name, fontsize=8)
        axes[0][column].set_title(plain_label(title, 60), fontsize=6)
    _finish(figure, heading, path, head_inches=0.2)


def draw_bars(charts: Mapping[str, Mapping[str, float]], path: Path, heading: str) -> None:
    """Write a PNG with a titled chart for each entry: a bar for each positive value, in their order from the top; on
    a logarithmic scale where they differ much."""
    heights = [0.28 * len(values) + 0.75 for values in charts.values()]
    figure = _figure(8, sum(heights) + 0.4)
    axes = figure.subplots(len(charts), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axis, (title, values) in zip(axes, charts.items(), strict=True):
        bars = axis.barh(list(values), list(values.values()), log=max(values.values()) > 30 * min(values.values()))
        labels = [f"{value:,.0f}" if value >= 100 else f"{value:.3g}" for value in values.values()]
        axis.bar_label(bars, labels=labels, fontsize=7, padding=2)
        axis.invert_yaxis()
        axis.margins(x=0.15)
        axis.tick_params(labelsize=7)
        axis.set_title(textwrap.fill(title, 120, replace_whitespace=False), fontsize=7)
    _finish(figure, heading, path, head_inches=0.25)


def draw_table(rows: Sequence[tuple[str, float, float, float | None]], path: Path, heading: str) -> None:
    """Write a PNG with a bar for each row (name, mean, spread, published figure or None), a diamond where published."""
    names, means, spreads, published = zip(*rows, strict=True)
    labels = [textwrap.fill(name.replace(", ", ",").replace(",", ", "), 60) for name in names]
    lines = sum(label.count("\n") + 1 for label in labels)
    figure = _figure(9, 0.18 * lines + 0.12 * len(rows) + 1.0)
    axis = figure.subplots()
    axis.barh(range(len(rows)), means, xerr=spreads, color="tab:blue", alpha=0.8, error_kw={"linewidth": 1})
    known = [at for at, figure_ in enumerate(published) if figure_ is not None]
    if known:
        figures = [published[at] for at in known]
        axis.scatter(figures, known, marker="D", s=16, color="tab:orange", label="published", zorder=3)
        axis.legend(fontsize=7)
    for at, (middle, spread) in enumerate(zip(means, spreads, strict=True)):
        axis.text(middle + spread, at, f" {middle:.1f}", va="center", fontsize=7)
    axis.set_yticks(range(len(rows)), labels, fontsize=6)
    axis.set_ylim(len(rows) - 0.4, -0.6)
    axis.margins(x=0.15)
    axis.tick_params(axis="x", labelsize=7)
    _finish(figure, heading, path, head_inches=0.2)


@dataclass(frozen=True)
class Series:
    """Points (cost, mean, spread) that a line joins, each with a label of its own."""

    name: str
    points: tuple[tuple[float, float, float], ...]
    labels: tuple[str, ...]


def draw_trade(series: Iterable[Series], path: Path, heading: str, cost: str) -> None:
    """Write a PNG of test accuracies in percent over what they cost, on a logarithmic scale, a line for each series."""
    figure = _figure(9, 5.5)
    axis = figure.subplots()
    for number, one in enumerate(series):
        x, y, spread = zip(*one.points, strict=True)
        color = _class_color(number)
        axis.errorbar(
            x,
            y,
            yerr=spread,
            label=plain_label(one.name),
            color=color,
            marker="o",
            markersize=3,
            linewidth=1,
            elinewidth=0.5,
        )
        for at, label in enumerate(one.labels):
            axis.annotate(label, (x[at], y[at]), (3, 3), textcoords="offset points", fontsize=5, color=color)
    axis.set_xscale("log")
    axis.set_xlabel(cost, fontsize=8)
    axis.set_ylabel("test accuracy, %", fontsize=8)
    axis.tick_params(labelsize=7)
    axis.legend(fontsize=6, loc="center left", bbox_to_anchor=(1, 0.5))
    _finish(figure, heading, path)


def draw_training(history: Sequence[Mapping[str, float]], path: Path, heading: str) -> None:
    """Write a PNG of a run's losses, validation accuracy and learning rate, epoch by epoch."""
    figure = _figure(9, 3)
    loss, accuracy, rate = figure.subplots(1, 3)
    epochs = [record["epoch"] + 1 for record in history]
    mark = "." if len(history) < 3 else None
    for name, label in (("train_loss", "training"), ("val_loss", "validation")):
        loss.plot(epochs, [record[name] for record in history], label=label, marker=mark)
    loss.legend(fontsize=7)
    accuracy.plot(epochs, [100 * record["val_accuracy"] for record in history], color="tab:green", marker=mark)
    rate.plot(epochs, [record["lr"] for record in history], color="tab:gray", marker=mark)
    _label_epochs({"loss": loss, "validation accuracy, %": accuracy, "learning rate": rate})
    _finish(figure, heading, path)


def draw_pretraining(
    history: Sequence[Mapping[str, float]],
    positions: NDArray[np.float64],
    labels: Sequence[int],
    classes: Sequence[str],
    path: Path,
    heading: str,
) -> None:
    """Write a PNG of a run's loss and accuracy by neighbours, and a map (N, 2) of features in the colours of classes."""
    figure = _figure(10, 3.6)
    loss, accuracy, plane = figure.subplots(1, 3, width_ratios=(1, 1, 1.6))
    loss.plot([r["epoch"] + 1 for r in history], [r["train_loss"] for r in history], marker=".")
    probed = [r for r in history if "val_accuracy" in r]
    accuracy.plot([r["epoch"] + 1 for r in probed], [100 * r["val_accuracy"] for r in probed], "g.-")
    _label_epochs({"contrastive loss": loss, "neighbours on validation, %": accuracy})
    numbers = np.array(labels)
    for number in np.unique(numbers):
        members = positions[numbers == number]
        plane.scatter(*members.T, s=5, color=_class_color(number), label=plain_label(classes[number]))
    plane.set_xticks([])
    plane.set_yticks([])
    plane.set_title("features, first two principal components", fontsize=8)
    if len(classes) <= 20:
        plane.legend(fontsize=5, markerscale=2, loc="center left", bbox_to_anchor=(1, 0.5))
    _finish(figure, heading, path)


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
    if len(classes) > MAX_CLASSES:
        kept = np.sort(np.argsort(counts.diagonal() - counts.sum(1), kind="stable")[:MAX_CLASSES])
        heading = f"{heading}; the {MAX_CLASSES} of {len(classes):,} classes with most errors"
        classes, shares = [classes[number] for number in kept], shares[np.ix_(kept, kept)]
    classes = [plain_label(name) for name in classes]
    side = 0.28 * len(classes) + 1.6
    figure = _figure(side + 4.2, max(side, 3.6))
    matrix, curve = figure.subplots(1, 2, width_ratios=(side, 3.4))
    matrix.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    matrix.set_xticks(range(len(classes)), classes, fontsize=6, rotation=90)
    matrix.set_yticks(range(len(classes)), classes, fontsize=6)
    matrix.set_xlabel("predicted", fontsize=8)
    matrix.set_ylabel("true", fontsize=8)
    if len(classes) <= 20:
        for row, line in enumerate(shares):
            for column, share in enumerate(line):
                if round(share):
                    color = "white" if share > 50 else "black"
                    matrix.text(column, row, f"{share:.0f}", ha="center", va="center", fontsize=5, color=color)
    curve.plot([0, 1], [0, 1], color="tab:gray", linestyle="--", linewidth=1)
    total = sum(count for *_, count in bins)
    confidences, accuracies, numbers = zip(*bins, strict=True)
    curve.bar(confidences, accuracies, width=0.06, alpha=0.6)
    curve.scatter(confidences, accuracies, s=[400 * number / total for number in numbers], color="tab:orange")
    curve.set(xlim=(0, 1), ylim=(0, 1))
    curve.set_xlabel("confidence (the larger a dot, the more INRs)", fontsize=8)
    curve.set_ylabel("accuracy", fontsize=8)
    curve.tick_params(labelsize=7)
    _finish(figure, heading, path)


def plain_label(text: str, length: int = 40) -> str:
    """Text of others in a picture, line by line: no formulas or control characters, no more than a picture can show."""
    lines = [line if len(line) <= length else f"{line[: length - 1]}…" for line in map(printable, text.split("\n"))]
    return "\n".join(lines).replace("$", r"\$")


def _figure(width: float, height: float, dpi: int = 130) -> "Figure":
    with needs_extra("report"):
        from matplotlib.figure import Figure  # takes a second

    return Figure(figsize=(width, height), dpi=dpi)


def _class_color(number: int) -> tuple[float, ...]:
    from matplotlib import colormaps

    color: tuple[float, ...] = colormaps["tab20"](number % 20)
    return color


def _finish(figure: "Figure", heading: str, path: Path, head_inches: float = 0.0, pad: float = 0.5) -> None:
    """Put the heading above the axes, which leave it `head_inches`, and write a PNG that depends on the figure alone."""
    figure.suptitle(plain_label(heading, 300), fontsize=9)
    rect = (0, 0, 1, 1 - head_inches / figure.get_figheight()) if head_inches else None
    figure.tight_layout(pad=pad, rect=rect)
    content = BytesIO()
    figure.savefig(content, format="png", metadata={"Software": None})
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content.getvalue())


def _label_epochs(axes: "Mapping[str, Axes]") -> None:
    for title, axis in axes.items():
        axis.set_title(title, fontsize=8)
        axis.set_xlabel("epoch", fontsize=8)
        axis.tick_params(labelsize=7)


def _draw(axis: "Axes", image: NDArray[np.float32]) -> None:
    shown = np.clip(image, 0, 1)
    if image.shape[2] == 1:
        axis.imshow(shown[:, :, 0], cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    else:
        axis.imshow(shown, interpolation="nearest")


def draw_grid(rows: Sequence[tuple[str, NDArray[np.float32]]], path: Path, heading: str) -> None:
    """Write a PNG with a labelled row of images (K, H, W, O) for each entry; values in [0, 1]."""
    columns = max(len(images) for _, images in rows)
    figure = _figure(0.95 * columns + 2.6, 0.95 * len(rows) + 0.5, dpi=110)
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for line, (label, images) in zip(axes, rows, strict=True):
        for axis in line:
            axis.set_axis_off()
        for axis, image in zip(line, images, strict=False):
            _draw(axis, image)
        line[0].text(-0.15, 0.5, label, transform=line[0].transAxes, ha="right", va="center", fontsize=7)
    _finish(figure, heading, path, head_inches=0.3, pad=0.4)


def draw_spreads(spreads: Mapping[str, tuple[Sequence[float], Sequence[float]]], path: Path, heading: str) -> None:
    """Write a PNG of bars, a group a layer: the spreads of weights and of biases of each set, on a logarithmic axis."""
    figure = _figure(8, 3.2)
    for kind, axis in enumerate(figure.subplots(1, 2, sharey=True)):
        width = 0.8 / len(spreads)
        for at, (name, values) in enumerate(spreads.items()):
            positions = [layer + (at - (len(spreads) - 1) / 2) * width for layer in range(len(values[kind]))]
            axis.bar(positions, values[kind], width, label=plain_label(name))
        layers = max(len(values[kind]) for values in spreads.values())
        axis.set_xticks(range(layers), [f"layer {layer}" for layer in range(layers)], fontsize=8)
        axis.set_yscale("log")
        axis.set_title(("weights", "biases")[kind], fontsize=9)
        axis.tick_params(which="both", labelsize=8)
    axis.legend(fontsize=7)
    _finish(figure, heading, path)
