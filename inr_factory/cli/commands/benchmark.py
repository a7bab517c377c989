"""`benchmark`: how fast this program is here, side by side with the obvious rivals."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from inr_factory.cli import terminal
from inr_factory.cli.shared_options import Json
from inr_factory.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from inr_factory.benchmarks.harness import BenchmarkTable


def benchmark(
    what: Annotated[str, typer.Argument(help="fit, pipeline, load, augment, align, mixup or read", show_default=False)],
    rows: Annotated[int, typer.Option(help="INRs of the set on disk")] = 60_000,
    batch_size: Annotated[int, typer.Option(help="INRs of a batch")] = 512,
    seconds: Annotated[float, typer.Option(help="how long each candidate is measured")] = 2.0,
    data_root: Annotated[
        Path | None,
        typer.Option(help="fit and pipeline: take the Fashion-MNIST found here, not digits", show_default=False),
    ] = None,
    picture: Annotated[Path | None, typer.Option(help="draw the result into this PNG", show_default=False)] = None,
    as_json: Json = False,
) -> None:
    """Measure fitting, loading, augmentation, alignment, MixUp or training beside the ways in use elsewhere, in one run."""
    from inr_factory.benchmarks import BENCHMARKS
    from inr_factory.benchmarks.harness import BenchmarkSettings, describe_machine

    if what not in BENCHMARKS:
        raise UsageError(f"unknown benchmark {what!r}; {did_you_mean(what, BENCHMARKS)}")
    machine = describe_machine()
    tables = BENCHMARKS[what](BenchmarkSettings(rows, batch_size, seconds, terminal.log_info, data_root))
    if picture is not None:
        from inr_factory.reporting.plots import draw_bars

        bars = {
            f"{table.name} ({table.unit}/s)\n{table.setting}": {row.name: row.per_second for row in table.candidates}
            for table in tables
        }
        draw_bars(bars, picture, f"inr-factory benchmark {what}")
        terminal.log_info(f"picture in {picture}")
    if as_json:
        terminal.print_json({"benchmark": what, "machine": machine, "tables": list(map(_json, tables))})
        return
    terminal.print_result(", ".join(f"{name} {fact}" for name, fact in machine.items()))
    for table in tables:
        terminal.print_result(f"\n{table.name}: {table.setting}\n")
        terminal.print_table(["", f"{table.unit}/s", "rate", "quartiles", "time", *_facts(table)], list(_lines(table)))
        terminal.print_result(
            f"rate and time: as many times those of {table.baseline!r}, medians of rounds taken in turns"
        )


def _json(table: "BenchmarkTable") -> dict[str, Any]:
    """A table under the keys that --json has always had."""
    fields = asdict(table)
    return {{"baseline": "yardstick", "candidates": "contenders"}.get(name, name): fields[name] for name in fields}


def _facts(table: "BenchmarkTable") -> list[str]:
    return list(dict.fromkeys(name for row in table.candidates for name in row.facts))


def _lines(table: "BenchmarkTable") -> Iterator[tuple[str, ...]]:
    for row in table.candidates:
        facts = [f"{row.facts[name]:.3g}" if name in row.facts else "-" for name in _facts(table)]
        quartiles = f"{_short(row.ratio_low)}-{_short(row.ratio_high)}"
        yield (row.name, _short(row.per_second), _short(row.ratio), quartiles, _short(row.cost), *facts)


def _short(number: float) -> str:
    """Three digits that count."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"
