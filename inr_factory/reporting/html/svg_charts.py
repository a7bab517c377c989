"""SVG charts: histograms, points and spreads, coloured by the page's style. Names are escaped.

Shape letters: N values or points.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from inr_factory.errors import needs_extra, printable
from inr_factory.reporting.palette import COLORS, MARKERS, mark_of

with needs_extra("report"):
    from markupsafe import Markup, escape

Floats = NDArray[np.floating]

MOST_COLORS = len(COLORS) * len(MARKERS)


def digits(value: float, significant: int = 3) -> str:
    """A number with three significant digits, in powers of ten only if it is tiny or huge."""
    if value == 0 or not np.isfinite(value):
        return "0" if value == 0 else "–"
    if 1e-4 <= abs(value) < 10**significant:
        decimals = max(0, significant - 1 - int(np.floor(np.log10(abs(value)))))
        return f"{value:.{decimals}f}"
    return f"{value:,.0f}" if 1 <= abs(value) < 1e9 else f"{value:.{significant - 1}e}"


def _svg(width: float, height: float, label: str, body: str) -> Markup:
    return Markup(
        f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(printable(label))}">'
        f"<title>{escape(printable(label))}</title>{body}</svg>"
    )


def _text(x: float, y: float, text: str, anchor: str = "middle", kind: str = "") -> str:
    named = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{named}>{escape(printable(text))}</text>'


def _steps(counts: NDArray[np.integer], left: float, right: float, bottom: float, height: float, top: int) -> str:
    """A filled outline of bars."""
    width = (right - left) / len(counts)
    parts = [f"M{left:.1f} {bottom:.1f}"]
    for at, count in enumerate(counts):
        parts.append(f"V{bottom - height * count / max(top, 1):.1f}H{left + (at + 1) * width:.1f}")
    return "".join(parts) + f"V{bottom:.1f}Z"


def nice_range(values: Floats) -> tuple[float, float]:
    """Begin and end of an axis that shows all values but a tail of half a percent at each end."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return 0.0, 1.0
    low, high = np.quantile(finite, [0.005, 0.995])
    margin = max(0.05 * (high - low), 1e-3 * max(abs(high), 1e-6))
    return float(low - margin), float(high + margin)


