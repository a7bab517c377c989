"""Terminal: progress on stderr, results on stdout, as tables for people or JSON for programs."""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

if TYPE_CHECKING:
    from inr_factory.ledger import Progress as FitState

err = Console(stderr=True, highlight=False)
LINE_SECONDS = 10.0
PIPE_WIDTH = 10_000  # characters; a file or a pipe has no width of its own


def be_quiet(quiet: bool) -> None:
    """Leave out all progress and remarks from now on: results and what is wrong are still said. Or say all again."""
    err.quiet = quiet


def has_bars() -> bool:
    """Whether stderr can show a bar that moves. Colours may be asked for in a file, too; bars make no sense there."""
    return sys.stderr.isatty() and os.environ.get("TERM", "") not in ("dumb", "unknown") and not err.quiet


def say(line: str) -> None:
    """A line of progress or a remark, on stderr."""
    err.print(line, markup=False, soft_wrap=True)


def warn(line: str) -> None:
    """What is wrong, on stderr, also where all should be quiet."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def tell(text: str) -> None:
    """A result, on stdout."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def tell_json(result: Mapping[str, Any] | Sequence[Any], indent: int | None = 2) -> None:
    tell(json.dumps(result, indent=indent, allow_nan=False))


def tell_table(columns: Sequence[str], rows: Sequence[Sequence[object]], title: str = "") -> None:
    """A table on stdout; cells that are numbers are set to the right.

    A file or a pipe gets each row in one line. On a terminal that is too narrow cells are folded, and where not even
    their longest words stand side by side, each row becomes a few lines of `column: cell`. Nothing is cut.
    """
    table = Table(title=title or None, title_justify="left", box=None, pad_edge=False)
    texts = [[f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row] for row in rows]
    for at, column in enumerate(columns):
        cells = [str(row[at]) for row in rows if row[at] != "-"]
        numeric = bool(cells) and all(cell.lstrip("-")[:1].isdigit() for cell in cells)
        longest = max((len(word) for text in (column, *(row[at] for row in texts)) for word in text.split()), default=0)
        table.add_column(column, justify="right" if numeric else "left", overflow="fold", min_width=longest)
    for row in texts:
        table.add_row(*row)
    console = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)
    if console.measure(table, options=console.options.update(width=PIPE_WIDTH)).minimum <= console.width:
        console.print(table)
        return
    if title:
        console.print(title)
    for row in texts:
        console.print(*(f"{column}: {text}" for column, text in zip(columns, row, strict=True)), "", sep="\n")


def rate(inrs: float, seconds: float) -> str:
    """INRs a second, with digits after the point where they are few."""
    each = inrs / max(seconds, 1e-9)
    return f"{each:,.0f} INRs/s" if each >= 20 else f"{each:.2g} INRs/s"


def duration(seconds: float) -> str:
    """Seconds as people say them: 40 s, 12 min, 3.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class FitProgress:
    """How far a fit is: a bar on a terminal, a line every ten seconds in a log file. A context manager."""

    def __init__(self, name: str) -> None:
        self.started = monotonic()
        self.due = self.started + LINE_SECONDS
        self.noted = 0
        self.first: tuple[int, float] | None = None
        self.bar = Progress(
            TextColumn(f"fit {name}"), BarColumn(bar_width=None), MofNCompleteColumn(), TextColumn("INRs  {task.fields[rate]}"),
            TextColumn("{task.fields[psnr]}"), TimeRemainingColumn(compact=True), console=err, expand=True,
            disable=not has_bars(),
        )  # fmt: skip
        self.row = self.bar.add_task("", total=None, rate="starting", psnr="")

    def __enter__(self) -> "FitProgress":
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def __call__(self, state: "FitState") -> None:
        for note in state.notes[self.noted :]:
            say(note)
        self.noted = len(state.notes)
        done, seconds = state.tally.done, monotonic() - self.started
        if done and self.first is None:
            self.first = done, seconds
        pace = rate(done, seconds) if done else "starting"
        psnr = f"{state.mean_psnr:.1f} dB" if state.mean_psnr is not None else ""
        self.bar.update(self.row, total=state.inrs, completed=done, rate=pace, psnr=psnr)
        if not has_bars() and monotonic() >= self.due:
            self.due = monotonic() + LINE_SECONDS
            left = f"{duration(self._seconds_left(state.inrs, done, seconds))} left" if done else ""
            say(", ".join(filter(None, [f"{done:,} of {state.inrs:,} INRs", pace, psnr, left])))

    def _seconds_left(self, total: int, done: int, seconds: float) -> float:
        """By the pace since the first INRs were done: starting takes seconds, once."""
        before, then = self.first or (0, 0.0)
        before, then = (before, then) if done > before else (0, 0.0)
        return (total - done) * (seconds - then) / (done - before)


class SetProgress:
    """How far a set is that other processes make: a bar on a terminal, a line a look in a log file. A context manager."""

    def __init__(self, name: str) -> None:
        self.bar = Progress(
            TextColumn(name), BarColumn(bar_width=None), MofNCompleteColumn(), TextColumn("INRs  {task.fields[rest]}"),
            console=err, expand=True, disable=not has_bars(),
        )  # fmt: skip
        self.row = self.bar.add_task("", total=None, rest="")

    def __enter__(self) -> "SetProgress":
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def __call__(self, done: int, total: int, per_second: float | None, seconds: float | None, rest: str) -> None:
        pace = rate(per_second, 1) if per_second else "nothing new"
        left = f"{duration(seconds)} left" if seconds else ""
        facts = ", ".join(filter(None, [pace if done < total else "", left, rest]))
        self.bar.update(self.row, total=total, completed=done, rest=facts)
        if not has_bars():
            say(f"{done:,} of {total:,} INRs, {facts}")


class ShardProgress:
    """A bar over shards that are checked or rendered; silent off a terminal. A context manager."""

    def __init__(self, what: str, total: int) -> None:
        self.bar = Progress(
            TextColumn(what), BarColumn(bar_width=None), MofNCompleteColumn(), TextColumn("shards"),
            TimeRemainingColumn(compact=True), console=err, expand=True, transient=True, disable=not has_bars(),
        )  # fmt: skip
        self.row = self.bar.add_task("", total=total)

    def __enter__(self) -> "ShardProgress":
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def __call__(self, _: object) -> None:
        self.bar.advance(self.row)
