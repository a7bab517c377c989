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
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, stdev
from threading import Event
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from inr_factory.errors import FactoryError, UsageError, validation_message
from inr_factory.storage.atomic_files import write_atomically
from inr_factory.storage.yaml_files import load_yaml

MAX_RUNS = 10_000  # of one sweep; a few lines can ask for billions

RESULT, COMMAND, LOG = "result.json", "command.json", "log.txt"
Value = str | int | float | bool | None | list[str]


class Grid(BaseModel):
    """Options of `inr-factory train`, each with the values that it takes in turn, "none" to leave it out; `train` has
    those that are the same for all points of this grid."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    train: dict[str, Value] = {}
    axes: dict[str, Annotated[list[Value], Field(min_length=1)]] = Field(min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _axes(cls, fields: Any) -> Any:
        """As it is written: the axes beside `train`."""
        if not isinstance(fields, dict) or "axes" in fields:
            return fields
        axes = {name: values for name, values in fields.items() if name != "train"}
        return {"axes": axes, **({"train": fields["train"]} if "train" in fields else {})}


class Sweep(BaseModel):
    """What a sweep's YAML file says. `train` names options of `inr-factory train` without their dashes, `grid` those
    that vary, in one grid or several, of which each may have its own `train`. `dataset` may be one of them.
    `published` has figures to be set beside ours, in percent, by the values of a row joined by " | " in the order of
    the table, without the seed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: Path | None = None
    train: dict[str, Value] = {}
    grid: list[Grid] = Field(min_length=1)
    published: dict[str, float] = {}

    @field_validator("grid", mode="before")
    @classmethod
    def _several(cls, grid: Any) -> Any:
        return [grid] if isinstance(grid, dict) else grid

    @model_validator(mode="after")
    def _names_its_sets(self) -> "Sweep":
        if self.dataset is None and not all("dataset" in grid.axes for grid in self.grid):
            raise ValueError("dataset is missing, of the file or of a grid")
        return self

    @property
    def options(self) -> list[str]:
        """The options that vary, as columns of a table have them, without the seed."""
        return [name for name in dict.fromkeys(name for grid in self.grid for name in grid.axes) if name != "seed"]


@dataclass(frozen=True)
class SweepRun:
    """One point of a grid: its values by option, the folder it works in, and the values of all other options."""

    values: Mapping[str, Value]
    folder: Path
    train: Mapping[str, Value] = field(default_factory=dict)

    def row(self, options: Sequence[str]) -> tuple[str, ...]:
        """What names its row of the table: its values of these options."""
        return tuple(str(self.values.get(name, "-")) for name in options)


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
        reason = validation_message(error, ignored=("axes", 0))
        raise UsageError(f"{path}: {reason}; a sweep has dataset, train and grid") from None


def runs_of(sweep: Sweep, out: Path) -> list[SweepRun]:
    """All points of all grids, the first option the slowest but for the seed, which is slower than all: each row of a
    table has its first figure early. Raises UsageError for two points of one name."""
    count = sum(math.prod(map(len, grid.axes.values())) for grid in sweep.grid)
    if count > MAX_RUNS:
        raise UsageError(f"the grid has {count:,} points, at most {MAX_RUNS:,} are run")
    by_seed: list[tuple[int, SweepRun]] = []
    for grid in sweep.grid:
        for point in itertools.product(*(enumerate(values) for values in grid.axes.values())):
            values = {name: value for name, (_, value) in zip(grid.axes, point, strict=True)}
            turn = next((at for name, (at, _) in zip(grid.axes, point, strict=True) if name == "seed"), 0)
            slug = "-".join(re.sub(r"[^A-Za-z0-9.=]+", "_", str(value)).strip("_") or "x" for value in values.values())
            by_seed.append((turn, SweepRun(values, out / "runs" / slug, {**sweep.train, **grid.train})))
    runs = [run for _, run in sorted(by_seed, key=lambda pair: pair[0])]
    if len({run.folder for run in runs}) < len(runs):
        raise UsageError("two points of the grid have the same values; name each value once")
    return runs


def command_of(sweep: Sweep, run: SweepRun) -> list[str]:
    """The arguments of `inr-factory` that make a run; given again, they go on with it."""
    settings = {**run.train, **run.values}
    arguments = ["train", str(settings.pop("dataset", sweep.dataset)), "--out", str(run.folder), "--json"]
    for name, value in settings.items():
        option = f"--{name.replace('_', '-')}"
        if value is None or value == "none":
            continue
        if isinstance(value, bool):
            arguments.append(option if value else f"--no-{option[2:]}")
        else:
            for part in value if isinstance(value, list) else [value]:
                arguments += [option, str(part)]
    return arguments


