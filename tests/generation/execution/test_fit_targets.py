"""Fit targets: a set has what its source says of its objects, from the beginning, through growth and resumption."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from support.signals import cloud
from support.tiny_recipes import LOCAL, files, tiny

import inr_factory as inr
from inr_factory.errors import UsageError
from inr_factory.generation.execution.fit_targets import source_targets
from inr_factory.generation.fit_arrays import fit
from inr_factory.generation.geometry.primitives import primitive
from inr_factory.generation.recipe import check_recipe
from inr_factory.inr.stable_hash import seeded
from inr_factory.storage.manifest import MANIFEST
from inr_factory.storage.manifest_file import load_manifest
from inr_factory.storage.shards import ShardReader
from inr_factory.storage.targets import read_targets

RECIPE = tiny(name="own", source={"collection": "own"}, limit=None, views=1, splits={"val": 2, "test": 2})


@dataclass
class Waves:
    targets: list[dict[str, Any]]
    target_units: dict[str, str] = field(default_factory=dict)
    name: str = "waves"
    version: str = "1"
    licence: str = "none"
    in_dim: int = 1
    out_dim: int = 1
    classes: tuple[str, ...] = ("wave",)
    fingerprint: str = "waves"

    @property
    def items(self):
        return [inr.Item(f"wave-{index}", 0, None, targets) for index, targets in enumerate(self.targets)]

    def signal(self, index, view=0):
        coords = cloud(16, 1)
        return inr.Signal(coords, (coords * (1 + index)).sin())


WAVES = Waves(
    [
        {"frequency": 1 + n / 3, "shape": "saw" if n % 2 else "sine", "tags": ["t"] * (n % 2), "at": [n, -n]}
        for n in range(12)
    ],
    {"frequency": "Hz"},
)


def table_of(out):
    return read_targets(out, load_manifest(out))


def test_a_set_has_the_targets_of_its_source(tmp_path):
    report = inr.fit_dataset(RECIPE, tmp_path, source=WAVES, **LOCAL)

    table = table_of(tmp_path)
    assert report.manifest.targets == load_manifest(tmp_path).targets
    assert sorted(table.object_ids) == sorted(item.object_id for item in WAVES.items)
    (row,) = table.rows_of(["wave-7"])
    assert [(c.name, c.kind, c.unit, c.value(row)) for c in table.columns] == [
        ("frequency", "number", "Hz", 1 + 7 / 3), ("shape", "class", "", "saw"), ("tags", "labels", "", ["t"]),
        ("at", "vector", "", [7.0, -7.0]),
    ]  # fmt: skip
    assert inr.verify_dataset(tmp_path).faults == ()


def test_a_source_without_targets_makes_the_set_that_it_made(tmp_path):
    report = inr.fit_dataset(RECIPE, tmp_path, source=replace(WAVES, targets=[{}] * 12, target_units={}), **LOCAL)

    assert report.manifest.targets is None
    assert "targets" not in (tmp_path / MANIFEST).read_text()


def test_more_views_and_objects_keep_targets_and_joined_ones(tmp_path):
    def run(**how):
        return inr.fit_dataset(RECIPE, tmp_path, source=WAVES, **LOCAL, **how)

    run(limit=6)
    small = table_of(tmp_path)
    assert small.column("shape").names == ("saw", "sine")
    inr.add_targets(tmp_path, {"name": list(small.object_ids), "rank": range(6)})
    run(limit=6, views=2)
    assert table_of(tmp_path).names == (*small.names, "rank")
    run(limit=12, views=2)

    table = table_of(tmp_path)
    assert len(table.rows_of([item.object_id for item in WAVES.items], "frequency")) == 12
    with pytest.raises(UsageError, match=r"6 objects have no value of the target rank"):
        table.rows_of(table.object_ids, "rank")
    assert inr.verify_dataset(tmp_path).faults == ()
    assert len(list(tmp_path.glob("targets-*"))) == 1


def test_a_fit_that_resumes_with_other_values_is_refused_and_leaves_the_set(tmp_path):
    inr.fit_dataset(RECIPE, tmp_path, source=WAVES, **LOCAL)
    before = files(tmp_path)
    other = replace(WAVES, targets=[{**targets, "frequency": 7.0} for targets in WAVES.targets])

    with pytest.raises(UsageError, match=r"has the target frequency = .* of wave-0, its source 7.0; put the same"):
        inr.fit_dataset(RECIPE, tmp_path, views=2, source=other, **LOCAL)
    assert files(tmp_path) == before


def test_parts_of_an_array_job_write_the_same_targets(tmp_path):
    recipe = RECIPE.model_copy(update={"shard_objects": 2})
    for part in range(3):
        inr.fit_dataset(recipe, tmp_path / f"{part}", source=WAVES, shard=f"{part}/3", **LOCAL)
        inr.fit_dataset(recipe, tmp_path / "one", source=WAVES, shard=f"{part}/3", **LOCAL)
    merged = inr.merge_datasets([tmp_path / f"{part}" for part in range(3)], tmp_path / "merged")

    assert merged.missing == 0
    assert merged.manifest.targets == load_manifest(tmp_path / "one").targets == load_manifest(tmp_path / "0").targets


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"targets": [{"x": 1}] * 11 + [{}]}, "object wave-11 has the targets none, wave-0 has x; give all"),
        ({"targets": [{"x": 1}] * 11 + [{"y": 1}]}, "has the targets y, wave-0 has x"),
        ({"targets": [{"x": 1}] * 11 + [7]}, "has the targets 7"),
        ({"targets": [{"x": 1}] * 11 + [{"x": float("nan")}]}, "row 12 of x is nan"),
        ({"targets": [{"x": 1}] * 11 + [{"x": "u"}]}, "row 12 of x is 'u', the 11 before are numbers"),
        ({"target_units": {"frequenzy": "Hz"}}, "did you mean 'frequency'"),
        ({"target_units": 7}, "target_units must be a mapping"),
    ],
)
def test_targets_that_no_set_can_have_are_refused_before_anything_is_written(change, message, tmp_path):
    with pytest.raises(UsageError, match=message) as raised:
        inr.fit_dataset(RECIPE, tmp_path / "set", source=replace(WAVES, **({"target_units": {}} | change)), **LOCAL)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "set").exists()


def test_a_source_without_any_has_no_targets():
    assert source_targets(replace(WAVES, targets=[{}] * 3)) is None


IMAGES = seeded("images").random((6, 8, 8))


@pytest.fixture(scope="module")
def fitted():
    return fit(IMAGES, hidden_dim=8, steps=20, floor_psnr=0.0)


@pytest.mark.filterwarnings("ignore:less than half")
def test_arrays_are_saved_with_their_targets(fitted, tmp_path):
    targets = {"frequency": np.arange(6) / 7, "axis": np.eye(6), "word": list("uvuvuv")}
    manifest = fitted.save(tmp_path, targets=targets, target_units={"frequency": "Hz"}, val=1, test=1)

    table = read_targets(tmp_path, manifest)
    assert manifest == load_manifest(tmp_path)
    assert table.column("frequency").unit == "Hz"
    rows = table.rows_of([f"{index:06d}" for index in range(6)])
    assert np.array_equal(table.column("frequency").values[rows], targets["frequency"])
    assert np.array_equal(table.column("axis").values[rows], np.eye(6))
    assert fitted.save(tmp_path, val=1, test=1).targets == manifest.targets
    with pytest.raises(UsageError, match=r"has the target word = 'u' of 000000, its source 'x'|with the names"):
        fitted.save(tmp_path, targets={"word": list("xvuvuv")}, val=1, test=1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"targets": {"x": [1]}}, "the target x has 1 values for 6 objects"),
        ({"targets": [1] * 6}, "targets must be a mapping"),
        ({"targets": {"x": [1] * 6}, "target_units": {"y": "m"}}, "target_units names 'y', which is no target"),
        ({"targets": {"x": [None] * 6}}, "row 1 of x is empty"),
    ],
)
def test_targets_that_do_not_match_the_arrays_are_refused(fitted, arguments, message, tmp_path):
    with pytest.raises(UsageError, match=message):
        fitted.save(tmp_path / "set", **arguments)
    assert not (tmp_path / "set").exists()


def test_measured_shapes_have_their_area_and_volume(tmp_path):
    pytest.importorskip("igl")
    source = {"collection": "primitives", "per_class": 1, "num_points": 200, "num_truth": 100, "num_surface": 50}
    recipe = {
        "name": "p",
        "spec": {"hidden_dim": 8},
        "fit": {"steps": 5, "floor_psnr": 0},
        "splits": {"val": 0, "test": 0},
    }
    inr.fit_dataset(
        check_recipe({**recipe, "source": {**source, "measure": True}}, "test"), tmp_path, data_root=tmp_path, **LOCAL
    )

    manifest = load_manifest(tmp_path)
    shard = ShardReader(tmp_path, manifest.shards[0])
    for row, name in enumerate(shard.object_ids):
        mesh, scale = primitive(name.partition("/")[0], seeded("primitive", name)), shard.column("scale")[row]
        assert shard.column("area")[row] == pytest.approx(mesh.areas.sum() / scale**2)
        assert shard.column("volume")[row] == pytest.approx(mesh.volume / scale**3)
        assert 0 < shard.column("volume")[row] < 4 / 3 * np.pi * 0.9**3
    plain = check_recipe({**recipe, "source": source}, "test")
    assert "measure" not in plain.model_dump()["source"]


def test_a_closed_mesh_has_a_volume_and_an_open_one_none(tmp_path):
    pytest.importorskip("igl")
    corners, faces = "0 0 0\n2 0 0\n0 2 0\n0 0 2\n", "3 0 2 1\n3 0 1 3\n3 0 3 2\n3 1 2 3\n"
    (tmp_path / "closed.off").write_text(f"OFF\n4 4 0\n{corners}{faces}")
    (tmp_path / "open.off").write_text(f"OFF\n4 3 0\n{corners}{faces[8:]}")
    source = {"collection": "mesh_folder", "field": "udf", "num_points": 200, "num_truth": 100, "num_surface": 50}
    fields = {
        "name": "p",
        "source": {**source, "measure": True},
        "spec": {"hidden_dim": 8},
        "splits": {"val": 0, "test": 0},
    }
    recipe = check_recipe({**fields, "fit": {"steps": 5, "floor_psnr": -99, "target_psnr": None}}, "test")
    inr.fit_dataset(recipe, tmp_path / "set", data_root=tmp_path, **LOCAL)

    shard = ShardReader(tmp_path / "set", load_manifest(tmp_path / "set").shards[0])
    rows = {name: row for row, name in enumerate(shard.object_ids)}
    scale, volume, area = (shard.column(name) for name in ("scale", "volume", "area"))
    assert volume[rows["closed.off"]] == pytest.approx(8 / 6 / scale[rows["closed.off"]] ** 3)
    assert np.isnan(volume[rows["open.off"]])
    assert area[rows["open.off"]] == pytest.approx((4 + 2 * 3**0.5) / scale[rows["open.off"]] ** 2)
