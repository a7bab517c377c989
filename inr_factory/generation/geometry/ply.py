"""PLY files: the vertices and polygons of text and binary PLY, of meshes and of clouds.

Not through trimesh: its reader takes the length of every polygon from the first one, and its writer rounds vertices to
float32, which destroys a shape that is small compared with its distance from the origin.
"""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inr_factory.generation.geometry.mesh import Mesh
from inr_factory.generation.geometry.text_meshes import Polygons
from inr_factory.generation.signals import SignalError

TYPES = {
    "char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4", "float": "f4",
    "double": "f8", "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4",
    "int64": "i8", "uint64": "u8", "float32": "f4", "float64": "f8",
}  # fmt: skip

MAX_HEADER = 65_536  # bytes
END = re.compile(rb"(?:^|\r)[ \t]*end_header[ \t]*(\r\n|\r|\n)", re.MULTILINE)


@dataclass(frozen=True)
class Property:
    """One value of each row, or a list of them whose length is of the type `length`. Types as NumPy writes them."""

    name: str
    dtype: str
    length: str | None = None


@dataclass(frozen=True)
class Element:
    name: str
    count: int
    properties: tuple[Property, ...]


# Values of one property: an array with one a row, or for lists their lengths (rows,) and all values concatenated.
PropertyValues = NDArray[Any] | tuple[NDArray[np.int64], NDArray[Any]]


def read_ply(content: bytes) -> Polygons:
    """The vertices and polygons of a PLY file; a cloud has none of the latter."""
    order, elements, body = _header(content)
    tables = _text_tables(elements, body) if order == "ascii" else _binary_tables(elements, body, order)
    vertex = tables.get("vertex", {})
    missing = [axis for axis in "xyz" if not isinstance(vertex.get(axis), np.ndarray)]
    if missing:
        raise SignalError(f"its vertices have no {', '.join(missing)}" if vertex else "it has no vertices")
    vertices = np.stack([np.asarray(vertex[axis], dtype=np.float64) for axis in "xyz"], axis=1)
    face = tables.get("face", {})
    polygons = next((face[name] for name in ("vertex_indices", "vertex_index") if name in face), None)
    if isinstance(polygons, tuple):
        sizes, corners = polygons
        if len(sizes) and sizes.min() < 3:  # lengths that are damaged shift all rows behind them
            row = int(sizes.argmin())
            raise SignalError(f"face {row} of {len(sizes)} has {sizes[row]} corners, expected at least 3")
        return Polygons(vertices, sizes, corners.astype(np.int64), tuple(vertex))
    if tables.get("tristrips"):
        raise SignalError("its triangles are in strips, which are not read; save it with faces")
    return Polygons(vertices, np.empty(0, np.int64), np.empty(0, np.int64), tuple(vertex))


def _header(content: bytes) -> tuple[str, list[Element], bytes]:
    """The format (ascii, < or >), the elements, and the bytes behind the header."""
    end = END.search(content, 0, MAX_HEADER)
    if not content[:3].lower() == b"ply" or end is None:
        raise SignalError("it does not begin with ply" if end else "it has no PLY header")
    order, elements = "", list[Element]()
    for line in content[: end.start()].decode("latin-1").splitlines():
        words = line.split()
        try:
            if words[:1] == ["format"]:
                order = {"ascii": "ascii", "binary_little_endian": "<", "binary_big_endian": ">"}[words[1]]
            elif words[:1] == ["element"]:
                elements.append(Element(words[1], int(words[2]), ()))
            elif words[:1] == ["property"]:
                kinds = [TYPES[kind] for kind in (words[2:4] if words[1] == "list" else words[1:2])]
                new = Property(words[-1], kinds[-1], kinds[0] if words[1] == "list" else None)
                last = elements[-1]
                elements[-1] = Element(last.name, last.count, (*last.properties, new))
        except (KeyError, IndexError, ValueError):
            raise SignalError(f"its header has the line {line.strip()[:60]!r}, which says nothing known") from None
    body = content[end.end() :]
    if not order:
        raise SignalError("its header names no format")
    for element in elements:
        # A value takes a byte at least in binary, a digit and a blank in text.
        least = max(1, len(element.properties)) * (2 if order == "ascii" else 1)
        if order != "ascii":
            least = sum(int((p.length or p.dtype)[1]) for p in element.properties)
        if element.count < 0 or (element.properties and element.count * least > len(body) + 2):
            raise SignalError(
                f"its header claims {element.count} of the element {element.name}, it has only {len(content)} bytes"
            )
    return order, elements, body


