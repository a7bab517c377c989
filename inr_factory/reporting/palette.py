"""Palette: the colours, markers and dashes of all pictures, safe for colour-blind readers.

Shape letters: H height, W width, O values of a pixel.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]

# Okabe and Ito (2008), without black, which a dark page hides. Seven colours times three marks tell 21 classes apart.
COLORS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#F0E442")
MARKERS = ("o", "s", "^")
DASHES = ("-", "--", ":")

ENLARGED = 10  # how often differences are enlarged
DIFFERENCE = f"difference ×{ENLARGED}"
BELOW, ZERO, ABOVE = (0.0, 0.353, 0.639), (0.97, 0.97, 0.96), (0.851, 0.373, 0.0)
SCALE = "Differences: orange where the INR is brighter than its source, blue where it is darker, white where equal"


def color_of(number: int) -> str:
    """The colour of a class or line; it repeats after seven, with another mark."""
    return COLORS[number % len(COLORS)]


def mark_of(number: int) -> int:
    """The number of the marker or dash of a class or line: 0, 1 or 2."""
    return number // len(COLORS) % len(MARKERS)


def line_style(number: int) -> dict[str, Any]:
    """Colour, marker and dash of a line: neighbours differ in all three, for readers who see no colours."""
    return {
        "color": color_of(number),
        "marker": MARKERS[number % len(MARKERS)],
        "linestyle": DASHES[number % len(DASHES)],
    }


def signed_colors(difference: NDArray[np.floating]) -> Image:
    """A difference (H, W, O) as colours (H, W, 3): blue below, white at 0, orange above, full at a tenth of the range.

    Of several values the one that differs most counts.
    """
    most = np.abs(difference).argmax(axis=2)[:, :, None]
    amount = np.clip(ENLARGED * np.take_along_axis(difference, most, axis=2), -1, 1)
    towards = np.where(amount > 0, np.array(ABOVE), np.array(BELOW))
    colored: Image = (np.array(ZERO) + np.abs(amount) * (towards - np.array(ZERO))).astype(np.float32)
    return colored
