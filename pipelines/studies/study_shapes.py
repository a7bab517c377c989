"""Fits a few shapes with several SIREN settings and prints quality against CPU time as Markdown.

python pipelines/studies/study_shapes.py --count 7 ../shared/datasets/shrec11 ../shared/datasets/segbench
python pipelines/studies/study_shapes.py --unsigned --count 8 ../shared/datasets/ldraw ../shared/datasets/modelnet_original_off
python pipelines/studies/study_shapes.py --cost --count 10 ../shared/datasets/segbench ../shared/datasets/modelnet_original_off
python pipelines/studies/study_shapes.py --view-spread inrs/ldraw40_version_3
python pipelines/studies/study_shapes.py --curvature --hidden 32 --count 14 ../shared/datasets/segbench ../shared/datasets/ldraw
python pipelines/studies/study_shapes.py --surfaces --count 60 ../shared/datasets/shrec11 ../shared/datasets/psb
"""

import argparse
import contextlib
import os
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from time import thread_time
from typing import TypeVar

import h5py
import numpy as np
import torch
from numpy.typing import NDArray

from inr_factory.generation.fit_config import FitConfig
from inr_factory.generation.fitting.fit_views import FittedViews, fit_views
from inr_factory.generation.fitting.shape_quality import measure_quality
from inr_factory.generation.geometry.curvature import Bends
from inr_factory.generation.geometry.distances import mesh_distances
from inr_factory.generation.geometry.level_set import LEVELS, as_distances, extract_surface
from inr_factory.generation.geometry.mesh import Mesh
from inr_factory.generation.recipe import ShapeSource, load_recipe
from inr_factory.generation.signals import Signal, SignalError
from inr_factory.generation.sources.shape_collections import open_shapes
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.spec import SirenSpec
from inr_factory.storage.manifest import ViewKey
from inr_factory.storage.manifest_file import load_manifest

Result = TypeVar("Result")

FORMER = (
    "spec.first_omega_0=null",
    "fit.optimizer=sprint",
    "fit.learning_rate=4e-3",
    "fit.steps=1200",
    "fit.batch_points=2048",
)
# Settings over the recipe mesh_folder, which is the first; FORMER has the optimiser of recipe version 2.
SETTINGS = [
    (),
    FORMER,
    ("fit.steps=250",),
    ("fit.steps=1000",),
    ("fit.batch_points=2048", "fit.steps=200"),
    ("spec.first_omega_0=10",),
    ("spec.first_omega_0=30",),
    ("spec.omega_0=5", "spec.first_omega_0=5"),
    ("spec.omega_0=20", "spec.first_omega_0=20"),
    ("spec.num_hidden=2",),
    ("spec.num_hidden=4",),
    ("spec.num_hidden=5",),
    ("spec.hidden_dim=32",),
    ("spec.hidden_dim=32", "spec.num_hidden=5"),
    ("spec.hidden_dim=48", "spec.num_hidden=5"),
    ("source.num_points=10000",),
    ("source.num_points=60000",),
]
DEEP = ("spec.hidden_dim=48", "spec.num_hidden=5", "fit.steps=1000")
UNSIGNED = [
    ("source.field=udf", *FORMER, "fit.target_psnr=null"),
    *((f"source.field={field}", *net) for net in (("fit.steps=1000",), DEEP) for field in ("udf", "root_udf")),
]


OBJECTS, VIEWS = 12_311, 10  # of ModelNet40, for which the cost is extrapolated


def timed(function: Callable[..., Result], *arguments: object) -> tuple[Result, float]:
    """The result of a call, and its CPU seconds."""
    started = thread_time()
    result = function(*arguments)
    return result, thread_time() - started


