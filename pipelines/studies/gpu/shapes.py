"""Shapes: one shard with the settings of ModelNet40's recipe, its quality included, and what the whole set would take."""

from time import perf_counter

import numpy as np

from gpu.problems import SampledShapes, few_shapes, load_shapes
from gpu.record import Record, seconds
from inr_factory.generation.execution.fit_dataset import fit_dataset
from inr_factory.generation.fitting.fit_views import fit_views
from inr_factory.generation.fitting.shape_quality import measure_quality
from inr_factory.generation.recipe import Recipe, ShapeSource, check_recipe, load_recipe
from inr_factory.storage.manifest import ViewKey

TITLE = "One shard of shapes, 3-64-64-64-1"
SHAPES = 12_311 * 10  # ModelNet40, ten views
GOAL_HOURS = 2.0


def shapes(record: Record) -> None:
    """Unsigned distances, as ModelNet40's recipe has them, then signed ones, whose fits stop earlier."""
    samples = None if record.quick else load_shapes(record.bundle)
    if samples is None:
        samples = few_shapes(64 if record.quick else 30_000)
    quick = ["fit.steps=2", "fit.floor_psnr=-99", "fit.batch_points=16", "fit.target_psnr=60", "spec.hidden_dim=4"]
    for name, count in (("modelnet40", 500), ("primitives", 500), ("modelnet40", 50)):
        count = 2 if record.quick else count
        recipe = load_recipe(name, quick if record.quick else ())
        assert isinstance(recipe.source, ShapeSource)
        source = SampledShapes(samples, recipe.source, count)
        what = f"{TITLE}, {name}, {count} shapes"
        record.attempt(
            what, 60, lambda name=name, recipe=recipe, source=source: one_shard(record, name, recipe, source)
        )  # type: ignore[misc]
        if record.quick:
            break


def one_shard(record: Record, name: str, recipe: Recipe, source: SampledShapes) -> None:
    """The steps of a worker one by one, then a whole fit of one shard."""
    assert isinstance(recipe.source, ShapeSource)
    begin = perf_counter()
    signals = [source.signal(index) for index in range(source.count)]
    read = perf_counter() - begin
    keys = [ViewKey(item.object_id, 0) for item in source.items]
    spec, fitted = recipe.spec.spec(3, 1), []
    config = recipe.fit.model_copy(update={"engine": record.engine})
    fit = seconds(lambda: fitted.append(fit_views(spec, keys, signals, config, 0, record.device)), record.device)
    inrs, columns = fitted[0].inrs, {}
    kept = [signals[int(key.object_id)] for key in fitted[0].keys]
    quality = seconds(lambda: columns.update(measure_quality(inrs, kept, record.device)), record.device)
    own = recipe.model_dump(mode="json") | {"source": {"collection": "own"}, "shard_objects": source.count}
    own |= {"name": "shapes", "splits": {"val": 0, "test": 0}}
    own["fit"] |= {} if record.engine == "fused" else {"engine": record.engine}
    out = record.scratch / f"shapes-{name}-{source.count}"
    report = fit_dataset(
        check_recipe(own, "of shapes"), out, workers=1, backend="local", device=record.device_name, source=source
    )  # fmt: skip
    total = report.seconds
    hours = total / source.count * SHAPES / 3600
    record.add(
        TITLE, recipe=name, shapes=source.count, field=recipe.source.natural_field, **{"read, s": read, "fit, s": fit},
        **{"quality, s": quality, "whole shard, s": total, "INRs/s": source.count / total},
        **{"mean steps": float(np.mean(fitted[0].steps)), "median dB": float(np.median(fitted[0].psnr))},
        **{f"median {kind}": float(np.nanmedian(column)) for kind, column in columns.items() if np.isfinite(column).any()},
        quarantined=len(report.quarantined), **{"ModelNet40 x 10, h": hours},
    )  # fmt: skip
    if name == "modelnet40" and source.count != 50:
        record.goal("ModelNet40 x 10, quality included, by this shard", hours, GOAL_HOURS, "h", at_least=False)