def round_numbers(low: float, high: float, most: int = 6) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten from low to high, as many as fit."""
    step = (high - low) / most
    power = 10.0 ** np.floor(np.log10(step))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= step)
    return [float(f"{at * step:.10g}") for at in range(int(np.ceil(low / step)), int(np.floor(high / step)) + 1)]


def histogram(
    groups: Mapping[str, Floats],
    span: tuple[float, float],
    label: str,
    unit: str,
    size: tuple[int, int] = (240, 96),
    ticks: bool = False,
) -> Markup:
    """Histograms of one or two groups on one axis, each as tall as its tallest bar; a line at each median.

    Values beyond the span are counted in its first and last bar. `ticks` sets round numbers between its ends.
    """
    width, height = size
    low, high = span
    bins = int(np.clip(2 * np.sqrt(max(map(len, groups.values()))), 10, width // 8))
    left, right, bottom, tallest = 6, width - 6, height - 18, height - 18 - 6
    body = []
    counted = {
        name: np.histogram(np.clip(values[np.isfinite(values)], low, high), bins, (low, high))[0]
        for name, values in groups.items()
    }
    for at, (name, counts) in enumerate(counted.items()):
        body.append(f'<path class="bars g{at}" d="{_steps(counts, left, right, bottom, tallest, int(counts.max()))}"/>')
        middle = groups[name][np.isfinite(groups[name])]
        if len(middle):
            x = left + (right - left) * float(np.clip((np.median(middle) - low) / (high - low), 0, 1))
            body.append(f'<path class="median g{at}" d="M{x:.1f} {bottom:.1f}V4"/>')
    body.append(f'<path class="axis" d="M{left} {bottom}H{right}"/>')
    if ticks:
        for tick in round_numbers(low, high):
            x = left + (right - left) * (tick - low) / (high - low)
            body.append(f'<path class="axis" d="M{x:.1f} {bottom}v4"/>')
            body.append(_text(x, height - 3, f"{tick:g} {unit}".strip()))
    else:
        body.append(_text(left, height - 5, digits(low), "start"))
        body.append(_text(right, height - 5, f"{digits(high)} {unit}".strip(), "end"))
    return _svg(width, height, label, "".join(body))


def color_classes(labels: NDArray[np.integer], names: Sequence[str]) -> list[tuple[int, str, str]]:
    """(label, name, CSS class) of the present classes; the most frequent MOST_COLORS have distinct colours."""
    present, counts = np.unique(labels, return_counts=True)
    order = present[np.lexsort((present, -counts))]
    colored = sorted(order[:MOST_COLORS].tolist())
    named = [(label, names[label], f"k{index}") for index, label in enumerate(colored)]
    return named + [(int(label), names[label], "k-rest") for label in sorted(order[MOST_COLORS:].tolist())]


def scatter(
    positions: Floats,
    labels: NDArray[np.integer],
    colors: Sequence[tuple[int, str, str]],
    label: str,
    axes: tuple[str, str],
) -> Markup:
    """Points (N, 2) in the colours and marks of their classes, one path a class; axes are equally scaled and named."""
    side, margin, foot = 320, 10, 18
    low, high = positions.min(axis=0), positions.max(axis=0)
    scale = (side - 2 * margin) / max(float((high - low).max()), 1e-12)
    at = (positions - (low + high) / 2) * scale * np.array([1, -1]) + [foot + side / 2, side / 2]
    body = [f'<path class="axis" d="M{foot} 0V{side}H{foot + side}"/>', _text(foot + side / 2, side + 13, axes[0])]
    body.append(f'<g transform="rotate(-90)">{_text(-side / 2, 12, axes[1])}</g>')
    for index, (number, name, kind) in reversed(list(enumerate(colors))):
        mark = "m0-2.2l2.1 3.6h-4.2z" if kind != "k-rest" and mark_of(index) == 2 else "h0"
        points = "".join(f"M{x:.1f} {y:.1f}{mark}" for x, y in at[labels == number])
        if points:
            body.append(
                f'<path class="points {kind}" data-class="{number}" d="{points}"><title>{escape(printable(name))}</title></path>'
            )
    return _svg(foot + side, side + foot, label, "".join(body))


def spreads(rows: Sequence[tuple[str, float, Mapping[str, float]]], label: str) -> Markup:
    """A line for each tensor on one logarithmic axis: a dot for this set, diamonds for published corpora."""
    values = [value for _, spread, others in rows for value in (spread, *others.values()) if value > 0]
    if not values:
        return Markup()
    low, high = np.log10(min(values)) - 0.08, np.log10(max(values)) + 0.08
    width, left, line = 420, 118, 24
    height = line * len(rows) + 26

    def x(value: float) -> float:
        return float(left + (width - left - 14) * (np.log10(max(value, 1e-12)) - low) / (high - low))

    body = []
    for power in range(int(np.floor(low)), int(np.ceil(high)) + 1):
        for digit in (1, 2, 5):
            tick = digit * 10.0**power
            if low <= np.log10(tick) <= high:
                body.append(f'<path class="grid" d="M{x(tick):.1f} 4V{height - 20}"/>')
                body.append(_text(x(tick), height - 6, f"{tick:g}"))
    for index, (name, spread, others) in enumerate(rows):
        y = 4 + line * (index + 0.5)
        body.append(_text(left - 12, y + 3.5, name, "end", "name"))
        for number, other in enumerate(others.values()):
            body.append(f'<path class="diamond p{number}" d="M{x(other):.1f} {y - 5.5:.1f}l5.5 5.5-5.5 5.5-5.5-5.5z"/>')
        if spread > 0:
            body.append(f'<circle class="own" cx="{x(spread):.1f}" cy="{y:.1f}" r="4.5"/>')
    return _svg(width, height, label, "".join(body))