def sample(config: ShapeSource, folders: list[Path], count: int) -> list[Signal]:
    """Signals of `count` shapes of each folder, evenly spread, without those that have none."""
    signals = []
    for folder in folders:
        source = open_shapes(config, folder)
        for index in np.linspace(0, len(source.items) - 1, count).round().astype(int):
            with contextlib.suppress(SignalError):
                signals.append(source.signal(int(index)))
    return signals


def fit(spec: SirenSpec, signals: list[Signal], config: FitConfig) -> FittedViews:
    return fit_views(spec, [ViewKey(str(number), 0) for number in range(len(signals))], signals, config, run_seed=0)


def settings(folders: list[Path], count: int, rows: Sequence[tuple[str, ...]]) -> None:
    """Print the quality that settings over the recipe mesh_folder reach, and the CPU time of their fits."""
    names = ", ".join(f"{count} of {folder.name}" for folder in folders)
    print(f"Medians over shapes ({names}); CPU seconds of one core an INR, without reading the shape.\n")
    print(
        "| settings | CPU s | dB | IoU | lowest IoU | distance error | at the surface | Chamfer | F-score | normals |"
    )
    print("|" + "---|" * 10)
    known: dict[str, list[Signal]] = {}
    for row in rows:
        recipe = load_recipe("mesh_folder", [*row, "fit.floor_psnr=0"])
        assert isinstance(recipe.source, ShapeSource)
        shapes = known.setdefault(recipe.source.model_dump_json(), sample(recipe.source, folders, count))
        fitted, seconds = timed(fit, recipe.spec.spec(3, 1), shapes, recipe.fit)
        quality = {name: np.asarray(column) for name, column in measure_quality(fitted.inrs, shapes).items()}
        names = ("distance_error", "at the surface", "chamfer", "fscore", "normals")
        quality["at the surface"] = at_surface(fitted.inrs, shapes)
        medians = " | ".join(f"{np.nanmedian(quality[name]):.4f}" for name in names)
        iou = quality["iou"]
        ious = " | " if np.isnan(iou).all() else f"{np.median(iou):.4f} | {iou.min():.4f}"
        label = {(): "the recipe", FORMER: "by sprint, as recipe version 2"}.get(
            row, ", ".join(row).replace("_", r"\_")
        )
        print(
            f"| {label} | {seconds / len(shapes):.2f} | {np.median(fitted.psnr):.1f} | {ious} | {medians} |", flush=True
        )


@torch.no_grad()
def at_surface(inrs: INRBatch, shapes: Sequence[Signal]) -> NDArray[np.float64]:
    """(N,): the mean distance from its surface, which is 0, that each INR gives at points on its shape."""
    pairs = zip(inrs, shapes, strict=True)
    means = [
        float(as_distances(one(shape.truth.surface)[0], shape.field).abs().mean())
        for one, shape in pairs
        if shape.truth is not None
    ]
    return np.array(means)


