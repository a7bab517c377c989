"""Point files: every format gives the same points, and claims that a file cannot hold are refused."""

import io
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

from inr_factory.generation.geometry.point_cloud_files import read_points
from inr_factory.generation.signals import SignalError

POINTS = np.arange(24).reshape(8, 3) / 4
NORMALS = np.ones((8, 3))


def text(rows, between=" ", start=""):
    return (start + "\n".join(between.join(map(str, row)) for row in rows)).encode()


def npy(array, **options):
    content = io.BytesIO()
    np.save(content, array, **options)
    return content.getvalue()


def npz(**arrays):
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    return content.getvalue()


def unnamed(*arrays):
    content = io.BytesIO()
    np.savez(content, *arrays)
    return content.getvalue()


def ply(order):
    header = f"ply\nformat {order} 1.0\nelement vertex 8\nproperty float x\nproperty float y\nproperty float z\nproperty float nx\nend_header\n"
    rows = np.column_stack([POINTS, np.ones(8)])
    return header.encode() + (text(rows) if order == "ascii" else rows.astype("<f4").tobytes())


def claiming(shape, dtype="<f8"):
    header = repr({"descr": dtype, "fortran_order": False, "shape": shape}).encode().ljust(117) + b"\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", 118) + header + bytes(240)


WITH_NORMALS = np.hstack([POINTS, NORMALS])
CLOUDS = {
    "blanks.xyz": text(POINTS),
    "normals.txt": text(WITH_NORMALS, ","),
    "tabs.TXT": text(WITH_NORMALS, "\t"),
    "commas and blanks.txt": text(POINTS, ", "),
    "comments.xyz": text(POINTS, start="# x y z\n\n// by hand\n"),
    "windows.xyz": text(POINTS).replace(b"\n", b"\r\n"),
    "double.npy": npy(POINTS),
    "columns.npy": npy(np.asfortranarray(POINTS)),
    "normals.NPY": npy(WITH_NORMALS.astype(np.float32)),
    "big.npy": npy(POINTS.astype(">f8")),
    "only.npz": npz(mine=POINTS),
    "named.npz": npz(normals=NORMALS, points=POINTS),
    "ascii.ply": ply("ascii"),
    "binary.ply": ply("binary_little_endian"),
}  # fmt: skip


@pytest.mark.parametrize("name", CLOUDS)
def test_every_format_gives_the_points(name):
    points = read_points(name, CLOUDS[name], 8)

    assert np.array_equal(points, POINTS)
    assert points.dtype == np.float64
    assert points.flags["C_CONTIGUOUS"]


def bomb():
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("points.npy", claiming((2_000_000, 3)) + bytes(48_000_000))
    return content.getvalue()


