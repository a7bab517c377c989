"""Previews: a small PNG of each INR, for the viewers of hubs. Images are rendered, shapes are shaded.

Shape letters: N INRs, H height, W width.
"""

import io

import numpy as np
import torch
from numpy.typing import NDArray

from inr_factory.errors import UsageError, needs_extra
from inr_factory.generation.geometry.level_set import LEVELS, extract_surface
from inr_factory.generation.geometry.mesh import Mesh
from inr_factory.generation.geometry.rasterizer import CAMERAS, shade_mesh
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.pixel_grid import pixel_grid
from inr_factory.inr.spec import SirenSpec
from inr_factory.interop.format import Columns

SIDE = 96  # pixels along the longer side at most
RESOLUTION = 40  # points along each side of the cube in which a surface is looked for
COLOR = (0.62, 0.76, 0.93)


def check_previews(spec: SirenSpec, columns: Columns) -> None:
    """Raise UsageError where INRs show neither images nor surfaces, or where their columns leave no place for previews."""
    if (spec.in_dim, spec.out_dim) not in ((2, 1), (2, 3), (3, 1)):
        raise UsageError(
            f"previews are of images and surfaces, the set has {spec.in_dim} inputs and {spec.out_dim} outputs; leave --preview out"
        )
    if spec.in_dim == 2 and not {"height", "width"} <= set(columns):
        raise UsageError("previews need the columns height and width, which the set lacks; leave --preview out")
    if "preview" in columns:
        raise UsageError("the set has a column preview of its own; leave --preview out")


@torch.no_grad()
def render_previews(inrs: INRBatch, columns: Columns, field: str) -> NDArray[np.object_]:
    """(N,) PNGs as bytes: images of at most SIDE pixels a side, shapes of SIDE. The same INR gives the same bytes."""
    pictures = np.empty(len(inrs), dtype=object)
    for row in range(len(inrs)):
        if inrs.spec.in_dim == 2:
            size = int(columns["height"][row]), int(columns["width"][row])
            pictures[row] = _png(_image(inrs[row : row + 1], *size))
        else:
            pictures[row] = _png(_surface(inrs[row : row + 1], field))
    return pictures


def _image(inr: INRBatch, height: int, width: int) -> NDArray[np.float32]:
    """(H, W, 1 or 3) on the INR's own pixels, or on fewer of the same aspect where they are more than SIDE."""
    factor = min(1.0, SIDE / max(height, width))
    height, width = (max(1, round(side * factor)) for side in (height, width))
    image: NDArray[np.float32] = inr(pixel_grid(height, width)).numpy().reshape(height, width, -1)
    return image


def _surface(inr: INRBatch, field: str) -> NDArray[np.float32]:
    """(SIDE, SIDE, 3): its surface, as large as fits; white where it has none."""
    level = next(each for each in LEVELS if each == field)
    vertices, faces = extract_surface(inr, RESOLUTION, field=level)
    mesh = Mesh(vertices.numpy().astype(np.float64), faces.numpy())
    reach = 1.03 * float(np.linalg.norm(mesh.corners.reshape(-1, 3), axis=1).max(initial=0.0))
    return shade_mesh(mesh, CAMERAS[0], SIDE, reach or 1.0, COLOR)


def _png(picture: NDArray[np.floating]) -> bytes:
    with needs_extra("images"):
        from PIL import Image
    pixels = (np.clip(np.nan_to_num(picture), 0, 1) * 255 + 0.5).astype(np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(content, format="PNG")
    return content.getvalue()
