"""Meshes: triangles in space, their areas, and points drawn on their surface.

V vertices, F triangles, S points.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inr_factory.generation.geometry.triangulation import triangles
from inr_factory.generation.signals import SignalError

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Mesh:
    """Triangles: faces (F, 3) are rows of vertices (V, 3), counter-clockwise seen from outside in a well-made mesh."""

    vertices: Floats
    faces: Indices

    @property
    def corners(self) -> Floats:
        """(F, 3, 3): the coordinates of the three corners of each triangle."""
        corners: Floats = self.vertices[self.faces]
        return corners

    @property
    def areas(self) -> Floats:
        """(F,)"""
        first, second, third = self.corners.transpose(1, 0, 2)
        areas: Floats = 0.5 * np.linalg.norm(np.cross(second - first, third - first), axis=1)
        return areas

    def normals(self, faces: Indices) -> Floats:
        """(..., 3) unit normals of some faces (...), by their numbers; 0 where the area is 0."""
        first, second, third = np.moveaxis(self.vertices[self.faces[faces]], -2, 0)
        across = np.cross(second - first, third - first)
        units: Floats = across / np.maximum(np.linalg.norm(across, axis=-1, keepdims=True), np.finfo(float).tiny)
        return units

    @property
    def volume(self) -> float:
        """What the mesh encloses, by the divergence theorem; NaN where it is not closed."""
        return abs(float(np.linalg.det(self.corners).sum())) / 6 if self.is_watertight else math.nan

    def part(self, faces: Indices) -> "Mesh":
        """Some faces, by their numbers, and the vertices that they use."""
        used, renumbered = np.unique(self.faces[faces], return_inverse=True)
        return Mesh(self.vertices[used], renumbered.reshape(-1, 3).astype(np.int64))

    @property
    def is_watertight(self) -> bool:
        """Whether each edge belongs to two triangles, where vertices with the same coordinates are one vertex."""
        _, merged = np.unique(self.vertices, axis=0, return_inverse=True)
        faces = np.sort(merged.reshape(-1)[self.faces], axis=1)
        faces = faces[(faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2])]
        edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [0, 2]]])
        _, counts = np.unique(edges[:, 0] * len(self.vertices) + edges[:, 1], return_counts=True)
        return counts.size > 0 and bool((counts == 2).all())


def multiplied(shape: Mesh | Floats, matrix: Floats) -> Mesh | Floats:
    """A mesh or points (S, 3) whose points are multiplied by a matrix; a mirrored mesh still looks outward."""
    if not isinstance(shape, Mesh):
        points: Floats = shape @ matrix.T
        return points
    mirrored = np.linalg.det(matrix) < 0
    return Mesh(shape.vertices @ matrix.T, np.ascontiguousarray(shape.faces[:, ::-1]) if mirrored else shape.faces)


def checked_mesh(vertices: Floats, sizes: Indices, corners: Indices, max_faces: int) -> Mesh:
    """Make a mesh of the polygons of a file.

    Args:
        vertices: (V, 3).
        sizes: (M,) number of corners of each polygon.
        corners: (sum of sizes,) vertices of the polygons, one polygon after the other.
        max_faces: Largest number of triangles that is accepted.

    Raises:
        SignalError: There are no polygons, a corner is no vertex, a vertex is not finite, or the triangles would be
            more than `max_faces`.
    """
    if len(vertices) == 0:
        raise SignalError("it has no vertices")
    check_points(vertices, "vertex")
    count = int(np.maximum(sizes - 2, 0).sum())
    if count == 0:
        raise SignalError(
            f"it has no faces, only {len(vertices)} points; clouds of points are for the collection point_folder"
        )
    if count > max_faces:
        raise SignalError(f"{count} triangles, source.max_faces allows {max_faces}")
    if corners.min() < 0 or corners.max() >= len(vertices):
        wrong = int(corners.min() if corners.min() < 0 else corners.max())
        raise SignalError(f"a face has the vertex of index {wrong}, the vertices go from 0 to {len(vertices) - 1}")
    return Mesh(np.ascontiguousarray(vertices, np.float64), triangles(vertices, sizes, corners))


def check_points(points: Floats, what: str) -> None:
    """Raise SignalError that names the first of points (P, 3) that is NaN or infinite."""
    finite = np.isfinite(points).all(axis=1)
    if not finite.all():
        raise SignalError(f"{what} {int(finite.argmin())} of {len(points)} is NaN or infinite")


def without_flat_faces(mesh: Mesh) -> Mesh:
    """The mesh without triangles of zero area, which have no outside. Raises SignalError if none remains."""
    keep = mesh.areas > 0
    if not keep.any():
        raise SignalError(f"its surface has no area: all {len(mesh.faces)} triangles are points or lines")
    return mesh if keep.all() else Mesh(mesh.vertices, mesh.faces[keep])


def draw_on_surface(mesh: Mesh, count: int, rng: np.random.Generator) -> Floats:
    """(count, 3) points, uniform over the area of the mesh."""
    return draw_faces(mesh, count, rng)[1]


def draw_faces(mesh: Mesh, count: int, rng: np.random.Generator) -> tuple[Indices, Floats]:
    """(count,) faces, each as often as its area is large, and one point (count, 3) in each, uniform over it."""
    cumulative = np.cumsum(mesh.areas)
    rows = np.searchsorted(cumulative, rng.random(count) * cumulative[-1], side="right").clip(max=len(mesh.faces) - 1)
    first, second, third = mesh.vertices[mesh.faces[rows]].transpose(1, 0, 2)
    # Osada et al., Shape distributions (TOG 2002): the root spreads points evenly over a triangle.
    root, share = np.sqrt(rng.random((count, 1))), rng.random((count, 1))
    return rows, (1 - root) * first + root * (1 - share) * second + root * share * third
