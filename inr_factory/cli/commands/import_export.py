"""`import` and `export`: other projects' formats, in and out."""

from pathlib import Path
from typing import Annotated

import typer

from inr_factory.cli import terminal
from inr_factory.cli.known_names import CONVENTIONS, FORMATS
from inr_factory.cli.progress_bars import ShardProgress
from inr_factory.cli.shared_options import DataRoot, DatasetFolder, Json
from inr_factory.reporting.number_format import format_count

KNOWN = ", ".join(FORMATS)
CONVENTION = ", ".join(CONVENTIONS)


def export(
    dataset: DatasetFolder,
    to: Annotated[str, typer.Option("--to", help=KNOWN, show_default=False, metavar="FORMAT")],
    out: Annotated[Path, typer.Option(help="folder of the export; must not exist yet", show_default=False)],
    views: Annotated[
        int | None, typer.Option(help="export only this many views, the first", show_default=False)
    ] = None,
    convention: Annotated[
        str | None,
        typer.Option(
            help=f"of the numbers: {CONVENTION}; default: the format's own, if it can be reached exactly",
            show_default=False,
        ),
    ] = None,
    preview: Annotated[
        bool, typer.Option("--preview", help="a column of small pictures of the INRs, which hubs show (parquet)")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write a set in another project's format, with a sidecar for what the format cannot hold."""
    from inr_factory.interop.export import export_dataset
    from inr_factory.storage.manifest_file import load_manifest

    with ShardProgress(f"export to {to}", len(load_manifest(dataset).shards)) as progress:
        report = export_dataset(
            dataset, to, out, views=views, convention=convention, preview=preview, on_shard=progress
        )
    if as_json:
        terminal.print_json({
            "out": str(out), "format": to, "inrs": report.inrs, "files": report.files, "convention": report.convention,
            "remarks": list(report.remarks),
        })  # fmt: skip
    elif report.files == 0:
        terminal.print_result(f"nothing to do: {out} is this export")
    else:
        files = format_count(report.files, "file")
        terminal.print_result(f"{out}: {report.inrs:,} INRs in {files}, {report.convention}")
    for remark in report.remarks:
        terminal.log_info(remark)


def import_(
    path: Annotated[Path, typer.Argument(help="folder of the corpus", show_default=False, metavar="PATH")],
    from_: Annotated[str, typer.Option("--from", help=KNOWN, show_default=False, metavar="FORMAT")],
    out: Annotated[Path, typer.Option(help="folder of the set", show_default=False)],
    spec: Annotated[
        str | None, typer.Option(help="dims of the INRs, as 2-32-32-1 or 3-512x4-1 (inr2vec)", show_default=False)
    ] = None,
    convention: Annotated[
        str | None, typer.Option(help=f"{CONVENTION}; default: the format's own", show_default=False)
    ] = None,
    omega_0: Annotated[float | None, typer.Option("--omega-0", help="of the sine layers", show_default=False)] = None,
    first_omega_0: Annotated[
        float | None,
        typer.Option("--first-omega-0", help="of the first layer, where it differs (w0_initial)", show_default=False),
    ] = None,
    output_bias: Annotated[
        float | None, typer.Option(help="what the project's code adds to the output", show_default=False)
    ] = None,
    order: Annotated[str | None, typer.Option(help="of the coordinates: xy or rowcol", show_default=False)] = None,
    targets: Annotated[
        str | None,
        typer.Option(help="range: unit, signed, imagenet, cifar10, mnist, raw or MEAN/STD", show_default=False),
    ] = None,
    activation: Annotated[
        str | None,
        typer.Option(
            help="of the hidden layers: sine, relu, tanh, gauss or finer; default: the convention's", show_default=False
        ),
    ] = None,
    frequencies: Annotated[
        int | None, typer.Option(help="of a positional encoding; 0 for none", show_default=False)
    ] = None,
    first_frequency: Annotated[float | None, typer.Option(help="the lowest of them", show_default=False)] = None,
    no_coordinates: Annotated[
        bool, typer.Option("--no-coordinates", help="the encoding has sines and cosines alone")
    ] = False,
    source: Annotated[
        str | None,
        typer.Option(help="recipe of the objects; INRs are rendered and compared with them", show_default=False),
    ] = None,
    data_root: DataRoot = None,
    splits: Annotated[
        Path | None, typer.Option(help="splits.json; default: the one in PATH, if there is one", show_default=False)
    ] = None,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="accept that files named in the splits are missing")
    ] = False,
    num_signals: Annotated[
        int | None,
        typer.Option(help="objects of a view, where rows count through the views (fit-a-nef)", show_default=False),
    ] = None,
    classes: Annotated[
        str | None, typer.Option(help="number of classes, or their names with commas", show_default=False)
    ] = None,
    size: Annotated[
        str | None, typer.Option(help="HEIGHTxWIDTH of the images, where no source has it", show_default=False)
    ] = None,
    shard_objects: Annotated[int, typer.Option(help="objects of a shard", min=1, max=1_000_000)] = 500,
    no_sidecar: Annotated[bool, typer.Option("--no-sidecar", help="ignore inr_factory.json")] = False,
    unchecked: Annotated[
        bool, typer.Option("--unchecked", help="import INRs even if they do not show their images")
    ] = False,
    as_json: Json = False,
) -> None:
    """Make a set of another project's INRs. A convention gives what its files lack; --source checks it by rendering."""
    from inr_factory.interop.import_dataset import import_dataset

    with ShardProgress(f"import from {from_}", None) as progress:
        report = import_dataset(
            path, from_, out, spec=spec, convention=convention, omega_0=omega_0,
            first_omega_0=first_omega_0, output_bias=output_bias, order=order,
            targets=targets, activation=activation, frequencies=frequencies, first_frequency=first_frequency,
            coordinates=False if no_coordinates else None, source=source, data_root=data_root, splits=splits, allow_missing=allow_missing,
            num_signals=num_signals, classes=classes, size=size, shard_objects=shard_objects, no_sidecar=no_sidecar,
            unchecked=unchecked, on_shard=progress,
        )  # fmt: skip
    manifest, check = report.manifest, report.check
    best_db = None if check is None else round(max(check.requested_db, check.best_db), 2)
    if as_json:
        terminal.print_json({
            "out": str(out), "format": from_, "inrs": manifest.rows, "views": manifest.views, "made_shards": report.made,
            "splits": {split: part.objects for split, part in manifest.splits.items()}, "spec": str(manifest.siren_spec),
            "checked_db": best_db, "remarks": list(report.remarks),
        })  # fmt: skip
    elif not report.made:
        terminal.print_result(f"nothing to do: {out} has all {format_count(len(manifest.shards), 'shard')}")
    else:
        checked = ""
        if check is not None:
            checked = f"; rendered, their median is {check.requested_db if check.fits else check.best_db:.1f} dB"
        terminal.print_result(
            f"{out}: {manifest.rows:,} INRs, {format_count(manifest.views, 'view')}, {manifest.siren_spec}{checked}"
        )
    for remark in report.remarks:
        terminal.log_info(remark)
