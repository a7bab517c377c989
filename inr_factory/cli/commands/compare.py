"""`compare`: two sets side by side, or a set and a published corpus."""

from pathlib import Path
from typing import Annotated

import typer

from inr_factory.cli import terminal
from inr_factory.cli.known_names import PUBLISHED
from inr_factory.cli.shared_options import Json


def compare(
    a: Annotated[str, typer.Argument(help="folder or URL of a set", show_default=False, metavar="A")],
    b: Annotated[
        str, typer.Argument(help=f"another set, or {' or '.join(PUBLISHED)}", show_default=False, metavar="B")
    ],
    split: Annotated[str, typer.Option(help="train, val or test")] = "train",
    count: Annotated[int, typer.Option(help="how many INRs of each are measured, at most", min=2)] = 2000,
    picture: Annotated[
        Path | None,
        typer.Option("--out", help="PNG to write; default: compare.png in the first set", show_default=False),
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare two sets: spread of each layer, distances between INRs, PSNRs and specs."""
    from inr_factory.reporting.comparison import compare_datasets

    report = compare_datasets(a, b, split=split, count=count, out=picture)
    if as_json:
        paths = {"A": a, "B": b}
        terminal.print_json({
            "sets": {key: {"path": paths.get(key, key), "name": each.name, "spec": each.spec.to_dict(), "inrs": each.inrs}
                     for key, each in report.statistics.items()},
            "lines": {name: dict(zip(report.statistics, values, strict=True)) for name, values in report.rows},
            "typical_factor": report.typical_factor,
            "spec_differences": {name: list(values) for name, values in report.spec_differences.items()},
            "picture": str(report.picture),
        })  # fmt: skip
        return
    rows = [[name, *("-" if value is None else _cell(name, value) for value in values)] for name, values in report.rows]
    terminal.print_table(["", *report.titles.values()], rows)
    if report.typical_factor is not None:
        terminal.print_result(f"\nthe spreads of A and B differ by a factor of {report.typical_factor:.2f}, typically")
    for name, (value_a, value_b) in report.spec_differences.items():
        terminal.print_result(f"{name}: {value_a} in A, {value_b} in B")
    terminal.print_result(f"picture: {report.picture}")


def _cell(name: str, value: float) -> str:
    return f"{value:.4f}" if name.startswith("std") else f"{value:.2f}"
