"""`sweep`: a table of many training runs."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from inr_factory.cli import terminal
from inr_factory.cli.shared_options import Json, Workers
from inr_factory.errors import FactoryError, UsageError, skip_without_extra

if TYPE_CHECKING:
    from inr_factory.learning.training.sweep import Row, Sweep, SweepRun


def sweep(
    file: Annotated[Path, typer.Argument(help="YAML file with dataset, train and grid", show_default=False)],
    out: Annotated[Path | None, typer.Option(help="folder of runs and tables; else runs/FILE")] = None,
    workers: Workers = None,
    address: Annotated[str | None, typer.Option(help="Ray cluster; else $RAY_ADDRESS, else a local one")] = None,
    backend: Annotated[str, typer.Option(help="ray or local")] = "ray",
    as_json: Json = False,
) -> None:
    """Train a classifier for each point of a grid. What is done stays; run it again to go on."""
    from inr_factory.learning.training.sweep import load_sweep, percent, read_result, runs_of, write_tables

    if backend not in ("ray", "local"):
        raise UsageError(f"--backend must be ray or local, got {backend!r}")
    plan, folder = load_sweep(file), out or Path("runs") / file.stem
    folder.mkdir(parents=True, exist_ok=True)
    runs = runs_of(plan, folder)
    open_runs = [run for run in runs if read_result(plan, run) is None]
    terminal.log_info(f"{len(runs)} runs, {len(open_runs)} of them open; tables in {folder}")
    failed = []
    for number, (run, fault) in enumerate(_make(plan, open_runs, workers, address, backend), 1):
        result = None if fault else read_result(plan, run)
        told = f"failed: {fault}" if result is None else f"test accuracy {result['test']['accuracy']:.2%}"
        terminal.log_info(f"{number} of {len(open_runs)}  {run.folder.name}  {told}")
        failed += [run] if fault else []
        write_tables(plan, runs, folder)
    rows = write_tables(plan, runs, folder)
    _draw(plan, rows, folder)
    if as_json:
        terminal.print_json({
            "out": str(folder), "runs": len(runs), "failed": [run.folder.name for run in failed],
            "rows": [{"values": row.names, "accuracies": row.accuracies, "published": row.published} for row in rows],
        })  # fmt: skip
    else:
        cells = [
            (*row.names, percent(row), len(row.accuracies), "-" if row.published is None else f"{row.published:g}")
            for row in rows
        ]
        terminal.print_table([*plan.options, "test accuracy, %", "seeds", "published"], cells)
        files = [folder / name for name in ("table.md", "results.csv", "table.png")]
        terminal.print_result("\n" + ", ".join(str(path) for path in files if path.is_file()))
    if failed:
        raise FactoryError(f"{len(failed)} of {len(runs)} runs failed; {failed[0].folder / 'log.txt'} says why")


def _make(
    plan: "Sweep", runs: "Sequence[SweepRun]", workers: int | None, address: str | None, backend: str
) -> "Iterator[tuple[SweepRun, str]]":
    """Each run as it ends, with what went wrong."""
    from inr_factory.inr.cpu import num_cores
    from inr_factory.learning.training.sweep import command_of, make_run, make_runs

    jobs = [(command_of(plan, run), run.folder.absolute()) for run in runs]
    if runs and backend == "ray":
        from inr_factory.generation.execution.ray_pool import run_each  # Ray takes seconds to import

        for at, fault in run_each(make_run, jobs, workers, address):
            yield runs[at], fault
        return
    with closing(make_runs(jobs, workers or num_cores())) as ended:
        for at, fault in ended:
            yield runs[at], fault


def _draw(plan: "Sweep", rows: "Sequence[Row]", folder: Path) -> None:
    from inr_factory.reporting.plots import draw_table

    if rows:
        lines = [(_label(plan.options, row), 100 * row.mean, 100 * (row.spread or 0), row.published) for row in rows]
        with skip_without_extra("picture"):
            draw_table(lines, folder / "table.png", f"{folder.name}: test accuracy, %")


def _label(options: Sequence[str], row: "Row") -> str:
    """What a row is called in the picture: its values, with the names of options where a value says nothing by itself."""
    parts = []
    for option, value in zip(options, row.names, strict=True):
        if value in ("True", "False"):
            parts.append(option if value == "True" else f"no {option}")
        elif value.replace(".", "", 1).isdigit():
            parts.append(f"{option} {value}")
        elif value not in ("none", "-"):
            parts.append(value)
    return ", ".join(parts) or "none"
