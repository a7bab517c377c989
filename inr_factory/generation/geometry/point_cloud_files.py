"""Point cloud files: reads one cloud of points from PLY, XYZ, TXT, NPY or NPZ.

S points. What a header claims is compared with the size of the file before memory of that size is allocated.
"""

import warnings
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import PurePath

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from inr_factory.errors import one_line
from inr_factory.generation.geometry.decoding import decode
from inr_factory.generation.geometry.mesh import check_points
from inr_factory.generation.geometry.ply import read_ply
from inr_factory.generation.geometry.text_meshes import text_of
from inr_factory.generation.signals import SignalError

Floats = NDArray[np.float64]

# Names of the array of points in an .npz with several arrays.
POINT_ARRAYS = ("points", "point", "pc", "pcd", "xyz", "coords", "pos", "data", "vertices", "arr_0")


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
    """Points (S, 3 or more numbers) of any type as (S, 3) in float64."""
    if points.ndim != 2 or points.shape[1] < 3:
        raise SignalError(f"its array has the shape {points.shape}, expected one point a row (S, 3)")
    if len(points) == 0:
        raise SignalError("it has no points")
    if len(points) > max_points:
        raise SignalError(f"{len(points)} points, source.max_faces allows {max_points}")
    if points.dtype.kind not in "iuf":
        raise SignalError(f"its points are of the type {points.dtype}, expected numbers")
    coords = np.ascontiguousarray(points[:, :3], np.float64)
    check_points(coords, "point")
    return coords


def _read_text(content: bytes) -> Floats:
    """Numbers with blanks or commas between them, a point a line; # and // begin a comment."""
    text = text_of(content).replace(",", " ").replace(";", " ").replace("//", "#")
    lines = [line for line in text.splitlines() if line.partition("#")[0].strip()]
    if not lines:
        raise SignalError("it has no points")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            points: Floats = np.loadtxt(lines, dtype=np.float64, usecols=(0, 1, 2), ndmin=2, comments="#")
            return points
    except ValueError as error:
        raise SignalError(f"not every line begins with three numbers: {one_line(error)[:100]}") from None


def _read_npy(content: bytes) -> NDArray[np.generic]:
    """An array whose header claims no more than the file has, and no Python objects."""
    file = BytesIO(content)
    version = npy_format.read_magic(file)
    header = {(1, 0): npy_format.read_array_header_1_0, (2, 0): npy_format.read_array_header_2_0}.get(version)
    if header is None:
        raise SignalError(f"its .npy is of version {version}, versions 1.0 and 2.0 are read")
    shape, fortran, dtype = header(file)
    if dtype.hasobject or dtype.kind not in "iuf":
        raise SignalError(f"its array is of the type {dtype}, expected numbers")
    claimed = int(np.prod(shape, dtype=object)) * dtype.itemsize
    if claimed > len(content) - file.tell():
        raise SignalError(f"its header claims an array {shape}, {claimed} bytes, the file has {len(content)}")
    values = np.frombuffer(content, dtype, claimed // dtype.itemsize, file.tell())
    return values.reshape(shape, order="F" if fortran else "C")


def _read_npz(content: bytes) -> NDArray[np.generic]:
    """The array of points in an archive: the only one, or the one named in POINT_ARRAYS."""
    with zipfile.ZipFile(BytesIO(content)) as archive:
        members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
        name = next((name for name in POINT_ARRAYS if name in members), None)
        if name is None and len(members) != 1:
            raise SignalError(f"it has {len(members)} arrays, none of them called {', '.join(POINT_ARRAYS)}")
        member = members[name or next(iter(members))]
        # Deflate shrinks a thousandfold at most; points that do so even thirtyfold are no shape.
        if member.file_size > 32 * max(member.compress_size, 4096):
            raise SignalError(f"{member.filename} claims {member.file_size} bytes packed into {member.compress_size}")
        return _read_npy(archive.read(member))


READERS: dict[str, Callable[[bytes], NDArray[np.generic]]] = {
    ".ply": lambda content: read_ply(content).vertices,
    ".xyz": _read_text,
    ".txt": _read_text,
    ".npy": _read_npy,
    ".npz": _read_npz,
}
