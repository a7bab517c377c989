"""Surfaces: what of a mesh is surface, which way it faces, and how much of it bounds a solid.

V vertices, F faces, S points.
"""

import numpy as np
from numpy.typing import NDArray

from inr_factory.generation.geometry.distances import winding_numbers
from inr_factory.generation.geometry.mesh import Mesh, draw_faces
from inr_factory.generation.geometry.orientation import Edges, oriented
from inr_factory.generation.signals import SignalError

Floats = NDArray[np.float64]

NEEDLE = 1e-6  # height of a face, as a share of its longest side, below which rounding may have made it
NEAR = 1e-3  # distance on both sides of a surface of radius 1 at which its inside is looked up
NUM_POINTS = 1_000
SHEET = 0.6  # winding number below which a side has no inside; it is a half beneath a flat sheet, within its error


def without_stray_faces(mesh: Mesh) -> Mesh:
    """The mesh without vertices that no face uses, and without faces that have no area and reach a vertex of their own.

    Such vertices are no part of the surface, so they must not decide its place and scale. Faces without area whose
    vertices belong to others stay: they join the faces on both sides.
    """
    first, second, third = mesh.corners.transpose(1, 0, 2)
    sides = np.stack([second - first, third - second, first - third])
    with np.errstate(over="ignore", invalid="ignore"):
        # Lengths are scaled before they are multiplied: 1e200 has no square.
        longest = np.abs(sides).max(axis=(0, 2))[:, None]
        one, other = (np.divide(side, longest, where=longest > 0, out=np.zeros_like(side)) for side in sides[:2])
        broad = np.linalg.norm(np.cross(one, other), axis=1) > NEEDLE
    if not sides.any():
        raise SignalError("all its points lie at one place")
    if not broad.any():
        raise SignalError(f"its surface has no area: all {len(mesh.faces)} triangles are points or lines")
    known = np.zeros(len(mesh.vertices), np.bool_)
    known[mesh.faces[broad]] = True
    stray = np.setdiff1d(mesh.faces[~broad], np.flatnonzero(known))
    if len(stray):
        # A vertex that lies where one of a broad face does is the same vertex, as in STL.
        places = mesh.vertices[known]
        _, rows = np.unique(np.concatenate([places, mesh.vertices[stray]]), axis=0, return_inverse=True)
        rows = rows.reshape(-1)
        known[stray] = np.isin(rows[len(places) :], rows[: len(places)])
    elif known.all():
        return mesh
    return mesh.part(np.flatnonzero(known[mesh.faces].all(axis=1)))


def consistent(mesh: Mesh, orient: bool) -> tuple[Mesh, dict[str, int | float]]:
    """The mesh without repeated faces, with `orient` its closed components outward, and facts about its edges.

    The facts are those of `Edges.facts`, and `turned`: which share of the area was turned.
    """
    _, merged = np.unique(mesh.vertices, axis=0, return_inverse=True)
    faces = merged.reshape(-1)[mesh.faces].astype(np.int64)
    lowest = faces.argmin(axis=1)[:, None]
    same = np.take_along_axis(faces, (lowest + np.arange(3)) % 3, axis=1)
    _, first = np.unique(same, axis=0, return_index=True)
    if len(first) < len(faces):
        kept = np.sort(first)
        mesh, faces = Mesh(mesh.vertices, mesh.faces[kept]), faces[kept]
    edges = Edges.of(faces)
    mesh, turned = oriented(mesh, edges) if orient else (mesh, 0.0)
    flat = mesh.areas == 0
    return (mesh.part(np.flatnonzero(~flat)) if flat.any() else mesh), {**edges.facts, "turned": turned}


def share_of_sides(mesh: Mesh, rng: np.random.Generator) -> dict[str, float]:
    """How much of a surface of radius about 1 bounds no solid, as shares of its area.

    `sheet` has no inside on either side, as an open sheet or faces that are turned against their neighbours; `buried`
    has the inside on both sides, as where solids overlap.
    """
    rows, points = draw_faces(mesh, NUM_POINTS, rng)
    first, second, third = mesh.corners[rows].transpose(1, 0, 2)
    normals = np.cross(second - first, third - first)
    normals *= NEAR / np.linalg.norm(normals, axis=1, keepdims=True)
    winding = np.abs(winding_numbers(mesh, np.concatenate([points - normals, points + normals]))).reshape(2, -1)
    return {"sheet": float((winding < SHEET).all(axis=0).mean()), "buried": float((winding > 0.5).all(axis=0).mean())}
