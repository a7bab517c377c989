"""Triangulation: cuts polygons into triangles that stay within the outline of concave ones.

Shape letters: M polygons of K corners each. mapbox-earcut is not used: its triangles have another order, which would
change the points drawn on stars of `primitives` and on concave polygons of files.
"""

import numpy as np
from numpy.typing import NDArray

from inr_factory.generation.signals import SignalError

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

# Ear clipping takes quadratic time in Python; fans suffice for all but rare polygons.
MAX_EAR_CORNERS = 20_000
MAX_EARS = 2_000


def triangles(vertices: Floats, sizes: Indices, corners: Indices) -> Indices:
    """(F, 3) triangles of polygons given by sizes (M,) and corners (sum of sizes,), in their order.

    Polygons of one or two corners have no area and give none.
    """
    if (sizes == 3).all():
        return np.ascontiguousarray(corners.reshape(-1, 3))
    starts = np.cumsum(sizes) - sizes
    first = np.cumsum(np.maximum(sizes - 2, 0)) - np.maximum(sizes - 2, 0)
    faces = np.empty((int(np.maximum(sizes - 2, 0).sum()), 3), np.int64)
    clipped = 0
    for size in np.unique(sizes[sizes >= 3]).tolist():
        rows = np.flatnonzero(sizes == size)
        # Limit the corners in memory: a polygon may have as many as a file has bytes.
        for part in np.array_split(rows, max(1, len(rows) * size // 1_000_000)):
            polygons = corners[starts[part][:, None] + np.arange(size)]
            cut, concave = _fans(vertices, polygons)
            clipped += int(concave.sum()) * size
            if concave.any() and (clipped > MAX_EAR_CORNERS or size > MAX_EARS):
                raise SignalError(f"its concave polygons have {clipped} corners; cut them into triangles first")
            for row in np.flatnonzero(concave).tolist():
                cut[row] = _ears(vertices, polygons[row])
            faces[first[part][:, None] + np.arange(size - 2)] = cut
    return faces


def _fans(vertices: Floats, polygons: Indices) -> tuple[Indices, NDArray[np.bool_]]:
    """Triangles (M, K-2, 3) of polygons (M, K) as fans, and for which (M,) no fan keeps within the outline.

    A fan around one corner is right where its triangles all face the way that the polygon does (Newell's normal).
    """
    count, size = polygons.shape
    fans = np.stack([np.zeros(size - 2, np.int64), np.arange(1, size - 1), np.arange(2, size)], axis=1)
    cut = polygons[:, fans]
    if size == 3:
        return cut, np.zeros(count, np.bool_)
    where = vertices[polygons] - vertices[polygons[:, :1]]
    normal = np.cross(where, np.roll(where, -1, axis=1)).sum(axis=1)
    flat = np.linalg.norm(normal, axis=1) == 0
    open_rows = np.arange(count)
    # Big polygons are tried at one corner only: all corners would be quadratic in memory and time.
    for turn in range(size if size <= 16 else 1):
        tried = np.roll(polygons[open_rows], -turn, axis=1)[:, fans]
        first, second, third = vertices[tried].transpose(2, 0, 1, 3)
        facing = np.einsum("mki,mi->mk", np.cross(second - first, third - first), normal[open_rows])
        right = (facing >= 0).all(axis=1) | flat[open_rows]
        cut[open_rows[right]] = tried[right]
        open_rows = open_rows[~right]
        if not open_rows.size:
            break
    concave = np.zeros(count, np.bool_)
    concave[open_rows] = True
    return cut, concave


def _ears(vertices: Floats, polygon: Indices) -> Indices:
    """Triangles (K-2, 3) of one polygon (K,), cutting off one ear after the other (Meisters 1975).

    Where a polygon crosses itself and has no ear left, the rest is a fan.
    """
    where = vertices[polygon] - vertices[polygon[0]]
    normal = np.cross(where, np.roll(where, -1, axis=0)).sum(axis=0)
    drop = int(np.abs(normal).argmax())
    # The coordinate plane in which its projection is largest, oriented so that it runs counter-clockwise.
    flat = where[:, [(drop + 1) % 3, (drop + 2) % 3]] * (1, 1 if normal[drop] > 0 else -1)
    left = list(range(len(polygon)))
    cut: list[tuple[int, int, int]] = []
    start = 0
    while len(left) > 3:
        for step in range(len(left)):
            tip = (start + step) % len(left)
            ear = left[tip - 1], left[tip], left[(tip + 1) % len(left)]
            if _is_ear(flat, ear, left):
                cut.append(ear)
                del left[tip]
                start = max(0, tip - 1)
                break
        else:
            break
    cut += [(left[0], left[step], left[step + 1]) for step in range(1, len(left) - 1)]
    return polygon[np.array(cut, np.int64)]


def _is_ear(flat: Floats, ear: tuple[int, int, int], left: list[int]) -> bool:
    """Whether the triangle of these corners turns left and holds no other corner of those left."""
    tip = flat[list(ear)]
    edges = np.roll(tip, -1, axis=0) - tip
    if edges[0, 0] * edges[1, 1] - edges[0, 1] * edges[1, 0] <= 0:
        return False
    rest = flat[left]
    rest = rest[~(rest[:, None] == tip).all(axis=2).any(axis=1)]
    to_rest = rest[:, None] - tip
    sides = edges[:, 0] * to_rest[:, :, 1] - edges[:, 1] * to_rest[:, :, 0]
    return not bool((sides >= 0).all(axis=1).any())
