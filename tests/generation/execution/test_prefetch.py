"""Prefetch: samples are in the cache before a worker needs them, and each is computed once."""

import pytest
from support.small_shapes import entries, prepare

from inr_factory.generation.execution import prefetch
from inr_factory.generation.execution.prefetch import prefetch_cores, prefetch_part
from inr_factory.generation.recipe import check_recipe
from inr_factory.generation.sources import shape_collections as shapes


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("INR_FACTORY_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_parts_share_all_objects_and_take_each_once(tmp_path, cache, monkeypatch):
    worker, tasks = prepare(tmp_path)
    computed = []
    whole = shapes.mesh_samples
    monkeypatch.setattr(shapes, "mesh_samples", lambda *given: computed.append(given) or whole(*given))

    for part in range(3):
        prefetch_part(worker, tasks, part, 3)

    assert len(computed) == len(entries(cache)) == 9


def test_views_that_are_resampled_are_computed_each(tmp_path, cache):
    worker, tasks = prepare(tmp_path, views_resample=True)

    prefetch_part(worker, tasks, 0, 1)

    assert len(entries(cache)) == 18


def test_an_object_without_a_signal_does_not_stop_the_others(tmp_path, cache, monkeypatch):
    worker, tasks = prepare(tmp_path)
    whole = shapes.primitive

    def broken(kind, rng):
        if kind == "box":
            raise shapes.SignalError("no inside")
        return whole(kind, rng)

    monkeypatch.setattr(shapes, "primitive", broken)

    prefetch_part(worker, tasks, 0, 1)

    planned = {index for blocks in worker.plan.blocks.values() for block in blocks for index in block}
    boxes = sum(worker.source.items[index].object_id.startswith("box/") for index in planned)
    assert boxes == 1
    assert len(entries(cache)) == 9 - boxes


def test_only_gpus_that_fit_shapes_need_it(tmp_path, monkeypatch):
    monkeypatch.setattr(prefetch, "num_cores", lambda: 16)
    shapes_recipe = prepare(tmp_path)[0].recipe
    images = check_recipe({"name": "digits", "source": {"collection": "digits"}}, origin="test")

    assert prefetch_cores(shapes_recipe, "cuda", 2) == 14
    assert prefetch_cores(shapes_recipe, "cuda", 20) == 0
    assert prefetch_cores(shapes_recipe, "cpu", 2) == 0
    assert prefetch_cores(images, "cuda", 2) == 0
