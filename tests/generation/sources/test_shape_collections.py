"""Shapes: distances are right, samples belong to their object, and what cannot be fitted says why."""

import math
import pickle

import numpy as np
import pytest
import torch
from support.paths import DATASETS

from inr_factory.errors import UsageError
from inr_factory.generation.geometry.mesh import Mesh, draw_on_surface
from inr_factory.generation.geometry.primitives import KINDS
from inr_factory.generation.recipe import ShapeSource
from inr_factory.generation.signals import SignalError
from inr_factory.generation.sources import shape_collections as shapes
from inr_factory.generation.sources.shape_collections import open_shapes

needs_datasets = pytest.mark.skipif(not DATASETS.is_dir(), reason=f"the real data are not at {DATASETS}")
FEW = {"num_points": 400, "num_truth": 200, "num_surface": 50}


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """A cache of each test's own."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("INR_FACTORY_CACHE", str(folder))
    return folder


def sphere():
    """Unit sphere of 20,480 triangles: an icosahedron cut finer five times."""
    mesh = KINDS["icosahedron"](lambda low, high: 1.0)
    vertices, faces = mesh.vertices / np.linalg.norm(mesh.vertices, axis=1, keepdims=True), mesh.faces
    for _ in range(5):
        corners = vertices[faces]
        middles = (corners + np.roll(corners, -1, axis=1)) / 2
        a, b, c = corners.transpose(1, 0, 2)
        ab, bc, ca = middles.transpose(1, 0, 2)
        parts = np.stack([np.stack(part, axis=1) for part in ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))])
        vertices, places = np.unique(parts.reshape(-1, 3).round(9), axis=0, return_inverse=True)
        vertices, faces = vertices / np.linalg.norm(vertices, axis=1, keepdims=True), places.reshape(-1, 3)
    return Mesh(vertices, faces.astype(np.int64))


def box():
    return KINDS["box"](lambda low, high: high)


def torus():
    """Around the z axis, radii 1 and 0.4, 192 by 96 corners."""
    turn, roll = np.meshgrid(*(2 * np.pi * np.arange(count) / count for count in (192, 96)), indexing="ij")
    reach = 1 + 0.4 * np.cos(roll)
    vertices = np.stack([reach * np.cos(turn), reach * np.sin(turn), 0.4 * np.sin(roll)], axis=-1)
    row, column = np.indices((192, 96))
    a, b = row * 96 + column, (row + 1) % 192 * 96 + column
    c, d = (row + 1) % 192 * 96 + (column + 1) % 96, row * 96 + (column + 1) % 96
    faces = np.concatenate([np.stack(corners, axis=-1).reshape(-1, 3) for corners in ((a, b, c), (a, c, d))])
    return Mesh(vertices.reshape(-1, 3), faces.astype(np.int64))


def sphere_distance(points):
    return np.linalg.norm(points, axis=1) - 1


def box_distance(points):
    away = np.abs(points) - 0.5
    return np.linalg.norm(np.maximum(away, 0), axis=1) + np.minimum(away.max(axis=1), 0)


def torus_distance(points):
    return np.hypot(np.linalg.norm(points[:, :2], axis=1) - 1, points[:, 2]) - 0.4


SOLIDS = {"sphere": (sphere, sphere_distance), "box": (box, box_distance), "torus": (torus, torus_distance)}


def write_off(path, mesh):
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [" ".join(map(repr, vertex)) for vertex in mesh.vertices.tolist()]
    rows += [f"3 {a} {b} {c}" for a, b, c in mesh.faces.tolist()]
    path.write_text(f"OFF\n{len(mesh.vertices)} {len(mesh.faces)} 0\n" + "\n".join(rows) + "\n")
    return path


def source_of(root, mesh, name="a/1.off", collection="mesh_folder", **settings):
    write_off(root / name, mesh)
    return open_shapes(ShapeSource(collection=collection, **(FEW | settings)), root)


def original(coords, signal):
    """Coordinates brought back to the shape's own units."""
    center = np.array([signal.facts[f"center_{axis}"] for axis in "xyz"])
    return coords.numpy().astype(np.float64) * signal.facts["scale"] + center


