"""Shape collections: every layout is read, and samples are computed once for all views."""

import pickle

import pytest
import torch
from support.paths import DATASETS
from support.shapes import FEW, box, real, same, source_of, torus, twins, write_off

from inr_factory.errors import UsageError
from inr_factory.generation.geometry.primitives import KINDS
from inr_factory.generation.recipe import ShapeSource
from inr_factory.generation.signals import SignalError
from inr_factory.generation.sources import shape_collections as shapes
from inr_factory.generation.sources.shape_collections import open_shapes

pytestmark = pytest.mark.usefixtures("cache")
needs_datasets = pytest.mark.skipif(not DATASETS.is_dir(), reason=f"the real data are not at {DATASETS}")


def test_a_file_that_vanished_or_is_too_large_is_a_signal_error(tmp_path):
    source = source_of(tmp_path, box(), max_bytes=100)
    with pytest.raises(SignalError, match=r"bytes, source\.max_bytes allows 100"):
        source.signal(0)
    (tmp_path / "a" / "1.off").unlink()
    with pytest.raises(SignalError, match="cannot be read: No such file"):
        source.signal(0)


def count_computed(monkeypatch):
    computed = []
    original = shapes.mesh_samples

    def counting(*arguments):
        computed.append(arguments)
        return original(*arguments)

    monkeypatch.setattr(shapes, "mesh_samples", counting)
    return computed


def test_samples_of_ten_views_are_computed_once_and_shared_by_processes(tmp_path, monkeypatch):
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
    intact = entry.read_bytes()
    entry.write_bytes(damage(intact))

    after = source.signal(0)

    assert len(computed) == 2
    assert same(before, after)
    assert entry.read_bytes() == intact


@pytest.mark.parametrize(
    "change", [{"num_points": 401}, {"near": ((0.5, 0.02),)}, {"radius": 0.8}, {"fit_to": "cube"}, {"field": "udf"}]
)
def test_other_settings_and_other_content_are_computed(change, tmp_path, monkeypatch):
    computed = count_computed(monkeypatch)
    source_of(tmp_path, box()).signal(0)

    source_of(tmp_path, box(), **change).signal(0)
    source_of(tmp_path, KINDS["wedge"](lambda low, high: high)).signal(0)

    assert len(computed) == 3


def test_collections_work_without_a_cache_folder(tmp_path, monkeypatch):
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
        (["a/train/1.off", "b/train/2.off", "b/test/2.off"], ["train", "train", "test"]),
        (["train/a/1.off", "train/b/2.off", "val/b/2.off"], ["train", "train", "val"]),
    ],
)
def test_mesh_folders_are_read_in_every_layout(names, splits, tmp_path):
    for name in names:
        source = source_of(tmp_path, box(), name)

    assert (source.in_dim, source.out_dim, source.classes) == (3, 1, ("a", "b"))
    assert [(item.object_id, item.label, item.split) for item in source.items] == [
        (name, int("b/" in name), split) for name, split in sorted(zip(names, splits, strict=True))
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


def test_a_fingerprint_depends_on_names_and_sizes_and_not_on_settings_or_location(tmp_path):
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
