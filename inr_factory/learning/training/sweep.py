"""Sweep: trains a classifier for each point of a grid, and writes the table of test accuracies."""

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, median, stdev
from threading import Event
from typing import Any

from inr_factory.errors import FactoryError, IntegrityError, UsageError, blame_machine, csv_cell, one_line
from inr_factory.inr.cpu import num_cores
from inr_factory.inr.plain_json import parse_json, parse_json_object
from inr_factory.inr.regular_files import as_path, check_regular, is_replaced, read_regular
from inr_factory.learning.training.run_config import RULES, TrainConfig, check_config, few_objects
from inr_factory.learning.training.sweep_config import (
    SweepConfig,
    SweepRun,
    command_of,
    load_sweep,
    options_of,
    runs_of,
)
from inr_factory.learning.training.tracking import require_trackers
from inr_factory.storage.atomic_files import make_folder, write_atomically
from inr_factory.storage.fetch_dataset import dataset_location
from inr_factory.storage.manifest_file import load_manifest

MAX_RESULT_BYTES = 2**26
RESULT, COMMAND, LOG = "result.json", "command.json", "log.txt"  # of a run
RECORD = "sweep.json"
COST = ("reads", "MFLOPs an INR", "ms an INR")
"""Columns of tables; of results.csv they are the keys of COST_FIGURES."""
COST_FIGURES = ("reads", "flops_per_inr", "ms_per_inr")
"""What `train --json` says of a run's cost."""

SCORES = {
    "accuracy": ("accuracy", "val_accuracy"),
    "r2": ("R²", "val_r2"),
    "mean_average_precision": ("mAP", "val_map"),
}
"""Figures of `train --json` by which runs are compared: what tables call them, and the same of the validation split."""

Job = tuple[list[str], Path]
"""Arguments of `inr-factory` and the folder of a run."""
Executor = Callable[[Sequence[Job]], Generator[tuple[int, str], None, None]]
"""Makes the runs of jobs; yields, as they end, the index of each and its error in one line, or an empty text."""


@dataclass(frozen=True)
class Row:
    """Runs that differ in their seeds alone: test accuracies, or scores of other targets, by seed, and medians of their cost.

    `reads`, `flops` of a forward pass and `milliseconds` of training, per INR, are None for runs of earlier versions.
    """

    names: tuple[str, ...]
    accuracies: tuple[float, ...]
    published: float | None
    reads: str | None = None
    flops: float | None = None
    milliseconds: float | None = None

    @property
    def mean(self) -> float:
        return mean(self.accuracies)

    @property
    def spread(self) -> float | None:
        """Standard deviation over seeds, None of one."""
        return stdev(self.accuracies) if len(self.accuracies) > 1 else None

    @property
    def cost(self) -> tuple[str, ...]:
        """Its cells of the columns COST."""
        figures = (None if self.flops is None else self.flops / 1e6, self.milliseconds)
        return (self.reads or "-", *("-" if figure is None else f"{figure:.3g}" for figure in figures))


@dataclass(frozen=True)
class SweepReport:
    """The outcome of a sweep.

    Attributes:
        out: Folder of runs, table.md and results.csv.
        options: The options that vary, without the seed.
        rows: One row per point of the grid, over its seeds.
        num_runs: Runs of the sweep.
        failed: Runs that failed now; each folder has a log.txt.
    """

    out: Path
    options: tuple[str, ...]
    rows: tuple[Row, ...]
    num_runs: int
    failed: tuple[SweepRun, ...]


def sweep(
    file: str | Path,
    out: str | Path | None = None,
    workers: int | None = None,
    executor: Executor | None = None,
    log: Callable[[str], None] | None = None,
    track: str | None = None,
) -> SweepReport:
    """Train a classifier for each point of a grid, each in a process of its own. Completed runs stay, others resume.

    Args:
        file: YAML file with dataset, train and grid.
        out: Folder of runs and tables; by default runs/FILE.
        workers: Runs at the same time on this machine; by default one per core.
        executor: Makes the runs elsewhere, such as on a Ray cluster; `workers` then has no effect.
        log: Called with one line per completed run.
        track: Also send the records of each run to "wandb" or "mlflow", or to both: "wandb,mlflow".

    Returns:
        The table, and the runs that failed.

    Raises:
        UsageError: The file is no sweep, or a run's folder was made with other settings.
        FactoryError: The data set has no test split.
    """
    log = log or (lambda line: None)
    track = check_config(TrainConfig, track=track).track
    if executor is None:
        require_trackers(track)
    config, folder = load_sweep(as_path(file, "a sweep")), Path(out) if out else Path("runs") / Path(file).stem
    make_folder(folder)
    runs = runs_of(config, folder, _rules_of(folder))
    missing = [run for run in runs if read_result(config, run) is None]
    log(f"{len(runs)} runs, {len(missing)} to do; tables in {folder}")
    added = [command_of(config, run)[len(command_of(config, replace(run, rules=RULES))) :] for run in missing]
    if any(added):
        log(f"{folder} began under former defaults ({' '.join(max(added))}), which further runs keep")
    for dataset in dict.fromkeys(command_of(config, run)[1] for run in missing):
        _check_splits(dataset, log)
    executor = executor or (lambda jobs: make_runs(jobs, workers or num_cores()))
    failed = []
    tracked = ["--track", track] if track else []
    jobs = [([*command_of(config, run), *tracked], run.folder.absolute()) for run in missing]
    with closing(executor(jobs)) as outcomes:
        for number, (index, error) in enumerate(outcomes, 1):
            run = missing[index]
            result = None if error else read_result(config, run)
            text = (
                f"failed: {error}"
                if result is None
                else "test {} {:.2%}".format(SCORES[score_of(result)][0], result["test"][score_of(result)])
            )
            log(f"{number} of {len(missing)}  {run.folder.name}  {text}")
            failed += [run] if error else []
            write_tables(config, runs, folder)
    rows = write_tables(config, runs, folder)
    return SweepReport(folder, tuple(config.options), tuple(rows), len(runs), tuple(failed))


