"""Progress bars on a terminal, lines in a log file, both on stderr."""

from collections import deque
from collections.abc import Mapping
from time import monotonic
from typing import TYPE_CHECKING, Any, Self

from rich.console import Group
from rich.live import Live
from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn
from rich.table import Table
from rich.text import Text

from inr_factory.cli import terminal
from inr_factory.cli.pace import Pace
from inr_factory.errors import printable
from inr_factory.reporting.number_format import format_bytes, format_duration, format_rate

if TYPE_CHECKING:
    from inr_factory.generation.execution.progress_recorder import FitProgress as FitState
    from inr_factory.learning.training.run_config import RunConfig

LINE_SECONDS = 10.0
LEFT = TextColumn("{task.fields[left]}")


def _left(seconds: float | None) -> str:
    return "" if seconds is None else f"{format_duration(seconds)} left"


class _Bar:
    """A bar with one row, on a terminal alone. A context manager.

    `columns` stand to the right of the bar; the row's `fields` are their values at first.
    """

    COUNTS: type[ProgressColumn] = MofNCompleteColumn

    def __init__(self, title: str, *columns: ProgressColumn, total: int | None, transient: bool, **fields: Any) -> None:
        self.bar = Progress(
            TextColumn(printable(title), markup=False), BarColumn(bar_width=None), self.COUNTS(), *columns,
            console=terminal.console, expand=True, transient=transient, disable=not terminal.can_show_bars(),
        )  # fmt: skip
        self.row = self.bar.add_task("", total=total, **fields)

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar.live.is_started:
            self.bar.stop()


class FitProgress(_Bar):
    """Progress of a fit: a bar on a terminal, a line every ten seconds in a log file. A context manager."""

    def __init__(self, name: str) -> None:
        self.started = monotonic()
        self.next_line = self.started + LINE_SECONDS
        self.notes_logged = 0
        self.pace = Pace()
        columns = (TextColumn("INRs  {task.fields[rate]}"), TextColumn("{task.fields[psnr]}"), LEFT)
        super().__init__(f"fit {name}", *columns, total=None, transient=False, rate="starting", psnr="", left="")

    def __enter__(self) -> Self:
        return self  # the bar appears with the first progress: not for a set that is complete

    def __call__(self, state: "FitState") -> None:
        self.bar.start()
        for note in state.notes[self.notes_logged :]:
            terminal.log_info(note)
        self.notes_logged = len(state.notes)
        done, steps, now = state.tally.done, state.tally.steps, monotonic()
        if done or steps:  # before, workers start and read the source
            self.pace.add(now, done)
        rate = format_rate(done, now - self.started) if done else f"{steps:,} INR-steps" if steps else "starting"
        psnr = f"{state.mean_psnr:.1f} dB" if state.mean_psnr is not None else ""
        left = _left(self.pace.seconds_left(now, state.inrs))
        self.bar.update(self.row, total=state.inrs, completed=done, rate=rate, psnr=psnr, left=left)
        if not terminal.can_show_bars() and now >= self.next_line:
            self.next_line = now + LINE_SECONDS
            terminal.log_info(", ".join(filter(None, [f"{done:,} of {state.inrs:,} INRs", rate, psnr, left])))


class SetProgress(_Bar):
    """Progress of a set that other processes make: a bar on a terminal, a line a call in a log file. A context manager."""

    def __init__(self, name: str) -> None:
        super().__init__(name, TextColumn("INRs  {task.fields[rest]}"), total=None, transient=False, rest="")

    def __call__(self, done: int, total: int, per_second: float | None, seconds: float | None, rest: str) -> None:
        rate = format_rate(per_second, 1) if per_second else "nothing new"
        facts = ", ".join(filter(None, [rate if done < total else "", _left(seconds), rest]))
        self.bar.update(self.row, total=total, completed=done, rest=facts)
        if not terminal.can_show_bars():
            terminal.log_info(f"{done:,} of {total:,} INRs, {facts}")


class RowProgress(_Bar):
    """A bar over INRs, or other units, on a terminal, a line every ten seconds in a log file. A context manager."""

    def __init__(self, title: str, units: str = "INRs") -> None:
        super().__init__(title, TextColumn(units), LEFT, total=None, transient=True, left="")
        self.units = units
        self.pace, self.next_line = Pace(), monotonic() + LINE_SECONDS

    def __call__(self, done: int, total: int) -> None:
        now = monotonic()
        self.pace.add(now, done)
        left = _left(self.pace.seconds_left(now, total))
        self.bar.update(self.row, total=total, completed=done, left=left)
        if not terminal.can_show_bars() and now >= self.next_line:
            self.next_line = now + LINE_SECONDS
            terminal.log_info(", ".join(filter(None, [f"{done:,} of {total:,} {self.units}", left])))


