"""Mesh files: every format gives the same triangles, and what is broken says so before it costs memory."""

import json
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
from support.paths import DATASETS

from inr_factory.generation.geometry.mesh_files import READERS, read_mesh
from inr_factory.generation.signals import SignalError

needs_datasets = pytest.mark.skipif(not DATASETS.is_dir(), reason=f"the real data are not at {DATASETS}")
CORNERS = [(x, y, z) for x in (0, 1) for y in (0, 2) for z in (0, 3)]
QUADS = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
TRIANGLES = [(a, b, c) for first, second, third, fourth in QUADS for a, b, c in ((first, second, third), (first, third, fourth))]  # fmt: skip


def off(header="OFF\n8 6 0\n", faces=QUADS):
    rows = [" ".join(map(str, corner)) for corner in CORNERS]
    rows += [" ".join(map(str, (len(face), *face))) for face in faces]
    return (header + "\n".join(rows) + "\n").encode()


def obj(face=lambda corner: f"{corner + 1}"):
    rows = [f"v {x} {y} {z}" for x, y, z in CORNERS] + ["f " + " ".join(map(face, quad)) for quad in QUADS]
    return ("# a box\no box\n" + "\n".join(rows)).encode()


def ply(order="ascii", faces=QUADS, newline="\n", extra=False):
    header = [
        "ply", f"format {order} 1.0", "comment a box", "element vertex 8", "property float x", "property double y",
        "property float z", f"element face {len(faces)}", "property list uchar int vertex_indices",
        *(["property uchar red"] if extra else []), "end_header", "",
    ]  # fmt: skip
    if order == "ascii":
        rows = [" ".join(map(str, corner)) for corner in CORNERS]
        rows += [" ".join(map(str, (len(face), *face, *([7] if extra else [])))) for face in faces]
        return (newline.join(header) + newline.join(rows)).encode()
    sign = "<" if "little" in order else ">"
    body = b"".join(struct.pack(f"{sign}fdf", *corner) for corner in CORNERS)
    for face in faces:
        body += struct.pack(f"{sign}B{len(face)}i", len(face), *face) + (b"\7" if extra else b"")
    return newline.join(header).encode() + body


def stl_binary(count=None):
    body = b"".join(struct.pack("<12fH", 0, 0, 0, *sum((CORNERS[c] for c in face), ()), 0) for face in TRIANGLES)
    return b"binary".ljust(80) + struct.pack("<I", len(TRIANGLES) if count is None else count) + body


def stl_text():
    facets = "".join(
        "facet normal 0 0 0\nouter loop\n"
        + "".join("vertex {} {} {}\n".format(*CORNERS[corner]) for corner in face)
        + "endloop\nendfacet\n"
        for face in TRIANGLES
    )
    return f"solid box\n{facets}endsolid box\n".encode()


def glb(**changes):
    """A GLB of one box; `changes` replace keys of its accessors."""
    import trimesh

    content = trimesh.Trimesh(CORNERS, TRIANGLES, process=False).export(file_type="glb")
    return content if not changes else edited_glb(content, lambda tree: [a.update(changes) for a in tree["accessors"]])


def edited_glb(content, edit):
    size = int.from_bytes(content[12:16], "little")
    tree = json.loads(content[20 : 20 + size])
    edit(tree)
    text = json.dumps(tree).encode()
    text += b" " * (-len(text) % 4)
    rest = content[20 + size :]
    return b"glTF" + struct.pack("<III", 2, 20 + len(text) + len(rest), len(text)) + b"JSON" + text + rest


