"""Quantized GLB: positions stored as integers become floats, as KHR_mesh_quantization defines them.

Before trimesh reads a file, since trimesh leaves `normalized` out. V vertices.
"""

import base64
import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inr_factory.generation.signals import SignalError

FLOAT = 5126
INTEGERS = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2"}  # glTF 2.0, section 3.6.2


def with_float_positions(content: bytes, tree: dict[str, Any]) -> bytes:
    """The file with float32 positions; the content itself where they are floats. `tree` is its description.

    Normalized integers are c / max for unsigned types and max(c / max, -1) for signed ones (glTF 2.0, section 3.11).
    """
    primitives = [primitive for mesh in tree.get("meshes", []) for primitive in mesh["primitives"]]
    used = {primitive["attributes"]["POSITION"] for primitive in primitives if "POSITION" in primitive["attributes"]}
    accessors = tree.get("accessors", [])
    quantized = sorted(number for number in used if accessors[number]["componentType"] != FLOAT)
    if not quantized:
        return content
    for number in quantized:
        accessor = accessors[number]
        positions = _integers(content, tree, accessor).astype(np.float32)
        if accessor.get("normalized", False):
            most = np.iinfo(INTEGERS[accessor["componentType"]]).max
            positions = np.maximum(positions / np.float32(most), np.float32(-1))
        data = base64.b64encode(positions.astype("<f4").tobytes()).decode()
        tree["buffers"].append({"byteLength": positions.nbytes, "uri": f"data:application/octet-stream;base64,{data}"})
        tree["bufferViews"].append({"buffer": len(tree["buffers"]) - 1, "byteLength": positions.nbytes})
        accessors[number] = {
            "bufferView": len(tree["bufferViews"]) - 1, "componentType": FLOAT, "count": accessor["count"], "type": "VEC3",
        }  # fmt: skip
    text = json.dumps(tree).encode()
    text += b" " * (-len(text) % 4)
    rest = content[20 + int.from_bytes(content[12:16], "little") :]
    size = (20 + len(text) + len(rest)).to_bytes(4, "little")
    return content[:8] + size + len(text).to_bytes(4, "little") + b"JSON" + text + rest


def _integers(content: bytes, tree: dict[str, Any], accessor: dict[str, Any]) -> NDArray[Any]:
    """(V, 3) integers of an accessor. Raises SignalError where they do not lie within its buffer."""
    kind = INTEGERS.get(accessor["componentType"])
    if kind is None or accessor["type"] != "VEC3":
        raise SignalError(f"its positions are {accessor['type']} of the type {accessor['componentType']}, not read")
    view = tree["bufferViews"][accessor["bufferView"]]
    buffer = tree["buffers"][view["buffer"]]
    start = 28 + int.from_bytes(content[12:16], "little")
    data = base64.b64decode(buffer["uri"].partition(",")[2]) if "uri" in buffer else content[start:]
    data = data[view.get("byteOffset", 0) :][: view["byteLength"]]
    offset, width = accessor.get("byteOffset", 0), 3 * np.dtype(kind).itemsize
    stride, count = view.get("byteStride", width), accessor["count"]
    if min(offset, count - 1) < 0 or stride < width or offset + stride * (count - 1) + width > len(data):
        raise SignalError(f"it claims {count} positions, which is more than its buffer has")
    return np.ndarray((count, 3), kind, data, offset, (stride, np.dtype(kind).itemsize))
