"""Sweep: one training run for each point of a grid, and the table that they make."""

import csv
import io
import itertools
import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from inr_factory.errors import FactoryError, UsageError
from inr_factory.manifest import write_atomically
from inr_factory.recipe import load_yaml

MAX_RUNS = 10_000  # of one sweep; a few lines can ask for billions

RESULT, LOG = "result.json", "log.txt"
Value = str | int | float | bool | None | list[str]


class Sweep(BaseModel):
    """What a sweep's YAML file says. `train` and `grid` name options of `inr-factory train` without their dashes; each
    entry of the grid is a list of values, "none" leaves an option out. `published` has figures to be set beside ours,
    in percent, by the values of a row joined by " | " in the order of the grid, without the seed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: Path
    train: dict[str, Value] = {}
    grid: dict[str, list[Value]] = Field(min_length=1)
    published: dict[str, float] = {}


@dataclass(frozen=True)
class Run:
    """One point of the grid: its values by option, and the folder it works in."""

    values: Mapping[str, Value]
    folder: Path

    @property
    def row(self) -> tuple[str, ...]:
        """What names its row of the table: all values but the seed."""
        return tuple(str(value) for name, value in self.values.items() if name != "seed")


@dataclass(frozen=True)
class Row:
    """Runs that differ in their seeds alone: test accuracies in [0, 1], by seed."""

    names: tuple[str, ...]
    accuracies: tuple[float, ...]
    published: float | None

    @property
    def mean(self) -> float:
        return mean(self.accuracies)

    @property
    def spread(self) -> float | None:
        """Standard deviation over seeds, None of one."""
        return stdev(self.accuracies) if len(self.accuracies) > 1 else None


def load_sweep(path: Path) -> Sweep:
    """Raises UsageError for a file that is no sweep."""
    try:
        return Sweep.model_validate(load_yaml(path, str(path)))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise UsageError(f"{path}: {where}: {first['msg'].lower()}; a sweep has dataset, train and grid") from None


def runs_of(sweep: Sweep, out: Path) -> list[Run]:
    """All points of the grid, the first option the slowest but for the seed, which is slower than all: the first rows
    of a table are there early. Raises UsageError for two points of one name."""
    count = math.prod(map(len, sweep.grid.values()))
    if count > MAX_RUNS:
        raise UsageError(f"the grid has {count:,} points, at most {MAX_RUNS:,} are run")
    names = sorted(sweep.grid, key=lambda name: name != "seed")
    runs = []
    for values in itertools.product(*(sweep.grid[name] for name in names)):
        point = dict(zip(names, values, strict=True))
        ordered = {name: point[name] for name in sweep.grid}
        slug = "-".join(re.sub(r"[^A-Za-z0-9.=]+", "_", str(value)).strip("_") or "x" for value in ordered.values())
        runs.append(Run(ordered, out / "runs" / slug))
    if len({run.folder for run in runs}) < len(runs):
        raise UsageError("two points of the grid have the same values; name each value once")
    return runs


def command_of(sweep: Sweep, run: Run) -> list[str]:
    """The arguments of `inr-factory` that make a run; given again, they go on with it."""
    arguments = ["train", str(sweep.dataset), "--out", str(run.folder), "--json"]
    for name, value in ({**sweep.train, **run.values}).items():
        option = f"--{name.replace('_', '-')}"
        if value is None or value == "none":
            continue
        if isinstance(value, bool):
            arguments.append(option if value else f"--no-{option[2:]}")
        else:
            for part in value if isinstance(value, list) else [value]:
                arguments += [option, str(part)]
    return arguments


def make_run(arguments: Sequence[str], folder: Path) -> str:
    """Make a run in a process of its own, one thread on a CPU: empty, or the last line of what went wrong.

    Its figures are in RESULT of its folder, what it said in LOG.
    """
    folder.mkdir(parents=True, exist_ok=True)
    code = "from inr_factory.cli import main; main()"
    with open(folder / LOG, "a") as log:
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, stderr=log, check=False,
        )  # fmt: skip
    if done.returncode:
        lines = (folder / LOG).read_text().strip().splitlines() or [f"exit code {done.returncode}"]
        return lines[-1]
    write_atomically(folder / RESULT, done.stdout)
    return ""


def read_result(run: Run) -> dict[str, Any] | None:
    """The figures of a run that is done."""
    try:
        found: dict[str, Any] = json.loads((run.folder / RESULT).read_text())
    except (OSError, ValueError):
        return None
    if found.get("test") is None:
        raise FactoryError(f"{run.folder} has no test figures; a sweep needs a set with a test split")
    return found


def rows_of(sweep: Sweep, runs: Sequence[Run]) -> list[Row]:
    """Rows of the runs that are done, in the order of the grid."""
    found: dict[tuple[str, ...], list[float]] = {}
    for run in runs:
        if (result := read_result(run)) is not None:
            found.setdefault(run.row, []).append(float(result["test"]["accuracy"]))
    order = {name: at for at, name in enumerate(dict.fromkeys(run.row for run in runs))}
    published = sweep.published
    return [
        Row(names, tuple(found[names]), published.get(" | ".join(names)))
        for names in sorted(found, key=lambda names: order[names])
    ]


def write_tables(sweep: Sweep, runs: Sequence[Run], out: Path) -> list[Row]:
    """Write results.csv (a line a run) and table.md (a line a row), and give the rows."""
    options = [name for name in sweep.grid if name != "seed"]
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow((*sweep.grid, "test_accuracy", "val_accuracy", "best_epoch", "run"))
    for run in runs:
        if (result := read_result(run)) is not None:
            best = result["best"]
            own = (result["test"]["accuracy"], best["val_accuracy"], int(best["epoch"]) + 1, run.folder.name)
            writer.writerow((*run.values.values(), *own))
    write_atomically(out / "results.csv", table.getvalue().encode())
    rows = rows_of(sweep, runs)
    write_atomically(out / "table.md", "".join(f"{line}\n" for line in _markdown(options, rows)).encode())
    return rows


def _markdown(options: Sequence[str], rows: Sequence[Row]) -> Iterator[str]:
    known = any(row.published is not None for row in rows)
    head = [*options, "test accuracy", "seeds", *(["published"] if known else [])]
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        cells = [*row.names, percent(row), str(len(row.accuracies))]
        if known:
            cells.append("" if row.published is None else f"{row.published:g}")
        yield f"| {' | '.join(cells)} |"


def percent(row: Row) -> str:
    """Mean and spread over seeds, in percent."""
    return f"{100 * row.mean:.1f}" + ("" if row.spread is None else f" ± {100 * row.spread:.1f}")
