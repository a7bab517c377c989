"""What `show` does for a set of shapes: a picture, a table of distances, and surfaces as files."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inr_factory.cli import terminal
from inr_factory.errors import FactoryError
from inr_factory.reporting.number_format import format_count

if TYPE_CHECKING:
    from inr_factory.generation.signals import Source
    from inr_factory.storage.manifest import Manifest, ShardEntry

COLUMNS = ("object", "class", "view", "dB", "IoU", "distance error", "INR to source", "source to INR", "chamfer")

NOTE = """
INR to source, source to INR: mean distance from one surface to the other; chamfer: the mean of both. In the units of
each object's own file. distance error: of the values of the field, in the INR's coordinates, [-1, 1].
"""


def show_shapes(
    dataset: Path,
    manifest: "Manifest",
    chosen: "Sequence[tuple[ShardEntry, int]]",
    source: "Source | None",
    picture: Path,
    meshes: Path | None,
    suffix: str,
    resolution: int,
    as_json: bool,
) -> None:
    """Draw the chosen INRs into `picture`, say how far they are from their sources, write their surfaces to `meshes`.

    Raises FactoryError in the end where surfaces were to be written and INRs have none.
    """
    from inr_factory.reporting.plots import draw_columns
    from inr_factory.reporting.shape_gallery import ROWS, surfaces_and_sources, write_surface

    columns, rows, results, empty = [], [], [], []
    for shown in surfaces_and_sources(dataset, manifest, chosen, source, resolution):
        name = f"{shown.object_id}, view {shown.view}"
        if shown.remark:
            terminal.log_info(f"without the source of {name}: {shown.remark}")
        if len(shown.surface.faces) == 0:
            empty.append(name)
            terminal.log_info(f"no surface: the INR of {name} crosses its level nowhere")
        path = write_surface(shown, meshes, suffix) if meshes is not None and len(shown.surface.faces) else None
        distances = (shown.to_source, shown.to_inr, shown.chamfer)
        overlap, error = (shown.quality.get(measure, math.nan) for measure in ("iou", "distance_error"))
        columns.append((shown.title, shown.pictures))
        measures = map(_cell, (overlap, error, *distances))
        rows.append((shown.object_id, shown.class_name, shown.view, f"{shown.psnr:.2f}", *measures))
        results.append({
            "object_id": shown.object_id, "class": shown.class_name, "view": shown.view,
            "psnr": _number(shown.psnr), "iou": _number(overlap), "distance_error": _number(error),
            **{key: _number(value) for key, value in zip(("to_source", "to_inr", "chamfer"), distances, strict=True)},
            "mesh": str(path) if path else None,
        })  # fmt: skip
    drawn = [row for row in ROWS if any(row in pictures for _, pictures in columns)]
    draw_columns(columns, drawn, picture, f"{manifest.name}: {manifest.siren_spec}", inches=1.8)
    result: dict[str, Any] = {"picture": str(picture), "inrs": len(rows), "shapes": results}
    if as_json:
        terminal.print_json(result)
    else:
        terminal.print_table(COLUMNS, rows)
        terminal.print_result(NOTE)
        written = len(rows) - len(empty)
        terminal.print_result(f"{picture}: {len(rows)} INRs")
        if meshes is not None:
            terminal.print_result(f"{meshes}: {format_count(written, 'surface')}")
    if meshes is not None and empty:
        raise FactoryError(f"{len(empty)} of {len(rows)} INRs have no surface to write: {'; '.join(empty[:3])}")


def _cell(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else "-"


def _number(value: float) -> float | None:
    """JSON has no NaN."""
    return value if math.isfinite(value) else None
