"""`import` and `export`: other projects' formats, in and out."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from inr_factory.cli import terminal
from inr_factory.cli.known_names import CONVENTIONS, FORMATS
from inr_factory.cli.progress_bars import ShardProgress
from inr_factory.cli.shared_options import DataRoot, Folder, Json
from inr_factory.errors import UsageError
from inr_factory.reporting.number_format import format_count

KNOWN = ", ".join(FORMATS)
CONVENTION = ", ".join(CONVENTIONS)


def export(
    dataset: Folder,
    to: Annotated[str, typer.Option("--to", help=KNOWN, show_default=False, metavar="FORMAT")],
    out: Annotated[Path, typer.Option(help="folder of the export; must not be there yet", show_default=False)],
    views: Annotated[int | None, typer.Option(help="only the first so many views", show_default=False)] = None,
    convention: Annotated[
        str | None,
        typer.Option(
            help=f"of the numbers: {CONVENTION}; else the format's own, if it can be reached exactly",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a set in another project's format, with a sidecar that says what the format cannot."""
    from inr_factory.interop.export import export_folder
    from inr_factory.storage.manifest_file import load_manifest

    with ShardProgress(f"export to {to}", len(load_manifest(dataset).shards)) as progress:
        report = export_folder(dataset, to, out, convention, views, progress)
    if as_json:
        terminal.print_json({
            "out": str(out), "format": to, "inrs": report.inrs, "files": report.files, "convention": report.convention,
            "remarks": list(report.remarks),
        })  # fmt: skip
    elif report.files == 0:
        terminal.print_result(f"nothing to do: {out} is this export")
    else:
        files = f"{format_count(report.files, 'file')}"
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
        str | None, typer.Option(help=f"{CONVENTION}; else the format's own", show_default=False)
    ] = None,
    omega_0: Annotated[float | None, typer.Option("--omega-0", help="of the sine layers", show_default=False)] = None,
    output_bias: Annotated[
        float | None, typer.Option(help="what their code adds to the output", show_default=False)
    ] = None,
    order: Annotated[str | None, typer.Option(help="of the coordinates: xy or rowcol", show_default=False)] = None,
    targets: Annotated[
        str | None,
        typer.Option(help="range: unit, signed, imagenet, cifar10, mnist, raw or MEAN/STD", show_default=False),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(help="recipe of the objects; INRs are rendered and compared with them", show_default=False),
    ] = None,
    data_root: DataRoot = None,
    splits: Annotated[
        Path | None, typer.Option(help="splits.json; else the one in PATH, if there is one", show_default=False)
    ] = None,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="files that the splits name may be missing")
    ] = False,
    num_signals: Annotated[
        int | None, typer.Option(help="objects of a view, where rows are counted on (fit-a-nef)", show_default=False)
    ] = None,
    classes: Annotated[
        str | None, typer.Option(help="how many, or their names with commas", show_default=False)
    ] = None,
    size: Annotated[
        str | None, typer.Option(help="HEIGHTxWIDTH of the images, where no source says it", show_default=False)
    ] = None,
    shard_objects: Annotated[int, typer.Option(help="objects of a shard", min=1, max=1_000_000)] = 500,
    no_sidecar: Annotated[bool, typer.Option("--no-sidecar", help="go without inr_factory.json")] = False,
    unchecked: Annotated[bool, typer.Option("--unchecked", help="import what does not show its images, too")] = False,
    as_json: Json = False,
) -> None:
    """Make a set of another project's INRs; what its files do not say is a convention's, or checked against --source."""
    from inr_factory.generation.recipe import load_recipe
    from inr_factory.interop.format import Hints
    from inr_factory.interop.import_dataset import import_folder
    from inr_factory.interop.import_options import ImportOptions

    options = ImportOptions(
        convention=convention, omega_0=omega_0, output_bias=output_bias, order=order, targets=targets,
        hints=Hints(splits, num_signals, _dims(spec), allow_missing), use_sidecar=not no_sidecar,
        source=None if source is None else load_recipe(source), data_root=data_root, unchecked=unchecked,
        classes=_classes(classes), size=_size(size), shard_objects=shard_objects,
    )  # fmt: skip
    with ShardProgress(f"import from {from_}", None) as progress:
        report = import_folder(path, from_, out, options, progress)
    manifest, verdict = report.manifest, report.verdict
    median = None if verdict is None else round(max(verdict.asked_db, verdict.best_db), 2)
    if as_json:
        terminal.print_json({
            "out": str(out), "format": from_, "inrs": manifest.rows, "views": manifest.views, "made_shards": report.made,
            "splits": {split: part.objects for split, part in manifest.splits.items()}, "spec": str(manifest.siren_spec),
            "checked_db": median, "remarks": list(report.remarks),
        })  # fmt: skip
    elif not report.made:
        terminal.print_result(f"nothing to do: {out} has all {len(manifest.shards):,} shards")
    else:
        checked = "" if verdict is None else f"; rendered, their median is {verdict.asked_db:.1f} dB"
        if verdict is not None and not verdict.fits:
            checked = f"; rendered, their median is {verdict.best_db:.1f} dB"
        terminal.print_result(
            f"{out}: {manifest.rows:,} INRs, {format_count(manifest.views, 'view')}, {manifest.siren_spec}{checked}"
        )
    for remark in report.remarks:
        terminal.log_info(remark)


def _dims(text: str | None) -> tuple[int, ...] | None:
    """2-32-32-1, or 3-512x4-1: four layers of 512."""
    if text is None:
        return None
    dims: list[int] = []
    for part in text.split("-"):
        found = re.fullmatch(r"(\d{1,5})(?:x(\d{1,2}))?", part)
        if found is None or int(found[1]) == 0:
            raise UsageError(f"--spec takes dims as 2-32-32-1 or 3-512x4-1, got {text!r}")
        dims += [int(found[1])] * int(found[2] or 1)
    if len(dims) < 3 or len(set(dims[1:-1])) != 1:
        raise UsageError(f"--spec needs hidden layers of one width between inputs and outputs, got {text!r}")
    return tuple(dims)


def _classes(text: str | None) -> tuple[str, ...] | int | None:
    if text is None:
        return None
    names: Sequence[str] = [name.strip() for name in text.split(",")]
    if len(names) == 1 and names[0].isdigit() and 1 <= int(names[0]) <= 100_000:
        return int(names[0])
    if len(names) < 2 or not all(names) or len(set(names)) < len(names):
        raise UsageError(f"--classes takes a number, or different names with commas, got {text!r}")
    return tuple(names)


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    found = re.fullmatch(r"(\d{1,4})x(\d{1,4})", text)
    if found is None or "0" in found.groups():
        raise UsageError(f"--size takes HEIGHTxWIDTH, got {text!r}")
    return int(found[1]), int(found[2])