def damaged(mesh):
    """3 % of the faces gone, 10 % of the rest turned, 5 % there twice."""
    draw = np.random.default_rng(3)
    faces = mesh.faces[draw.random(len(mesh.faces)) > 0.03]
    turned = draw.random(len(faces)) < 0.10
    faces = np.where(turned[:, None], faces[:, ::-1], faces)
    return Mesh(mesh.vertices, np.concatenate([faces, faces[draw.random(len(faces)) < 0.05]]))


@pytest.mark.parametrize("name", SOLIDS)
def test_distances_are_those_of_the_solid(name, tmp_path):
    make, distance = SOLIDS[name]
    signal = source_of(tmp_path, make(), clamp=4, num_points=4000).signal(0)

    expected = distance(original(signal.coords, signal)) / signal.facts["scale"]

    # Triangles lie within a curved surface: by 2e-4 of the sphere's radius and 6e-4 of the torus' at their middles.
    assert np.abs(signal.targets.numpy()[:, 0] - expected).max() < (1e-6 if name == "box" else 6e-4)
    assert (signal.facts["watertight"], signal.facts["ambiguous"]) == (1, 0)
    truth = distance(original(signal.truth.coords, signal)) / signal.facts["scale"]
    assert np.abs(signal.truth.targets.numpy()[:, 0] - truth).max() < 6e-4
    assert np.abs(distance(original(signal.truth.surface, signal))).max() < 1e-3


@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize("name", ["sphere", "torus"])
def test_signs_bear_with_holes_flips_and_doubles(name, inverted, tmp_path):
    make, distance = SOLIDS[name]
    mesh = damaged(make())
    mesh = Mesh(mesh.vertices, np.ascontiguousarray(mesh.faces[:, ::-1])) if inverted else mesh
    signal = source_of(tmp_path, mesh, clamp=4, num_points=40_000, near=((0.5, 0.05),)).signal(0)

    expected = distance(original(signal.coords, signal)) / signal.facts["scale"]

    off_surface = np.abs(expected) > 0.02
    wrong = (signal.targets.numpy()[:, 0] < 0) != (expected < 0)
    assert off_surface.sum() > 30_000
    assert wrong[off_surface].mean() < 0.001
    assert signal.facts["watertight"] == 0


def test_the_fields_are_made_of_the_same_distances(tmp_path):
    signals = {
        field: source_of(tmp_path, torus(), field=field, clamp=0.07).signal(0) for field in ("sdf", "occupancy", "udf")
    }
    sdf, occupancy, udf = (signals[field].targets for field in ("sdf", "occupancy", "udf"))

    assert torch.equal(udf, sdf.abs())
    assert torch.equal(occupancy, (sdf < 0).float())
    assert 0 < occupancy.mean() < 1
    assert (sdf.min(), sdf.max()) == (-np.float32(0.07), np.float32(0.07))
    assert [signal.peak for signal in signals.values()] == [0.14, 1.0, 0.07]
    assert [signal.field for signal in signals.values()] == ["sdf", "occupancy", "udf"]
    assert torch.equal(signals["udf"].truth.targets, signals["sdf"].truth.targets.abs())


def test_a_clouds_distances_are_those_from_its_points(tmp_path):
    cloud = np.random.default_rng(0).normal(size=(100, 3)) * 7 + 50
    (tmp_path / "a").mkdir()
    np.save(tmp_path / "a" / "1.npy", cloud)
    signal = open_shapes(ShapeSource(collection="point_folder", clamp=4, **FEW), tmp_path).signal(0)

    expected = np.linalg.norm(original(signal.coords, signal)[:, None] - cloud, axis=2).min(axis=1)

    assert signal.field == "udf"
    assert np.allclose(signal.targets.numpy()[:, 0] * signal.facts["scale"], expected, atol=1e-4)
    surface = original(signal.truth.surface, signal)
    assert np.linalg.norm(surface[:, None] - cloud, axis=2).min(axis=1).max() < 1e-4