MIXED = [*QUADS[:3], *TRIANGLES[6:]]
BOXES = {
    "plain.off": off(),
    "fused.off": off("OFF8 6 0\n"),
    "triangles.off": off("OFF\n8 12 0\n", TRIANGLES),
    "commented.off": off("# mine\n OFF # yes\n# no\n\n8 6 0 # counts\n"),
    "windows.off": off().replace(b"\n", b"\r\n"),
    "old Macintosh.off": off("off\n8 6 0\n").replace(b"\n", b"\r"),
    "old Macintosh.ply": ply(newline="\r"),
    "coloured.OFF": off("OFF\n8 12 0\n", TRIANGLES).replace(b"3 0 1 3\n", b"3 0 1 3 9 9\n"),
    "COFF.off": off("COFF\n8 6 0\n").replace(b"0 0 0\n0 0 3", b"0 0 0 1 1 1 1\n0 0 3 1 1 1 1"),
    "plain.obj": obj(),
    "normals.obj": obj(lambda corner: f"{corner + 1}/9/9"),
    "no texture.obj": obj(lambda corner: f"{corner + 1}//9"),
    "negative.obj": obj(lambda corner: f"{corner - 8}"),
    "utf-16.obj": obj().decode().encode("utf-16"),
    "continued.obj": obj().replace(b"f 1 ", b"f \\\n 1 "),
    "ascii.ply": ply(),
    "mixed ascii.ply": ply(faces=MIXED, extra=True),
    "windows.ply": ply(newline="\r\n"),
    "little.ply": ply("binary_little_endian"),
    "big.PLY": ply("binary_big_endian", extra=True),
    "mixed little.ply": ply("binary_little_endian", faces=MIXED, extra=True),
    "triangles first little.ply": ply("binary_little_endian", faces=[*TRIANGLES[:6], *QUADS[3:]]),
    "windows little.ply": ply("binary_little_endian", newline="\r\n"),
    "binary.stl": stl_binary(),
    "text.STL": stl_text(),
    "solid binary.stl": b"solid".ljust(80) + stl_binary()[80:],
    "box.glb": glb(),
    "morph targets.glb": edited_glb(glb(), lambda tree: tree["accessors"].append({"count": 8, "componentType": 5126, "type": "VEC3"})),
}  # fmt: skip


@pytest.mark.parametrize("name", BOXES)
def test_every_format_gives_the_closed_box(name):
    mesh = read_mesh(name, BOXES[name], max_faces=12)

    assert mesh.faces.shape == (12, 3)
    assert mesh.is_watertight
    assert mesh.areas.sum() == pytest.approx(2 * (2 + 3 + 6))
    volume = np.einsum("fi,fi->", mesh.corners[:, 0], np.cross(mesh.corners[:, 1], mesh.corners[:, 2])) / 6
    assert abs(volume) == pytest.approx(6)
    assert (mesh.vertices.dtype, mesh.faces.dtype) == (np.float64, np.int64)


def test_negative_indices_count_from_the_vertex_read_last():
    content = b"v 9 9 9\nv 0 0 0\nv 1 0 0\nv 0 1 0\nf -3 -2 -1\nv 5 5 5\nv 6 6 6\n"

    mesh = read_mesh("x.obj", content, 10)

    assert mesh.faces.tolist() == [[1, 2, 3]]


def test_a_scene_is_laid_out_and_its_instances_count():
    import trimesh

    box = trimesh.Trimesh(CORNERS, TRIANGLES, process=False)
    scene = trimesh.Scene()
    scene.add_geometry(box, geom_name="box")
    scene.add_geometry(box, geom_name="box", transform=trimesh.transformations.translation_matrix((100, 0, 0)))
    content = scene.export(file_type="glb")

    mesh = read_mesh("x.glb", content, 24)

    assert len(mesh.faces) == 24
    assert np.ptp(mesh.vertices, axis=0).tolist() == [101, 2, 3]
    with pytest.raises(SignalError, match=r"24 triangles, source.max_faces allows 23"):
        read_mesh("x.glb", content, 23)