def make_run(
    arguments: Sequence[str], folder: Path, begun: Callable[[subprocess.Popen[bytes]], None] | None = None
) -> str:
    """Make a run in a process of its own, one thread on a CPU: empty, or the last line of what went wrong.

    Its figures are in RESULT of its folder, what it said in LOG. `begun` is handed the process.
    """
    folder.mkdir(parents=True, exist_ok=True)
    code = "from inr_factory.cli.main import main; main()"
    with open(folder / LOG, "a") as log:
        run = subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, stderr=log,
        )  # fmt: skip
        if begun is not None:
            begun(run)
        told, _ = run.communicate()
    if run.returncode:
        lines = (folder / LOG).read_text().strip().splitlines() or [f"exit code {run.returncode}"]
        return lines[-1]
    write_atomically(folder / COMMAND, json.dumps(_without_out(arguments), indent=2).encode())
    write_atomically(folder / RESULT, told)
    return ""


def _without_out(arguments: Sequence[str]) -> list[str]:
    """What decides a run: all arguments but its folder."""
    at = list(arguments).index("--out")
    return [*arguments[:at], *arguments[at + 2 :]]


def make_runs(jobs: Sequence[tuple[list[str], Path]], count: int) -> Generator[tuple[int, str], None, None]:
    """(place of a job, what went wrong with it), as they end; `count` at a time on this machine.

    Ended early, by an interruption above all, it begins no other run and ends those at work, which can be gone on with.
    """
    at_work: list[subprocess.Popen[bytes]] = []
    ending = Event()

    def begun(run: subprocess.Popen[bytes]) -> None:
        at_work.append(run)
        if ending.is_set():
            run.terminate()

    with ThreadPoolExecutor(count) as pool:
        waiting = {pool.submit(make_run, *job, begun): place for place, job in enumerate(jobs)}
        try:
            for done in as_completed(waiting):
                yield waiting[done], done.result()
        finally:
            ending.set()
            pool.shutdown(wait=False, cancel_futures=True)
            for run in at_work:
                run.terminate()


def read_result(sweep: Sweep, run: SweepRun) -> dict[str, Any] | None:
    """The figures of a run that is done. Raises UsageError for one that was done with other settings."""
    try:
        found = json.loads((run.folder / RESULT).read_text())
        figures = (found["test"]["accuracy"], found["best"]["epoch"])
    except (OSError, ValueError):
        return None
    except (KeyError, TypeError):
        figures = None
    if not isinstance(found, dict) or (figures is None and found.get("test") is not None):
        raise UsageError(f"{run.folder / RESULT} is not what a run leaves; remove it, and run again")
    if (run.folder / COMMAND).is_file():
        told = json.loads((run.folder / COMMAND).read_text())
        if told != _without_out(command_of(sweep, run)):
            raise UsageError(f"{run.folder} was run with other settings ({' '.join(told)}); take another --out")
    if found.get("test") is None:
        raise FactoryError(f"{run.folder} has no test figures; a sweep needs a set with a test split")
    return found


def rows_of(sweep: Sweep, runs: Sequence[SweepRun]) -> list[Row]:
    """Rows of the runs that are done, in the order of the grid."""
    found: dict[tuple[str, ...], list[float]] = {}
    for run in runs:
        if (result := read_result(sweep, run)) is not None:
            found.setdefault(run.row(sweep.options), []).append(float(result["test"]["accuracy"]))
    order = {name: at for at, name in enumerate(dict.fromkeys(run.row(sweep.options) for run in runs))}
    published = sweep.published
    return [
        Row(names, tuple(found[names]), published.get(" | ".join(names)))
        for names in sorted(found, key=lambda names: order[names])
    ]


def write_tables(sweep: Sweep, runs: Sequence[SweepRun], out: Path) -> list[Row]:
    """Write results.csv (a line a run) and table.md (a line a row), and give the rows."""
    columns = list(dict.fromkeys(name for grid in sweep.grid for name in grid.axes))
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow((*columns, "test_accuracy", "val_accuracy", "best_epoch", "run"))
    for run in runs:
        if (result := read_result(sweep, run)) is not None:
            best = result["best"]
            own = (result["test"]["accuracy"], best["val_accuracy"], int(best["epoch"]) + 1, run.folder.name)
            writer.writerow((*(run.values.get(name, "") for name in columns), *own))
    write_atomically(out / "results.csv", table.getvalue().encode())
    rows = rows_of(sweep, runs)
    write_atomically(out / "table.md", "".join(f"{line}\n" for line in _markdown(sweep.options, rows)).encode())
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