@pytest.mark.parametrize(("fit_to", "radius"), [("sphere", 0.9), ("cube", 0.5), ("sphere", 1.0)])
@pytest.mark.parametrize("place", [0.0, 1.4e6])
def test_a_shape_fills_what_it_is_fitted_to_and_can_be_brought_back(fit_to, radius, place, tmp_path):
    mesh = KINDS["stairs"](lambda low, high: (low + high) / 2)
    moved = Mesh(mesh.vertices * 3 + place, mesh.faces)
    signal = source_of(tmp_path, moved, fit_to=fit_to, radius=radius, near=((0.5, 0.01), (0.3, 0.3))).signal(0)

    scale, center = signal.facts["scale"], np.array([signal.facts[f"center_{axis}"] for axis in "xyz"])
    fitted = (moved.vertices - center) / scale
    reach = np.abs(fitted).max() if fit_to == "cube" else np.linalg.norm(fitted, axis=1).max()
    assert reach == pytest.approx(radius)
    assert np.allclose(fitted.min(axis=0), -fitted.max(axis=0)), "the middle of its box lies at the origin"
    assert signal.coords.abs().max() <= 1
    assert signal.truth.coords.abs().max() <= 1
    assert (signal.coords.dtype, signal.coords.shape, signal.targets.shape) == (torch.float32, (400, 3), (400, 1))


def test_vertices_that_no_face_has_do_not_count(tmp_path):
    mesh = box()
    stray = Mesh(np.concatenate([mesh.vertices, [[1e9, 0, 0]]]), mesh.faces)

    assert source_of(tmp_path, stray).signal(0).facts["scale"] == pytest.approx(math.sqrt(0.75) / 0.9)


def test_points_lie_in_the_shares_and_spreads_asked_for(tmp_path):
    source = source_of(tmp_path, sphere(), clamp=4, num_points=10_000, near=((0.5, 0.01), (0.2, 0.05)))

    away = source.signal(0).targets.abs()[:, 0]

    assert float(away[:5000].square().mean().sqrt()) == pytest.approx(0.01, rel=0.1)
    assert float(away[5000:7000].square().mean().sqrt()) == pytest.approx(0.05, rel=0.15)
    assert away[7000:].mean() > 0.2
    assert float(source.signal(0).coords[7000:].std()) == pytest.approx(1 / math.sqrt(3), rel=0.05)


def test_points_on_a_surface_spread_by_area():
    big, small = np.array([[0, 0, 0], [3, 0, 0], [0, 3, 0]]), np.array([[0, 0, 9], [1, 0, 9], [0, 1, 9]])
    mesh = Mesh(np.concatenate([big, small]).astype(float), np.arange(6).reshape(2, 3))

    points = draw_on_surface(mesh, 20_000, np.random.default_rng(0))

    on_small = points[:, 2] == 9
    assert on_small.mean() == pytest.approx(0.1, abs=0.01)
    assert np.allclose(points[on_small].mean(axis=0), [1 / 3, 1 / 3, 9], atol=0.02)
    assert (points[:, :2].sum(axis=1) <= 3 + 1e-9).all()


def test_sampling_depends_on_the_objects_name_alone(tmp_path):
    write_off(tmp_path / "one" / "a" / "2.off", box())
    alone = source_of(tmp_path / "two", box(), "a/1.off").signal(0)
    source = source_of(tmp_path / "one", box(), "a/1.off")

    for view in (0, 5):
        signal = source.signal(0, view)
        assert torch.equal(signal.coords, alone.coords)
        assert torch.equal(signal.truth.coords, alone.truth.coords)
    assert not torch.equal(source.signal(1).coords, alone.coords)


def test_views_are_sampled_anew_if_asked_and_are_measured_at_the_same_points(tmp_path):
    source = source_of(tmp_path, box(), views_resample=True)

    one, again, other = source.signal(0, 0), source.signal(0, 0), source.signal(0, 1)

    assert torch.equal(one.coords, again.coords)
    assert not torch.equal(one.coords, other.coords)
    assert torch.equal(one.truth.coords, other.truth.coords)
    assert one.facts == other.facts


def flat():
    return Mesh(np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], dtype=float), np.array([[0, 1, 2], [0, 2, 3]]))


def twins():
    mesh = sphere()
    return Mesh(mesh.vertices, np.concatenate([mesh.faces, mesh.faces[:, ::-1]]))


