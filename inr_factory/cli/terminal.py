"""Terminal: results on stdout, as tables for people or JSON for programs; remarks and errors on stderr."""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from inr_factory.errors import UsageError, printable, redact

console = Console(stderr=True, highlight=False)
PIPE_WIDTH = 10_000  # characters; a file or a pipe has no width of its own


def set_quiet(quiet: bool) -> None:
    """Switch progress and remarks off, or on again. Results and errors always appear."""
    console.quiet = quiet


def can_show_bars() -> bool:
    """Whether stderr can show a moving bar. FORCE_COLOR colours a file, too; a bar makes no sense there."""
    return sys.stderr.isatty() and os.environ.get("TERM", "") not in ("dumb", "unknown") and not console.quiet


def can_show_bold() -> bool:
    """Whether stdout shows bold text: it is a terminal, and neither NO_COLOR nor TERM=dumb asks for plain text."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM", "") in ("dumb", "unknown")
    return sys.stdout.isatty() and not plain


def log_info(line: str) -> None:
    """Print a line of progress or a remark on stderr, unless quiet."""
    console.print(printable(redact(line)), markup=False, soft_wrap=True)


def log_error(line: str) -> None:
    """Print an error on stderr, also when quiet."""
    sys.stderr.write(printable(redact(line)) + "\n")
    sys.stderr.flush()


def print_result(text: str) -> None:
    """Print a result on stdout, one or more lines. What the encoding of stdout lacks is written as escapes."""
    sys.stdout.write(_showable("\n".join(map(printable, redact(text).split("\n")))) + "\n")
    sys.stdout.flush()


def print_exact(text: str) -> None:
    """Print a table for programs on stdout. UsageError where the encoding of stdout lacks one of its characters."""
    encoding = sys.stdout.encoding or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError as error:
        raise UsageError(
            f"stdout is {encoding} and cannot show {text[error.start]!a}; write a file by --out, or set "
            "PYTHONIOENCODING=utf-8"
        ) from None
    sys.stdout.write(text.rstrip("\n") + "\n")
    sys.stdout.flush()


def _showable(text: str) -> str:
    encoding = sys.stdout.encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def print_json(result: Mapping[str, Any] | Sequence[Any], indent: int | None = 2) -> None:
    """Print a result on stdout as JSON, in one line where `indent` is None."""
    print_result(json.dumps(result, indent=indent, allow_nan=False))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]], title: str = "") -> None:
    """Print a table on stdout; columns of numbers are aligned to the right.

    A file or a pipe gets one line a row. On a narrow terminal cells are folded. Where not even the longest words of the
    columns fit side by side, each row becomes a few lines of `column: cell`. Nothing is cut.
    """
    table = Table(title=title or None, title_justify="left", box=None, pad_edge=False)
    texts = [
        [f"{cell:,}" if isinstance(cell, int) else _showable(printable(redact(str(cell)))) for cell in row]
        for row in rows
    ]
    for index, column in enumerate(columns):
        cells = [str(row[index]) for row in rows if row[index] != "-"]
        numeric = bool(cells) and all(cell.lstrip("-")[:1].isdigit() for cell in cells)
        words = [word for text in (column, *(row[index] for row in texts)) for word in text.split()]
        longest = max(map(len, words), default=0)
        table.add_column(column, justify="right" if numeric else "left", overflow="fold", min_width=longest)
    for row in texts:
        table.add_row(*row)
    screen = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)
    if screen.measure(table, options=screen.options.update(width=PIPE_WIDTH)).minimum <= screen.width:
        screen.print(table)
        return
    if title:
        screen.print(title)
    for row in texts:
        screen.print(*(f"{column}: {text}" for column, text in zip(columns, row, strict=True)), "", sep="\n")