HUGE = 2_000_000_000
BROKEN = {
    "empty.off": (b"", r"the file is empty \(0 bytes\)"),
    "no header.off": (b"8 6 0\n", "does not begin with OFF"),
    "binary.off": (b"OFF BINARY\n\0\0", "its kind of OFF, OFF BINARY, is not read"),
    "4d.off": (b"4OFF\n1 1 1\n", "its kind of OFF, 4OFF, is not read"),
    "no counts.off": (b"OFF\n", "no counts of vertices and faces"),
    "huge.off": (f"OFF\n{HUGE} {HUGE} 0\n0 0 0\n".encode(), f"claims {HUGE} vertices and {HUGE} faces"),
    "negative.off": (b"OFF\n-3 -4 0\n0 0 0\n", "claims -3 vertices"),
    "cut.off": (off()[:-40], "breaks off"),
    "more faces.off": (off("OFF\n8 5 0\n"), "claims 8 vertices and 5 faces, and 1 lines follow"),
    "cut face.off": (off("OFF\n8 1 0\n", [(0, 1, 2)])[:-4], "claims 3 corners and has 1"),
    "word.off": (off().replace(b"1 2 3", b"1 two 3"), "expected three numbers"),
    "NaN.off": (off().replace(b"1 2 3", b"1 nan 3"), "vertex 7 of 8 is NaN or infinite"),
    "range.off": (off(faces=[*QUADS[:5], (1, 5, 8, 3)]), "vertex of index 8, the vertices go from 0 to 7"),
    "far range.off": (off(faces=[*QUADS[:5], (1, 5, 10**30, 3)]), "index of 31 digits"),
    "points.off": (off("OFF\n8 0 0\n", []), "no faces, only 8 points"),
    "edges.off": (off("OFF\n8 2 0\n", [(0, 1), (1, 2)]), "no faces, only 8 points"),
    "none.obj": (b"# nothing\n", "no vertices"),
    "zero.obj": (obj(lambda corner: str(corner)), "vertex of index 0, they count from 1"),
    "range.obj": (obj(lambda corner: str(corner + 2)), "vertex of index 8"),
    "before.obj": (obj(lambda corner: str(-corner - 2)), "vertex of index -1"),
    "words.obj": (b"v 1 2\nf 1 2 3\n", "expected three numbers"),
    "inf.obj": (obj().replace(b"v 1 2 3", b"v 1 2 1e999"), "vertex 7 of 8 is NaN or infinite"),
    "no header.ply": (b"solid", "no PLY header"),
    "huge.ply": (ply().replace(b"vertex 8", f"vertex {HUGE}".encode()), f"claims {HUGE} of the element vertex"),
    "huge faces.ply": (ply("binary_little_endian").replace(b"face 6", f"face {HUGE}".encode()), f"claims {HUGE} of"),
    "more faces.ply": (ply("binary_little_endian").replace(b"face 6", b"face 7"), "breaks off in face 6 of 7"),
    "cut.ply": (ply("binary_little_endian")[:-3], "breaks off in face 5 of 6"),
    "cut text.ply": (ply()[:-3], "face 5 is .* not as its header says"),
    "no y.ply": (ply().replace(b"double y", b"double w"), "its vertices have no y"),
    "type.ply": (ply().replace(b"double y", b"quad y"), "says nothing known"),
    "long list.ply": (
        ply("binary_little_endian").replace(b"list uchar int", b"list int int"), "breaks off in face 1 of 6",
    ),
    "range.ply": (ply(faces=[*QUADS[:5], (1, 5, 7, -1)]), "vertex of index -1"),
    "points.ply": (ply(faces=[]), "no faces, only 8 points"),
    "claims.stl": (stl_binary(HUGE), f"claims {HUGE} triangles"),
    "cut.stl": (stl_binary()[:-1], "claims 12 triangles, which are 684 bytes, the file has 683"),
    "empty.stl": (b"x" * 80 + bytes(4), "no triangles"),
    "text cut.stl": (stl_text()[: stl_text().rindex(b"vertex")], "expected a multiple of three"),
    "text cut between triangles.stl": (stl_text()[: stl_text().rindex(b"facet normal")], "no endsolid"),
    "two corners.ply": (ply(faces=[*QUADS[:5], (1, 5)]), "face 5 of 6 has 2 corners"),
    "empty text.stl": (b"solid nothing\nendsolid nothing\n", "no triangles"),
    "claims.glb": (glb(count=10**12), "claims 1000000000000 numbers"),
    "nowhere.glb": (edited_glb(glb(), lambda tree: tree["accessors"][0].pop("bufferView")), "stored nowhere"),
    "library.glb": (edited_glb(glb(), lambda tree: tree.pop("scenes")), "has no scene"),
    "fan.glb": (edited_glb(glb(), lambda tree: tree["meshes"][0]["primitives"][0].update(mode=6)), "triangles in fans"),
    "morphed.glb": (edited_glb(glb(), lambda tree: tree["meshes"][0].update(weights=[0, 0.5])), "mixture of morph targets"),
    "skeleton.glb": (
        edited_glb(glb(), lambda tree: tree["nodes"].extend([{"mesh": 0}, {"mesh": 0, "skin": 0, "scale": [9, 9, 9]}])),
        "a skeleton places some of its meshes",
    ),
    "zeros.glb": (
        edited_glb(glb(), lambda tree: tree["accessors"].extend([{"count": 90, "componentType": 5126, "type": "VEC3"}] * 99)),
        "claims 90 numbers",
    ),
    "elsewhere.glb": (edited_glb(glb(), lambda tree: tree["buffers"][0].update(uri="/etc/passwd")), "another file"),
    "draco.glb": (
        edited_glb(glb(), lambda tree: tree.update(extensionsRequired=["KHR_draco_mesh_compression"])), "it needs KHR_draco",
    ),
    "cut.glb": (glb()[:-9], "its header claims"),
    "deep.glb": (b"glTF" + struct.pack("<III", 2, 100_020, 100_000) + b"JSON" + b"[" * 100_000, "not JSON"),
    "no.glb": (b"nothing", "does not begin as GLB does"),
}  # fmt: skip


