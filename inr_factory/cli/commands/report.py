"""`report`: one HTML file that shows a set; opens offline."""

from pathlib import Path
from typing import Annotated

import typer

from inr_factory.cli import terminal
from inr_factory.cli.shared_options import DataRoot, DatasetFolder, Json
from inr_factory.reporting.number_format import format_count


def report(
    dataset: DatasetFolder,
    out: Annotated[
        Path | None, typer.Option("--out", help="file to write; default: DATASET/report.html", show_default=False)
    ] = None,
    data_root: DataRoot = None,
    seed: Annotated[int, typer.Option(help="of the sample of INRs", min=0)] = 0,
    as_json: Json = False,
) -> None:
    """Write one HTML file that shows a set: counts, cost, pictures, quality, layers, distances, a map. Opens offline."""
    from inr_factory.reporting.html.page import report_dataset

    done = report_dataset(
        dataset, out, data_root=data_root, seed=seed, on_step=lambda step: terminal.log_info(f"report: {step}")
    )
    if done.missing_shards:
        terminal.log_info(f"missing: {format_count(done.missing_shards, 'shard')}; the report shows the others")
    if as_json:
        terminal.print_json({**vars(done), "path": str(done.path)})
    else:
        terminal.print_result(f"{done.path}: {done.bytes / 1e6:.1f} MB, {done.inrs:,} INRs, {done.shown} of them shown")
