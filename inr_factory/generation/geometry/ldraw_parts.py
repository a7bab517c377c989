"""LDraw parts: gathers a part's text with that of its sub-files, and reads the triangles of both.

The format is that of https://www.ldraw.org/article/218 and, for the winding, of https://www.ldraw.org/article/415.
Colours and lines are left out. T triangles of one file.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter

import numpy as np
from numpy.typing import NDArray

from inr_factory.errors import shorten
from inr_factory.generation.geometry.decoding import decode
from inr_factory.generation.geometry.mesh import Mesh, checked_mesh
from inr_factory.generation.signals import SignalError

Floats = NDArray[np.float64]

# The y axis of LDraw points down. A quarter turn about the x axis makes z point up.
UPRIGHT = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])
DECIMALS = 4  # of LDraw's units; files have at most as many, and corners that agree in them are one vertex
_FILE = re.compile(rb"^[ \t]*0[ \t]+FILE[ \t]+(.+?)[ \t\r]*$", re.MULTILINE)
_REFERENCE = re.compile(rb"^[ \t]*1[ \t]+(?:\S+[ \t]+){13}(.+?)[ \t\r]*$", re.MULTILINE)


@dataclass
class _File:
    """One file: its triangles (T, 3, 3) counter-clockwise from outside, and its sub-files.

    A sub-file has a name, a matrix (3, 3), an offset (3,), and whether it is turned inside out.
    """

    triangles: list[list[list[float]]] = field(default_factory=list)
    references: list[tuple[str, Floats, Floats, bool]] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        """Those of the sub-files."""
        return [name for name, *_ in self.references]


def normalised_name(name: str) -> str:
    """The name of a sub-file, whose case and kind of slash mean nothing."""
    return name.strip().replace("\\", "/").lower()


def gather_part(name: str, read: Callable[[str], bytes | None], max_bytes: int) -> bytes:
    """One text with a part and all files that it refers to: a multi-part document of LDraw.

    Args:
        name: The part's file, as sub-files are named.
        read: Gives the content of a file by its normalised name; None where there is none.
        max_bytes: Largest sum of the sizes of all files.

    Raises:
        SignalError: A file is missing, or the files are too large.
    """
    contents: dict[str, bytes] = {}
    waiting, size = [(normalised_name(name), "")], 0
    while waiting:
        name, parent = waiting.pop()
        if name in contents:
            continue
        content = read(name)
        if content is None:
            raise SignalError(
                f"its sub-file {shorten(name)}, of {parent}, is missing" if parent else "its file is missing"
            )
        size += len(content)
        if size > max_bytes:
            raise SignalError(f"{size} bytes with its sub-files, source.max_bytes allows {max_bytes}")
        contents[name] = content
        waiting += [(normalised_name(_text(each)), shorten(name)) for each in reversed(_REFERENCE.findall(content))]
    return b"".join(b"0 FILE %s\n%s\n" % (name.encode(), content) for name, content in contents.items())


def read_part(content: bytes, max_faces: int) -> Mesh:
    """The triangles of a gathered part, in LDraw's units of 0.4 mm, z up.

    Raises:
        SignalError: A line is malformed, a file contains itself, or there are no or more than `max_faces` triangles.
    """
    return decode(content, lambda content: _read(content, max_faces))


def _read(content: bytes, max_faces: int) -> Mesh:
    _, *sections = _FILE.split(content)
    names = [normalised_name(_text(name)) for name in sections[::2]]
    files = {name: _parse(name, _text(body)) for name, body in zip(names, sections[1::2], strict=True)}
    try:
        order = tuple(TopologicalSorter({name: file.names for name, file in files.items()}).static_order())
    except CycleError as error:
        raise SignalError(f"its sub-files contain themselves: {shorten(' < '.join(error.args[1]))}") from None
    counts: dict[str, int] = {}
    for name in order:
        counts[name] = len(files[name].triangles) + sum(counts[other] for other in files[name].names)
    if counts[names[0]] > max_faces:
        raise SignalError(f"{counts[names[0]]} triangles, source.max_faces allows {max_faces}")
    meshes: dict[str, Floats] = {}
    with np.errstate(over="ignore", invalid="ignore"):  # checked_mesh refuses what is not finite
        for name in order:
            parts = [np.array(files[name].triangles, np.float64).reshape(-1, 3, 3)]
            for other, matrix, offset, inverted in files[name].references:
                placed = meshes[other] @ matrix.T + offset
                parts.append(placed[:, ::-1] if inverted != (np.linalg.det(matrix) < 0) else placed)
            meshes[name] = np.concatenate(parts)
        corners = (meshes[names[0]] @ UPRIGHT.T).reshape(-1, 3)
    vertices, faces = np.unique(corners.round(DECIMALS) + 0.0, axis=0, return_inverse=True)
    return checked_mesh(vertices, np.full(len(corners) // 3, 3), faces.reshape(-1).astype(np.int64), max_faces)


def _parse(name: str, text: str) -> _File:
    """The triangles and sub-files of one file. Raises SignalError for a malformed line."""
    file, clockwise, invert_next = _File(), False, False
    for number, line in enumerate(text.splitlines(), 0):
        kind, *words = line.split(None, 14) or ("",)
        if kind == "0":
            if words[:1] == ["BFC"]:
                clockwise = "CW" in words or (clockwise and "CCW" not in words)
                invert_next = "INVERTNEXT" in words
            continue
        if kind not in ("1", "3", "4"):
            continue
        width = {"1": 12, "3": 9, "4": 12}[kind]
        try:
            values = np.array([float(word) for word in words[1 : width + 1]])
            if len(values) < width or not np.isfinite(values).all() or (kind == "1" and len(words) < width + 2):
                raise ValueError
        except ValueError:
            raise SignalError(f"line {number} of {shorten(name)} is malformed: {shorten(line.strip())}") from None
        if kind == "1":
            file.references.append((normalised_name(words[13]), values[3:].reshape(3, 3), values[:3], invert_next))
            invert_next = False
            continue
        points = values.reshape(-1, 3).tolist()
        points = points[::-1] if clockwise else points
        file.triangles += [[points[0], *points[corner : corner + 2]] for corner in range(1, len(points) - 1)]
    return file


def _text(content: bytes) -> str:
    """UTF-8, or Windows code page 1252, as the format's specification says of older files."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252", "replace")
