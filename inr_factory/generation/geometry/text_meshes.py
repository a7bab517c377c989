"""Text meshes: reads OFF, OBJ and text STL into polygons.

Not through trimesh: it silently takes OBJ's index 0 for 1, counts negative indices from the wrong end, and takes a
truncated OFF file for a smaller one.
"""

import re
import warnings
from array import array
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from inr_factory.generation.signals import SignalError

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

OFF_HEADER = re.compile(r"\s*(ST)?(C)?(N)?(4)?(n)?(?:OFF|off)(?:[ \t]*(BINARY))?")


class Polygons(NamedTuple):
    """The content of a mesh file: vertices (V, 3), and polygons as sizes (M,) and corners (sum of sizes,).

    `names` are those of the values that a vertex has in a PLY file.
    """

    vertices: Floats
    sizes: Indices
    corners: Indices
    names: tuple[str, ...] = ()


def text_of(content: bytes) -> str:
    """The text of a file: UTF-16 where it has that mark, else UTF-8; other bytes occur in names and comments only."""
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return content.decode("utf-16", "replace")
    return content.decode("utf-8-sig", "replace")


def read_off(content: bytes) -> Polygons:
    """The polygons of an OFF file; also ModelNet's, whose first line runs into the second: `OFF3514 3546 0`."""
    text = text_of(content)
    if "#" in text:
        text = re.sub(r"#[^\r\n]*", "", text)
    header = OFF_HEADER.match(text)
    if header is None:
        raise SignalError("it does not begin with OFF")
    if header[4] or header[5] or header[6]:
        raise SignalError(f"its kind of OFF, {header[0].strip()}, is not read; only text in three dimensions")
    body = text[header.end() :].lstrip()
    counts, _, body = body.replace("\r", "\n").partition("\n")
    try:
        num_vertices, num_faces = (int(word) for word in counts.split()[:2])
    except ValueError:
        raise SignalError(f"it has no counts of vertices and faces after OFF, but {counts.strip()[:40]!r}") from None
    # The shortest vertex is "0 0 0\n", the shortest face "0\n".
    if num_vertices < 0 or num_faces < 0 or 6 * num_vertices + 2 * num_faces > len(body) + 2:
        raise SignalError(
            f"its header claims {num_vertices} vertices and {num_faces} faces, it has only {len(content)} bytes"
        )
    return _off_triangles(body, num_vertices, num_faces) or _off_lines(body, num_vertices, num_faces)