def _rules_of(folder: Path) -> int:
    """The rules of run_config under which a sweep began; those of a new one are recorded."""
    if (folder / RECORD).is_file():
        try:
            return TrainConfig(rules=parse_json_object(read_regular(folder / RECORD))["rules"]).rules
        except (ValueError, KeyError):
            raise IntegrityError(
                f"{folder / RECORD} is damaged, or of a newer version: it names no rules of 1 to {RULES}; take another --out"
            ) from None
    if (folder / "runs").is_dir() and any((folder / "runs").iterdir()):
        return 2  # from before rules 3
    write_atomically(folder / RECORD, json.dumps({"rules": RULES}).encode())
    return RULES


def _check_splits(dataset: str, log: Callable[[str], None]) -> None:
    """Report a small validation split, and refuse a set without a test split, before the first run."""
    try:
        manifest = load_manifest(dataset_location(dataset))
    except FactoryError:
        return  # each run says what is wrong with its set
    objects = {split: record.objects for split, record in manifest.splits.items()}
    if not objects.get("test"):
        raise FactoryError(f"{dataset} has no objects in split test; a sweep needs a set with a test split")
    if few := few_objects("val", objects.get("val", 0)):
        log(f"{manifest.name}: {few}")


def make_run(
    arguments: Sequence[str], folder: Path, on_start: Callable[[subprocess.Popen[bytes]], None] | None = None
) -> str:
    """Make a run in a process of its own, one thread on a CPU; return an empty text, or the last line of its error.

    Its figures are in RESULT of its folder, its stderr in LOG. `on_start` is called with the process.
    """
    folder.mkdir(parents=True, exist_ok=True)
    code = "from inr_factory.cli.main import main; main()"
    if is_replaced(folder / LOG):
        check_regular(folder / LOG)
    with open(folder / LOG, "a") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, stderr=log,
        )  # fmt: skip
        if on_start is not None:
            on_start(process)
        output, _ = process.communicate()
    if process.returncode:
        lines = read_regular(folder / LOG).decode(errors="replace").strip().splitlines() or [
            f"exit code {process.returncode}"
        ]
        return lines[-1]
    write_atomically(folder / COMMAND, json.dumps(_without_out(arguments), indent=2).encode())
    write_atomically(folder / RESULT, output)
    return ""


def _without_out(arguments: Sequence[str]) -> list[str]:
    """What identifies a run: all arguments but its folder."""
    index = list(arguments).index("--out")
    return [*arguments[:index], *arguments[index + 2 :]]


def make_runs(jobs: Sequence[Job], count: int) -> Generator[tuple[int, str], None, None]:
    """Make runs, `count` at a time on this machine: an Executor.

    Closed early, after an interruption above all, it starts no other run and terminates the running ones, which can
    resume.
    """
    processes: list[subprocess.Popen[bytes]] = []
    ending = Event()

    def on_start(process: subprocess.Popen[bytes]) -> None:
        processes.append(process)
        if ending.is_set():
            process.terminate()

    with ThreadPoolExecutor(count) as pool:
        futures = {pool.submit(make_run, *job, on_start): index for index, job in enumerate(jobs)}
        try:
            for done in as_completed(futures):
                yield futures[done], done.result()
        finally:
            ending.set()
            pool.shutdown(wait=False, cancel_futures=True)
            for process in processes:
                process.terminate()


