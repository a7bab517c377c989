"""Point cloud files: reads one cloud of points from PLY, PCD, NPY, NPZ or lines of numbers.

S points. What a header claims is compared with the size of the file before memory of that size is allocated.
"""

import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import PurePath

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from inr_factory.generation.geometry.decoding import decode
from inr_factory.generation.geometry.mesh import check_points
from inr_factory.generation.geometry.ply import read_ply
from inr_factory.generation.geometry.text_clouds import AXES, check_names, check_shape, read_pcd, read_text_cloud
from inr_factory.generation.signals import SignalError

Floats = NDArray[np.float64]

# Names of the array of points in an .npz with several arrays.
POINT_ARRAYS = ("points", "point", "pc", "pcd", "xyz", "coords", "pos", "data", "vertices")
# Names of arrays that make a mesh of points, and of others that go with points.
FACES = frozenset({"faces", "face", "triangles", "tris", "tri"})
NO_POINTS = FACES | {"normals", "normal", "colors", "colours", "rgb"}

TEXT_SUFFIXES = (".xyz", ".txt", ".csv", ".pts", ".asc", ".xyzn", ".xyzrgb")
FIRST_SUFFIXES = frozenset({".ply", ".xyz", ".txt", ".npy", ".npz"})  # those of recipes of version 1
MIN_POINTS = 8
REPEATED = 10  # times the mean, which padding exceeds


def read_points(name: str, content: bytes, max_points: int) -> Floats:
    """Read the points of a point cloud file. Normals and colours behind the coordinates are ignored.

    Args:
        name: File name; its suffix, one of READERS, names the format.
        content: The bytes of the file.
        max_points: Largest number of points that is accepted.

    Returns:
        Points (S, 3) in float64 and in the units of the file.

    Raises:
        SignalError: The content is empty, damaged, has NaN or more than max_points. Nothing else is raised.
    """
    read = READERS[PurePath(name).suffix.lower()]
    return decode(content, lambda content: checked_points(read(content), max_points))


def checked_points(points: NDArray[np.generic], max_points: int) -> Floats:
    """Points (S, 3 to 16 numbers) of any type as (S, 3) in float64; docs/shapes.md has the table of what is refused.

    Raises SignalError for arrays that are numbers, but no points on a surface.
    """
    if points.ndim != 2 or points.shape[1] < 3:
        raise SignalError(f"its array has the shape {points.shape}, expected one point a row (S, 3)")
    if len(points) == 0:
        raise SignalError("it has no points")
    check_shape(*points.shape)
    if len(points) > max_points:
        raise SignalError(f"{len(points)} points, source.max_faces allows {max_points}")
    if points.dtype.kind not in "iuf":
        raise SignalError(f"its points are of the type {points.dtype}, expected numbers")
    coords = np.ascontiguousarray(points[:, :3], np.float64)
    check_points(coords, "point")
    first = len(np.unique(coords[:1_000], axis=0))
    if first < MIN_POINTS and (places := len(np.unique(coords, axis=0))) < MIN_POINTS:
        raise SignalError(f"it has {places} different points, expected {MIN_POINTS} at least")
    _check_padding(coords)
    if points.dtype.kind in "iu" and _are_faces(np.sort(coords, axis=1)):
        raise SignalError(
            "its rows are three different ones of all whole numbers up to a last one, as triangles have them"
        )
    if points.shape[1] > 3 and (np.sort(coords[:, 0]) == np.arange(len(coords)) + coords[:, 0].min()).all():
        raise SignalError("its first column counts the rows; expected x, y and z in the first three columns")
    fourth = points[:, 3] if points.shape[1] == 4 else np.zeros(1)
    # Whole numbers are labels or intensities, unless -1 and 1 say what is inside.
    if fourth.min() < 0 < fourth.max() and (fourth.max() <= 1 or (fourth % 1 != 0).any()):
        raise SignalError("its fourth column has both signs, as signed distances have; expected points on the surface")
    return coords