def _off_triangles(body: str, num_vertices: int, num_faces: int) -> Polygons | None:
    """The common case, read at once and without an object for each word: bare vertices and bare triangles."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # NumPy warns of what is no number, and gives what lies before it
            numbers = np.fromstring(body, dtype=np.float64, sep=" ")
    except (ValueError, DeprecationWarning):
        return None
    if len(numbers) != 3 * num_vertices + 4 * num_faces:
        return None
    faces = numbers[3 * num_vertices :].reshape(-1, 4)
    if not (faces[:, 0] == 3).all() or not (np.floor(faces) == faces).all() or np.abs(faces).max(initial=0) > 2**53:
        return None
    corners = faces[:, 1:].astype(np.int64).reshape(-1)
    return Polygons(numbers[: 3 * num_vertices].reshape(-1, 3), np.full(num_faces, 3, np.int64), corners)


def _off_lines(body: str, num_vertices: int, num_faces: int) -> Polygons:
    """Any OFF: a line each, colours and normals behind the numbers that count."""
    lines = [line for line in body.splitlines() if line and not line.isspace()]
    if len(lines) < num_vertices + num_faces:
        raise SignalError(f"it breaks off: {len(lines)} lines for {num_vertices} vertices and {num_faces} faces")
    if lines[num_vertices + num_faces :] and lines[num_vertices + num_faces].split()[0].isdigit():
        more = len(lines) - num_vertices - num_faces
        raise SignalError(f"its header claims {num_vertices} vertices and {num_faces} faces, and {more} lines follow")
    vertices = _rows_of_three(lines[:num_vertices], "vertex")
    sizes, corners = array("q"), array("q")
    for number, line in enumerate(lines[num_vertices : num_vertices + num_faces]):
        words = line.split()
        try:
            size = int(words[0])
            polygon = [int(word) for word in words[1 : size + 1]]
        except (ValueError, OverflowError):
            raise SignalError(f"face {number} is {line.strip()[:40]!r}, expected whole numbers") from None
        if size < 0 or len(polygon) != size:
            raise SignalError(f"face {number} claims {size} corners and has {len(polygon)}")
        _append(number, polygon, sizes, corners)
    return Polygons(vertices, _indices(sizes), _indices(corners))


def read_obj(content: bytes) -> Polygons:
    """The polygons of a Wavefront OBJ file; points, lines, curves, groups and materials are passed over.

    Indices count from 1, negative ones back from the vertex read last.
    """
    text = text_of(content)
    if "\\" in text:
        text = re.sub(r"\\[ \t]*\r?\n", " ", text)
    coords, sizes, corners = array("d"), array("q"), array("q")
    for line in re.split(r"[\r\n]+", text):
        words = line.split(None, 1)
        if not words or len(words) == 1:
            continue
        if words[0] == "v":
            numbers = words[1].split(None, 3)[:3]
            try:
                x, y, z = map(float, numbers)
            except ValueError:
                raise SignalError(
                    f"vertex {len(coords) // 3} is {line.strip()[:40]!r}, expected three numbers"
                ) from None
            coords.extend((x, y, z))
        elif words[0] in ("f", "fo"):
            count = len(coords) // 3
            try:
                named = [int(word.partition("/")[0]) for word in words[1].partition("#")[0].split()]
            except ValueError:
                raise SignalError(f"face {len(sizes)} is {line.strip()[:40]!r}, expected whole numbers") from None
            if 0 in named:
                raise SignalError(f"face {len(sizes)} has the vertex of index 0, they count from 1")
            _append(len(sizes), [index - 1 if index > 0 else count + index for index in named], sizes, corners)
    vertices = np.frombuffer(coords, np.float64).reshape(-1, 3) if coords else np.empty((0, 3))
    return Polygons(vertices, _indices(sizes), _indices(corners))


def read_ascii_stl(content: bytes) -> Polygons:
    """The triangles of an STL file in words; each has its corners to itself."""
    text = text_of(content).lower()
    lines = [line.split() for line in text.splitlines() if "vertex" in line]
    words = [line[1:] for line in lines if line and line[0] == "vertex"]
    if not words:
        raise SignalError("it has no triangles")
    if len(words) % 3:
        raise SignalError(f"it has {len(words)} corners of triangles, expected a multiple of three; it may break off")
    if "endsolid" not in text[-4096:]:
        raise SignalError("it breaks off: no endsolid follows its triangles")
    vertices = _rows_of_three([" ".join(line) for line in words], "corner")
    return Polygons(vertices, np.full(len(words) // 3, 3, np.int64), np.arange(len(words), dtype=np.int64))


def _rows_of_three(lines: list[str], what: str) -> Floats:
    """(len(lines), 3) numbers: the first three of each line."""
    rows = np.empty((len(lines), 3))
    for number, line in enumerate(lines):
        try:
            rows[number] = [float(word) for word in line.split(None, 3)[:3]]
        except ValueError:
            raise SignalError(f"{what} {number} is {line.strip()[:40]!r}, expected three numbers") from None
    return rows


def _append(number: int, polygon: list[int], sizes: "array[int]", corners: "array[int]") -> None:
    try:
        corners.extend(polygon)
    except OverflowError:
        raise SignalError(f"face {number} has an index of {len(str(max(map(abs, polygon))))} digits") from None
    sizes.append(len(polygon))


def _indices(numbers: "array[int]") -> Indices:
    return np.frombuffer(numbers, np.int64) if numbers else np.empty(0, np.int64)
