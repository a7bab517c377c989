"""Renderings: INRs of images with their sources, and INRs of shapes from all around, for the page.

Shape letters: H height, W width, O values of a pixel.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inr_factory.errors import UsageError, needs_extra
from inr_factory.generation.geometry.mesh import Mesh
from inr_factory.generation.geometry.rasterizer import Camera, shade_mesh, shade_points
from inr_factory.generation.signals import Source
from inr_factory.reporting.html.png_data_uri import image_uri, shades_uri
from inr_factory.reporting.html.sampling import RowLocations
from inr_factory.reporting.image_gallery import reconstruct
from inr_factory.reporting.number_format import format_explained
from inr_factory.reporting.palette import signed_colors
from inr_factory.reporting.shape_gallery import COLORS, ShapeComparison, surfaces_and_sources
from inr_factory.storage.manifest import Manifest
from inr_factory.storage.shards import ShardReader

with needs_extra("report"):
    from markupsafe import Markup

Image = NDArray[np.float32]

MOST_PIXELS = 96  # along each side of a picture in the page
RESOLUTION = 56  # points along each side of the cube in which a surface is looked for
FRAMES, FRAME_SIDE, ELEVATION = 24, 152, 18.0


@dataclass(frozen=True)
class RenderedINR:
    """One INR with what it was fitted to: `pictures` (what, data URI) and the `facts` (name, value) below them."""

    object_id: str
    class_name: str
    view: int
    facts: tuple[tuple[str, str], ...]
    pictures: tuple[tuple[str, str], ...]


def can_draw(root: Path, manifest: Manifest, locations: RowLocations) -> None:
    """Raise UsageError where INRs are neither images of one or three values nor shapes of one, or have no size."""
    spec = manifest.siren_spec
    if (spec.in_dim, spec.out_dim) not in ((2, 1), (2, 3), (3, 1)):
        raise UsageError(f"INRs of {spec.in_dim} inputs and {spec.out_dim} outputs are neither images nor surfaces")
    if spec.in_dim == 2 and locations:
        missing = {"height", "width"} - set(ShardReader(root, locations[0][0], check=False).column_names)
        if missing:
            raise UsageError(f"the shards do not say the {' and '.join(sorted(missing))} of their images")


def images(root: Path, manifest: Manifest, locations: RowLocations, source: Source | None) -> list[RenderedINR]:
    """INRs of images, in the order of the locations."""
    rendered = []
    for (entry, row), one in zip(locations, reconstruct(root, manifest, locations, source), strict=True):
        shard = ShardReader(root, entry, check=False)
        pictures = [("INR", image_uri(smaller(one.inr)))]
        if one.source is not None:
            difference = one.inr - one.source
            pictures = [("source", image_uri(smaller(one.source))), *pictures]
            pictures += [("difference", image_uri(signed_colors(smaller(difference))))]
        facts = [("", f"{float(shard.column('psnr')[row]):.1f} dB")]
        if "explained" in shard.column_names:
            facts.append(("", format_explained(float(shard.column("explained")[row]))))
        facts += [("changed", one.change)] if one.change else []
        rendered.append(_rendered(shard, row, manifest, tuple(facts), tuple(pictures)))
    return rendered


def _rendered(shard: ShardReader, row: int, manifest: Manifest, facts: Any, pictures: Any) -> RenderedINR:
    name = bytes(shard.column("object_id")[row]).decode()
    return RenderedINR(
        name, manifest.classes[int(shard.column("label")[row])], int(shard.column("view")[row]), facts, pictures
    )


def smaller(image: Image) -> Image:
    """(H, W, O) with at most MOST_PIXELS along each side: means of blocks of pixels."""
    factor = -(-max(image.shape[:2]) // MOST_PIXELS)
    if factor == 1:
        return image
    height, width = (side // factor * factor for side in image.shape[:2])
    if not height or not width:  # a strip thinner than a block
        return image[::factor, ::factor]
    blocks = image[:height, :width].reshape(height // factor, factor, width // factor, factor, -1)
    smaller: Image = blocks.mean(axis=(1, 3))
    return smaller


def shapes(root: Path, manifest: Manifest, locations: RowLocations, source: Source | None) -> Iterator[RenderedINR]:
    """INRs of shapes as strips of FRAMES pictures from all around, one by one since each takes seconds."""
    for one in surfaces_and_sources(root, manifest, locations, source, RESOLUTION):
        solids: dict[str, Mesh | NDArray[np.float64]] = {} if one.source is None else {"source": one.source}
        solids["INR"] = one.surface
        reach = 1.03 * max(map(_reach, solids.values())) or 1.0
        strips = tuple((what, _strip(solid, reach, COLORS[what])) for what, solid in solids.items())
        yield RenderedINR(one.object_id, one.class_name, one.view, tuple(_shape_facts(one)), strips)


def _shape_facts(one: ShapeComparison) -> Iterator[tuple[str, str]]:
    if "iou" in one.quality:
        yield "IoU", f"{one.quality['iou']:.3f}"
    if "fscore" in one.quality:
        yield "F-score", f"{one.quality['fscore']:.3f}"
    yield "", f"{one.psnr:.1f} dB"
    if "explained" in one.quality:
        yield "", format_explained(one.quality["explained"])
    if one.change:
        yield "changed", one.change
    if np.isfinite(one.chamfer):
        yield "surfaces", f"{one.chamfer / one.scale:.4f} apart"
    if not len(one.surface.faces):
        yield "", "no surface: it crosses its level nowhere"
    if one.remark:
        yield "without its source", one.remark


def _reach(solid: Mesh | NDArray[np.float64]) -> float:
    points = solid.corners.reshape(-1, 3) if isinstance(solid, Mesh) else solid
    return float(np.linalg.norm(points, axis=1).max(initial=0.0))


def _strip(solid: Mesh | NDArray[np.float64], reach: float, color: tuple[float, float, float]) -> str:
    """Pictures from FRAMES directions, side by side in one PNG: a red solid, so that red less green is its brightness
    and green what is seen of the ground."""
    frames = []
    for frame in range(FRAMES):
        camera = Camera("", 360 * frame / FRAMES, ELEVATION)
        if isinstance(solid, Mesh):
            frames.append(shade_mesh(solid, camera, FRAME_SIDE, reach, (1.0, 0.0, 0.0)))
        else:
            frames.append(shade_points(solid, camera, FRAME_SIDE, reach, (1.0, 0.0, 0.0)))
    strip = np.concatenate(frames, axis=1)
    ground = strip[:, :, 1]
    shade = (strip[:, :, 0] - ground) / np.maximum(1 - ground, 1e-6)
    return shades_uri(shade, 1 - ground, color)


def style(pictures: tuple[tuple[str, str], ...]) -> Markup:
    """The strips as CSS variables, so that the page holds each once."""
    return Markup("".join(f"--strip{at}:url({uri});" for at, (_, uri) in enumerate(pictures)))