def open_bowl():
    """A quarter of a sphere: half of the space around it is as much inside as out."""
    mesh = sphere()
    middles = mesh.corners.mean(axis=1)
    return Mesh(mesh.vertices, mesh.faces[(middles[:, 2] < 0) & (middles[:, 1] < 0.5)])


WITHOUT = {
    "flat": (flat(), "no inside: 0 of"),
    "twins": (twins(), "no inside: 0 of"),
    "too open": (open_bowl(), "too open for an inside"),
    "no area": (Mesh(flat().vertices, np.array([[0, 1, 1], [2, 2, 2]])), "no area: all 2 triangles"),
    "one place": (Mesh(np.ones((3, 3)), np.array([[0, 1, 2]])), "all its points lie at one place"),
    "too large": (Mesh(box().vertices * 3e307, box().faces), "beyond what can be scaled"),
    "too small": (Mesh(box().vertices * 1e-305, box().faces), "beyond what can be scaled"),
}  # fmt: skip


@pytest.mark.parametrize("field", ["sdf", "occupancy"])
@pytest.mark.parametrize("name", WITHOUT)
def test_a_shape_without_an_inside_says_so(name, field, tmp_path):
    mesh, reason = WITHOUT[name]
    source = source_of(tmp_path, mesh, field=field, num_points=4000, max_ambiguous=0.1)

    for _ in range(2):  # the second time out of the cache
        with pytest.raises(SignalError, match=reason) as caught:
            source.signal(0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["flat", "twins", "too open"])
def test_a_surface_without_an_inside_has_unsigned_distances(name, tmp_path):
    signal = source_of(tmp_path, WITHOUT[name][0], field="udf").signal(0)

    assert signal.targets.min() >= 0
    assert signal.targets[: len(signal.targets) // 2].mean() < 0.03


def test_extremes_of_size_and_place_are_no_matter(tmp_path):
    for number, factor in enumerate((1e-12, 4.6e8, 1e100)):
        mesh = Mesh(box().vertices * factor, box().faces)
        signal = source_of(tmp_path / str(number), mesh).signal(0)
        assert signal.facts["scale"] == pytest.approx(factor * math.sqrt(0.75) / 0.9)
        assert signal.facts["ambiguous"] == 0


def test_a_file_that_vanished_or_is_too_large_is_a_signal_error(tmp_path):
    source = source_of(tmp_path, box(), max_bytes=100)
    with pytest.raises(SignalError, match=r"bytes, source\.max_bytes allows 100"):
        source.signal(0)
    (tmp_path / "a" / "1.off").unlink()
    with pytest.raises(SignalError, match="cannot be read: No such file"):
        source.signal(0)


def count_computed(monkeypatch):
    computed = []
    whole = shapes.mesh_samples

    def counting(*arguments):
        computed.append(arguments)
        return whole(*arguments)

    monkeypatch.setattr(shapes, "mesh_samples", counting)
    return computed


def same(one, other):
    return (
        torch.equal(one.coords, other.coords)
        and torch.equal(one.targets, other.targets)
        and torch.equal(one.truth.targets, other.truth.targets)
        and torch.equal(one.truth.surface, other.truth.surface)
        and one.facts == other.facts
    )


def test_ten_views_pay_once_and_processes_share(tmp_path, monkeypatch):
    computed = count_computed(monkeypatch)
    source = source_of(tmp_path, box())

    signals = [source.signal(0, view) for view in range(10)]
    signals.append(source_of(tmp_path, box()).signal(0))
    other_field = source_of(tmp_path, box(), field="occupancy", clamp=0.3).signal(0)

    assert len(computed) == 1
    assert all(same(signals[0], signal) for signal in signals)
    assert torch.equal(other_field.coords, signals[0].coords)


@pytest.mark.parametrize("damage", [lambda content: content[:-9], lambda content: content[:-9] + b"123456789"])
def test_a_cut_or_edited_entry_is_noticed_and_made_again(damage, tmp_path, cache, monkeypatch):
    computed = count_computed(monkeypatch)
    source = source_of(tmp_path, box())
    before = source.signal(0)
    (entry,) = cache.rglob("*.samples")
    whole = entry.read_bytes()
    entry.write_bytes(damage(whole))

    after = source.signal(0)

    assert len(computed) == 2
    assert same(before, after)
    assert entry.read_bytes() == whole


@pytest.mark.parametrize(
    "change", [{"num_points": 401}, {"near": ((0.5, 0.02),)}, {"radius": 0.8}, {"fit_to": "cube"}, {"field": "udf"}]
)
def test_other_settings_and_other_content_are_computed(change, tmp_path, monkeypatch):
    computed = count_computed(monkeypatch)
    source_of(tmp_path, box()).signal(0)

    source_of(tmp_path, box(), **change).signal(0)
    source_of(tmp_path, KINDS["wedge"](lambda low, high: high)).signal(0)

    assert len(computed) == 3


def test_without_a_place_for_a_cache_all_works(tmp_path, monkeypatch):
    (tmp_path / "in the way").write_text("")
    monkeypatch.setenv("INR_FACTORY_CACHE", str(tmp_path / "in the way"))
    computed = count_computed(monkeypatch)
    source = source_of(tmp_path, box())

    assert same(source.signal(0), source.signal(0))
    assert len(computed) == 2


def test_the_cache_is_no_part_of_the_collection(tmp_path, monkeypatch):
    monkeypatch.delenv("INR_FACTORY_CACHE")
    before = source_of(tmp_path, box())
    before.signal(0)

    after = source_of(tmp_path, box())

    assert list((tmp_path / ".inr_factory_cache").rglob("*.samples"))
    assert after.items == before.items
    assert after.fingerprint == before.fingerprint


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (["a/1.off", "b/2.off"], [None, None]),
        (["a/train/1.off", "b/test/2.off"], ["train", "test"]),
        (["train/a/1.off", "val/b/2.off"], ["train", "val"]),
    ],
)
def test_mesh_folders_are_read_in_every_layout(names, splits, tmp_path):
    for name in names:
        source = source_of(tmp_path, box(), name)

    assert (source.in_dim, source.out_dim, source.classes) == (3, 1, ("a", "b"))
    assert [(item.object_id, item.label, item.split) for item in source.items] == [
        (name, label, split) for label, (name, split) in enumerate(zip(names, splits, strict=True))
    ]
    assert source.signal(1).facts["faces"] == 12


