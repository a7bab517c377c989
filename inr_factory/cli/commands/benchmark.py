"""`benchmark`: speed on this machine, compared with the usual ways."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from inr_factory.cli import terminal
from inr_factory.cli.shared_options import Json

if TYPE_CHECKING:
    from inr_factory.benchmarks.harness import BenchmarkTable


def benchmark(
    what: Annotated[str, typer.Argument(help="fit, pipeline, load, augment, align, mixup or read", show_default=False)],
    rows: Annotated[int, typer.Option(help="INRs of the set on disk")] = 60_000,
    batch_size: Annotated[int, typer.Option(help="INRs of a batch")] = 512,
    seconds: Annotated[float, typer.Option(help="how long each candidate is measured")] = 2.0,
    data_root: Annotated[
        Path | None,
        typer.Option(help="fit and pipeline: folder of Fashion-MNIST, in place of digits", show_default=False),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(help="read: compare these, as dws:set_layer=deepsets; repeatable, else all", show_default=False),
    ] = None,
    picture: Annotated[Path | None, typer.Option(help="draw the result into this PNG", show_default=False)] = None,
    as_json: Json = False,
) -> None:
    """Measure fitting, loading, augmentation, alignment, MixUp or encoders next to the usual ways, in one run."""
    from inr_factory.benchmarks.run_benchmark import benchmark as run_benchmark

    report = run_benchmark(
        what, rows=rows, batch_size=batch_size, seconds=seconds, data_root=data_root, models=model or (),
        picture=picture, on_step=terminal.log_info,
    )  # fmt: skip
    if as_json:
        terminal.print_json({"benchmark": what, "machine": report.machine, "tables": list(map(_json, report.tables))})
        return
    terminal.print_result(", ".join(f"{name} {fact}" for name, fact in report.machine.items()))
    for table in report.tables:
        terminal.print_result(f"\n{table.name}: {table.setting}\n")
        terminal.print_table(["", f"{table.unit}/s", "rate", "quartiles", "time", *_facts(table)], list(_lines(table)))
        terminal.print_result(
            f"rate and time: as multiples of those of {table.baseline!r}, medians of interleaved rounds"
        )


def _json(table: "BenchmarkTable") -> dict[str, Any]:
    """A table under the keys that --json has always had."""
    fields = asdict(table)
    return {{"baseline": "yardstick", "candidates": "contenders"}.get(name, name): fields[name] for name in fields}


def _facts(table: "BenchmarkTable") -> list[str]:
    return list(dict.fromkeys(name for row in table.candidates for name in row.facts))


def _lines(table: "BenchmarkTable") -> Iterator[tuple[str, ...]]:
    for row in table.candidates:
        facts = [_fact(row.facts.get(name, "-")) for name in _facts(table)]
        quartiles = f"{_short(row.ratio_low)}-{_short(row.ratio_high)}"
        yield (row.name, _short(row.per_second), _short(row.ratio), quartiles, _short(row.cost), *facts)


def _fact(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.3g}"


def _short(number: float) -> str:
    """Three significant digits."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"
