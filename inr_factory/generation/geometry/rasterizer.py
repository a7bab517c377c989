"""Rasterizer: pictures of meshes and of clouds, by a z-buffer and Lambert's law.

F triangles, S points, K fragments (a surface at a pixel), H pixels along each side of a picture.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inr_factory.generation.geometry.mesh import Mesh

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Image = NDArray[np.float32]

LIGHT = (-0.4, 0.5, 0.77)  # direction of the light source: to the right, up and towards the eye
AMBIENT = 0.35  # brightness of what faces away from the light
FINER = 2  # pixels along each side of a pixel, averaged in the end
MAX_FRAGMENTS = 4_000_000  # at once
MAX_DOTS = 30_000


@dataclass(frozen=True)
class Camera:
    """Looks at the origin, without perspective, from a direction in degrees; z points up in its pictures.

    `azimuth` turns from the x axis towards the y axis, `elevation` rises from there towards the z axis.
    """

    name: str
    azimuth: float
    elevation: float

    @property
    def axes(self) -> Floats:
        """(3, 3): its rows point to the right of the picture, up, and towards the eye."""
        turn, rise = math.radians(self.azimuth), math.radians(self.elevation)
        right = (-math.sin(turn), math.cos(turn), 0)
        up = (-math.sin(rise) * math.cos(turn), -math.sin(rise) * math.sin(turn), math.cos(rise))
        eye = (math.cos(rise) * math.cos(turn), math.cos(rise) * math.sin(turn), math.sin(rise))
        return np.array([right, up, eye])


CAMERAS = (Camera("from x and y", 35, 25), Camera("from -y", -80, 10), Camera("from above", 35, 75))


@dataclass
class Canvas:
    """The nearest surface at each pixel: its depth (H, H), -inf for none, and its normal (H, H, 3)."""

    side: int

    def __post_init__(self) -> None:
        self.depth = np.full(self.side**2, -np.inf)
        self.normals = np.zeros((self.side**2, 3), np.float32)

    def put(self, pixels: Indices, depths: Floats, normals: Floats) -> None:
        """Draw fragments at pixels (K,) where they are nearer than the surface drawn before; pixels may repeat."""
        nearer = np.flatnonzero(depths > self.depth[pixels])
        order = nearer[np.argsort(depths[nearer], kind="stable")]  # of those at one pixel, the last stays
        self.depth[pixels[order]] = depths[order]
        self.normals[pixels[order]] = normals[order]

    def image(self, color: tuple[float, float, float], light: tuple[float, float, float], fog: float) -> Image:
        """(H / FINER, H / FINER, 3) in [0, 1] on white; `fog` is the share of light that the farthest surface loses."""
        covered = np.isfinite(self.depth)
        shown = np.ones((self.side**2, 3), np.float32)
        if covered.any():
            toward = np.array(light) / np.linalg.norm(light)
            brightness = AMBIENT + (1 - AMBIENT) * np.clip(self.normals[covered] @ toward, 0, 1)
            near = self.depth[covered]
            away = (near.max() - near) / max(near.max() - near.min(), 1e-12)
            shown[covered] = (brightness * (1 - fog * away))[:, None] * np.array(color)
        blocks = shown.reshape(self.side // FINER, FINER, self.side // FINER, FINER, 3)
        image: Image = np.clip(blocks.mean(axis=(1, 3)), 0, 1)
        return image


def shade_mesh(
    mesh: Mesh,
    camera: Camera,
    side: int,
    reach: float,
    color: tuple[float, float, float] = (1.0, 1.0, 1.0),
    light: tuple[float, float, float] = LIGHT,
) -> Image:
    """(side, side, 3) picture of a mesh, `reach` from its middle to its edges. Both sides of a triangle are lit."""
    canvas = Canvas(side * FINER)
    corners = mesh.corners @ camera.axes.T
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals *= np.where(normals[:, 2:] < 0, -1, 1) / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-300)
    projected = _on_canvas(corners, canvas.side, reach)
    for part in _portions(projected, canvas.side):
        faces, pixels, depths = _covered(projected[part], canvas.side)
        canvas.put(pixels, depths, normals[part][faces])
    return canvas.image(color, light, fog=0.2)


def shade_points(
    points: Floats,
    camera: Camera,
    side: int,
    reach: float,
    color: tuple[float, float, float] = (1.0, 1.0, 1.0),
    light: tuple[float, float, float] = LIGHT,
    radius: float | None = None,
) -> Image:
    """(side, side, 3) picture of points (S, 3) as balls, those behind darker; at most MAX_DOTS evenly chosen ones.

    `radius` is in the unit of the points; None makes it so that the balls of an even cloud about touch.
    """
    canvas = Canvas(side * FINER)
    points = points[:: -(-len(points) // MAX_DOTS) or 1]
    radius = reach / math.sqrt(max(400, len(points))) if radius is None else radius
    centers = _on_canvas(points @ camera.axes.T, canvas.side, reach)
    ball = max(radius / reach * canvas.side / 2, 1.0)  # in pixels
    steps = np.arange(-math.ceil(ball), math.ceil(ball) + 1)
    offsets = np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2)
    for rows in np.array_split(np.arange(len(points)), 1 + len(points) * len(offsets) // MAX_FRAGMENTS):
        cells = np.floor(centers[rows, None, :2]).astype(np.int64) + offsets
        away = cells + 0.5 - centers[rows, None, :2]
        height = np.sqrt(np.maximum(ball**2 - (away**2).sum(axis=2), 0))
        hit = (height > 0) & ((cells >= 0) & (cells < canvas.side)).all(axis=2)
        normals = np.stack([away[..., 0], -away[..., 1], height], axis=2) / ball
        depths = centers[rows, None, 2] + height
        canvas.put(cells[hit][:, 1] * canvas.side + cells[hit][:, 0], depths[hit], normals[hit])
    return canvas.image(color, light, fog=0.45)


def _on_canvas(points: Floats, side: int, reach: float) -> Floats:
    """Points (..., 3) of a camera's axes as column and row, in pixels from the top left, and nearness in pixels."""
    projected: Floats = points * (side / 2 / reach * np.array([1, -1, 1])) + (side / 2, side / 2, 0)
    return projected