def _text_tables(elements: list[Element], body: bytes) -> dict[str, dict[str, PropertyValues]]:
    lines = [line for line in body.decode("latin-1").splitlines() if line and not line.isspace()]
    tables, start = dict[str, dict[str, PropertyValues]](), 0
    for element in elements:
        rows = lines[start : start + element.count]
        start += element.count
        if not element.properties:
            continue
        if len(rows) < element.count:
            raise SignalError(f"it breaks off: {len(rows)} lines for {element.count} of the element {element.name}")
        columns: list[list[float]] = [[] for _ in element.properties]
        lengths: list[list[int]] = [[] for _ in element.properties]
        for number, row in enumerate(rows):
            words, position = row.split(), 0
            try:
                for column, sizes, prop in zip(columns, lengths, element.properties, strict=True):
                    size = 1
                    if prop.length is not None:
                        size = int(words[position])
                        position += 1
                        sizes.append(size)
                    if size < 0 or position + size > len(words):
                        raise ValueError
                    column.extend(map(float, words[position : position + size]))
                    position += size
            except (ValueError, IndexError):
                raise SignalError(f"{element.name} {number} is {row.strip()[:40]!r}, not as its header says") from None
        tables[element.name] = {
            prop.name: (np.array(sizes, np.int64), np.array(column)) if prop.length else np.array(column)
            for prop, column, sizes in zip(element.properties, columns, lengths, strict=True)
        }
    return tables


def _binary_tables(elements: list[Element], body: bytes, order: str) -> dict[str, dict[str, PropertyValues]]:
    tables, offset = dict[str, dict[str, PropertyValues]](), 0
    for element in elements:
        table, offset = _even_rows(element, body, offset, order) or _uneven_rows(element, body, offset, order)
        tables[element.name] = table
    return tables


def _even_rows(element: Element, body: bytes, offset: int, order: str) -> tuple[dict[str, PropertyValues], int] | None:
    """Rows that are all of one size, where every list is as long as that of the first row; None where they are not."""
    fields: list[tuple[Any, ...]] = []
    first = offset
    for number, prop in enumerate(element.properties):
        size = 1
        if prop.length is not None:
            length = np.dtype(order + prop.length)
            if element.count and first + length.itemsize > len(body):
                return None
            size = int(np.frombuffer(body, length, 1, first)[0]) if element.count else 0
            fields.append((f"{number} length", length))
            first += length.itemsize
        kind = np.dtype(order + prop.dtype)
        if size < 0 or first + size * kind.itemsize > len(body) + kind.itemsize * (element.count == 0):
            return None
        fields.append((f"{number}", kind, (size,)))
        first += size * kind.itemsize
    rows = np.dtype(fields)
    if element.count * rows.itemsize > len(body) - offset:
        return None
    if rows.itemsize == 0 or element.count == 0:
        return _no_rows(element), offset
    table = np.frombuffer(body, rows, element.count, offset)
    columns: dict[str, PropertyValues] = {}
    for number, prop in enumerate(element.properties):
        values = table[f"{number}"]
        if prop.length is None:
            columns[prop.name] = values[:, 0]
        else:
            sizes = table[f"{number} length"].astype(np.int64)
            if (sizes != values.shape[1]).any():
                return None
            columns[prop.name] = (sizes, values.reshape(-1))
    return columns, offset + element.count * rows.itemsize


def _no_rows(element: Element) -> dict[str, PropertyValues]:
    none, no_sizes = np.empty(0), np.empty(0, np.int64)
    return {prop.name: (no_sizes, none) if prop.length else none for prop in element.properties}


def _uneven_rows(element: Element, body: bytes, offset: int, order: str) -> tuple[dict[str, PropertyValues], int]:
    """Rows read one by one, for lists of different lengths."""
    values: list[list[NDArray[Any]]] = [[] for _ in element.properties]
    for row in range(element.count):
        for column, prop in zip(values, element.properties, strict=True):
            size = 1
            try:
                if prop.length is not None:
                    length = np.dtype(order + prop.length)
                    size = int(np.frombuffer(body, length, 1, offset)[0])
                    offset += length.itemsize
                kind = np.dtype(order + prop.dtype)
                if size < 0 or offset + size * kind.itemsize > len(body):
                    raise ValueError
                column.append(np.frombuffer(body, kind, size, offset))
                offset += size * kind.itemsize
            except ValueError:
                raise SignalError(f"it breaks off in {element.name} {row} of {element.count}") from None
    table: dict[str, PropertyValues] = {}
    for column, prop in zip(values, element.properties, strict=True):
        joined = np.concatenate(column) if column else np.empty(0)
        table[prop.name] = (np.array([len(part) for part in column], np.int64), joined) if prop.length else joined
    return table, offset


def ply_content(mesh: Mesh) -> bytes:
    """The binary PLY file of a mesh, its vertices in float64."""
    header = [
        "ply", "format binary_little_endian 1.0", f"element vertex {len(mesh.vertices)}",
        *(f"property double {axis}" for axis in "xyz"),
        f"element face {len(mesh.faces)}", "property list uchar int vertex_indices", "end_header", "",
    ]  # fmt: skip
    faces = np.empty(len(mesh.faces), [("size", "u1"), ("corners", "<i4", 3)])
    faces["size"], faces["corners"] = 3, mesh.faces
    return "\n".join(header).encode() + mesh.vertices.astype("<f8").tobytes() + faces.tobytes()
