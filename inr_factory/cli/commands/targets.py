"""`targets`: lists the targets of a set, or joins a table of them to it."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from inr_factory.cli import terminal
from inr_factory.cli.shared_options import DatasetLocation, Json
from inr_factory.errors import UsageError
from inr_factory.reporting.number_format import format_count

if TYPE_CHECKING:
    from inr_factory.storage.add_targets import TargetSummary

MOST_NAMES = 10


def targets(
    dataset: DatasetLocation,
    table: Annotated[
        str | None,
        typer.Argument(help="CSV or Parquet file to join: names of objects, and targets", show_default=False),
    ] = None,
    kinds: Annotated[
        list[str] | None,
        typer.Option(
            "--kind",
            help="of a column: class, labels, number or vector; repeatable",
            metavar="NAME=KIND",
            show_default=False,
        ),
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="replace targets that the set has already")] = False,
    as_json: Json = False,
) -> None:
    """List the targets of a set, or join a table of them to its objects by name."""
    from inr_factory.storage.add_targets import add_targets, dataset_targets

    if table is None and (kinds or replace):
        raise UsageError("--kind and --replace are for a table to join; name its file after the set")
    result: dict[str, Any] = {}
    if table is not None:
        report = add_targets(dataset, table, dict(map(_kind, kinds or ())), replace=replace)
        for note in report.notes:
            terminal.log_info(note)
        result = {"joined": list(report.columns), "objects": report.objects, "foreign": list(report.foreign)}
        if not as_json:
            terminal.print_result(
                f"{dataset}: {format_count(len(report.columns), 'target')} of {report.objects:,} objects joined"
            )
    summaries = dataset_targets(dataset)
    if as_json:
        terminal.print_json({**result, "targets": [vars(summary) for summary in summaries]})
    elif summaries:
        terminal.print_table(("target", "kind", "unit", "objects", "values"), [_cells(each) for each in summaries])
    else:
        terminal.print_result(f"{dataset} has no targets; inr-factory targets DATASET TABLE joins some")


def _kind(text: str) -> tuple[str, str]:
    name, equals, kind = text.rpartition("=")
    if not equals or not name:
        raise UsageError(f"--kind takes NAME=KIND, got {text!r}; for example --kind digit=class")
    return name, kind


def _cells(target: "TargetSummary") -> tuple[object, ...]:
    parts = [f"{name} {count:,}" for name, count in list(target.counts.items())[:MOST_NAMES]]
    more = [f"{len(target.counts) - MOST_NAMES:,} more"] if len(target.counts) > MOST_NAMES else []
    if target.mean:
        low, high = (f"{number:.4g}" for number in (min(target.low), max(target.high)))
        means = ", ".join(f"{number:.4g}" for number in target.mean[:MOST_NAMES])
        parts = [f"{low} to {high}, mean {means}{', …' if len(target.mean) > MOST_NAMES else ''}"]
    return target.name, target.kind, target.unit or "-", target.objects, ", ".join(parts + more) or "-"
