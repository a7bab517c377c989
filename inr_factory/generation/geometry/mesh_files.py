"""Mesh files: reads OFF, OBJ, PLY, STL and GLB as triangles, and writes PLY and GLB. The only user of trimesh.

What a header claims is compared with the size of the file before memory of that size is allocated.
"""

from collections.abc import Callable
from io import BytesIO
from pathlib import PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inr_factory.errors import needs_extra
from inr_factory.generation.geometry.decoding import decode
from inr_factory.generation.geometry.mesh import Mesh, checked_mesh
from inr_factory.generation.geometry.ply import ply_content, read_ply
from inr_factory.generation.geometry.quantized_glb import with_float_positions
from inr_factory.generation.geometry.text_meshes import Polygons, read_ascii_stl, read_obj, read_off
from inr_factory.generation.signals import SignalError
from inr_factory.inr.plain_json import parse_json_object

STL_HEADER, STL_TRIANGLE = 84, np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
# glTF 2.0, section 3.6.2: bytes of a component, components of an element.
COMPONENT_BYTES = {5120: 1, 5121: 1, 5122: 2, 5123: 2, 5125: 4, 5126: 4}
PLACES = {"matrix", "translation", "rotation", "scale"}  # of a node; those of a mesh with a skin do not count
COMPONENTS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT2": 4, "MAT3": 9, "MAT4": 16}


def read_mesh(name: str, content: bytes, max_faces: int) -> Mesh:
    """Read the triangles of a mesh file.

    Args:
        name: File name; its suffix, one of READERS, names the format.
        content: The bytes of the file.
        max_faces: Largest number of triangles that is accepted.

    Returns:
        The mesh in float64 and in the units of the file.

    Raises:
        SignalError: The content is empty, damaged, has no faces or more than max_faces. Nothing else is raised.
    """
    read = READERS[PurePath(name).suffix.lower()]
    return decode(content, lambda content: checked_mesh(*read(content, max_faces)[:3], max_faces))


def _read_stl(content: bytes) -> Polygons:
    """Binary where the file has the bytes for the triangles that its header counts, else text; more may follow.

    Bytes of text at the place of the count are 151 million triangles at least. A binary header may begin with solid.
    """
    count = int.from_bytes(content[80:STL_HEADER], "little") if len(content) >= STL_HEADER else -1
    expected = STL_HEADER + count * STL_TRIANGLE.itemsize
    if count < 0 or (expected > len(content) and b"\0" not in content[:STL_HEADER] and b"vertex" in content.lower()):
        return read_ascii_stl(content)
    if expected > len(content):
        raise SignalError(
            f"it breaks off: its header claims {count} triangles, which are {expected} bytes, the file has {len(content)}"
        )
    if count == 0 and len(content) > STL_HEADER:
        raise SignalError(f"its header claims no triangles, and {len(content) - STL_HEADER} bytes follow")
    if count == 0:
        raise SignalError("it has no triangles")
    corners = np.frombuffer(content, STL_TRIANGLE, count, STL_HEADER)["corners"].reshape(-1, 3)
    return Polygons(corners.astype(np.float64), np.full(count, 3, np.int64), np.arange(3 * count, dtype=np.int64))


def _read_glb(content: bytes, max_faces: int) -> Polygons:
    """The triangles of all instances of all meshes of a scene, each where the scene puts it."""
    content = with_float_positions(content, _checked_glb(content, max_faces))
    with needs_extra("shapes"):
        import trimesh

    scene = trimesh.load_scene(BytesIO(content), file_type="glb", skip_materials=True, process=False)
    mesh = scene.to_mesh()
    faces = np.asarray(mesh.faces, np.int64).reshape(-1, 3)
    return Polygons(np.asarray(mesh.vertices, np.float64), np.full(len(faces), 3, np.int64), faces.reshape(-1))


