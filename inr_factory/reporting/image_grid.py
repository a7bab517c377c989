"""Image grid: pictures of INRs in titled columns and rows, with the scale of differences.

Shape letters: H height, W width, O values of a pixel.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from inr_factory.reporting.figures import FOOT, Page, drawing
from inr_factory.reporting.palette import DIFFERENCE, ENLARGED, signed_colors

Image = NDArray[np.float32]

WIDTH, HEIGHT, MOST_CELL, GAP, MARGIN, BAR = 7.6, 9.0, 1.8, 0.05, 0.08, 0.55  # inches
LEAST_TALL = 0.36  # inches, for the name of a row and the scale
SMALL, LINE = 7, 0.126  # points of captions, inches from one line to the next


@dataclass(frozen=True)
class Column:
    """Images (H, W, O) in [0, 1] by their row, and the parts of the caption above them.

    The first part is a class if `number` is given, which stands for a name that cannot be drawn.
    """

    caption: tuple[str, ...]
    images: Mapping[str, Image]
    number: int | None = None


def reconstruction(inr: Image, source: Image | None) -> dict[str, Image]:
    """The rows of an INR's image (H, W, O), and of the image it was fitted to where that is at hand."""
    if source is None:
        return {"INR": inr}
    return {"source": source, "INR": inr, DIFFERENCE: signed_colors(inr - source)}


def draw_reconstructions(rendered: Image, decoded: Image, captions: Sequence[str], path: Path, title: str) -> None:
    """Write a PNG of what INRs show, (K, H, W, O) in [0, 1], above what is decoded from their features."""
    rows = zip(captions, rendered, decoded, strict=True)
    draw_columns([Column((caption,), {"INR": inr, "decoded": image}) for caption, inr, image in rows], path, title)


def draw_edits(images: Sequence[Image], captions: Sequence[str], path: Path, title: str) -> None:
    """Write a PNG of what INRs show, what their edits have to show, and what they do show: three times (K, H, W, O) near
    [0, 1]."""
    names = ("INR", "to be", "edited")
    columns = [
        Column((caption,), dict(zip(names, row, strict=True))) for caption, *row in zip(captions, *images, strict=True)
    ]
    draw_columns(columns, path, title)


def draw_columns(
    columns: Sequence[Column], path: Path, title: str, subtitle: str = "", least: float = 0.7, label: float = 0.76
) -> None:
    """Write a PNG of all columns, side by side in bands; the first column says which rows there are, in their order.

    Args:
        columns: what to draw, at least one.
        path: PNG to write.
        title: the set, and what is drawn.
        subtitle: details, below the title.
        least: inches of the narrowest column; with fewer columns they are wider.
        label: inches for the names of rows.
    """
    rows = max((list(column.images) for column in columns), key=len)
    bands = -(-len(columns) // int(WIDTH / (least + GAP)))
    across = -(-len(columns) // bands)
    cell = max(least, min(MOST_CELL, WIDTH / across - GAP, HEIGHT / len(rows)))
    tall = max(LEAST_TALL, cell * min(1.6, max(map(_aspect, columns))))
    bar = BAR if DIFFERENCE in rows else 0.0
    width = max(MARGIN + label + across * (cell + GAP) + bar, 4.2)
    with drawing(path, width, 1, dpi=200) as page:
        head = [(page.label(title, width - 2 * MARGIN, 9, lines=2), 9.0)]
        head += [(page.label(subtitle, width - 2 * MARGIN, SMALL, lines=3), SMALL)] if subtitle else []
        captions = [_captions(page, columns[at : at + across], cell) for at in range(0, len(columns), across)]
        tops = [sum(1.35 * size / 72 * (text.count("\n") + 1) for text, size in head) + 2 * MARGIN]
        for lines in captions:
            tops.append(tops[-1] + len(lines[0]) * LINE + 0.03 + len(rows) * (tall + GAP) + 0.1)
        names = [page.label(row, label - 0.1, 7, lines=4) for row in rows]
        height = tops[-1] + (FOOT if page.unreadable else 0)
        page.figure.set_size_inches(width, height)
        top = MARGIN
        for text, size in head:
            page.figure.text(MARGIN / width, 1 - top / height, text, fontsize=size, va="top", linespacing=1.25)
            top += 1.35 * size / 72 * (text.count("\n") + 1)
        for band, lines in enumerate(captions):
            first = tops[band] + len(lines[0]) * LINE + 0.03
            for at, column in enumerate(columns[band * across : (band + 1) * across]):
                left = MARGIN + label + at * (cell + GAP)
                for number, text in enumerate(lines[at]):
                    page.figure.text(
                        (left + cell / 2) / width, 1 - (tops[band] + (number + 0.8) * LINE) / height, text, ha="center",
                        fontsize=SMALL, color="black" if number == 0 else "#444444",
                    )  # fmt: skip
                for row, name in enumerate(rows):
                    if name in column.images:
                        box = (left, height - first - row * (tall + GAP) - tall, cell, tall)
                        _place(
                            page,
                            [side / of for side, of in zip(box, (width, height) * 2, strict=True)],
                            column.images[name],
                        )
            for row, text in enumerate(names):
                middle = first + row * (tall + GAP) + tall / 2
                page.figure.text(
                    (MARGIN + label - 0.07) / width, 1 - middle / height, text, ha="right", va="center", fontsize=7
                )
                if rows[row] == DIFFERENCE:
                    _scale(page, MARGIN + label + len(lines) * (cell + GAP), first + row * (tall + GAP), tall)


def _aspect(column: Column) -> float:
    return float(max(image.shape[0] / image.shape[1] for image in column.images.values()))


def _captions(page: Page, columns: Sequence[Column], cell: float) -> list[list[str]]:
    """The lines of each column's caption; its parts begin at the same height in all columns."""
    wrapped = [
        [
            page.label(part, cell, SMALL, lines=2, number=column.number if at == 0 else None).split("\n")
            for at, part in enumerate(column.caption)
        ]
        for column in columns
    ]
    heights = [max(map(len, parts)) for parts in zip(*wrapped, strict=True)]
    return [
        [line for part, tall in zip(parts, heights, strict=True) for line in [*part, *[""] * (tall - len(part))]]
        for parts in wrapped
    ]


def _place(page: Page, box: Sequence[float], image: Image) -> None:
    axis = page.figure.add_axes(tuple(box))  # type: ignore[arg-type]
    axis.set_axis_off()
    shown = np.clip(image, 0, 1)
    if image.shape[2] == 1:
        axis.imshow(shown[:, :, 0], cmap="gray", vmin=0, vmax=1)
    else:
        axis.imshow(shown)


def _scale(page: Page, left: float, top: float, tall: float) -> None:
    """The colours of differences with their values, right of their row."""
    width, height = page.figure.get_size_inches()
    box = ((left + 0.04) / width, 1 - (top + tall) / height, 0.09 / width, tall / height)
    axis = page.figure.add_axes(box)
    end = 1 / ENLARGED
    axis.imshow(signed_colors(np.linspace(end, -end, 101)[:, None, None]), extent=(0, 1, -end, end), aspect="auto")
    axis.set_xticks([])
    axis.set_yticks([-end, 0, end], [f"−{end:g}", "0", f"+{end:g}"], fontsize=SMALL)
    axis.tick_params(length=2, pad=1.5)
    axis.yaxis.tick_right()