def _portions(corners: Floats, side: int) -> Iterator[slice]:
    """Runs of triangles (F, 3, 3) whose frames hold about MAX_FRAGMENTS pixels together."""
    spans = np.clip(corners[:, :, :2].max(axis=1), 0, side) - np.clip(corners[:, :, :2].min(axis=1), 0, side)
    parts = np.cumsum((spans + 1).prod(axis=1)) // MAX_FRAGMENTS
    ends = [0, *(np.flatnonzero(np.diff(parts)) + 1).tolist(), len(corners)]
    yield from map(slice, ends[:-1], ends[1:])


def _covered(corners: Floats, side: int) -> tuple[Indices, Indices, Floats]:
    """Row of the triangle, pixel, and nearness (K,) at all pixels whose middle lies in triangles (F, 3, 3)."""
    rise = corners[:, :, 1]
    faces, rows = _between(rise.min(axis=1), rise.max(axis=1), side)
    left, right = np.full(len(faces), np.inf), np.full(len(faces), -np.inf)
    for a, b in ((0, 1), (1, 2), (2, 0)):
        (x_a, y_a), (x_b, y_b) = (corners[faces, corner, :2].T for corner in (a, b))
        level = y_a == y_b  # its ends are those of the other edges
        share = (rows + 0.5 - y_a) / np.where(level, 1, y_b - y_a)
        crossed = ~level & (share >= 0) & (share <= 1)
        x = x_a + share * (x_b - x_a)
        left, right = np.where(crossed, np.minimum(left, x), left), np.where(crossed, np.maximum(right, x), right)
    lines, columns = _between(left, right, side)
    faces, rows = faces[lines], rows[lines]
    first, second, third = corners.transpose(1, 0, 2)
    normal = np.cross(second - first, third - first)
    slope = -normal[:, :2] / np.where(normal[:, 2:] == 0, np.inf, normal[:, 2:])
    away = np.stack([columns, rows], axis=1) + 0.5 - first[faces, :2]
    depths = first[faces, 2] + (slope[faces] * away).sum(axis=1)
    near = corners[:, :, 2]
    # A triangle seen on its edge has a slope without bounds, but no point that is nearer than its corners.
    return faces, rows * side + columns, np.clip(depths, near.min(axis=1)[faces], near.max(axis=1)[faces])


def _between(low: Floats, high: Floats, side: int) -> tuple[Indices, Indices]:
    """For intervals (F,): the row of an interval and each integer n in 0 .. side - 1 with n + 0.5 in it."""
    first = np.ceil(np.clip(low, 0, side) - 0.5).astype(np.int64)
    last = np.floor(np.clip(high, 0, side) - 0.5).astype(np.int64)
    counts = np.maximum(last - first + 1, 0)
    rows = np.repeat(np.arange(len(low)), counts)
    steps = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    return rows, first[rows] + steps
