"""Show: a PNG of stored INRs next to what they were fitted to, with distances and surfaces for shapes."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from inr_factory.errors import UsageError
from inr_factory.generation.maintenance.dataset_source import open_dataset_source
from inr_factory.generation.signals import Source
from inr_factory.reporting.figures import check_png
from inr_factory.reporting.image_gallery import Reconstruction, choose_views, reconstruct
from inr_factory.reporting.image_grid import Column, Image, draw_columns, reconstruction
from inr_factory.reporting.number_format import format_count
from inr_factory.reporting.palette import SCALE
from inr_factory.reporting.shape_gallery import SHOWN, ShapeComparison, surfaces_and_sources, write_surface
from inr_factory.storage.fetch_dataset import fetch_dataset
from inr_factory.storage.locations import Location, RemoteLocation, parse_location
from inr_factory.storage.manifest import Manifest, ShardEntry
from inr_factory.storage.manifest_file import load_manifest

OnNote = Callable[[str], None]


@dataclass(frozen=True)
class ShapeMeasures:
    """How far one INR's surface is from its source: NaN where a measure is unknown. `explained` is the share of the
    signal's variance; `fscore` and `normals` are those of the shard.

    Distances are in the units of the object's own file; `mesh` is the file of the surface, where one was written.
    """

    object_id: str
    class_name: str
    view: int
    psnr: float
    iou: float
    distance_error: float
    to_source: float
    to_inr: float
    chamfer: float
    has_surface: bool
    mesh: Path | None
    explained: float = math.nan
    fscore: float = math.nan
    normals: float = math.nan


@dataclass(frozen=True)
class ShowReport:
    """The picture that was written, the number of INRs in it, and for shapes their measures."""

    picture: Path
    inrs: int
    shapes: tuple[ShapeMeasures, ...] = ()


def show_dataset(
    dataset: str | Path | RemoteLocation,
    out: str | Path | None = None,
    *,
    count: int | None = None,
    split: str | None = None,
    objects: Sequence[str] = (),
    data_root: str | Location | None = None,
    mesh: str | Path | None = None,
    format: Literal["ply", "glb"] = "ply",
    resolution: int = 128,
    on_note: OnNote = lambda _: None,
) -> ShowReport:
    """Draw INRs of a data set next to what they were fitted to: images with the difference, shapes with distances.

    Args:
        dataset: folder or URL of the set.
        out: PNG to write; None writes preview.png into the set.
        count: number of INRs of the first view, equally many of each class; 1 to 60. None: one of each class, at least
            10, and at most 30 images.
        split: train, val or test; None draws from all.
        objects: object ids; all views of these are drawn instead of `count` INRs.
        data_root: folder or URL of the source's files.
        mesh: folder for the surfaces of INRs of shapes, in the units of their objects; None writes none.
        format: of those files.
        resolution: points along each side of the grid on which surfaces are extracted, 8 to 512.
        on_note: called with remarks, such as a source that is not available.

    Returns:
        The picture, and the measures of each shape.

    Raises:
        UsageError: for an unknown split or object, an empty set, or INRs that are neither images nor shapes, or a picture
            that is no PNG.
        IntegrityError: for a shard that is not as recorded.
    """
    check_png(out)
    root = fetch_dataset(dataset)
    manifest = load_manifest(root)
    picture = root / "preview.png" if out is None else Path(out)
    inputs = manifest.siren_spec.in_dim
    if inputs not in (2, 3):
        raise UsageError(f"show draws images and shapes, {dataset} has INRs of {inputs} inputs")
    if mesh is not None and inputs != 3:
        raise UsageError(f"--mesh is for sets of shapes, {dataset} has INRs of {inputs} inputs")
    if count is None:
        count = min(max(10, len(manifest.classes)), 30 if inputs == 2 else 10)
    if not 1 <= count <= 60 or not 8 <= resolution <= 512:
        raise UsageError(f"--count must be from 1 to 60 and --resolution from 8 to 512, got {count} and {resolution}")
    chosen = choose_views(root, manifest, count, split, objects)
    # Distances from other shapes of the same names would be wrong without a warning.
    sources = None if data_root is None else parse_location(data_root)
    source, obstacle = open_dataset_source(manifest, root, sources, check=inputs == 3)
    if obstacle:
        on_note(f"without the sources: {obstacle}")
    if inputs == 3:
        folder = None if mesh is None else Path(mesh)
        return _show_shapes(root, manifest, chosen, source, picture, folder, f".{format}", resolution, split, on_note)
    images = reconstruct(root, manifest, chosen, source, on_note)
    _draw(manifest, split, images, [reconstruction(one.inr, one.source) for one in images], picture)
    return ShowReport(picture, len(images))


def _draw(
    manifest: Manifest,
    split: str | None,
    shown: Sequence[Reconstruction | ShapeComparison],
    pictures: Sequence[Mapping[str, Image]],
    picture: Path,
) -> None:
    """Write the picture of INRs: what it shows, of which split and view, and what its numbers and colours are."""
    views = sorted({one.view for one in shown})
    kinds, known = len({one.label for one in shown}), len(manifest.classes)
    inrs = (
        f"{format_count(len(shown), 'INR')} of {f'{kinds} of ' if kinds < known else ''}{format_count(known, 'class')}"
    )
    sentences = [
        f"{inrs}, {f'split {split}' if split else 'all splits'}, view{'s' * (len(views) > 1)} {', '.join(map(str, views))}; {manifest.siren_spec}"
    ]
    sentences += ["dB: PSNR"] + ["%: share of the variance explained"] * any("%" in one.measures[-1] for one in shown)
    with_sources = any("source" in row for images in pictures for row in images)
    is_shapes = manifest.siren_spec.in_dim == 3
    if with_sources and not is_shapes:
        sentences.append(SCALE)
    changed = any(one.change for one in shown)
    columns = [
        Column(
            (
                one.class_name,
                one.object_id,
                *[f"view {one.view}"] * (len(views) > 1),
                *[one.change] * changed,
                *one.measures,
            ),
            images,
            one.label,
        )
        for one, images in zip(shown, pictures, strict=True)
    ]
    title = f"{manifest.name}: {'surfaces of INRs' if is_shapes else 'INRs of images'}"
    title += (" and their sources" if is_shapes else ", their sources and differences") if with_sources else ""
    shape = {"least": 1.05, "label": 0.95} if is_shapes else {}
    draw_columns(columns, picture, title, ". ".join(sentences), **shape)


def _show_shapes(
    root: Path,
    manifest: Manifest,
    chosen: Sequence[tuple[ShardEntry, int]],
    source: Source | None,
    picture: Path,
    folder: Path | None,
    suffix: str,
    resolution: int,
    split: str | None,
    on_note: OnNote,
) -> ShowReport:
    shown, shapes = [], []
    for shape in surfaces_and_sources(root, manifest, chosen, source, resolution):
        name = f"{shape.object_id}, view {shape.view}"
        has_surface = len(shape.surface.faces) > 0
        if shape.remark:
            on_note(f"without the source of {name}: {shape.remark}")
        if not has_surface:
            on_note(f"no surface: the INR of {name} crosses its level nowhere")
        path = write_surface(shape, folder, suffix) if folder is not None and has_surface else None
        stored = {name: shape.quality.get(name, math.nan) for name in SHOWN}
        shown.append(shape)
        shapes.append(
            ShapeMeasures(
                shape.object_id,
                shape.class_name,
                shape.view,
                shape.psnr,
                to_source=shape.to_source,
                to_inr=shape.to_inr,
                chamfer=shape.chamfer,
                has_surface=has_surface,
                mesh=path,
                **stored,
            )
        )
    _draw(manifest, split, shown, [shape.pictures for shape in shown], picture)
    return ShowReport(picture, len(shapes), tuple(shapes))
