"""Figures: a page for a picture, text that fits into it, and its PNG. The only module that imports matplotlib."""

import re
from bisect import bisect_left
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from inr_factory.errors import UsageError, needs_extra, printable
from inr_factory.storage.atomic_files import make_folder, write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes as Axes
    from matplotlib.figure import Figure

# Fonts with Chinese, Japanese, Korean and other letters that matplotlib's own font lacks, as systems name them.
FALLBACK_FONTS = (
    "Noto Sans CJK JP", "Noto Sans CJK SC", "Noto Sans CJK TC", "Noto Sans CJK KR", "Noto Sans JP", "Noto Sans SC",
    "Noto Sans KR", "Source Han Sans", "Source Han Sans SC", "WenQuanYi Micro Hei", "WenQuanYi Zen Hei",
    "IPAexGothic", "IPAGothic", "Droid Sans Fallback", "Hiragino Sans", "PingFang SC", "PingFang HK",
    "Apple SD Gothic Neo", "Microsoft YaHei", "Yu Gothic", "Malgun Gothic", "SimHei", "Arial Unicode MS", "Noto Sans",
    "Noto Sans Devanagari", "Noto Sans Thai", "Noto Sans Tamil", "Noto Sans Bengali", "Noto Emoji", "Segoe UI Symbol",
)  # fmt: skip
OWN_FONT = "DejaVu Sans"
REMEDY = "No installed font has some letters of these names. Install Noto Sans CJK (Debian, Ubuntu: fonts-noto-cjk)."
NO_GLYPH = "□"
FOOT = 0.17  # inches below a picture for the remedy
FINE = 16  # how much finer than a point text is measured, which rounds each letter
STYLE: dict[Any, Any] = {
    "text.parse_math": False, "axes.unicode_minus": False, "axes.spines.top": False, "axes.spines.right": False,
    "axes.titlesize": 8, "axes.labelsize": 7.5, "xtick.labelsize": 7, "ytick.labelsize": 7, "legend.fontsize": 7,
    "legend.frameon": False, "axes.edgecolor": "#888888", "axes.linewidth": 0.7, "lines.linewidth": 1.4,
    "axes.axisbelow": True, "grid.color": "#e4e4e4", "grid.linewidth": 0.6, "text.usetex": False,
    "axes.formatter.use_mathtext": False, "svg.fonttype": "path",
}  # fmt: skip


@dataclass
class Page:
    """A figure that is being drawn; `unreadable` counts the texts of which no installed font has all letters."""

    figure: "Figure"
    unreadable: int = field(default=0)

    def label(self, text: str, inches: float = 3.0, size: float = 7, lines: int = 1, number: int | None = None) -> str:
        """Text of others for a picture, in up to so many lines of at most `inches`: shortened in its middle.

        Control characters are written as escapes. Where no font has its letters, a class is called by its number,
        and any other text has a box for each such letter.
        """
        text = printable(text)
        if not text.isascii() and (unknown := set(text) - _drawable()):
            self.unreadable += 1
            text = "".join(NO_GLYPH if letter in unknown else letter for letter in text)
            if number is not None:
                text = f"class {number}"
        return "\n".join(wrap(text, 72 * inches, size, lines))


def check_png(path: Path | str | None) -> None:
    """Raise UsageError for a name of another kind of file than a PNG; called before what it shows is worked out."""
    if path is not None and Path(path).suffix.lower() != ".png":
        raise UsageError(f"pictures are PNG files, got {printable(str(path))}; give a name that ends with .png")


@contextmanager
def drawing(
    path: Path, width: float, height: float, dpi: int = 150, layout: Literal["constrained"] | None = None
) -> Iterator[Page]:
    """A page of so many inches, on which to draw within the block; its PNG is written at the end of the block.

    Args:
        path: PNG to write, which depends on what is drawn alone.
        width: inches.
        height: inches.
        dpi: pixels of an inch.
        layout: "constrained" lets matplotlib place axes, titles and legends; else the block does.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    with needs_extra("report"):
        from matplotlib import rc_context  # takes a second
        from matplotlib.figure import Figure

    with rc_context({**STYLE, "font.family": list(font_families())}):
        page = Page(Figure(figsize=(width, height), dpi=dpi, layout=layout))
        yield page
        if page.unreadable:
            width, height = page.figure.get_size_inches()
            page.figure.text(0.08 / width, 0.05 / height, REMEDY, fontsize=6.5, color="#8a4b00")
            if engine := page.figure.get_layout_engine():
                engine.set(rect=(0, FOOT / height, 1, 1 - FOOT / height))  # type: ignore[call-arg]
        content = BytesIO()
        page.figure.savefig(content, format="png", dpi=dpi, metadata={"Software": None})
    make_folder(path.parent)
    write_atomically(path, content.getvalue())


@cache
def font_families() -> tuple[str, ...]:
    """matplotlib's own font, and after it the installed ones of FALLBACK_FONTS."""
    from matplotlib.font_manager import fontManager

    installed = {font.name for font in fontManager.ttflist}
    return (OWN_FONT, *(name for name in FALLBACK_FONTS if name in installed))


@cache
def _font_files() -> tuple[str, ...]:
    from matplotlib.font_manager import findfont

    return tuple(str(findfont(name)) for name in font_families())


@cache
def _drawable() -> frozenset[str]:
    """All letters of the fonts."""
    from matplotlib.font_manager import get_font

    return frozenset(chr(code) for file in _font_files() for code in get_font(file).get_charmap())


def text_width(text: str, size: float) -> float:
    """Width in points of a line of text in a size of so many points."""
    from matplotlib.font_manager import get_font

    font = get_font(_font_files())  # type: ignore[arg-type]
    font.set_size(size, 72 * FINE)
    font.set_text(text, 0.0)
    return float(font.get_width_height()[0]) / (64 * FINE)


def shorten(text: str, points: float, size: float) -> str:
    """Text that is at most so many points wide: what does not fit is left out of its middle."""
    if text_width(text, size) <= points:
        return text
    return _ends(text, _longest(len(text) - 1, lambda kept: text_width(_ends(text, kept), size) <= points))


def _ends(text: str, kept: int) -> str:
    return f"{text[: kept - kept // 2]}…{text[len(text) - kept // 2 :]}"


def wrap(text: str, points: float, size: float, lines: int) -> list[str]:
    """Text in at most so many lines of so many points: broken after spaces and signs where there are some, and what is
    left for the last line is shortened in its middle."""
    broken: list[str] = []
    while len(broken) < lines - 1 and text_width(text, size) > points:
        fits = _letters_of_a_line(text, points, size)
        breaks = [
            match.end() for match in re.finditer(r"[\s,:/_+|=]|(?<=\w)-", text[: fits + 1]) if match.end() <= fits + 1
        ]
        cut = max((end for end in breaks if end > fits // 3), default=max(fits, 1))
        broken.append(text[:cut].strip())
        text = text[cut:]
    return [*broken, shorten(text.strip(), points, size)]


def _letters_of_a_line(text: str, points: float, size: float) -> int:
    return _longest(len(text) - 1, lambda kept: text_width(text[:kept].strip(), size) <= points)


def _longest(most: int, fits: Callable[[int], bool]) -> int:
    """The largest number up to `most` that fits, 0 if none does."""
    return bisect_left(range(1, most + 1), True, key=lambda number: not fits(number))
