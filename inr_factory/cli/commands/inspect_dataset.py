"""`status`, `verify` and `show`: contents, integrity and pictures of a set."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from inr_factory.cli import terminal
from inr_factory.cli.commands.watch import watch_set
from inr_factory.cli.progress_bars import ShardProgress
from inr_factory.cli.shared_messages import log_quarantine, print_remarks, quarantined_text, remarks_json
from inr_factory.cli.shared_options import (
    DataRoot,
    DatasetFolder,
    DatasetLocation,
    Json,
)
from inr_factory.errors import FactoryError, IntegrityError, PartialError
from inr_factory.reporting.number_format import format_count

if TYPE_CHECKING:
    from inr_factory.reporting.show_dataset import ShapeMeasures

SHAPE_COLUMNS = (
    "object",
    "class",
    "view",
    "dB",
    "explained",
    "IoU",
    "distance error",
    "F-score",
    "normals",
    "INR to source",
    "source to INR",
    "chamfer",
)
SHAPE_NOTE = """
INR to source, source to INR: mean distance from one surface to the other; chamfer: the mean of both. In the units of
each object's own file. distance error: of the values of the field, in the INR's coordinates, [-1, 1]. F-score, normals:
of the set's columns fscore and normals.
"""


def status(
    dataset: DatasetLocation,
    quarantine: Annotated[bool, typer.Option("--quarantine", help="list every object in quarantine")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="repeat until nothing is missing")] = False,
    every: Annotated[float, typer.Option(help="seconds between two checks of --watch", min=0.1)] = 5.0,
    as_json: Json = False,
) -> None:
    """Show what a set holds and what is missing. Exit code 75 while something is missing."""
    from inr_factory.reporting.dataset_status import dataset_status
    from inr_factory.storage.source_place import continue_command

    if watch:
        watch_set(dataset, every, as_json)
        if as_json:
            return
    report = dataset_status(dataset)
    manifest, source = report.manifest, report.manifest.source
    qualities = list(dict.fromkeys(name for part in report.parts for name in part.quality))
    columns = ["split", "view", "shards", "INRs", *[f"median {name}" for name in qualities], "median dB", "lowest dB"]
    columns += ["quarantined"]
    rows = [
        (
            part.split, part.view, f"{part.shards} of {part.expected_shards}", part.inrs,
            *[part.quality.get(name) for name in qualities],
            None if part.median_psnr is None else round(part.median_psnr, 2), part.lowest_psnr, part.quarantined,
        )
        for part in report.parts
    ]  # fmt: skip
    if as_json:
        terminal.print_json({
            "name": manifest.name, "spec": str(manifest.siren_spec), "source": source.model_dump(),
            "classes": list(manifest.classes), "views": manifest.views, "inrs": manifest.rows, "bytes": report.bytes,
            "targets": [column.model_dump() for column in manifest.targets.columns] if manifest.targets else [],
            "missing_shards": list(report.missing), "command": report.command,
            "quarantine": [row.model_dump() for row in manifest.quarantine],
            "passed_over": manifest.passed_over and manifest.passed_over.model_dump(),
            "remarks": remarks_json(manifest.remarks),
            "parts": [dict(zip(columns, row, strict=True)) for row in rows],
        })  # fmt: skip
    else:
        terminal.print_result(
            f"{manifest.name}: {manifest.rows:,} INRs, {manifest.siren_spec}, {report.bytes / 1e6:,.1f} MB in {dataset}"
        )
        terminal.print_result(
            f"of {source.name} ({source.version}; licence: {source.licence}), {format_count(len(manifest.classes), 'class')}"
        )
        if manifest.targets is not None:
            terminal.print_result(f"targets: {', '.join(map(str, manifest.targets.columns))}")
        terminal.print_result("")
        terminal.print_table(columns, [["-" if cell is None else cell for cell in row] for row in rows])
        print_remarks(manifest.remarks)
    for line in () if manifest.passed_over is None else manifest.passed_over.lines():
        terminal.log_info(line)
    if not quarantine:
        log_quarantine(manifest.quarantine)
    elif not as_json:
        for row in manifest.quarantine:
            terminal.print_result(f"quarantine: {quarantined_text(row)}")
    if report.missing:
        raise PartialError(f"missing: {format_count(len(report.missing), 'shard')}; continue: {report.command}")
    if not as_json and manifest.derived is None:
        from_file = manifest.recipe.get("fit", {}).get("starts") == "file"  # which may have no INR for another view
        more = continue_command(dataset, manifest, views=None if from_file else manifest.views + 1)
        larger = f"{' with' if from_file else ', or'} a larger --limit" if manifest.limits[-1] else ""
        if larger or not from_file:
            terminal.log_info(f"to extend it: {more}{larger}")


def verify(
    dataset: DatasetLocation,
    render: Annotated[bool, typer.Option("--render", help="render the INRs again and compare with the source")] = False,
    data_root: DataRoot = None,
    as_json: Json = False,
) -> None:
    """Check the record and every shard against their checksums, and the INRs against their source.

    Exit code 4 means faults, which are named; `repair` removes them.
    """
    from inr_factory.generation.maintenance.verify import verify_dataset
    from inr_factory.storage.source_place import continue_command

    with ShardProgress("verify", None) as progress:
        report = verify_dataset(dataset, render=render, data_root=data_root, on_shard=progress)
    total, rendered, faults, missing = len(report.manifest.shards), report.rendered, report.faults, report.missing
    if as_json:
        result: dict[str, Any] = {"shards": total, "inrs": report.manifest.rows, "made_by": report.made_by}
        if rendered is not None:
            result |= {"rendered": rendered.inrs, "median_psnr": round(rendered.median_psnr, 3)}
            result |= {"max_psnr_gap": round(rendered.max_psnr_gap, 5)}
        terminal.print_json({**result, "missing_shards": list(missing), "faults": [vars(fault) for fault in faults]})
    else:
        terminal.print_result(f"{report.valid:,} of {total:,} shards are valid")
        if len(report.made_by) > 1:
            counts = ", ".join(f"{count:,} {engine}" for engine, count in report.made_by.items())
            terminal.print_result(f"shards of several engines, which agree within rounding: {counts}")
        if rendered is not None:
            terminal.print_result(
                f"{rendered.inrs:,} INRs rendered again: median {rendered.median_psnr:.2f} dB, at most "
                f"{rendered.max_psnr_gap:.4f} dB different from the shards"
            )
    if faults:
        for fault in faults:
            terminal.log_error(f"fault: {fault.reason}")
        raise IntegrityError(
            f"{format_count(len(faults), 'fault')} in {dataset}: {', '.join(f.path for f in faults[:3])}"
        )
    if missing:
        terminal.log_error(
            f"not made yet: {format_count(len(missing), 'shard')}; continue: {continue_command(dataset, report.manifest, True)}"
        )


def show(
    dataset: DatasetFolder,
    picture: Annotated[
        Path | None, typer.Option("--out", help="PNG to write; default: DATASET/preview.png", show_default=False)
    ] = None,
    count: Annotated[
        int | None,
        typer.Option(help="how many INRs; else one of each class, 10 to 30", min=1, max=60, show_default=False),
    ] = None,
    split: Annotated[str | None, typer.Option(help="train, val or test", show_default=False)] = None,
    objects: Annotated[
        list[str] | None, typer.Option("--object", help="all views of this object; repeatable", show_default=False)
    ] = None,
    data_root: DataRoot = None,
    meshes: Annotated[
        Path | None,
        typer.Option(
            "--mesh", help="folder for the surfaces of INRs of shapes, in their own units", show_default=False
        ),
    ] = None,
    mesh_format: Annotated[Literal["ply", "glb"], typer.Option("--format", help="format of those files")] = "ply",
    resolution: Annotated[int, typer.Option(help="points along each side, for surfaces", min=8, max=512)] = 128,
    as_json: Json = False,
) -> None:
    """Draw INRs and what they were fitted to into a PNG: images with the difference, shapes with distances."""
    from inr_factory.reporting.show_dataset import show_dataset

    report = show_dataset(
        dataset, picture, count=count, split=split, objects=objects or [], data_root=data_root, mesh=meshes,
        format=mesh_format, resolution=resolution, on_note=terminal.log_info,
    )  # fmt: skip
    result: dict[str, Any] = {"picture": str(report.picture), "inrs": report.inrs}
    if report.shapes:
        result["shapes"] = [_shape_fields(shape) for shape in report.shapes]
    if as_json:
        terminal.print_json(result)
    else:
        if report.shapes:
            terminal.print_table(SHAPE_COLUMNS, [_shape_cells(shape) for shape in report.shapes])
            terminal.print_result(SHAPE_NOTE)
        terminal.print_result(f"{report.picture}: {report.inrs} INRs")
        if meshes is not None:
            written = sum(shape.has_surface for shape in report.shapes)
            terminal.print_result(f"{meshes}: {format_count(written, 'surface')}")
    empty = [f"{shape.object_id}, view {shape.view}" for shape in report.shapes if not shape.has_surface]
    if meshes is not None and empty:
        raise FactoryError(f"{len(empty)} of {report.inrs} INRs have no surface to write: {'; '.join(empty[:3])}")


def _measures(shape: "ShapeMeasures") -> dict[str, float]:
    names = ("psnr", "explained", "iou", "distance_error", "fscore", "normals", "to_source", "to_inr", "chamfer")
    return {name: getattr(shape, name) for name in names}


def _shape_fields(shape: "ShapeMeasures") -> dict[str, Any]:
    """A shape as JSON, which has no NaN."""
    measures = {name: value if math.isfinite(value) else None for name, value in _measures(shape).items()}
    mesh = str(shape.mesh) if shape.mesh else None
    return {"object_id": shape.object_id, "class": shape.class_name, "view": shape.view, **measures, "mesh": mesh}


def _shape_cells(shape: "ShapeMeasures") -> tuple[object, ...]:
    psnr, *others = _measures(shape).values()
    cells = [f"{value:.4g}" if math.isfinite(value) else "-" for value in others]
    return (shape.object_id, shape.class_name, shape.view, f"{psnr:.2f}", *cells)
