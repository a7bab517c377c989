"""Record: the rows of a run, written after each of them, its time budget, its goals, and what failed."""

import json
import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, perf_counter
from typing import TypeVar

import torch

Row = dict[str, str | float | bool | None]
Result = TypeVar("Result")

FAILURES, SKIPPED, GOALS, TIME = "Failed", "Left out", "Goals", "Time of the parts, s"


class DeviceLostError(Exception):
    """The GPU context of this process is lost."""


@dataclass
class Record:
    """What a run has measured so far.

    Attributes:
        device: Where it measures.
        out: JSON file of the figures; the Markdown lies next to it.
        deadline: End of the run, by the monotonic clock.
        quick: Sizes are tiny: the question is whether everything runs.
        engine: "fused", or another after that one has failed.
        scratch: Folder for sets and runs that only serve the measurement.
        bundle: Folder of what was carried to this machine.
        data: Data root with the images of Fashion-MNIST, None where they were not carried.
        tables: Title -> rows.
    """

    device: torch.device
    out: Path
    deadline: float
    scratch: Path
    bundle: Path
    data: Path | None = None
    quick: bool = False
    engine: str = "fused"
    tables: dict[str, list[Row]] = field(default_factory=dict)
    part_deadline: float = field(default=math.inf, init=False)

    @property
    def device_name(self) -> str:
        """cpu, or cuda:N: several workers then share one GPU."""
        return str(self.device)

    @property
    def left(self) -> float:
        """Seconds until the deadline of the run or of the part that measures."""
        return min(self.deadline, self.part_deadline) - monotonic()

    @property
    def failed(self) -> bool:
        return bool(self.tables.get(FAILURES))

    def within(self, most: float, part: "Callable[[Record], None]") -> None:
        """Let a part measure, for at most so many seconds."""
        self.part_deadline = monotonic() + most
        try:
            part(self)
        finally:
            self.part_deadline = math.inf

    def add(self, title: str, **row: str | float | bool | None) -> None:
        """Add a row to a table, print it, and write all tables: an interrupted run keeps its figures."""
        self.tables.setdefault(title, []).append(row)
        print(f"{title}: " + ", ".join(f"{name} {shown(entry)}" for name, entry in row.items()), flush=True)
        replace_text(self.out, json.dumps(self.tables, indent=1))
        replace_text(self.out.with_suffix(".md"), self.markdown())

    def affords(self, seconds: float, what: str) -> bool:
        """Whether there is time for something that takes so many seconds; what is left out is recorded."""
        if self.left >= seconds or self.quick:
            return True
        self.skip(what, f"needs {seconds:.0f} s, {max(0.0, self.left):.0f} s are left")
        return False

    def skip(self, what: str, reason: str) -> None:
        self.add(SKIPPED, what=what, reason=reason)

    def fail(self, what: str, reason: str) -> None:
        self.add(FAILURES, what=what, FAILED=reason)

    def attempt(self, what: str, seconds: float, measure: Callable[[], Result]) -> Result | None:
        """The result of `measure`; None where there is no time for it or it raises, which is recorded.

        Raises DeviceLostError where the process can no longer use its GPU.
        """
        if not self.affords(seconds, what):
            return None
        try:
            return measure()
        except Exception as error:  # one figure of many: the others are still of use
            self.fail(what, one_line(error))
            try:
                synchronize(self.device)
            except Exception as lost:  # a kernel that reads outside its memory ends the context
                raise DeviceLostError from lost
            return None

    def goal(self, goal: str, measured: float, limit: float, unit: str, at_least: bool = True) -> None:
        """Compare a figure with its goal. Sizes of `quick` have no goals."""
        reached = measured >= limit if at_least else measured <= limit
        verdict = "not comparable: --quick" if self.quick else "reached" if reached else "missed"
        bound = f"{'at least' if at_least else 'at most'} {limit:,g} {unit}"
        self.add(GOALS, goal=goal, bound=bound, measured=measured, verdict=verdict)

    def markdown(self) -> str:
        """All tables, those that a reader wants first at the top."""
        first = [title for title in (GOALS, FAILURES) if title in self.tables]
        rest = [title for title in self.tables if title not in first]
        return "\n".join(table(title, self.tables[title]) for title in (*first, *rest)) + "\n"


def table(title: str, rows: list[Row]) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [names, ["---"] * len(names), *([shown(row.get(name)) for name in names] for row in rows)]
    return f"## {title}\n\n" + "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def shown(entry: str | float | bool | None) -> str:
    if entry is None:
        return ""
    if isinstance(entry, bool):
        return "yes" if entry else "no"
    if isinstance(entry, str):
        return entry.replace("|", "/")
    return f"{entry:,.0f}" if abs(entry) >= 1000 or entry % 1 == 0 else f"{entry:.3g}"


def replace_text(path: Path, text: str) -> None:
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(run: Callable[[], object], device: torch.device) -> float:
    """Seconds of one call, until the device has finished."""
    synchronize(device)
    begin = perf_counter()
    run()
    synchronize(device)
    return perf_counter() - begin


def median_seconds(run: Callable[[], object], device: torch.device, repeats: int = 3) -> float:
    """The median of some calls, after one that compiles."""
    run()
    return sorted(seconds(run, device) for _ in range(repeats))[repeats // 2]
