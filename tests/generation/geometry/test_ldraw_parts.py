"""LDraw parts: sub-files are gathered and placed, their outside stays outside, and faults are named in one line."""

import numpy as np
import pytest
from support.ldraw import CUBE, FILES, IDENTITY

from inr_factory.generation.geometry.ldraw_parts import gather_part, read_part
from inr_factory.generation.signals import SignalError

BYTES = {name.partition("/")[2]: text.encode() for name, text in FILES.items()}


def mesh_of(text, max_faces=1000, **files):
    library = BYTES | {f"{name}.dat": body.encode() for name, body in files.items()} | {"x.dat": text.encode()}
    return read_part(gather_part("X.DAT", library.get, 10**6), max_faces)


def volume(mesh):
    """Positive where faces are counter-clockwise from outside."""
    return np.linalg.det(mesh.corners).sum() / 6


def test_a_part_of_sub_files_is_upright_and_in_the_units_of_the_library():
    mesh = read_part(gather_part("3024.dat", BYTES.get, 10**6), 1000)

    assert mesh.vertices.min(axis=0).tolist() == [-10, -10, -8]
    assert mesh.vertices.max(axis=0).tolist() == [10, 10, 4]
    assert len(mesh.faces) == 12 + 4
    assert volume(mesh) == pytest.approx(20 * 20 * 8 + 8 * 8 / 2 * 4 / 3)


def test_points_are_turned_and_not_mirrored():
    mesh = mesh_of("3 16 1 0 0 0 2 0 0 0 3")
    assert sorted(mesh.vertices.tolist()) == [[0, 0, -2], [0, 3, 0], [1, 0, 0]]


def test_corners_that_agree_are_one_vertex():
    mesh = mesh_of(f"{CUBE}1 16 2.00000001 0 0 {IDENTITY} box.dat")
    assert len(mesh.vertices) == 12


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (f"1 16 5 0 0 {IDENTITY} box.dat", 8),
        ("1 16 5 0 0 -1 0 0 0 1 0 0 0 1 box.dat", 8),
        ("1 16 5 0 0 -1 0 0 0 -1 0 0 0 1 box.dat", 8),
        (f"0 BFC INVERTNEXT\n1 16 5 0 0 {IDENTITY} box.dat", -8),
        ("0 BFC INVERTNEXT\n1 16 5 0 0 -1 0 0 0 1 0 0 0 1 box.dat", -8),
        (f"0 BFC INVERTNEXT\n0 a comment\n\n1 16 5 0 0 {IDENTITY} hole.dat", 8),
        (f"0 BFC INVERTNEXT\n1 16 5 0 0 {IDENTITY} box.dat\n1 16 9 0 0 {IDENTITY} box.dat", 0),
        (CUBE.replace("CERTIFY CCW", "CERTIFY CW"), -8),
        (CUBE.replace("CERTIFY CCW", "CERTIFY"), 8),
        (CUBE.replace("0 BFC CERTIFY CCW\n", ""), 8),
        (CUBE.replace("CERTIFY CCW", "CERTIFY CW\n0 BFC CCW"), 8),
    ],
)
def test_the_outside_stays_outside_unless_the_file_says_so(body, expected):
    hole = f"0 BFC CERTIFY CCW\n0 BFC INVERTNEXT\n1 16 0 0 0 {IDENTITY} box.dat"
    assert volume(mesh_of(body, hole=hole)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (f"1 16 0 0 0 {IDENTITY} s\\absent one.dat", "its sub-file 's/absent one.dat', of 'x.dat', is missing"),
        (f"1 16 0 0 0 {IDENTITY} loop.dat", "its sub-files contain themselves: .*loop.dat"),
        (f"1 16 0 0 0 {IDENTITY} x.dat", "its sub-files contain themselves: 'x.dat < x.dat'"),
        ("0 Title\n3 16 0 0 0 1 0 zero 0 1 0", "line 2 of 'x.dat' is malformed: '3 16 0 0 0 1 0 zero 0 1 0'"),
        ("4 16 0 0 0 1 0 0 0 1 0", "line 1 of 'x.dat' is malformed"),
        ("3 16 0 0 0 1 0 nan 0 1 0", "line 1 of 'x.dat' is malformed"),
        ("1 16 0 0 0 1 0 0 0 1 0 0 0 1", "line 1 of 'x.dat' is malformed"),
        ("3 16 1e300 0 0 1 0 0 0 1e-300 0\n1 16 0 0 0 1e300 0 0 0 1 0 0 0 1e300 far.dat", "is NaN or infinite"),
        ("0 nothing\n2 24 0 0 0 1 1 1", "it has no vertices"),
        (f"1 16 0 0 0 {IDENTITY} many.dat", "1099511627776 triangles, source.max_faces allows 1000"),
    ],
)
def test_what_cannot_be_read_is_named(body, message):
    files = {"loop": f"1 16 0 0 0 {IDENTITY} x.dat", "far": "3 16 1e300 0 0 1 0 0 0 1 0"}
    doubled = 2 * f"1 16 0 0 0 {IDENTITY} level{{}}.dat\n"
    files |= {f"level{n}": doubled.format(n - 1, n - 1) for n in range(1, 40)}
    files |= {"level0": "3 16 0 0 0 1 0 0 0 1 0", "many": doubled.format(39, 39)}
    with pytest.raises(SignalError, match=message):
        mesh_of(body, **files)


def test_a_file_is_read_once_and_all_files_are_at_most_so_large():
    read = []

    def reading(name):
        read.append(name)
        return BYTES.get(name)

    content = gather_part("3005.dat", reading, 10**6)
    assert sorted(read) == ["3005.dat", "3024.dat", "box.dat", "s/3024s01.dat", "stud.dat"]
    assert content == gather_part("3005.DAT", BYTES.get, 10**6)
    with pytest.raises(SignalError, match=r"bytes with its sub-files, source\.max_bytes allows 900"):
        gather_part("3005.dat", BYTES.get, 900)


def test_a_chain_of_many_files_needs_no_deep_recursion():
    files = {f"deep{n}": f"1 16 0 1 0 {IDENTITY} deep{n - 1}.dat" for n in range(1, 3000)}
    mesh = mesh_of(f"1 16 0 0 0 {IDENTITY} deep2999.dat", deep0="3 16 0 0 0 1 0 0 0 0 1", **files)
    assert mesh.vertices[:, 2].tolist() == [-2999] * 3
