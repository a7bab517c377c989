"""Fits a few shapes with several SIREN settings and prints quality against CPU time as Markdown.

python pipelines/studies/study_shapes.py --count 7 ../shared/datasets/shrec11 ../shared/datasets/segbench
"""

import argparse
import os
from pathlib import Path
from time import thread_time

import numpy as np
import torch

from inr_factory.generation.fitting.fit_views import fit_views
from inr_factory.generation.fitting.shape_quality import measure_quality
from inr_factory.generation.recipe import FitConfig, ShapeSource
from inr_factory.generation.sources.shape_collections import open_shapes
from inr_factory.inr.spec import SirenSpec
from inr_factory.storage.manifest import ViewKey

# (points, hidden_dim, num_hidden, omega_0, peak rate, steps); the first is the recipe, the others change one thing or two.
SETTINGS = [
    (30_000, 64, 3, 10, 4e-3, 1200),
    (30_000, 64, 3, 10, 4e-3, 600),
    (30_000, 64, 3, 10, 4e-3, 2400),
    (30_000, 64, 3, 5, 4e-3, 1200),
    (30_000, 64, 3, 20, 4e-3, 1200),
    (30_000, 64, 3, 30, 4e-3, 1200),
    (30_000, 64, 2, 10, 4e-3, 1200),
    (30_000, 48, 3, 10, 4e-3, 1200),
    (30_000, 32, 3, 10, 5e-3, 1200),
    (30_000, 32, 2, 15, 8e-3, 1200),
    (10_000, 64, 3, 10, 4e-3, 1200),
    (4_000, 64, 3, 10, 4e-3, 1200),
]


def study(folders: list[Path], count: int) -> None:
    torch.set_num_threads(1)
    os.environ["IGL_NUM_THREADS"] = "1"
    names = ", ".join(f"{count} of {folder.name}" for folder in folders)
    print(f"Medians over shapes ({names}); CPU seconds of one core an INR, without reading the shape.\n")
    print(
        "| points | hidden | omega_0 | peak rate | steps | CPU s | dB | IoU | lowest IoU | distance error | Chamfer |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for points, hidden, layers, omega, rate, steps in SETTINGS:
        near = ((0.6, 0.01), (0.3, 0.05))
        config = ShapeSource(collection="mesh_folder", num_points=points, near=near)
        signals = []
        for folder in folders:
            source = open_shapes(config, folder)
            chosen = np.linspace(0, len(source.items) - 1, count).round().astype(int)
            signals += [source.signal(int(index)) for index in chosen]
        spec = SirenSpec(3, 1, hidden, layers, float(omega))
        fit = FitConfig(
            optimizer="sprint",
            learning_rate=rate,
            steps=steps,
            ridge=1e-4,
            batch_points=2048,
            target_psnr=None,
            floor_psnr=0,
        )
        started = thread_time()
        fitted = fit_views(spec, [ViewKey(str(number), 0) for number in range(len(signals))], signals, fit, run_seed=0)
        seconds = (thread_time() - started) / len(signals)
        quality = measure_quality(fitted.inrs, signals)
        iou, error, chamfer = (quality[name] for name in ("iou", "distance_error", "chamfer"))
        print(
            f"| {points:,} | {layers} x {hidden} | {omega} | {rate:g} | {steps} | {seconds:.2f} | {np.median(fitted.psnr):.1f} "
            f"| {np.median(iou):.3f} | {iou.min():.3f} | {np.median(error):.4f} | {np.nanmedian(chamfer):.4f} |",
            flush=True,
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path, help="folders of meshes, as for the recipe mesh_folder")
    parser.add_argument("--count", type=int, default=7, help="shapes of each folder, evenly spread")
    options = parser.parse_args()
    study(options.folders, options.count)
