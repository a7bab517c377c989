"""Shape gallery: the surfaces of stored INRs and the shapes they were fitted to: pictures, distances, files.

Shape letters: V vertices, S points, H pixels along each side of a picture.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import numpy as np
import torch
from numpy.typing import NDArray

from inr_factory.errors import IntegrityError, UsageError
from inr_factory.generation.execution.content_check import refuse_changed
from inr_factory.generation.geometry.distances import mean_distances
from inr_factory.generation.geometry.level_set import LEVELS, extract_surface
from inr_factory.generation.geometry.mesh import Mesh
from inr_factory.generation.geometry.mesh_files import mesh_content
from inr_factory.generation.geometry.rasterizer import CAMERAS, Camera, Image, shade_mesh, shade_points
from inr_factory.generation.signals import Field, SignalError, Source
from inr_factory.generation.sources.changed_views import change_of_row, changed_shape, describe_change
from inr_factory.generation.sources.shape_collections import PrimitiveShapes, ShapeFiles
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.stable_hash import seeded
from inr_factory.reporting.number_format import format_explained
from inr_factory.storage.atomic_files import make_folder, write_atomically
from inr_factory.storage.manifest import Manifest, ShardEntry
from inr_factory.storage.shards import ShardReader

Floats = NDArray[np.float64]

NUM_POINTS = 20_000  # on each surface, from which distances are measured
SIDE = 240
SHOWN = ("explained", "iou", "distance_error", "fscore", "normals")  # of the shard's measures
COLORS = {"source": (0.86, 0.86, 0.84), "INR": (0.62, 0.76, 0.93)}
ROWS = tuple(f"{what}, {camera.name}" for camera in CAMERAS for what in COLORS)


@dataclass(frozen=True)
class ShapeComparison:
    """The surface of a stored INR and its source, both in the coordinates of the signal, changed as `change` says.

    original = coords * scale + center (3,). `source` is None where it is not available; `remark` is the reason.
    `quality` has those of SHOWN that the shard has and that apply to its field.
    `to_source` and `to_inr` are mean distances from the INR's surface to the source's and back, in the units of the
    object's own file; NaN where one of the two is missing.
    """

    object_id: str
    class_name: str
    view: int
    psnr: float
    quality: Mapping[str, float]
    surface: Mesh
    source: Mesh | Floats | None
    scale: float
    center: Floats
    to_source: float
    to_inr: float
    remark: str | None
    label: int | None = None
    change: str = ""

    @property
    def chamfer(self) -> float:
        """The mean of both distances."""
        return (self.to_source + self.to_inr) / 2

    @property
    def measures(self) -> tuple[str, ...]:
        """PSNR, and the other measures that are known, for its caption."""
        explained = [format_explained(self.quality["explained"])] if "explained" in self.quality else []
        overlap = [f"IoU {self.quality['iou']:.3f}"] if "iou" in self.quality else []
        error = [f"distance error {self.quality['distance_error']:.4f}"] if "distance_error" in self.quality else []
        return (f"{self.psnr:.1f} dB", *overlap, *explained, *error)

    @property
    def pictures(self) -> dict[str, Image]:
        """Row of ROWS -> (H, H, 3) in [0, 1]; source and INR in the same frame, from each of CAMERAS."""
        shapes = {"INR": self.surface} if self.source is None else {"source": self.source, "INR": self.surface}
        reach = 1.03 * max(map(_reach, shapes.values()))
        return {
            f"{what}, {camera.name}": _shade(shape, camera, reach or 1.0, COLORS[what])
            for camera in CAMERAS
            for what, shape in shapes.items()
        }


def _reach(shape: Mesh | Floats) -> float:
    """The largest distance from the origin of its triangles or points; 0 where there are none."""
    points = shape.corners.reshape(-1, 3) if isinstance(shape, Mesh) else shape
    return float(np.linalg.norm(points, axis=1).max(initial=0.0))


def _shade(shape: Mesh | Floats, camera: Camera, reach: float, color: tuple[float, float, float]) -> Image:
    if isinstance(shape, Mesh):
        return shade_mesh(shape, camera, SIDE, reach, color)
    return shade_points(shape, camera, SIDE, reach, color)


def surfaces_and_sources(
    root: Path,
    manifest: Manifest,
    chosen: Sequence[tuple[ShardEntry, int]],
    source: Source | None,
    resolution: int,
) -> Iterator[ShapeComparison]:
    """The chosen INRs, one by one: their surfaces (marching cubes at `resolution`³) and what they were fitted to.

    Raises UsageError where INRs have more than one value, which gives no surface.
    """
    if manifest.siren_spec.out_dim != 1:
        raise UsageError(f"only INRs of one value have a surface, those of {root} have {manifest.siren_spec.out_dim}")
    index_of = {item.object_id: index for index, item in enumerate(source.items)} if source else {}
    for entry, row in chosen:
        shard = ShardReader(root, entry, check=True)
        inr = INRBatch.from_flat(shard.spec, torch.from_numpy(np.array(shard.column("weights")[row : row + 1])))
        vertices, faces = extract_surface(inr, resolution, field=field_of(shard))
        surface = Mesh(vertices.numpy().astype(np.float64), faces.numpy())
        object_id = shard.object_ids[row]
        columns = {name: shard.column(name)[row] for name in shard.column_names if name not in ("weights", "object_id")}
        # A source that records no scale and centre gives its shapes in the coordinates of the signal.
        scale = float(columns.get("scale", 1.0))
        center = np.array([columns.get(f"center_{axis}", 0.0) for axis in "xyz"], np.float64)
        index = index_of.get(object_id)
        original, remark = _original(source, index, shard, row, scale, center) if source else (None, None)
        to_source = to_inr = float("nan")
        if original is not None:
            to_source, to_inr = mean_distances(surface, original, NUM_POINTS, seeded("show", object_id))
        measured = {name: float(columns[name]) for name in SHOWN if name in columns}
        yield ShapeComparison(
            object_id,
            manifest.classes[int(columns["label"])],
            int(columns["view"]),
            float(columns["psnr"]),
            {name: value for name, value in measured.items() if np.isfinite(value)},
            surface,
            original,
            scale,
            center,
            to_source * scale,
            to_inr * scale,
            remark,
            int(columns["label"]),
            describe_change(shard, row),
        )


def field_of(shard: ShardReader) -> Field:
    """The field of a shard's INRs. IntegrityError for an unknown one."""
    name = shard.attributes.get("field", "values")
    for field in LEVELS:
        if field == name:
            return field
    raise IntegrityError(f"{shard.path.name} has the field {name!r}, expected one of {', '.join(LEVELS)}")