class ShardProgress(_Bar):
    """A bar over shards, `total` of them where that is known; silent off a terminal. A context manager."""

    def __init__(self, title: str, total: int | None) -> None:
        super().__init__(title, TextColumn("shards"), LEFT, total=total, transient=True, left="")
        self.total, self.done, self.pace = total, 0, Pace()
        self.pace.add(monotonic(), 0)

    def __call__(self, _: object) -> None:
        self.done, now = self.done + 1, monotonic()
        self.pace.add(now, self.done)
        left = _left(self.pace.seconds_left(now, self.total)) if self.total else ""
        self.bar.update(self.row, completed=self.done, left=left)


class ByteProgress(_Bar):
    """Bytes, rate and time left: a bar on a terminal, a line every ten seconds in a log file. A context manager."""

    COUNTS = DownloadColumn

    def __init__(self, title: str) -> None:
        super().__init__(title, TextColumn("{task.fields[rate]}"), LEFT, total=None, transient=True, rate="", left="")
        self.pace, self.next_line = Pace(), monotonic() + LINE_SECONDS
        self.pace.add(monotonic(), 0)

    def __call__(self, done: int, total: int, arrived: int) -> None:
        """`arrived` are the bytes that came now, without those that were there."""
        now = monotonic()
        self.pace.add(now, arrived)
        per_second = self.pace.rate(now)
        rate = f"{format_bytes(per_second)}/s" if per_second else ""
        left = _left(self.pace.seconds_left(now, arrived + total - done))
        self.bar.update(self.row, total=total, completed=done, rate=rate, left=left)
        if not terminal.can_show_bars() and now >= self.next_line:
            self.next_line = now + LINE_SECONDS
            line = f"{format_bytes(done)} of {format_bytes(total)}"
            terminal.log_info(", ".join(filter(None, [line, rate, left])))


class RunProgress:
    """Progress of a training run: a table of its last epochs on a terminal, a line an epoch in a log file.

    A context manager. The table marks the best epoch and ends in a line for the current one. `columns` maps the entries
    of a record to titles and formats; those that no record has are left out.
    """

    SHOWN = 12

    def __init__(self, epochs: int | None, columns: Mapping[str, tuple[str, str]]) -> None:
        """`epochs` may be known only when the run starts, see `start`."""
        self.epochs, self.columns = epochs or 1, columns
        self.records: deque[Mapping[str, float]] = deque(maxlen=self.SHOWN)
        self.best: Mapping[str, float] | None = None
        self.pace = Pace()
        self.begun = monotonic()
        self.next_line = self.begun + LINE_SECONDS
        self.current = Text("starting", style="dim")
        self.live = (
            Live(console=terminal.console, refresh_per_second=4, get_renderable=self._render)
            if terminal.can_show_bars()
            else None
        )

    def __enter__(self) -> "RunProgress":
        if self.live is not None:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.live is not None:
            self.current = Text("")
            self.live.stop()

    def start(self, config: "RunConfig") -> None:
        """Call when all settings of the run are known."""
        self.epochs = config.epochs

    def step(self, epoch: int, position: int, count: int, loss: float) -> None:
        """Call after each step: `position` of `count` steps of the epoch are done."""
        now = monotonic()
        self.pace.add(now, epoch + position / count)
        left = _left(self.pace.seconds_left(now, self.epochs))
        self.begun = now if position == 1 else self.begun
        pace = f", {(position - 1) / (now - self.begun):.1f} steps/s" if position > 1 and now > self.begun else ""
        self.current = Text(
            f"epoch {epoch + 1} of {self.epochs}, step {position} of {count}, loss {loss:.4f}{pace}{left and f', {left}'}",
            "dim",
        )

    def wait(self, done: int, needed: int, rate: float) -> None:
        """Call while training waits for fits: `done` of the shards that it needs are there."""
        line = f"training waits for fits: {done} of {needed} shards are there, {rate:.0f} fits/s"
        self.current = Text(line, "dim")
        if self.live is None and monotonic() >= self.next_line:
            self.next_line = monotonic() + LINE_SECONDS
            terminal.log_info(line)

    def epoch(self, record: Mapping[str, float]) -> None:
        """Call after each epoch with its record."""
        from inr_factory.learning.training.run_config import best_record  # loads pydantic

        self.records.append(record)
        known = [] if self.best is None else [self.best]
        self.best = best_record([*known, record])  # type: ignore[list-item]
        if self.live is None:
            figures = [
                f"{title} {record[key]:{style}}" for key, (title, style) in self.columns.items() if key in record
            ]
            terminal.log_info("  ".join([f"epoch {int(record['epoch']) + 1:>3} of {self.epochs}", *figures]))

    def _render(self) -> Group:
        table = Table(box=None, pad_edge=False)
        columns = {key: column for key, column in self.columns.items() if any(key in record for record in self.records)}
        for title in ("epoch", *(title for title, _ in columns.values()), ""):
            table.add_column(title, justify="right")
        for record in self.records:
            cells = [f"{record[key]:{style}}" if key in record else "-" for key, (_, style) in columns.items()]
            best = record is self.best
            table.add_row(f"{int(record['epoch']) + 1}", *cells, "best" if best else "", style="bold" if best else None)
        return Group(table, self.current) if self.records else Group(self.current)