def read_result(config: SweepConfig, run: SweepRun) -> dict[str, Any] | None:
    """The figures of a completed run. Raises UsageError for one that was made with other settings."""
    try:
        result = parse_json(read_regular(run.folder / RESULT, MAX_RESULT_BYTES))
        figures = (float(result["test"][score_of(result)]), result["best"]["epoch"])
    except IntegrityError:
        raise
    except (KeyError, TypeError):
        figures = None
    except (OSError, ValueError) as error:
        blame_machine(error, run.folder / RESULT)
        return None
    if not isinstance(result, dict) or (figures is None and result.get("test") is not None):
        raise UsageError(f"{run.folder / RESULT} is not the result of a run; remove it, and run again")
    if (run.folder / COMMAND).is_file():
        try:
            arguments = list(map(str, parse_json(read_regular(run.folder / COMMAND, MAX_RESULT_BYTES))))
        except (ValueError, TypeError) as error:
            raise UsageError(
                f"{run.folder / COMMAND} is damaged ({one_line(error)}); remove it, and run again"
            ) from None
        if options_of(arguments, run.rules) != options_of(command_of(config, run), run.rules):
            raise UsageError(f"{run.folder} was run with other settings ({' '.join(arguments)}); take another --out")
    if result.get("test") is None:
        raise FactoryError(f"{run.folder} has no test figures; a sweep needs a set with a test split")
    return result


def score_of(result: dict[str, Any]) -> str:
    """The name of the figure of SCORES that a result has. Raises KeyError where it has none."""
    return next((name for name in SCORES if name in result["test"]), "accuracy")


def _scores_of(config: SweepConfig, runs: Sequence[SweepRun]) -> str:
    """What a table calls the scores of its runs: accuracy, R² or mAP."""
    results = [result for run in runs if (result := read_result(config, run)) is not None]
    return " or ".join(dict.fromkeys(SCORES[score_of(result)][0] for result in results)) or "accuracy"


def rows_of(config: SweepConfig, runs: Sequence[SweepRun]) -> list[Row]:
    """Rows of the completed runs, in the order of the grid."""
    results: dict[tuple[str, ...], list[dict[str, Any]]] = {run.row(config.options): [] for run in runs}
    for run in runs:
        if (result := read_result(config, run)) is not None:
            results[run.row(config.options)].append(result)
    return [
        Row(
            names,
            tuple(float(result["test"][score_of(result)]) for result in of_row),
            config.published.get(" | ".join(names)),
            *_cost_of(of_row),
        )
        for names, of_row in results.items()
        if of_row
    ]


def _cost_of(results: Sequence[dict[str, Any]]) -> tuple[str | None, float | None, float | None]:
    """reads, flops and milliseconds of the runs of a row, as far as their results have them."""
    words, *figures = (
        [result[name] for result in results if isinstance(result.get(name), kind)]
        for name, kind in zip(COST_FIGURES, (str, int | float, int | float), strict=True)
    )
    flops, milliseconds = (median(values) if values else None for values in figures)
    return next(iter(words), None), flops, milliseconds


def write_tables(config: SweepConfig, runs: Sequence[SweepRun], out: Path) -> list[Row]:
    """Write results.csv (one line per run) and table.md (one per row), and return the rows."""
    columns = list(dict.fromkeys(name for grid in config.grid for name in grid.axes))
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    what = _scores_of(config, runs)
    of_splits = ("test_accuracy", "val_accuracy") if what == "accuracy" else (f"test {what}", f"val {what}")
    writer.writerow((*columns, *of_splits, "best_epoch", "run", *COST_FIGURES))
    for run in runs:
        if (result := read_result(config, run)) is not None:
            best = result["best"]
            score = score_of(result)
            figures = (result["test"][score], best[SCORES[score][1]], int(best["epoch"]) + 1, run.folder.name)
            cost = (csv_cell(str(result.get(name) or "")) for name in COST_FIGURES)
            writer.writerow((*(csv_cell(str(run.values.get(name, ""))) for name in columns), *figures, *cost))
    write_atomically(out / "results.csv", table.getvalue().encode())
    rows = rows_of(config, runs)
    write_atomically(out / "table.md", "".join(f"{line}\n" for line in _markdown(config.options, rows, what)).encode())
    return rows


def _markdown(options: Sequence[str], rows: Sequence[Row], what: str) -> Iterator[str]:
    any_published = any(row.published is not None for row in rows)
    head = [*options, f"test {what}", "seeds", *(["published"] if any_published else []), *COST]
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        cells = [*row.names, percent(row), str(len(row.accuracies))]
        if any_published:
            cells.append("" if row.published is None else f"{row.published:g}")
        cells += row.cost
        yield f"| {' | '.join(cells)} |"


def percent(row: Row) -> str:
    """Mean and spread over seeds, in percent."""
    return f"{100 * row.mean:.1f}" + ("" if row.spread is None else f" ± {100 * row.spread:.1f}")
