"""Orientation: whatever way the faces of a solid are turned in a file, its inside is the same."""

import numpy as np
import pytest
from support.shapes import box, sphere, torus

from inr_factory.generation.geometry.distances import winding_numbers
from inr_factory.generation.geometry.mesh import Mesh
from inr_factory.generation.geometry.surfaces import consistent, share_of_sides, without_stray_faces

DRAW = np.random.default_rng(0)
POINTS = DRAW.uniform(-1.2, 1.2, (400, 3))


def moved(mesh, scale=1.0, by=(0.0, 0.0, 0.0)):
    return Mesh(mesh.vertices * scale + by, mesh.faces)


def inverted(mesh):
    return Mesh(mesh.vertices, mesh.faces[:, ::-1])


def flipped(mesh, share, seed=0):
    turned = np.random.default_rng(seed).random(len(mesh.faces)) < share
    return Mesh(mesh.vertices, np.where(turned[:, None], mesh.faces[:, ::-1], mesh.faces))


def joined(*meshes):
    starts = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes)])
    faces = [mesh.faces + start for mesh, start in zip(meshes, starts, strict=False)]
    return Mesh(np.concatenate([mesh.vertices for mesh in meshes]), np.concatenate(faces))


def soup(mesh):
    """Each face with vertices of its own, as in STL."""
    return Mesh(mesh.corners.reshape(-1, 3), np.arange(3 * len(mesh.faces)).reshape(-1, 3))


def in_box(points, half=0.5):
    return (np.abs(points) < half).all(axis=1)


def volume(mesh):
    first, second, third = mesh.corners.transpose(1, 0, 2)
    return np.einsum("fi,fi->", first, np.cross(second, third)) / 6


ROUND = sphere()
BOX = moved(box(), 2)  # of side 2
HOLLOW = joined(BOX, inverted(box()))
NESTED = joined(BOX, inverted(box()), moved(box(), 0.5))  # a solid in a cavity
SIDES = joined(moved(box(), 0.5, (-0.6, 0, 0)), inverted(moved(box(), 0.5, (0.6, 0, 0))))


def in_nested(points):
    return in_box(points, 1) & ~in_box(points) | in_box(points, 0.25)


def in_hollow(points):
    return in_box(points, 1) & ~in_box(points)


def in_sides(points):
    return in_box(points - [0.6, 0, 0], 0.25) | in_box(points - [-0.6, 0, 0], 0.25)


