"""`align` and `augment-report`: align the INRs of a set, and measure what augmentations do to them."""

from pathlib import Path
from typing import Annotated

import typer

from inr_factory.cli import terminal
from inr_factory.cli.progress_bars import ShardProgress
from inr_factory.cli.shared_options import DatasetFolder, Json
from inr_factory.errors import PartialError
from inr_factory.reporting.number_format import format_count


def align(
    dataset: DatasetFolder,
    out: Annotated[Path, typer.Option(help="folder of the copy", show_default=False)],
    template: Annotated[
        str | None, typer.Option(help="NAME or NAME@VIEW of an object; else the first INR", show_default=False)
    ] = None,
    match: Annotated[
        str | None,
        typer.Option(help="permutation, signed, phase or scale; else signed, of ReLU INRs scale", show_default=False),
    ] = None,
    as_json: Json = False,
) -> None:
    """Store a copy of a set whose INRs have their neurons matched to one template: the same functions, closer weights."""
    from inr_factory.learning.alignment.aligned_dataset import align_dataset
    from inr_factory.storage.manifest_file import load_manifest

    with ShardProgress("align", len(load_manifest(dataset).shards)) as progress:
        report = align_dataset(dataset, out, match, template, on_shard=progress)  # type: ignore[arg-type]
    if as_json:
        terminal.print_json(
            {"out": str(out), "made_shards": report.made, "before": report.before, "after": report.after}
        )
    elif not report.made:
        terminal.print_result(f"nothing to do: {out} has all {format_count(len(report.manifest.shards), 'shard')}")
    else:
        distances = f"relative distance from the template {report.before:.3f} before, {report.after:.3f} after"
        terminal.print_result(f"{out}: {format_count(report.made, 'shard')} aligned; {distances}")
    if missing := len(list(report.manifest.shard_names())) - len(report.manifest.shards):
        raise PartialError(
            f"{dataset} lacks {format_count(missing, 'shard')}; complete it, and run the same command again"
        )


def augment_report(
    dataset: DatasetFolder,
    count: Annotated[int, typer.Option(help="how many INRs are measured", min=2)] = 64,
    split: Annotated[str, typer.Option(help="train, val or test")] = "train",
    out: Annotated[
        Path | None, typer.Option(help="folder of the report; else DATASET/augment-report", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure and draw what every transform and every way of mixing does to the INRs of a set."""
    from inr_factory.reporting.augmentation_report import augment_report as measure

    report = measure(dataset, count=count, split=split, out=out)
    if as_json:
        terminal.print_json(report.to_fields())
        return
    for number, (head, rows) in enumerate(report.tables()):
        terminal.print_table(head, rows, report.heading if number == 0 else "")
        terminal.print_result("")
    terminal.print_result(f"pictures in {report.folder}")