def cost(folders: list[Path], count: int, hidden: int) -> None:
    """Print the CPU time of all parts of a set, by the recipe mesh_folder, and what the fits reach."""
    print("CPU seconds of one core: `sampling` an object, once for all views, the others a view.\n")
    print(
        "| shapes | field | hidden | sampling | fit | quality | of later views | quality / fit | with ten views "
        "| one of ten views | ModelNet40 x 10, CPU hours | dB | IoU | Chamfer | F-score | normals |"
    )
    print("|" + "---|" * 16)
    for folder in folders:
        for field, steps in (("sdf", ()), ("root_udf", ("fit.steps=1000",))):  # as mesh_folder and modelnet40
            recipe = load_recipe("mesh_folder", [f"source.field={field}", f"spec.hidden_dim={hidden}", *steps])
            assert isinstance(recipe.source, ShapeSource)
            shapes, sample_seconds = timed(sample, recipe.source, [folder], count)
            if len(shapes) < count:  # some have no inside
                continue
            fitted, fit_seconds = timed(fit, recipe.spec.spec(3, 1), shapes, recipe.fit)
            by_number = [shapes[int(key.object_id)] for key in fitted.keys]
            quality, quality_seconds = timed(measure_quality, fitted.inrs, by_number)
            later_seconds = timed(partial(measure_quality, view=1), fitted.inrs, by_number)[1]
            parts = [seconds / len(shapes) for seconds in (sample_seconds, fit_seconds, quality_seconds, later_seconds)]
            sampling, fits, measuring, later = parts
            of_views = (measuring + (VIEWS - 1) * later) / VIEWS
            of_ten = sampling / VIEWS + fits + of_views
            columns = " | ".join(f"{part:.3f}" for part in parts)
            names = ("iou", "chamfer", "fscore", "normals")
            medians = [np.nanmedian(column) if np.isfinite(column := quality[name]).any() else None for name in names]
            reached = " | ".join("" if median is None else f"{median:.4f}" for median in medians)
            print(
                f"| {len(shapes)} of {folder.name} | {field} | {hidden} | {columns} "
                f"| {measuring / fits:.2f} | {of_views / fits:.2f} | {of_ten:.2f} | {OBJECTS * VIEWS * of_ten / 3600:.0f} | {np.median(fitted.psnr):.1f} | {reached} |",
                flush=True,
            )


def view_spread(sets: list[Path]) -> None:
    """Print how much measures differ between views of an object, and between objects; sets of recipe version 3."""
    print("| set | measure | median | of view 0 | deviation of objects | of views of an object |")
    print("|" + "---|" * 6)
    for root in sets:
        shards = [h5py.File(root / entry.path) for entry in load_manifest(root).shards]
        names = np.concatenate([shard["object_id"].asstr()[:] for shard in shards])
        views = np.concatenate([shard["view"][:] for shard in shards])
        for measure in ("chamfer", "fscore", "normals"):
            values = np.concatenate([shard[measure][:] for shard in shards])
            known = [values[names == name] for name in np.unique(names[np.isfinite(values)])]
            among = np.std([each.mean() for each in known])
            within = np.mean([each.var(ddof=1) for each in known if len(each) > 1]) ** 0.5
            medians = f"{np.nanmedian(values):.4f} | {np.nanmedian(values[views == 0]):.4f}"
            print(f"| {root.name} | {measure} | {medians} | {among:.4f} | {within:.4f} |")


def curvature(folders: list[Path], count: int, hidden: int) -> None:
    """Print what it changes that a share of the points near the surface follows curvature, by the recipe mesh_folder.

    Differences of the same shapes, means with their standard errors; distances as logarithms of ratios.
    """
    print(
        "| shapes | field | share | IoU | Chamfer | F-score | normals | edges | change of IoU | of Chamfer | of F-score | of edges |"
    )
    print("|" + "---|" * 12)
    for folder in folders:
        for field in ("sdf", "udf"):
            before: dict[str, NDArray[np.float64]] = {}
            for share in (0.0, 0.25, 0.5):
                recipe = load_recipe(
                    "mesh_folder",
                    [
                        f"source.field={field}",
                        f"spec.hidden_dim={hidden}",
                        f"source.curvature={share}",
                        "fit.target_psnr=null",
                    ],
                )
                assert isinstance(recipe.source, ShapeSource)
                shapes = sample(recipe.source, [folder], count)
                fitted = fit(recipe.spec.spec(3, 1), shapes, recipe.fit)
                shapes = [shapes[int(key.object_id)] for key in fitted.keys]
                found = measure_quality(fitted.inrs, shapes)
                found["edges"] = np.array(
                    [edge_distance(inr, shape) for inr, shape in zip(fitted.inrs, shapes, strict=True)]
                )
                before = before or found
                medians = [f"{np.nanmedian(found[n]):.4f}" for n in ("iou", "chamfer", "fscore", "normals", "edges")]
                changes = [
                    spread(found["iou"] - before["iou"]),
                    spread(np.log(found["chamfer"] / before["chamfer"])),
                    spread(found["fscore"] - before["fscore"]),
                    spread(np.log(found["edges"] / before["edges"])),
                ]
                cells = " | ".join((*medians, *changes))
                print(f"| {len(shapes)} of {folder.name} | {field} | {share} | {cells} |", flush=True)


