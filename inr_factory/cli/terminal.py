"""Terminal: progress on stderr, results on stdout, as tables for people or JSON for programs."""

import json
import os
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from inr_factory.generation.execution.progress_recorder import Progress as FitState

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
    """A bar over shards that are checked or rendered, `total` of them if that is known; silent off a terminal. A context
    manager."""

    def __init__(self, what: str, total: int | None) -> None:
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


class RunProgress:
    """How a training run goes: on a terminal a live table of its last epochs, the best marked, over a line of the epoch
    at work; in a log file a line an epoch. A context manager.

    `columns` are the entries of a record to show, each with its title and its format; `judge` names the one by which the
    best is chosen, the larger the better.
    """

    SHOWN = 12

    def __init__(self, epochs: int, columns: Mapping[str, tuple[str, str]], judge: str) -> None:
        self.epochs, self.columns, self.judge = epochs, columns, judge
        self.last: deque[Mapping[str, float]] = deque(maxlen=self.SHOWN)
        self.best: Mapping[str, float] | None = None
        self.started, self.first = monotonic(), -1.0
        self.at = Text("starting", style="dim")
        self.live = Live(console=err, refresh_per_second=4, get_renderable=self._render) if has_bars() else None

    def __enter__(self) -> "RunProgress":
        if self.live is not None:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.live is not None:
            self.at = Text("")
            self.live.stop()

    def step(self, epoch: int, position: int, count: int, loss: float) -> None:
        """After each step: how many of this epoch's are made, and the loss."""
        done = epoch + position / count
        if self.first < 0:
            self.first, self.started = done, monotonic()
        spent, made = monotonic() - self.started, done - self.first
        left = f", {duration(spent / made * (self.epochs - done))} left" if made > 0 else ""
        self.at = Text(f"epoch {epoch + 1} of {self.epochs}, step {position} of {count}, loss {loss:.4f}{left}", "dim")

    def epoch(self, record: Mapping[str, float]) -> None:
        """After each epoch: its record."""
        self.last.append(record)
        if self.judge in record and (self.best is None or record[self.judge] > self.best[self.judge]):
            self.best = record
        if self.live is None:
            figures = [
                f"{title} {record[key]:{style}}" for key, (title, style) in self.columns.items() if key in record
            ]
            say("  ".join([f"epoch {int(record['epoch']) + 1:>3} of {self.epochs}", *figures]))

    def _render(self) -> Group:
        table = Table(box=None, pad_edge=False)
        for title in ("epoch", *(title for title, _ in self.columns.values()), ""):
            table.add_column(title, justify="right")
        for record in self.last:
            cells = [f"{record[key]:{style}}" if key in record else "-" for key, (_, style) in self.columns.items()]
            best = record is self.best
            table.add_row(f"{int(record['epoch']) + 1}", *cells, "best" if best else "", style="bold" if best else None)
        return Group(table, self.at) if self.last else Group(self.at)