def _original(
    source: Source, index: int | None, shard: ShardReader, row: int, scale: float, center: Floats
) -> tuple[Mesh | Floats | None, str | None]:
    """The shape in the coordinates of its signal, or the reason why there is none."""
    if index is None:
        return None, f"{source.name} has no such object"
    if not isinstance(source, ShapeFiles | PrimitiveShapes):
        return None, f"{source.name} gives signals, but no shapes"
    try:
        shape = source.geometry(index)
        refuse_changed(source, index, shard, row)
    except SignalError as error:
        return None, str(error)
    placed = (
        Mesh((shape.vertices - center) / scale, shape.faces) if isinstance(shape, Mesh) else (shape - center) / scale
    )
    return changed_shape(source, placed, change_of_row(source, shard, row)), None


def write_surface(shown: ShapeComparison, folder: Path, suffix: str) -> Path:
    """Write the surface of an INR, in the units of its object's own file, as FOLDER/OBJECT_viewN.SUFFIX."""
    content = mesh_content(shown.surface, shown.scale, shown.center, suffix)
    # Object ids are paths; a foreign set may have an object "../.." or "/etc".
    parts = [quote(part, safe=" +,@~") for part in shown.object_id.split("/") if part not in ("", ".", "..")]
    path = folder.joinpath(*parts[:-1], f"{parts[-1] if parts else 'object'}_view{shown.view}{suffix}")
    make_folder(path.parent)
    write_atomically(path, content)
    return path
