"""`sweep`: a table of many training runs."""

from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from inr_factory.cli import terminal
from inr_factory.cli.shared_options import Json, Workers
from inr_factory.cli.training_options import Track
from inr_factory.errors import FactoryError, UsageError, skip_without_extra

if TYPE_CHECKING:
    from inr_factory.learning.training.sweep import Job, Row, SweepReport


def sweep(
    file: Annotated[Path, typer.Argument(help="YAML file with dataset, train and grid", show_default=False)],
    out: Annotated[Path | None, typer.Option(help="folder of runs and tables; else runs/FILE")] = None,
    workers: Workers = None,
    address: Annotated[str | None, typer.Option(help="Ray cluster; else $RAY_ADDRESS, else a local one")] = None,
    backend: Annotated[str, typer.Option(help="ray or local")] = "ray",
    track: Track = None,
    as_json: Json = False,
) -> None:
    """Train a classifier for each point of a grid. Completed runs stay; run it again to resume."""
    from inr_factory.learning.training.sweep import COST, make_run, percent
    from inr_factory.learning.training.sweep import sweep as run_sweep

    def on_ray(jobs: "Sequence[Job]") -> "Generator[tuple[int, str], None, None]":
        from inr_factory.generation.execution.ray_pool import run_each  # Ray takes seconds to import

        if jobs:
            yield from run_each(make_run, jobs, workers, address)

    if backend not in ("ray", "local"):
        raise UsageError(f"--backend must be ray or local, got {backend!r}")
    report = run_sweep(file, out, workers, on_ray if backend == "ray" else None, terminal.log_info, track)
    _draw(report)
    if as_json:
        rows = [
            {
                "values": row.names, "accuracies": row.accuracies, "published": row.published, "reads": row.reads,
                "flops_per_inr": row.flops, "ms_per_inr": row.milliseconds,
            }
            for row in report.rows
        ]  # fmt: skip
        failed = [run.folder.name for run in report.failed]
        terminal.print_json({"out": str(report.out), "runs": report.num_runs, "failed": failed, "rows": rows})
    else:
        cells = [
            (
                *row.names,
                percent(row),
                len(row.accuracies),
                "-" if row.published is None else f"{row.published:g}",
                *row.cost,
            )
            for row in report.rows
        ]
        terminal.print_table([*report.options, "test accuracy, %", "seeds", "published", *COST], cells)
        files = [report.out / name for name in ("table.md", "results.csv", "table.png")]
        terminal.print_result("\n" + ", ".join(str(path) for path in files if path.is_file()))
    if report.failed:
        log = report.failed[0].folder / "log.txt"
        raise FactoryError(f"{len(report.failed)} of {report.num_runs} runs failed; see {log}")


def _draw(report: "SweepReport") -> None:
    from inr_factory.reporting.plots import draw_table

    if report.rows:
        lines = [
            (_label(report.options, row), 100 * row.mean, 100 * (row.spread or 0), row.published) for row in report.rows
        ]
        with skip_without_extra("picture"):
            draw_table(lines, report.out / "table.png", f"{report.out.name}: test accuracy, %")


def _label(options: Sequence[str], row: "Row") -> str:
    """The label of a row in the picture: its values, with the names of options where a value alone is unclear."""
    parts = []
    for option, value in zip(options, row.names, strict=True):
        if value in ("True", "False"):
            parts.append(option if value == "True" else f"no {option}")
        elif value.replace(".", "", 1).isdigit():
            parts.append(f"{option} {value}")
        elif value not in ("none", "-"):
            parts.append(value)
    return ", ".join(parts) or "none"