def _checked_glb(content: bytes, max_faces: int) -> dict[str, Any]:
    """The description of a GLB. Refuses one that claims more than the file has, or needs other files or decoders."""
    size = int.from_bytes(content[12:16], "little")
    if content[:4] != b"glTF" or content[16:20] != b"JSON":
        raise SignalError("it does not begin as GLB does")
    if int.from_bytes(content[8:12], "little") != len(content) or 20 + size > len(content):
        raise SignalError(
            f"its header claims {int.from_bytes(content[8:12], 'little')} bytes, the file has {len(content)}"
        )
    try:
        tree: dict[str, Any] = parse_json_object(content[20 : 20 + size])
    except (ValueError, RecursionError):
        raise SignalError("its description is not JSON") from None
    needed = [name for name in tree.get("extensionsRequired", []) if name != "KHR_mesh_quantization"]
    if any("compression" in name or "meshopt" in name for name in needed):
        raise SignalError(f"it needs {needed[0]}, which is not read; save it without compression")
    if any("EXT_mesh_gpu_instancing" in node.get("extensions", {}) for node in tree.get("nodes", [])):
        raise SignalError(
            "it has instances by EXT_mesh_gpu_instancing, which are not read; save it with a node for each"
        )
    if any(not str(buffer.get("uri", "data:")).startswith("data:") for buffer in tree.get("buffers", [])):
        raise SignalError("its numbers lie in another file; save it as one GLB file")
    _check_tree(tree.get("nodes", []))
    _check_drawn(tree)
    accessors, views = tree.get("accessors", []), tree.get("bufferViews", [])
    left = 16 * len(content)  # of numbers that are stored nowhere: zeros, such as those of a morph target
    for accessor in accessors:
        claimed = accessor["count"] * COMPONENT_BYTES[accessor["componentType"]] * COMPONENTS[accessor["type"]]
        stored = views[accessor["bufferView"]]["byteLength"] if "bufferView" in accessor else min(left, len(content))
        left -= claimed * ("bufferView" not in accessor)
        if not 0 <= claimed <= stored <= len(content):
            raise SignalError(f"it claims {accessor['count']} numbers, which is more than its {len(content)} bytes")
    faces = [_glb_faces(mesh, accessors) for mesh in tree.get("meshes", [])]
    num_faces = sum(faces[node["mesh"]] for node in tree.get("nodes", []) if "mesh" in node)
    if num_faces > max_faces:
        raise SignalError(f"{num_faces} triangles, source.max_faces allows {max_faces}")
    return tree


def _check_drawn(tree: dict[str, Any]) -> None:
    """Refuse what trimesh would leave out or misplace of the meshes of a GLB."""
    meshes, nodes, accessors = tree.get("meshes", []), tree.get("nodes", []), tree.get("accessors", [])
    if not tree.get("scenes"):
        raise SignalError("it has no scene, which says where its meshes lie")
    primitives = [primitive for mesh in meshes for primitive in mesh["primitives"]]
    if any(primitive.get("mode") == 6 for primitive in primitives):
        raise SignalError("it has triangles in fans, which are not read; save it with triangles")
    used = [
        number
        for primitive in primitives
        for number in (primitive["attributes"].get("POSITION"), primitive.get("indices"))
    ]
    if any(
        "bufferView" not in accessors[number] or "sparse" in accessors[number] for number in used if number is not None
    ):
        raise SignalError("it has positions or indices that are stored nowhere or sparsely, which is not read")
    if any(map(any, (part.get("weights", ()) for part in (*meshes, *nodes)))):
        raise SignalError("its shape is a mixture of morph targets, which are not read; apply them and save it again")
    drawn = [node for node in nodes if "mesh" in node]
    if len(drawn) > 1 and any("skin" in node and node.keys() & PLACES for node in drawn):
        raise SignalError("a skeleton places some of its meshes, which is not read; apply it and save it again")


def _check_tree(nodes: list[dict[str, Any]]) -> None:
    """Refuse nodes that have two parents or lie within themselves (glTF 2.0, section 3.5.2: a strict tree), of which a
    few lines can stand for billions."""
    parent: dict[int, int] = {}
    for number, node in enumerate(nodes):
        for child in node.get("children", []):
            if child in parent:
                raise SignalError(f"its node {child} has two parents, a scene must be a tree")
            parent[child] = number
    depth: dict[int, int] = {}
    for number in range(len(nodes)):
        path = [number]
        while path[-1] in parent and path[-1] not in depth:
            path.append(parent[path[-1]])
            if len(path) > len(nodes):
                raise SignalError(f"its node {number} lies within itself")
        depth.update(dict.fromkeys(path, 0))


def _glb_faces(mesh: dict[str, Any], accessors: list[dict[str, Any]]) -> int:
    """At most how many triangles one mesh of a GLB has; a strip has nearly as many as indices."""
    total = 0
    for primitive in mesh["primitives"]:
        count = accessors[primitive.get("indices", primitive["attributes"].get("POSITION"))]["count"]
        total += int(count) // (3 if primitive.get("mode", 4) == 4 else 1)
    return total


READERS: dict[str, Callable[[bytes, int], Polygons]] = {
    ".off": lambda content, _: read_off(content),
    ".obj": lambda content, _: read_obj(content),
    ".ply": lambda content, _: read_ply(content),
    ".stl": lambda content, _: _read_stl(content),
    ".glb": _read_glb,
}


def mesh_content(mesh: Mesh, scale: float, center: NDArray[np.float64], suffix: str) -> bytes:
    """The file (".ply" or ".glb") of a mesh that is brought to its units by vertices * scale + center (3,)."""
    if suffix == ".ply":
        return ply_content(Mesh(mesh.vertices * scale + center, mesh.faces))
    assert suffix == ".glb"
    with needs_extra("shapes"):
        import trimesh

    # GLB has only float32 vertices; scale and centre go into the scene's matrix, so that no precision is lost.
    placement = np.diag([scale, scale, scale, 1.0])
    placement[:3, 3] = center
    scene: Any = trimesh.Scene()
    surface = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    scene.add_geometry(surface, node_name="surface", geom_name="surface", transform=placement)
    content = scene.export(file_type="glb")
    assert isinstance(content, bytes)
    return content
