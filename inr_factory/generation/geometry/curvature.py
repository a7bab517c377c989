"""Curvature: the edges along which a mesh bends, and points drawn there.

V vertices, F faces, E edges that bend, S points.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inr_factory.generation.geometry.mesh import Mesh
from inr_factory.generation.geometry.orientation import Edges

Floats = NDArray[np.float64]

NEEDLE = 1e-4  # height of a face, as a share of its longest side, below which its normal is rounding


@dataclass(frozen=True)
class Bends:
    """Edges of two faces, from `starts` to `ends` (E, 3). Their `weights` (E,), length times angle, add up to twice the
    mean curvature of the surface, without its sign, however fine the mesh is (Steiner; Cohen-Steiner and Morvan 2003).
    """

    starts: Floats
    ends: Floats
    weights: Floats

    @classmethod
    def of(cls, mesh: Mesh) -> "Bends":
        """Those of a mesh, in which vertices at one place count as one, and whose faces may look anywhere."""
        _, merged = np.unique(mesh.vertices, axis=0, return_inverse=True)
        edges = Edges.of(merged.reshape(-1)[mesh.faces].astype(np.int64))
        sides = np.flatnonzero((edges.of_side >= 0) & (edges.counts[edges.of_side] == 2))
        one, other = sides[np.argsort(edges.of_side[sides], kind="stable")].reshape(-1, 2).T
        starts, ends = (
            mesh.vertices[mesh.faces[one // 3, one % 3]],
            mesh.vertices[mesh.faces[one // 3, (one % 3 + 1) % 3]],
        )
        normals = mesh.normals(np.arange(len(mesh.faces)))
        cosines = (normals[one // 3] * normals[other // 3]).sum(axis=1)
        angles = np.arccos(np.where(edges.forward[one] == edges.forward[other], -cosines, cosines).clip(-1, 1))
        longest = np.linalg.norm(mesh.corners - np.roll(mesh.corners, 1, axis=1), axis=2).max(axis=1)
        clear = 2 * mesh.areas > NEEDLE * longest**2
        weights = angles * np.linalg.norm(ends - starts, axis=1) * (clear[one // 3] & clear[other // 3])
        return cls(starts, ends, weights)

    def draw(self, count: int, rng: np.random.Generator) -> Floats:
        """(count, 3) points on the edges, each as often as its weight is large; one at least must be above 0."""
        cumulative = np.cumsum(self.weights)
        rows = np.searchsorted(cumulative, rng.random(count) * cumulative[-1], side="right").clip(
            max=len(cumulative) - 1
        )
        share = rng.random((count, 1))
        points: Floats = (1 - share) * self.starts[rows] + share * self.ends[rows]
        return points