@pytest.mark.parametrize(("collection", "title"), [("modelnet40", "ModelNet40"), ("modelnet10", "ModelNet10")])
def test_modelnet_is_the_official_tree_and_says_how_to_get_it(collection, title, tmp_path):
    config = ShapeSource(collection=collection, **FEW)
    with pytest.raises(UsageError, match=rf"no folder {tmp_path}/{title}: fetch https://.*{title}.zip") as caught:
        open_shapes(config, tmp_path)
    assert "\n" not in str(caught.value)

    write_off(tmp_path / title / "chair" / "train" / "chair_0001.off", twins())
    write_off(tmp_path / title / "chair" / "test" / "chair_0890.off", twins())
    source = open_shapes(config, tmp_path)
    inside = open_shapes(config, tmp_path / title)

    assert [(item.object_id, item.split) for item in source.items] == [
        ("chair/test/chair_0890.off", "test"),
        ("chair/train/chair_0001.off", "train"),
    ]
    assert (source.name, source.items, source.fingerprint) == (collection, inside.items, inside.fingerprint)
    assert source.signal(0).field == "udf", "half of its meshes have no inside"

    write_off(tmp_path / title / "desk" / "loose.off", box())
    with pytest.raises(UsageError, match=r"is in a split and desk/loose\.off in none"):
        open_shapes(config, tmp_path)


def test_a_fingerprint_follows_names_and_sizes_and_not_settings_or_place(tmp_path):
    one, two = source_of(tmp_path / "one", box()), source_of(tmp_path / "two", box(), num_points=7)
    assert one.fingerprint == two.fingerprint

    renamed = source_of(tmp_path / "three", box(), "a/2.off")
    longer = source_of(tmp_path / "four", torus())
    assert len({one.fingerprint, renamed.fingerprint, longer.fingerprint}) == 3


