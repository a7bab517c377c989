"""Orientation: turns the faces of a mesh so that those of each closed component look out of the solid.

F faces, E edges, C components: faces joined by edges of exactly two faces. Vertices at one place count as one.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inr_factory.errors import needs_extra
from inr_factory.generation.geometry.distances import winding_numbers
from inr_factory.generation.geometry.mesh import Mesh

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Mask = NDArray[np.bool_]

NUM_GRID = 10  # points along each axis, at which two orientations are compared
CONTAINERS = 500
UNCLEAR = 0.4  # of a component's area: where more of it is turned, the file does not say which side is inside


@dataclass(frozen=True)
class Edges:
    """The undirected edges of a mesh; side k of face f is row 3 f + k. Sides without length have no edge: -1.

    Attributes:
        of_side: (3 F,) edge of each side.
        forward: (3 F,) whether the side runs from the lower to the higher vertex.
        counts: (E,) faces of each edge.
    """

    of_side: Indices
    forward: Mask
    counts: Indices

    @classmethod
    def of(cls, faces: Indices) -> "Edges":
        """Those of faces (F, 3) whose vertices are merged; faces with a vertex twice have none."""
        proper = np.repeat((faces != np.roll(faces, 1, axis=1)).all(axis=1), 3)
        start, end = faces.reshape(-1), np.roll(faces, -1, axis=1).reshape(-1)
        keys = np.minimum(start, end) * (faces.max(initial=0) + 1) + np.maximum(start, end)
        _, edges, counts = np.unique(keys[proper], return_inverse=True, return_counts=True)
        of_side = np.full(len(keys), -1, np.int64)
        of_side[proper] = edges.reshape(-1)
        return cls(of_side, start < end, counts)

    @property
    def facts(self) -> dict[str, int | float]:
        """watertight (0 or 1), and the shares of edges with one face (open_edges) and with more than two."""
        total = max(1, len(self.counts))
        return {
            "watertight": int(len(self.counts) > 0 and bool((self.counts == 2).all())),
            "open_edges": int((self.counts == 1).sum()) / total,
            "crowded_edges": int((self.counts > 2).sum()) / total,
        }


@dataclass(frozen=True)
class Components:
    """The components of a mesh, with their faces turned alike; those of the lesser area are turned.

    Attributes:
        of_face: (F,) component of each face.
        turned: (F,) whether a face is turned.
        closed: (C,) whether it encloses a volume: it can be oriented, and each edge has an even number of its faces.
        unclear: (C,) whether turned and other faces are about as many.
    """

    mesh: Mesh
    of_face: Indices
    turned: Mask
    closed: Mask
    unclear: Mask

    @classmethod
    def of(cls, mesh: Mesh, edges: Edges) -> "Components":
        with needs_extra("shapes"):
            from scipy.sparse import coo_matrix
            from scipy.sparse.csgraph import connected_components

        count = len(mesh.faces)
        sides = np.flatnonzero((edges.of_side >= 0) & (edges.counts[edges.of_side] == 2))
        one, other = sides[np.argsort(edges.of_side[sides], kind="stable")].reshape(-1, 2).T
        # Each face stands there twice, as it is and turned. Neighbours that run along their edge the same way are
        # joined crosswise; in a component that can be oriented the two kinds do not meet.
        crosswise = count * (edges.forward[one] == edges.forward[other])
        rows = np.concatenate([one // 3, one // 3 + count])
        columns = np.concatenate([other // 3 + crosswise, (other // 3 + count + crosswise) % (2 * count)])
        graph = coo_matrix((np.ones(len(rows), np.int8), (rows, columns)), shape=(2 * count, 2 * count))
        _, labels = connected_components(graph, directed=False)
        as_it_is, turned = labels[:count], labels[count:]
        lower = np.minimum(as_it_is, turned)
        _, of_face = np.unique(lower, return_inverse=True)
        of_face = of_face.reshape(-1).astype(np.int64)
        orientable = np.ones(of_face.max(initial=-1) + 1, np.bool_)
        orientable[of_face[as_it_is == turned]] = False
        flip, areas = as_it_is != lower, mesh.areas
        share = np.bincount(of_face, areas * flip) / np.maximum(np.bincount(of_face, areas), np.finfo(float).tiny)
        flip = (flip != (share > 0.5)[of_face]) & orientable[of_face]
        closed = orientable.copy()
        real = np.flatnonzero(edges.of_side >= 0)
        both = edges.of_side[real] * len(closed) + of_face[real // 3]
        pairs, counts = np.unique(both, return_counts=True)
        closed[pairs[counts % 2 == 1] % len(closed)] = False
        closed[of_face[edges.of_side[::3] < 0]] = False
        return cls(mesh, of_face, flip, closed, np.minimum(share, 1 - share) > UNCLEAR)

    def outward(self) -> Mask:
        """(F,) which faces are to be turned, so that the closed components look out of the solid.

        A component that no other encloses has its faces outward. One within another, or within the open ones, keeps the
        way in which the file has it relative to the outermost: a cavity stays one. Where the file does not say, depths
        alternate.
        """
        first, second, third = _turned(self.mesh, self.turned).corners.transpose(1, 0, 2)
        volumes = np.bincount(self.of_face, np.einsum("fi,fi->f", first, np.cross(second, third)) / 6)
        inward = self.closed & (volumes < 0)
        if not (inward | self.closed & self.unclear).any():
            return self.turned
        outermost, depth = self._containers(np.abs(volumes))
        wrong = np.where(self.unclear, inward != (depth % 2 == 1), (inward & ~self.unclear)[outermost])
        turned: Mask = self.turned != (wrong & self.closed)[self.of_face]
        return turned

    def _containers(self, volumes: Floats) -> tuple[Indices, Indices]:
        """The outermost component (C,) around each, itself where there is none, and how many are (C,).

        Only the CONTAINERS largest are looked into: a mesh may have as many components as faces.
        """
        corners, rows = self.mesh.corners, np.argsort(self.of_face, kind="stable")
        starts = np.searchsorted(self.of_face[rows], np.arange(len(volumes) + 1))
        low, high = (bound.reduceat(corners[rows], starts[:-1]) for bound in (np.minimum, np.maximum))
        low, high = low.min(axis=1), high.max(axis=1)
        order = np.lexsort((self.mesh.areas, self.of_face))  # the largest face of each component comes last
        centres = corners.mean(axis=1)[order[starts[1:] - 1]]
        outermost, depth = np.arange(len(volumes)), np.zeros(len(volumes), np.int64)
        turned, closed = _turned(self.mesh, self.turned), np.flatnonzero(self.closed & (volumes > 0))
        closed = closed[np.argsort(-volumes[closed], kind="stable")]
        open_faces = np.flatnonzero(~self.closed[self.of_face])
        if len(open_faces) and len(closed):  # together they may be one outer surface that has holes
            within = closed[np.abs(winding_numbers(turned.part(open_faces), centres[closed])) > 0.9]
            outermost[within], depth[within] = self.of_face[open_faces[0]], 1
        low, high = np.ascontiguousarray(low[closed].T), np.ascontiguousarray(high[closed].T)
        for rank, around in enumerate(closed[:CONTAINERS].tolist()):
            boxed = np.ones(len(closed) - rank - 1, np.bool_)
            for lowest, highest in zip(low, high, strict=True):
                boxed &= (lowest[rank + 1 :] >= lowest[rank]) & (highest[rank + 1 :] <= highest[rank])
            within = closed[rank + 1 :][boxed]
            if not len(within):
                continue
            container = turned.part(rows[starts[around] : starts[around + 1]])
            inside = within[np.abs(winding_numbers(container, centres[within])) > 0.5]
            outermost[inside] = np.where(depth[inside] == 0, around, outermost[inside])
            depth[inside] += 1
        return outermost, depth


def oriented(mesh: Mesh, edges: Edges) -> tuple[Mesh, float]:
    """The mesh with its components turned alike, closed ones outward, and which share of its area was turned.

    Where some are open, all or those alone stay as they are if that leaves fewer points in doubt. Coordinates lie within [-1, 1].
    """
    components = Components.of(mesh, edges)
    turned = components.outward()
    if turned.any() and not components.closed.all():
        closed_only = turned & components.closed[components.of_face]
        grid = np.stack(np.meshgrid(*[np.linspace(-0.9, 0.9, NUM_GRID)] * 3), axis=-1).reshape(-1, 3)
        turned = min(turned, closed_only, np.zeros_like(turned), key=lambda choice: _doubt(_turned(mesh, choice), grid))
    return (_turned(mesh, turned), float(mesh.areas[turned].sum() / mesh.areas.sum())) if turned.any() else (mesh, 0.0)


def _doubt(mesh: Mesh, points: Floats) -> float:
    """Mean distance of winding numbers from a whole number."""
    winding = winding_numbers(mesh, points)
    return float(np.abs(winding - np.round(winding)).mean())


def _turned(mesh: Mesh, turned: Mask) -> Mesh:
    return Mesh(mesh.vertices, np.where(turned[:, None], mesh.faces[:, ::-1], mesh.faces))