def edge_distance(inr: INRBatch, signal: Signal) -> float:
    """Mean distance of points on the edges along which a shape bends from the INR's surface."""
    assert signal.truth is not None
    assert signal.truth.shape is not None
    vertices, faces = extract_surface(inr, 97, field=signal.field)
    if not len(faces):
        return np.nan
    points = Bends.of(signal.truth.shape()).draw(3_000, np.random.default_rng(0))
    distances = mesh_distances(Mesh(vertices.double().numpy(), faces.numpy()), points)
    return float(np.abs(distances - (LEVELS["udf"] if signal.field == "udf" else 0)).mean())


def spread(changes: NDArray[np.float64]) -> str:
    """Mean and standard error of those that are known."""
    known = changes[np.isfinite(changes)]
    return f"{known.mean():+.4f} ± {known.std() / len(known) ** 0.5:.4f}" if len(known) else ""


def surfaces(folders: list[Path], count: int) -> None:
    """Print how many meshes have an inside in both versions of recipes, and what the surfaces of the kept ones are."""
    print("| shapes | refused in version 1 | refused in version 2 | turned | largest sheet | largest buried |")
    print("|---|---|---|---|---|---|")
    config = ShapeSource(collection="mesh_folder", num_points=3_000, num_truth=1_000)
    for folder in folders:
        kept: dict[int, list[Signal]] = {1: [], 2: []}
        for version, signals in kept.items():
            source = open_shapes(config, folder, version)
            indices = np.unique(np.linspace(0, len(source.items) - 1, count).round().astype(int))
            for index in indices:
                with contextlib.suppress(SignalError):
                    signals.append(source.signal(int(index)))
        facts = {name: np.array([signal.facts[name] for signal in kept[2]]) for name in ("turned", "sheet", "buried")}
        refused = " | ".join(str(len(indices) - len(signals)) for signals in kept.values())
        largest = " | ".join(f"{facts[name].max(initial=0):.2f}" for name in ("sheet", "buried"))
        print(
            f"| {len(indices)} of {folder.name} | {refused} | {(facts['turned'] > 0).sum()} | {largest} |", flush=True
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path, help="folders of meshes, as for the recipe mesh_folder")
    parser.add_argument("--count", type=int, default=7, help="shapes of each folder, evenly spread")
    parser.add_argument("--unsigned", action="store_true", help="quality of unsigned distances by field and net")
    parser.add_argument("--cost", action="store_true", help="CPU time of sampling, fit and quality by the recipe")
    parser.add_argument("--curvature", action="store_true", help="what it gains that samples follow curvature")
    parser.add_argument(
        "--view-spread", action="store_true", help="the folders are sets: how far views of an object differ"
    )
    parser.add_argument("--hidden", type=int, default=64, help="neurons a layer, of --cost and --curvature")
    parser.add_argument("--surfaces", action="store_true", help="which meshes have an inside")
    options = parser.parse_args()
    for module in ("igl", "scipy.spatial", "skimage.measure", "trimesh"):
        import_module(module)  # before any time is taken
    torch.set_num_threads(1)
    os.environ["IGL_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as cache:  # an empty one, so that sampling is measured
        os.environ["INR_FACTORY_CACHE"] = cache
        if options.view_spread:
            view_spread(options.folders)
        elif options.cost or options.curvature:
            (cost if options.cost else curvature)(options.folders, options.count, options.hidden)
        elif options.surfaces:
            surfaces(options.folders, options.count)
        else:
            settings(options.folders, options.count, UNSIGNED if options.unsigned else SETTINGS)


if __name__ == "__main__":
    main()