def _check_padding(coords: Floats) -> None:
    """Raise SignalError where a row of one number, such as (0, 0, 0) or (-1, -1, -1), stands for points that are none."""
    values, counts = np.unique(coords[(coords == coords[:, :1]).all(axis=1), 0], return_counts=True)
    if counts.max(initial=0) < 2:
        return
    # Whole numbers may well repeat: points of a shape do so about equally often.
    usual = len(coords) / len(np.unique(coords, axis=0))
    padding = (counts > np.where(values == 0, 1, REPEATED * usual)).nonzero()[0]
    for value, count in zip(values[padding], counts[padding], strict=True):
        row = ", ".join([f"{value:g}"] * 3)
        raise SignalError(f"{count} of its {len(coords)} points are ({row}), as padding is; remove these rows")


def _are_faces(rows: Floats) -> bool:
    """Whether sorted rows (F, 3) are the corners of triangles: different in each row, and together all from 0 or 1 on."""
    if rows[:, 0].min() not in (0, 1) or not (np.diff(rows, axis=1) > 0).all():
        return False
    return len(np.unique(rows)) == np.ptp(rows) + 1


def _read_ply(content: bytes) -> NDArray[np.generic]:
    """The vertices of a file that has nothing else."""
    shape = read_ply(content)
    check_names(shape.names)
    if len(shape.sizes):
        raise SignalError(f"it has {len(shape.sizes)} faces: meshes are for the collection mesh_folder")
    return shape.vertices


def _read_npy(content: bytes) -> NDArray[np.generic]:
    """An array whose header claims no more than the file has, and no Python objects."""
    file = BytesIO(content)
    version = npy_format.read_magic(file)
    header = {(1, 0): npy_format.read_array_header_1_0, (2, 0): npy_format.read_array_header_2_0}.get(version)
    if header is None:
        raise SignalError(f"its .npy is of version {version}, versions 1.0 and 2.0 are read")
    shape, fortran, dtype = header(file)
    if dtype.hasobject or (dtype.kind not in "iuf" and not set(AXES) <= set(dtype.names or ())):
        raise SignalError(f"its array is of the type {dtype}, expected numbers")
    claimed = int(np.prod(shape, dtype=object)) * dtype.itemsize
    if claimed != (follow := len(content) - file.tell()):
        raise SignalError(f"its header claims an array {shape}, {claimed} bytes, {follow} follow")
    check_names(dtype.names or ())
    values = np.frombuffer(content, dtype, claimed // dtype.itemsize, file.tell())
    if dtype.names:
        return np.stack([values[axis].astype(np.float64) for axis in AXES], axis=-1)
    return values.reshape(shape, order="F" if fortran else "C")


def _read_npz(content: bytes) -> NDArray[np.generic]:
    """The array of points in an archive: the only one, or the one named in POINT_ARRAYS."""
    with zipfile.ZipFile(BytesIO(content)) as archive:
        members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
        check_names(members)
        if FACES.intersection(members) or NO_POINTS.issuperset(members):
            raise SignalError(f"it has the arrays {', '.join(sorted(members))[:60]}, which are no cloud of points")
        names = [name for name in POINT_ARRAYS if name in members]
        if len(names) > 1:
            raise SignalError(f"its arrays {' and '.join(names)} may both be its points; keep one of them")
        name = next(iter(names), None)
        if name is None and len(members) != 1:
            raise SignalError(f"it has {len(members)} arrays, none of them called {', '.join(POINT_ARRAYS)}")
        member = members[name or next(iter(members))]
        # Deflate shrinks a thousandfold at most; points that do so even thirtyfold are no shape.
        if member.file_size > 32 * max(member.compress_size, 4096):
            raise SignalError(f"{member.filename} claims {member.file_size} bytes packed into {member.compress_size}")
        points = _read_npy(archive.read(member))
        if name == "pos" and points.ndim == 2 and points.shape[1] == 4:
            raise SignalError(
                "its array pos has four columns, as DeepSDF's samples of a field; expected points on a surface"
            )
        return points


READERS: dict[str, Callable[[bytes], NDArray[np.generic]]] = {
    ".ply": _read_ply,
    **dict.fromkeys(TEXT_SUFFIXES, read_text_cloud),
    ".pcd": read_pcd,
    ".npy": _read_npy,
    ".npz": _read_npz,
}
