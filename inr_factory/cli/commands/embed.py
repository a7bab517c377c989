"""`embed`: the features of INRs as a table."""

from pathlib import Path
from typing import Annotated

import typer

from inr_factory.cli import terminal
from inr_factory.cli import training_options as options
from inr_factory.cli.progress_bars import RowProgress
from inr_factory.cli.shared_options import DatasetFolder, Json
from inr_factory.reporting.number_format import format_count


def embed(
    run: options.Features,
    dataset: DatasetFolder,
    split: options.Split = "test",
    views: options.FirstViews = None,
    device: options.Device = "auto",
    out: Annotated[
        Path | None, typer.Option(help="NAME.csv or NAME.npz; else the table goes to stdout", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Write the features of each INR, by the encoder of a run of train or pretrain: object, view, class, features.

    In place of RUN, weights takes the flat weights, aligned those aligned to one INR, renders the values on a grid.
    """
    from inr_factory.learning.training.embed import embed as embed_inrs
    from inr_factory.learning.training.embed import table_path

    if out is not None:
        out = table_path(out)
    with RowProgress(f"embed {split}") as progress:
        report = embed_inrs(run, dataset, split, views, device, progress)
    if report.incomplete:
        terminal.log_info(
            f"missing: {format_count(report.incomplete, 'shard')} of these INRs; the table is of the others"
        )
    if out is not None:
        report.save(out)
    count, width = report.features.shape
    if as_json:
        facts = {"run": run, "split": split, "out": out and str(out), "inrs": count, "features": width}
        rows = zip(report.object_ids, report.views.tolist(), report.true_classes, report.features.tolist(), strict=True)
        names = ("object_id", "view", "class", "features")
        table = {} if out else {"rows": [dict(zip(names, row, strict=True)) for row in rows]}
        terminal.print_json(facts | table)
    elif out is None:
        terminal.print_exact(report.to_csv())
    else:
        terminal.print_result(f"{out}: {count:,} INRs, {width} features each")
