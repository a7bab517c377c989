"""Distances: from points to meshes and clouds, and winding numbers of meshes. The only user of libigl.

Shape letters: P points, S points of a cloud.
"""

import numpy as np
from numpy.typing import NDArray

from inr_factory.errors import needs_extra
from inr_factory.generation.geometry.mesh import Mesh, draw_on_surface, without_flat_faces

Floats = NDArray[np.float64]

EXACT_FACES = 1_000
CELLS = 64


def mesh_distances(mesh: Mesh, points: Floats) -> Floats:
    """(P,) exact distances of points (P, 3) from the nearest triangle."""
    return nearest_on_mesh(mesh, points)[0]


def nearest_on_mesh(mesh: Mesh, points: Floats) -> tuple[Floats, NDArray[np.int64], Floats]:
    """Exact distances (P,) of points (P, 3) from a mesh, the nearest triangles (P,), and the nearest points (P, 3)."""
    return _nearest(mesh.vertices, mesh.faces, points)


def _nearest(
    vertices: Floats, simplices: NDArray[np.int64], points: Floats
) -> tuple[Floats, NDArray[np.int64], Floats]:
    """Distances (P,), nearest simplices (P,) and nearest points (P, 3) of triangles or single vertices."""
    with needs_extra("shapes"):
        import igl

    order = _by_cell(points)
    back = np.argsort(order)
    squared, nearest, feet = igl.point_mesh_squared_distance(
        np.ascontiguousarray(points[order], np.float64), vertices, simplices
    )
    return _root(squared)[back], np.asarray(nearest, np.int64).reshape(-1)[back], np.asarray(feet, np.float64)[back]


def _by_cell(points: Floats) -> NDArray[np.int64]:
    """(P,) an order of points (P, 3) along Morton's curve through CELLS³ cells of [-1, 1]³. Points that follow each other
    are near each other: a tree is searched in three quarters of the time, since the cache has its branches."""
    cells = ((points.clip(-1, 1) + 1) * (CELLS / 2)).astype(np.int64).clip(0, CELLS - 1)
    keys = np.zeros(len(points), np.int64)
    for bit in range(CELLS.bit_length() - 1):
        keys |= ((cells >> bit & 1) << (3 * bit + np.arange(3))).sum(axis=1)
    return np.argsort(keys, kind="stable")


def winding_numbers(mesh: Mesh, points: Floats) -> Floats:
    """(P,) how often the mesh winds around points (P, 3): 1 inside, 0 outside, -1 inside a mesh turned inside out.

    Barill et al., Fast winding numbers for soups and clouds (SIGGRAPH 2018). Not an integer near holes; the test
    |winding| > 0.5 for inside tolerates holes, doubled and flipped faces, which pseudonormals do not.
    """
    with needs_extra("shapes"):
        import igl

    # On few faces the sum over all of them is exact and no slower (measured: equal at about 1,500).
    count = igl.winding_number if len(mesh.faces) <= EXACT_FACES else igl.fast_winding_number
    numbers = count(mesh.vertices, mesh.faces, np.ascontiguousarray(points, np.float64))
    return np.asarray(numbers, np.float64).reshape(-1)


def cloud_distances(cloud: Floats, points: Floats) -> Floats:
    """(P,) distances of points (P, 3) from the nearest point of a cloud (S, 3)."""
    single = np.arange(len(cloud), dtype=np.int64)[:, None]
    return _nearest(np.ascontiguousarray(cloud, np.float64), single, points)[0]


def mean_distances(
    one: Mesh | Floats, other: Mesh | Floats, num_points: int, rng: np.random.Generator
) -> tuple[float, float]:
    """Mean distances between two shapes: from one to the other, and back. Their mean is the Chamfer distance.

    Args:
        one: A mesh or a cloud (S, 3).
        other: A mesh or a cloud (S, 3).
        num_points: Points drawn from each shape, uniform over the area of a mesh.
        rng: Draws the points.

    Returns:
        Means of the exact distances to the nearest triangle or point of the other shape, not squared; NaN where one
        of them has no surface.
    """
    shapes = [
        without_flat_faces(shape) if isinstance(shape, Mesh) and shape.areas.any() else shape for shape in (one, other)
    ]
    if any(not shape.areas.any() if isinstance(shape, Mesh) else len(shape) == 0 for shape in shapes):
        return float("nan"), float("nan")
    drawn = [_draw(shape, num_points, rng) for shape in shapes]
    forth, back = (
        mesh_distances(to, points) if isinstance(to, Mesh) else cloud_distances(to, points)
        for to, points in zip(shapes[::-1], drawn, strict=True)
    )
    return float(forth.mean()), float(back.mean())


def _draw(shape: Mesh | Floats, count: int, rng: np.random.Generator) -> Floats:
    if isinstance(shape, Mesh):
        return draw_on_surface(shape, count, rng)
    return shape if len(shape) <= count else shape[rng.choice(len(shape), count, replace=False)]


def _root(squared: NDArray[np.float64]) -> Floats:
    return np.sqrt(np.maximum(np.asarray(squared, np.float64).reshape(-1), 0))