@pytest.mark.timeout(10)
@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_a_signal_error_with_one_reason_and_costs_no_memory(name, capfd):
    content, reason = BROKEN[name]

    tracemalloc.start()
    try:
        with pytest.raises(SignalError, match=reason) as caught:
            read_mesh(name, content, 10**6)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 250
    assert peak < 50 * 2**20
    assert capfd.readouterr() == ("", "")


def test_too_many_triangles_are_refused():
    with pytest.raises(SignalError, match=r"12 triangles, source.max_faces allows 11"):
        read_mesh("x.off", off(), 11)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", ["plain.off", "plain.obj", "ascii.ply", "mixed little.ply", "binary.stl", "text.STL", "box.glb"])  # fmt: skip
def test_damage_anywhere_raises_nothing_but_signal_errors(name):
    intact = np.frombuffer(BOXES[name], np.uint8)
    draw = np.random.default_rng(2)
    reasons = []
    for trial in range(150):
        bad = intact[: draw.integers(1, len(intact))].copy() if trial % 2 else intact.copy()
        places = draw.integers(0, len(bad), 3)
        bad[places] = draw.integers(0, 256, 3)
        try:
            mesh = read_mesh(name, bad.tobytes(), 10**6)
            assert mesh.faces.max() < len(mesh.vertices)
            assert np.isfinite(mesh.vertices).all()
        except SignalError as error:
            reasons.append(str(error))
    assert len(reasons) > 30, "the damage does damage"
    assert not any("\n" in reason for reason in reasons)


@needs_datasets
@pytest.mark.timeout(60)
def test_every_odd_mesh_gives_a_result_or_one_reason(tmp_path):
    with zipfile.ZipFile(DATASETS / "odd_mesh_files.zip") as archive:
        archive.extractall(tmp_path)
    listed = json.loads((tmp_path / "MANIFEST.json").read_text())
    read, reasons = 0, {}
    for entry in listed:
        path = tmp_path / entry["file"]
        if path.suffix.lower() not in READERS:
            continue
        try:
            mesh = read_mesh(path.name, path.read_bytes(), 10**6)
        except SignalError as error:
            reasons[entry["file"]] = str(error)
            continue
        read += 1
        facts = entry["facts"] or {}
        if facts.get("nf"):
            assert (len(mesh.vertices), len(mesh.faces)) == (facts["nv"], facts["nf"]), entry["file"]
    assert read > 80
    assert all(len(reason) < 250 and "\n" not in reason for reason in reasons.values())
    assert "index 0" in reasons["assimp/invalid/malformed.obj"]
    assert "points" in reasons["trimesh/points_bin.ply"]


# D12 and its siblings.
@pytest.mark.parametrize("behind", [b"\0\0", b"0123456789", bytes(50), b"endsolid\n"])
@pytest.mark.parametrize("header", [b"binary", b"solid box\n"])
def test_a_binary_stl_may_have_bytes_behind_its_triangles(header, behind):
    content = header.ljust(80) + stl_binary()[80:] + behind

    assert len(read_mesh("x.stl", content, 100).faces) == len(TRIANGLES)
    with pytest.raises(SignalError, match="breaks off: its header claims 12 triangles"):
        read_mesh("x.stl", header.ljust(80) + stl_binary()[80:-9], 100)


def test_a_binary_stl_that_counts_no_triangle_before_its_triangles_is_refused():
    with pytest.raises(SignalError, match="claims no triangles, and 600 bytes follow"):
        read_mesh("x.stl", stl_binary(0), 100)


