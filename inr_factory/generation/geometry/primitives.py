"""Primitives: closed shapes of a dozen kinds with random proportions and rotations. They need no files.

Each is a watertight mesh, its faces counter-clockwise seen from outside. Its randomness depends on its name only.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from inr_factory.generation.geometry.mesh import Mesh
from inr_factory.generation.geometry.triangulation import triangles

Floats = NDArray[np.float64]
Draw = Callable[[float, float], float]  # a random number between two

VERSION = "1"  # of the shapes below; increase it with every change to one of them
TURNS = 48  # corners around an axis


def primitive(kind: str, rng: np.random.Generator) -> Mesh:
    """A random shape of a kind, rotated at random; KINDS names the kinds."""
    mesh = KINDS[kind](lambda low, high: float(rng.uniform(low, high)))
    return Mesh(mesh.vertices @ _rotation(rng).T, mesh.faces)


def _rotation(rng: np.random.Generator) -> Floats:
    """(3, 3), uniform over all rotations: a random quaternion (Shoemake, Graphics Gems III, 1992)."""
    w, x, y, z = (quaternion := rng.standard_normal(4)) / np.linalg.norm(quaternion)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def _revolve(profile: Floats, closed: bool = False) -> Mesh:
    """The solid that an outline (K, 2) of (distance from the z axis, z) sweeps around it.

    The outline runs upwards on the far side of what it encloses. It begins and ends on the axis, or is `closed`.
    """
    angles = 2 * math.pi * np.arange(TURNS) / TURNS
    ring = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    vertices = np.concatenate(
        [profile[:, None, :1] * ring, np.broadcast_to(profile[:, None, 1:], (len(profile), TURNS, 1))], axis=2
    )
    rows = len(profile) if closed else len(profile) - 1
    row, turn = (index.reshape(-1) for index in np.indices((rows, TURNS)))
    next_row, next_turn = (row + 1) % len(profile), (turn + 1) % TURNS
    a, b, c, d = row * TURNS + turn, row * TURNS + next_turn, next_row * TURNS + next_turn, next_row * TURNS + turn
    faces = np.concatenate([np.stack([a, b, c], axis=1), np.stack([a, c, d], axis=1)])
    return _tidy(Mesh(vertices.reshape(-1, 3), faces.astype(np.int64)))


def _extrude(outline: Floats, height: float) -> Mesh:
    """The solid between an outline (K, 2), counter-clockwise, and its copy `height` above."""
    count = len(outline)
    low, high = (np.column_stack([outline, np.full(count, z)]) for z in (-height / 2, height / 2))
    vertices = np.concatenate([low, high])
    corner = np.arange(count)
    after = (corner + 1) % count
    sides = np.concatenate(
        [np.stack([corner, after, after + count], axis=1), np.stack([corner, after + count, corner + count], axis=1)]
    )
    top = triangles(vertices, np.array([count]), corner + count)
    return Mesh(vertices, np.concatenate([sides, top, top[:, ::-1] - count]).astype(np.int64))


def _hull(points: Floats, faces: list[tuple[int, ...]]) -> Mesh:
    """A convex solid around the origin by its corners and faces, each turned outward."""
    sizes = np.array([len(face) for face in faces])
    cut = triangles(points, sizes, np.array([corner for face in faces for corner in face]))
    first, second, third = points[cut].transpose(1, 0, 2)
    inward = np.einsum("fi,fi->f", np.cross(second - first, third - first), first) < 0
    cut[inward] = cut[inward, ::-1]
    return Mesh(points, cut)


def _tidy(mesh: Mesh) -> Mesh:
    """The mesh with equal vertices merged and without the faces that then have no area."""
    vertices, merged = np.unique(mesh.vertices.round(12), axis=0, return_inverse=True)
    faces = merged.reshape(-1)[mesh.faces]
    distinct = (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 0] != faces[:, 2])
    return Mesh(vertices, np.ascontiguousarray(faces[distinct]))


def _scaled(mesh: Mesh, *factors: float) -> Mesh:
    return Mesh(mesh.vertices * factors, mesh.faces)


def _arc(start: float, end: float, steps: int) -> Floats:
    """(steps + 1, 2) points of the unit circle between two angles; the right end lies at 0."""
    angles = np.linspace(start, end, steps + 1)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _sphere(_: Draw) -> Mesh:
    return _revolve(_arc(-math.pi / 2, math.pi / 2, 24))


def _ellipsoid(draw: Draw) -> Mesh:
    return _scaled(_sphere(draw), 1, draw(0.55, 0.85), draw(0.25, 0.5))


def _box(draw: Draw) -> Mesh:
    width, depth = 1.0, draw(0.4, 1.0)
    outline = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * (width / 2, depth / 2)
    return _extrude(outline, draw(0.25, 1.0))


def _cylinder(draw: Draw) -> Mesh:
    half = draw(0.4, 2.0)
    return _revolve(np.array([[0, -half], [1, -half], [1, half], [0, half]]))


def _cone(draw: Draw) -> Mesh:
    return _revolve(np.array([[0, 0], [1, 0], [0, draw(1.0, 3.0)]]))


def _capsule(draw: Draw) -> Mesh:
    half = draw(0.6, 2.0)
    low = _arc(-math.pi / 2, 0, 12) - (0, half)
    return _revolve(np.concatenate([low, low[::-1] * (1, -1)]))


def _torus(draw: Draw) -> Mesh:
    return _revolve((1, 0) + draw(0.15, 0.45) * _arc(0, 2 * math.pi, 24)[:-1], closed=True)


def _tube(draw: Draw) -> Mesh:
    hole, half = draw(0.5, 0.8), draw(0.3, 1.5)
    return _revolve(np.array([[hole, -half], [1, -half], [1, half], [hole, half]]), closed=True)


def _bowl(draw: Draw) -> Mesh:
    """Half a ball with a hollow."""
    inner, depth = draw(0.65, 0.85), draw(0.7, 1.0)
    outside = _arc(-math.pi / 2, 0, 16)
    return _revolve(np.concatenate([outside, (inner * outside)[::-1]]) * (1, depth))


def _wedge(draw: Draw) -> Mesh:
    """A prism over a triangle."""
    return _extrude(np.array([[0, 0], [1, 0], [draw(-0.1, 0.6), draw(0.5, 1.0)]]), draw(0.4, 1.2))


def _pyramid(draw: Draw) -> Mesh:
    half, height = draw(0.35, 0.7), draw(0.8, 1.4)
    points = np.array([[-half, -half, 0], [half, -half, 0], [half, half, 0], [-half, half, 0], [0, 0, height]])
    return _hull(points - (0, 0, height / 4), [(0, 1, 2, 3), (0, 1, 4), (1, 2, 4), (2, 3, 4), (3, 0, 4)])


def _star(draw: Draw) -> Mesh:
    """A prism over a star of five to eight points."""
    points = int(draw(5, 9))
    angles = math.pi * np.arange(2 * points) / points
    reach = np.where(np.arange(2 * points) % 2 == 0, 1.0, draw(0.4, 0.6))
    return _extrude(reach[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1), draw(0.3, 0.8))


def _icosahedron(draw: Draw) -> Mesh:
    golden = (1 + math.sqrt(5)) / 2
    corners = np.array([(0, a, b * golden) for a in (-1, 1) for b in (-1, 1)])
    points = np.concatenate([np.roll(corners, turn, axis=1) for turn in range(3)])
    near = np.linalg.norm(points[:, None] - points, axis=2) < 2.1
    faces: list[tuple[int, ...]] = [
        (a, b, c) for a in range(12) for b in range(a) for c in range(b) if near[a, b] and near[b, c] and near[a, c]
    ]
    return _scaled(_hull(points, faces), 1, 1, draw(0.6, 1.4))


def _stairs(draw: Draw) -> Mesh:
    steps, rise = int(draw(3, 6)), draw(0.5, 1.0)
    treads = [(steps - step - side, (step + 1) * rise) for step in range(steps) for side in (0, 1)]
    return _extrude(np.array([(0, 0), (steps, 0), *treads], dtype=np.float64), draw(1.5, 3.5))


KINDS: dict[str, Callable[[Draw], Mesh]] = {
    "bowl": _bowl, "box": _box, "capsule": _capsule, "cone": _cone, "cylinder": _cylinder, "ellipsoid": _ellipsoid,
    "icosahedron": _icosahedron, "pyramid": _pyramid, "sphere": _sphere, "stairs": _stairs, "star": _star,
    "torus": _torus, "tube": _tube, "wedge": _wedge,
}  # fmt: skip
