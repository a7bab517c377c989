"""Fits the same shapes by an earlier commit and by this one, in turn, and prints CPU time and quality as Markdown.

git worktree add ../earlier 7db3e46
python pipelines/studies/study_earlier.py ../earlier ../shared/datasets/segbench ../shared/datasets/shrec11 --count 10

Both run their command line, `fit mesh_folder`, with one worker: CPU seconds of all its processes include reading,
sampling and measuring. Then both sets are measured here, at the same points and by the same measures.
"""

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

import inr_factory as inr
from inr_factory.generation.fitting.shape_quality import measure_quality
from inr_factory.generation.recipe import ShapeSource, load_recipe
from inr_factory.generation.sources.shape_collections import open_shapes
from inr_factory.inr.batch import INRBatch

HERE = Path(__file__).parents[2]
BUILD = """
import importlib.util, sys
from pathlib import Path
root = Path(sys.argv[1])
found = importlib.util.spec_from_file_location("hatch_build", root / "hatch_build.py")
build = importlib.util.module_from_spec(found)
found.loader.exec_module(build)
source, library = build.FUSED
if not (root / library).exists():
    build.compile_library(root / source, root / library, build.X86)
"""
MAIN = "from inr_factory.cli{} import main; main()"


def fit(checkout: Path, folder: Path, out: Path, views: int, settings: list[str]) -> float:
    """CPU seconds of a fit by the code of a checkout, all its processes together."""
    module = ".main" if (checkout / "inr_factory" / "cli").is_dir() else ""
    command = [sys.executable, "-c", MAIN.format(module), "fit", "mesh_folder", "--data-root", str(folder)]
    command += ["--out", str(out), "--views", str(views), "--backend", "local", "--workers", "1"]
    for setting in settings:
        command += ["--set", setting]
    threads = {
        "PYTHONPATH": str(checkout),
        "OMP_NUM_THREADS": "1",
        "INR_FACTORY_CACHE": str(out.parent / f"{out.name}_cache"),
    }
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    ran = subprocess.run(command, env=os.environ | threads, capture_output=True, text=True, check=False, cwd=out.parent)
    if ran.returncode not in (0, 3):
        sys.exit(f"{checkout}: {ran.stderr[-2000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def quality(out: Path, folder: Path, field: str | None) -> dict[str, np.ndarray]:
    """The measures of all INRs of a set, at the points of this version's samples."""
    recipe = load_recipe("mesh_folder", [] if field is None else [f"source.field={field}"])
    assert isinstance(recipe.source, ShapeSource)
    source = open_shapes(recipe.source, folder)
    index = {item.object_id: number for number, item in enumerate(source.items)}
    dataset = inr.open(out)
    found = []
    for row, object_id in enumerate(dataset.object_ids):
        weights, _ = dataset.gather([row])
        signal = source.signal(index[str(object_id)])
        found.append(measure_quality(INRBatch.from_flat(dataset.spec, weights), [signal]))
    return {name: np.concatenate([one[name] for one in found]) for name in found[0]}


def choose(folder: Path, count: int, into: Path) -> Path:
    """A folder of `count` of the meshes of another, evenly spread, in their class folders without splits."""
    meshes = sorted(path for path in folder.rglob("*") if path.suffix in (".off", ".ply", ".obj", ".stl", ".glb"))
    for number in np.unique(np.linspace(0, len(meshes) - 1, count).round().astype(int)):
        mesh = meshes[number]
        to = into / folder.name / mesh.relative_to(folder).parts[0] / mesh.name
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(mesh, to)
    return into / folder.name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("earlier", type=Path, help="a checkout of the earlier commit")
    parser.add_argument("folders", nargs="+", type=Path, help="folders of meshes, as for the recipe mesh_folder")
    parser.add_argument("--count", type=int, default=10, help="shapes of each folder")
    parser.add_argument("--views", type=int, default=3)
    parser.add_argument("--unsigned", action="store_true", help="unsigned distances: udf before, root_udf now")
    parser.add_argument("--steps", type=int, help="fit.steps of this version")
    given = parser.parse_args()
    subprocess.run([sys.executable, "-c", BUILD, str(given.earlier)], check=True)
    print(
        "| shapes | commit | CPU s an INR | ratio | IoU | lowest IoU | distance error | Chamfer | F-score | normals |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as temporary:
        for folder in given.folders:
            shapes = choose(folder, given.count, Path(temporary))
            spent: dict[str, float] = {}
            for name, checkout, field in (
                ("earlier", given.earlier, "udf" if given.unsigned else None),
                ("this", HERE, "root_udf" if given.unsigned else None),
            ):
                out = Path(temporary) / f"{folder.name}_{name}"
                settings = [
                    "fit.floor_psnr=0",
                    "splits.val=0",
                    "splits.test=0",
                    *([] if field is None else [f"source.field={field}"]),
                ]
                settings += [f"fit.steps={given.steps}"] if given.steps and name == "this" else []
                seconds = fit(checkout, shapes, out, given.views, settings)
                measured = quality(out, shapes, "udf" if given.unsigned else None)
                spent[name] = seconds / len(measured["chamfer"])
                iou = measured["iou"]
                middle = " | ".join(
                    f"{np.nanmedian(measured[key]):.4f}" for key in ("distance_error", "chamfer", "fscore", "normals")
                )
                ious = " | " if given.unsigned else f"{np.median(iou):.4f} | {iou.min():.4f}"
                print(
                    f"| {given.count} of {folder.name} | {name} | {spent[name]:.2f} "
                    f"| {spent['earlier'] / spent[name]:.1f} | {ious} | {middle} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