def test_primitives_need_no_files(tmp_path, monkeypatch):
    monkeypatch.delenv("INR_FACTORY_CACHE")
    source = open_shapes(ShapeSource(collection="primitives", per_class=2, **FEW), tmp_path / "nowhere")

    assert len(source.classes) >= 10
    assert [item.object_id for item in source.items[:3]] == ["bowl/00000", "bowl/00001", "box/00000"]
    for index, item in enumerate(source.items):
        signal = source.signal(index)
        assert source.classes[item.label] == item.object_id.split("/")[0]
        assert signal.field == "sdf"
        assert (signal.facts["watertight"], signal.facts["ambiguous"]) == (1, 0), item
    assert not (tmp_path / "nowhere").exists()
    fewer = open_shapes(ShapeSource(collection="primitives", per_class=1, **FEW), tmp_path)
    assert same(source.signal(2), fewer.signal(1)), "an object stays the same in a smaller set"
    assert source.fingerprint != fewer.fingerprint


def test_sources_survive_pickling(tmp_path):
    for source in (source_of(tmp_path, box()), open_shapes(ShapeSource(collection="primitives", **FEW), tmp_path)):
        copy = pickle.loads(pickle.dumps(source))

        assert (copy.items, copy.fingerprint) == (source.items, source.fingerprint)
        assert same(copy.signal(0), source.signal(0))


def real(name, collection="mesh_folder", **settings):
    return open_shapes(ShapeSource(collection=collection, **(FEW | settings)), DATASETS / name)


@needs_datasets
def test_shrec11_has_420_closed_shapes_in_30_classes():
    source = real("shrec11")

    assert (len(source.items), len(source.classes)) == (420, 30)
    assert sum(item.split == "train" for item in source.items) == 300
    for index in range(0, 420, 7):
        signal = source.signal(index)
        assert (signal.facts["watertight"], signal.facts["ambiguous"], signal.facts["faces"]) == (1, 0, 500)
        assert (signal.targets < 0).any()


@needs_datasets
def test_the_segmentation_benchmark_has_19_classes():
    source = real("segbench")

    assert (len(source.items), len(source.classes)) == (76, 19)
    for index in range(0, 76, 15):
        assert (source.signal(index).targets < 0).any()


@needs_datasets
def test_every_polygon_soup_gives_a_signal_or_a_sentence():
    source = real("psb", num_points=4000)
    extreme = ("m0094", "m1784", "m1785")
    picked = [index for index, item in enumerate(source.items) if index % 6 == 0 or any(e in item.object_id for e in extreme)]  # fmt: skip
    reasons = []

    for index in picked:
        try:
            signal = source.signal(index)
        except SignalError as error:
            reasons.append(str(error))
            continue
        assert (signal.targets < 0).any()
        assert signal.facts["ambiguous"] <= 0.25

    assert len(source.items) == 268
    assert len(reasons) < len(picked) / 5
    assert all("\n" not in reason and len(reason) < 250 for reason in reasons)


@needs_datasets
@pytest.mark.parametrize(
    ("name", "count", "classes", "points"),
    [("modelnet40_points", 300, 3, 2048), ("modelnet40_points_txt", 19, 19, 10_000)],
)
def test_clouds_of_modelnet(name, count, classes, points):
    source = real(name, "point_folder")

    assert (len(source.items), len(source.classes)) == (count, classes)
    for index in range(0, count, 1 + count // 10):
        signal = source.signal(index)
        assert (signal.field, signal.facts["vertices"]) == ("udf", points)
        assert signal.facts["scale"] == pytest.approx(1 / 0.9, rel=0.3), "they come in the unit sphere"


@needs_datasets
def test_original_modelnet_files_are_read_with_their_fused_headers():
    source = real("modelnet_original_off", field="udf")
    fused = 0

    for index, item in enumerate(source.items):
        with open(source.paths[index], "rb") as file:
            first = file.readline().split()
        if first[0] != b"OFF":
            fused += 1
            assert source.signal(index).facts["vertices"] == int(first[0].removeprefix(b"OFF")), item
    assert fused == 3
