"""`report`: one HTML file that shows a set; opens offline."""

from pathlib import Path
from typing import Annotated

import typer

from inr_factory.cli import terminal
from inr_factory.cli.shared_options import DataRoot, DatasetFolder, Json


def report(
    dataset: DatasetFolder,
    out: Annotated[
        Path | None, typer.Option("--out", help="file to write; else DATASET/report.html", show_default=False)
    ] = None,
    data_root: DataRoot = None,
    seed: Annotated[int, typer.Option(help="of the sample of INRs that is looked at", min=0)] = 0,
    as_json: Json = False,
) -> None:
    """Write one HTML file that shows what a set is: counts, cost, pictures, quality, layers, distances, a map. Opens offline."""
    import torch

    from inr_factory.generation.maintenance.dataset_source import open_dataset_source
    from inr_factory.reporting.html import write_report
    from inr_factory.storage.manifest_file import load_manifest

    torch.set_num_threads(1)  # the same sums whatever the machine's cores, so the same bytes
    manifest = load_manifest(dataset)
    source, without = open_dataset_source(manifest, dataset, data_root)
    if without:
        terminal.log_info(f"without the sources: {without}")
    path = out or dataset / "report.html"
    done = write_report(
        dataset, manifest, source, path, without, seed, lambda step: terminal.log_info(f"report: {step}")
    )
    if done.missing_shards:
        terminal.log_info(f"{done.missing_shards:,} shards are missing; the report shows what is there")
    if as_json:
        terminal.print_json({**vars(done), "path": str(done.path)})
    else:
        terminal.print_result(f"{done.path}: {done.bytes / 1e6:.1f} MB, {done.inrs:,} INRs, {done.shown} of them shown")