def quantized(kind, component, normalized, stride):
    """A GLB of two boxes of side 1, 3 apart, the second in integers that its node scales, as KHR_mesh_quantization has
    them."""
    numbers = np.array(CORNERS, dtype=np.float64)
    center, half = (numbers.max(axis=0) + numbers.min(axis=0)) / 2, np.ptp(numbers, axis=0).max() / 2
    info = np.iinfo(kind)
    unit = (numbers - center) / half  # -1 to 1
    low = -info.max if info.min < 0 else 0
    integers = np.round(low + (unit + 1) / 2 * (info.max - low)).astype(kind)
    rows = np.zeros((len(integers), stride // integers.itemsize), kind)
    rows[:, :3] = integers
    content = glb()
    size = int.from_bytes(content[12:16], "little")
    tree, data = json.loads(content[20 : 20 + size]), bytearray(content[28 + size :])
    data += bytes(-len(data) % 4)
    accessors = tree["accessors"]
    position = tree["meshes"][0]["primitives"][0]["attributes"]["POSITION"]
    tree["bufferViews"].append({"buffer": 0, "byteOffset": len(data), "byteLength": rows.nbytes, "byteStride": stride})
    accessors.append({"bufferView": len(tree["bufferViews"]) - 1, "componentType": component, "count": len(rows), "type": "VEC3", "normalized": normalized})  # fmt: skip
    data += rows.tobytes()
    copy = json.loads(json.dumps(tree["meshes"][0]))
    copy["primitives"][0]["attributes"] = {"POSITION": len(accessors) - 1}
    tree["meshes"].append(copy)
    most = 1 if normalized else info.max
    scale = half if low < 0 else 2 * half
    start = center + np.array([3, 0, 0]) - (0 if low < 0 else half)
    tree["nodes"] = [{"mesh": 0}, {"mesh": 1, "scale": [scale / most] * 3, "translation": start.tolist()}]
    tree["scenes"], tree["scene"] = [{"nodes": [0, 1]}], 0
    tree["extensionsUsed"] = tree["extensionsRequired"] = ["KHR_mesh_quantization"]
    tree["buffers"][0]["byteLength"] = len(data)
    assert accessors[position]["componentType"] == 5126
    text = json.dumps(tree).encode()
    text += b" " * (-len(text) % 4)
    body = struct.pack("<I", len(text)) + b"JSON" + text + struct.pack("<I", len(data)) + b"BIN\0" + bytes(data)
    return b"glTF" + struct.pack("<II", 2, 12 + len(body)) + body


# D09 and its siblings.
@pytest.mark.parametrize("normalized", [True, False])
@pytest.mark.parametrize(
    ("kind", "component", "stride"),
    [(np.int8, 5120, 4), (np.uint8, 5121, 4), (np.int16, 5122, 8), (np.uint16, 5123, 8), (np.int16, 5122, 12)],
)
def test_quantized_positions_are_those_of_the_floats(kind, component, stride, normalized):
    mesh = read_mesh("x.glb", quantized(kind, component, normalized, stride), 100)

    expected = np.array(CORNERS, dtype=np.float64)
    expected = np.concatenate([expected, expected + np.array([3, 0, 0])])
    np.testing.assert_allclose([mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)], [expected.min(axis=0), expected.max(axis=0)], atol=0.02)  # fmt: skip
    assert len(mesh.faces) == 2 * len(TRIANGLES)


def test_the_two_boxes_of_the_case_lie_where_they_are():
    path = DATASETS.parent / "cases" / "D09_glb_normalized" / "data" / "quant_norm.glb"
    if not path.is_file():
        pytest.skip(f"the inputs are not at {path}")

    vertices = read_mesh(path.name, path.read_bytes(), 100).vertices

    np.testing.assert_allclose([vertices.min(axis=0), vertices.max(axis=0)], [[-0.5] * 3, [3.5, 0.5, 0.5]], atol=1e-3)


def test_instances_by_an_extension_are_refused():
    content = edited_glb(glb(), lambda tree: tree["nodes"][0].update(extensions={"EXT_mesh_gpu_instancing": {}}))

    with pytest.raises(SignalError, match="EXT_mesh_gpu_instancing, which are not read"):
        read_mesh("x.glb", content, 100)