# D11 and its siblings.
CASES = {
    "as it is": (BOX, lambda points: in_box(points, 1)),
    "inverted": (inverted(BOX), lambda points: in_box(points, 1)),
    "30 % turned": (flipped(ROUND, 0.3), lambda points: np.linalg.norm(points, axis=1) < 1),
    "50 % turned": (flipped(ROUND, 0.5), lambda points: np.linalg.norm(points, axis=1) < 1),
    "50 % turned, soup": (soup(flipped(ROUND, 0.5)), lambda points: np.linalg.norm(points, axis=1) < 1),
    "a cavity": (HOLLOW, in_hollow),
    "a cavity, inverted": (inverted(HOLLOW), in_hollow),
    "a cavity, few turned": (flipped(HOLLOW, 0.2, seed=5), in_hollow),
    "a solid in a cavity": (NESTED, in_nested),
    "a solid in a cavity, inverted": (inverted(NESTED), in_nested),
    "a solid in a solid": (joined(BOX, box()), lambda points: in_box(points, 1)),
    "one of two inverted": (SIDES, in_sides),
    "faces twice": (Mesh(BOX.vertices, np.concatenate([BOX.faces, np.roll(BOX.faces[:5], 1, axis=1)])), lambda points: in_box(points, 1)),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_the_inside_of_a_solid_does_not_depend_on_how_its_faces_are_turned(name):
    mesh, inside = CASES[name]
    away = np.abs(np.abs(POINTS[:, :, None]) - [0.25, 0.35, 0.5, 0.85, 1]).min(axis=(1, 2)) > 0.01
    points = POINTS[away & (np.abs(np.linalg.norm(POINTS, axis=1) - 1) > 0.01)]

    turned, facts = consistent(mesh, orient=True)

    assert np.array_equal(np.abs(winding_numbers(turned, points)) > 0.5, inside(points))
    assert facts["watertight"] == 1
    assert facts["open_edges"] == facts["crowded_edges"] == 0


def test_only_what_is_turned_changes_and_volumes_are_those_of_the_solids():
    assert consistent(HOLLOW, orient=True)[0].faces is HOLLOW.faces
    assert consistent(flipped(ROUND, 0.5), orient=False)[1]["turned"] == 0
    assert volume(consistent(flipped(torus(), 0.5), orient=True)[0]) == pytest.approx(2 * np.pi**2 * 0.16, rel=2e-3)
    assert volume(consistent(inverted(HOLLOW), orient=True)[0]) == pytest.approx(8 - 1)
    assert consistent(flipped(ROUND, 0.3), orient=True)[1]["turned"] == pytest.approx(0.3, abs=0.02)


def test_igl_orients_a_closed_surface_alike():
    igl = pytest.importorskip("igl")
    mesh = flipped(torus(), 0.5)

    faces = consistent(mesh, orient=True)[0].faces

    reference, _ = igl.bfs_orient(mesh.faces)
    same = (np.sort(faces, axis=1) == np.sort(reference, axis=1)).all()
    signs = np.sign(volume(Mesh(mesh.vertices, np.asarray(reference, np.int64))))
    assert same
    assert volume(Mesh(mesh.vertices, faces)) == pytest.approx(signs * volume(Mesh(mesh.vertices, reference)))


@pytest.mark.parametrize("turn", [lambda mesh: mesh, inverted])
def test_a_cavity_stays_one_where_the_outer_surface_has_a_hole(turn):
    mesh = turn(joined(Mesh(ROUND.vertices, ROUND.faces[1:]), inverted(moved(ROUND, 0.5))))

    assert np.array_equal(consistent(mesh, orient=True)[0].faces, mesh.faces)


def test_a_mesh_that_cannot_be_oriented_stays_as_it_is():
    around = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    across = np.array([-0.2, 0.2])[:, None]
    reach = 1 + across * np.cos(around / 2)
    moebius = np.stack([reach * np.cos(around), reach * np.sin(around), across * np.sin(around / 2)], axis=-1)
    one = np.arange(40)
    other = (one + 1) % 40
    far, near = np.where(other == 0, 0, other + 40), np.where(other == 0, 40, other)
    faces = np.concatenate([np.stack([one, near, far], axis=1), np.stack([one, far, one + 40], axis=1)])

    turned, facts = consistent(Mesh(moebius.reshape(-1, 3), faces), orient=True)

    assert np.array_equal(turned.faces, faces)
    assert facts["turned"] == 0


# D10 and its siblings.
def test_vertices_that_bear_no_surface_do_not_count():
    far = np.array([[50.0, 0, 0], [0, 70.0, 0], [-1, -1, 90], [-1, -1, 80]])
    corner = len(BOX.vertices)
    on_a_line = np.argmin(BOX.vertices.sum(axis=1))  # with the last two, which differ from it in z alone
    nothing = [[0, 0, corner], [0, corner + 1, corner + 1], [on_a_line, corner + 2, corner + 3]]

    kept = without_stray_faces(
        Mesh(np.concatenate([BOX.vertices, far, [[9.0, 9, 9]]]), np.concatenate([BOX.faces, nothing]))
    )

    assert np.abs(kept.vertices).max() == 1
    assert volume(kept) == pytest.approx(8)
    assert volume(without_stray_faces(soup(BOX))) == pytest.approx(8)


def test_faces_without_area_between_others_stay():
    vertices = np.array([[0, 0, 0], [2, 0, 0], [0, 2, 0], [1, 0, 0], [1, -1, 0.0]])
    faces = np.array([[0, 1, 2], [0, 3, 1], [0, 4, 3], [3, 4, 1]])

    assert len(without_stray_faces(Mesh(vertices, faces)).faces) == 4


def test_sheets_and_buried_parts_are_measured():
    half = moved(ROUND, 0.45)
    plate = Mesh(np.array([[-1, -1, 0.9], [1, -1, 0.9], [1, 1, 0.9], [-1, 1, 0.9]]), np.array([[0, 1, 2], [0, 2, 3]]))
    ball = 4 * np.pi * 0.45**2

    shares = {
        name: share_of_sides(mesh, np.random.default_rng(1))
        for name, mesh in {
            "solid": half, "cavity": HOLLOW, "sheet": joined(half, plate), "buried": joined(half, moved(half, 0.5)),
        }.items()
    }  # fmt: skip

    assert shares["solid"] == shares["cavity"] == {"sheet": 0, "buried": 0}
    assert shares["sheet"]["sheet"] == pytest.approx(4 / (4 + ball), abs=0.04)
    assert shares["sheet"]["buried"] == shares["buried"]["sheet"] == 0
    assert shares["buried"]["buried"] == pytest.approx(0.2, abs=0.04)


def test_a_mesh_of_many_small_parts_is_oriented_in_bounded_time():
    """Each of 20,000 tetrahedra is turned the wrong way. Compared in pairs, they would take minutes."""
    corners, faces = (
        np.concatenate([np.zeros((1, 3)), np.eye(3)]),
        np.array([[0, 1, 2], [0, 3, 1], [0, 2, 3], [1, 3, 2]]),
    )
    where = np.stack(np.meshgrid(np.arange(200), np.arange(100), indexing="ij"), axis=-1).reshape(-1, 1, 2)
    vertices = corners + 2.0 * np.pad(where, ((0, 0), (0, 0), (0, 1)))
    parts = Mesh(vertices.reshape(-1, 3), (faces + 4 * np.arange(20_000)[:, None, None]).reshape(-1, 3))

    turned, facts = consistent(parts, orient=True)

    assert volume(parts) == pytest.approx(-20_000 / 6)
    assert volume(turned) == pytest.approx(20_000 / 6)
    assert facts["turned"] == 1
