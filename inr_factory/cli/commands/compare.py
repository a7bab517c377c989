"""`compare`: two sets beside each other, or a set and a published corpus."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from inr_factory.cli import terminal
from inr_factory.cli.known_names import PUBLISHED
from inr_factory.cli.shared_options import Json

if TYPE_CHECKING:
    from inr_factory.reporting.weight_statistics import SetStatistics


def compare(
    a: Annotated[str, typer.Argument(help="folder or URL of a set", show_default=False, metavar="A")],
    b: Annotated[
        str, typer.Argument(help=f"another set, or {' or '.join(PUBLISHED)}", show_default=False, metavar="B")
    ],
    split: Annotated[str, typer.Option(help="train, val or test")] = "train",
    count: Annotated[int, typer.Option(help="how many INRs of each are measured, at most", min=2)] = 2000,
    picture: Annotated[
        Path | None, typer.Option("--out", help="PNG to write; else compare.png in the first set", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Set the spread of each layer, distances between INRs, PSNRs and specs of two sets side by side."""
    from inr_factory.reporting.plots import draw_spreads
    from inr_factory.reporting.weight_statistics import (
        PUBLISHED_SPEC,
        published,
        spec_differences,
        table_rows,
    )

    statistics = {"A": _portray(a, split, count), "B": _portray(b, split, count)}
    dims = [portrait.spec.layer_shapes for portrait in statistics.values()]
    if not {a, b} & set(PUBLISHED) and all(shapes == PUBLISHED_SPEC.layer_shapes for shapes in dims):
        statistics |= {name: published(name) for name in PUBLISHED}
    differences = spec_differences(statistics["A"].spec, statistics["B"].spec)
    where = {"A": a, "B": b}
    titles = {key: f"{key}: {each.name}" if key in where else key for key, each in statistics.items()}
    lines = table_rows(statistics)
    alike = dims[0] == dims[1]
    factor = statistics["A"].spreads.typical_factor(statistics["B"].spreads) if alike else None
    path = picture or _folder(a, b) / "compare.png"
    spreads = {titles[key]: (p.spreads.weights, p.spreads.biases) for key, p in statistics.items()}
    draw_spreads(spreads, path, "standard deviation of each layer over INRs")
    if as_json:
        terminal.print_json({
            "sets": {key: {"path": where.get(key, key), "name": p.name, "spec": p.spec.to_dict(), "inrs": p.inrs}
                     for key, p in statistics.items()},
            "lines": {name: dict(zip(statistics, values, strict=True)) for name, values in lines},
            "typical_factor": factor, "spec_differences": {k: list(v) for k, v in differences.items()},
            "picture": str(path),
        })  # fmt: skip
        return
    rows = [[name, *("-" if value is None else _cell(name, value) for value in values)] for name, values in lines]
    terminal.print_table(["", *titles.values()], rows)
    if factor is not None:
        terminal.print_result(f"\nthe spreads of A and B differ by a factor of {factor:.2f}, typically")
    for name, (mine, theirs) in differences.items():
        terminal.print_result(f"{name}: {mine} in A, {theirs} in B")
    terminal.print_result(f"picture: {path}")


def _portray(where: str, split: str, count: int) -> "SetStatistics":
    from inr_factory.reporting.weight_statistics import measure_set, published
    from inr_factory.storage.fetch_dataset import fetch_dataset

    return published(where) if where in PUBLISHED else measure_set(fetch_dataset(where), split, count)


def _folder(*where: str) -> Path:
    """The folder of the first that is a set; this one where both are published."""
    from inr_factory.storage.fetch_dataset import fetch_dataset

    return next((fetch_dataset(each) for each in where if each not in PUBLISHED), Path())


def _cell(name: str, value: float) -> str:
    return f"{value:.4f}" if name.startswith("std") else f"{value:.2f}"