BROKEN = {
    "empty.xyz": (b"", "empty"),
    "blank.xyz": (b"\n  \n", "no points"),
    "words.txt": (b"1 2 3\n1 two 3\n", "not every line begins with three numbers"),
    "two.txt": (b"1 2\n3 4\n", "not every line begins with three numbers"),
    "NaN.xyz": (b"1 2 3\n1 nan 3\n", "point 1 of 2 is NaN or infinite"),
    "flat.npy": (npy(np.zeros(9)), r"the shape \(9,\)"),
    "pairs.npy": (npy(np.zeros((9, 2))), r"the shape \(9, 2\)"),
    "none.npy": (npy(np.zeros((0, 3))), "no points"),
    "objects.npy": (npy(np.array([[{}, 1, 2]], dtype=object), allow_pickle=True), "of the type object"),
    "text.npy": (npy(np.array([["a", "b", "c"]])), "of the type <U1"),
    "complex.npy": (npy(POINTS * 1j), "of the type complex128"),
    "claims.npy": (claiming((10**12, 3)), r"claims an array \(1000000000000, 3\)"),
    "negative.npy": (claiming((-1, -30)), "cannot be read|claims"),
    "cut.npy": (npy(POINTS)[:-1], "claims an array"),
    "no.npy": (b"nothing at all", "cannot be read"),
    "no.npz": (b"PK nothing", "cannot be read"),
    "many.npz": (npz(one=POINTS, two=POINTS), "2 arrays, none of them called"),
    "bomb.npz": (bomb(), "claims 48000368 bytes packed into"),
    "mesh.ply": (b"ply\nformat ascii 1.0\nend_header\n", "no vertices"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_cloud_is_a_signal_error_with_one_reason_and_costs_no_memory(name):
    content, reason = BROKEN[name]

    tracemalloc.start()
    try:
        with pytest.raises(SignalError, match=reason) as caught:
            read_points(name, content, 100)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert "\n" not in str(caught.value)
    assert peak < 20 * 2**20


def test_too_many_points_are_refused():
    with pytest.raises(SignalError, match=r"8 points, source.max_faces allows 7"):
        read_points("x.npy", npy(POINTS), 7)


SPREAD = np.random.default_rng(0).uniform(-1, 1, (512, 3))
SIGNED = np.random.default_rng(1).uniform(-1, 1, (512, 1))
STRUCTURED = np.empty(512, [("intensity", "<u2"), ("z", "<f4"), ("y", "<f4"), ("x", "<f4")])
STRUCTURED["x"], STRUCTURED["y"], STRUCTURED["z"] = SPREAD.astype("<f4").T


SAMPLED = np.zeros(512, [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("sdf", "<f4")])
MESH = b"element face 1\nproperty list uchar int vertex_indices\nend_header"

# D06, D07 and their siblings: arrays of numbers that are no points on a surface.
NO_POINTS = {
    "DeepSDF.npz": (npz(pos=np.hstack([SPREAD, abs(SIGNED)]), neg=np.hstack([SPREAD, -abs(SIGNED)])), "called neg"),
    "pos of DeepSDF.npz": (npz(pos=np.hstack([SPREAD, abs(SIGNED)])), "DeepSDF"),
    "Occupancy Networks.npz": (npz(points=SPREAD, occupancies=np.zeros(64, np.uint8)), "called occupancies"),
    "distances.npz": (npz(points=SPREAD, sdf=SIGNED), "called sdf"),
    "two clouds.npz": (npz(points=SPREAD, pc=2 * SPREAD), "points and pc may both be"),
    "mesh.npz": (npz(vertices=SPREAD, faces=np.zeros((9, 3), int)), "no cloud of points"),
    "normals.npz": (npz(normals=SPREAD), "no cloud of points"),
    "signed.npy": (npy(np.hstack([SPREAD, SIGNED])), "fourth column has both signs"),
    "channels first.npy": (npy(SPREAD.T), r"shape \(3, 512\), .* transposed, as \(512, 3\)"),
    "four channels first.npy": (npy(np.ones((4, 512))), r"shape \(4, 512\)"),
    "image.npy": (npy(np.ones((64, 64))), r"shape \(64, 64\)"),
    "grid.npy": (npy(np.ones((32, 32, 32))), r"shape \(32, 32, 32\)"),
    "batch.npy": (npy(SPREAD[None]), r"shape \(1, 512, 3\)"),
    "square.npy": (npy(np.ones((16, 16))), r"shape \(16, 16\)"),
    "two arrays.npy": (npy(SPREAD) + npy(SPREAD), "12288 bytes, 24704 follow"),
    "names.npy": (npy(SAMPLED), "called sdf"),
    "names.ply": (ply("ascii").replace(b"float nx", b"float gt_sdf"), "called gt_sdf"),
    "mesh.ply": (ply("ascii").replace(b"end_header", MESH) + b"\n3 0 1 2", "1 faces: meshes are for .* mesh_folder"),
    "NDF.npz": (npz(points=SPREAD, df=abs(SIGNED[:, 0]), grid_coords=SPREAD), "called df"),
    "values.npz": (npz(points=SPREAD, Values=SIGNED), "called Values"),
    "points of a mesh.npz": (npz(points=SPREAD, faces=np.zeros((9, 3), int)), "no cloud of points"),
    "faces.npy": (npy(np.arange(96)[:, None] // [1, 2, 4] + [48, 12, 0]), "as triangles have them"),
    "rows of -1.npy": (npy(np.vstack([SPREAD, np.full((20, 3), -1.0)])), r"20 of its 532 points are \(-1, -1, -1\)"),
    "rows of 0 and 1.npy": (npy(np.vstack([SPREAD, np.zeros((2, 3)), np.ones((3, 3))])), r"2 .* \(0, 0, 0\)"),
    "rotation.npy": (npy(np.eye(3)), "3 different points, expected 8 at least"),
    "repeated.npy": (npy(np.repeat(SPREAD[:3], 100, axis=0)), "3 different points, expected 8 at least"),
    "without names.npz": (unnamed(SPREAD, SIGNED), "2 arrays, none of them called"),
    "zero rows.npy": (npy(np.vstack([SPREAD, np.zeros((2, 3))])), "2 of its 514 points"),
    "NaN rows.npy": (npy(np.vstack([SPREAD, np.full((2, 3), np.nan)])), "point 512 of 514 is NaN"),
    "rows.npy": (npy(np.hstack([np.arange(512)[:, None], SPREAD])), "counts the rows"),
    "truth.npy": (npy(SPREAD > 0), "of the type bool"),
    "raw scanner.npy": (npy(np.zeros(512, [("X", "<i4"), ("Y", "<i4"), ("Z", "<i4")])), "expected numbers"),
}  # fmt: skip


@pytest.mark.parametrize("name", NO_POINTS)
def test_numbers_that_are_no_points_on_a_surface_are_refused(name):
    content, reason = NO_POINTS[name]

    with pytest.raises(SignalError, match=reason):
        read_points(name, content, 10_000)


READ = {
    "pointcloud of Occupancy Networks.npz": npz(
        points=SPREAD, normals=SPREAD, loc=np.zeros(3), scale=np.array(1.0)
    ),
    "homogeneous.npy": npy(np.hstack([SPREAD, np.ones((512, 1))])),
    "intensities.npy": npy(np.hstack([SPREAD, abs(SIGNED)])),
    "structured.npy": npy(STRUCTURED),
    "labels.npy": npy(np.hstack([SPREAD, np.arange(512)[:, None] % 9 - 1])),
    "coloured vertices.npz": npz(vertices=SPREAD, colors=SPREAD),
}  # fmt: skip


@pytest.mark.parametrize("name", READ)
def test_arrays_with_more_than_coordinates_give_the_coordinates(name):
    np.testing.assert_allclose(read_points(name, READ[name], 512), SPREAD, atol=1e-7)


def test_whole_numbers_are_points_in_their_own_units():
    whole = np.round(1000 * SPREAD).astype(np.int16)

    assert np.array_equal(read_points("whole.npy", npy(whole), 512), whole)
    coarse = np.round(3 * SPREAD).astype(np.int8)
    coarse = coarse[coarse.any(axis=1)]
    assert np.array_equal(read_points("coarse.npy", npy(coarse), 512), coarse), "many points are at one place"
