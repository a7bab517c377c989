"""A small set of shapes whose samples are cached: its worker, its tasks and the entries of the cache."""

from inr_factory.generation.execution.shard_plan import make_shard_plan
from inr_factory.generation.execution.worker import Worker
from inr_factory.generation.recipe import check_recipe
from inr_factory.generation.sources.registry import open_source

FIELDS = {
    "name": "few",
    "source": {"collection": "primitives", "per_class": 1, "num_points": 200, "num_truth": 50, "num_surface": 20},
    "limit": 9,
    "views": 2,
    "shard_objects": 4,
}


def prepare(tmp_path, **source):
    """A worker and all its tasks."""
    recipe = check_recipe(FIELDS | {"source": FIELDS["source"] | source}, origin="test")
    opened = open_source(recipe.source)
    worker = Worker(recipe, None, tmp_path / "set", "cpu", opened.fingerprint)
    return worker, list(make_shard_plan(recipe, opened).tasks(recipe.views))


def entries(cache):
    return {path.name for path in cache.rglob("*.samples")}
