"""Classifies the shapes of a collection from points on the meshes themselves, without INRs: what their geometry gives away.

python pipelines/studies/study_shape_reference.py ../shared/datasets/ldraw

Features of 8,192 points a shape: extents, means and spreads, histograms of coordinates and of distances between points,
a coarse grid of occupancies, and with `size` the logarithm of the shape's own size, which no normalised fit knows. Extremely
randomised trees learn them. Splits are those of the folders CLASS/{train,test}.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import trimesh
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesClassifier

POINTS, PAIRS, CELLS = 8192, 20_000, 8


def features(path: Path) -> tuple[NDArray[np.float64], float]:
    """Those of a mesh in the cube [-1, 1]^3, and the logarithm of its size."""
    mesh = trimesh.load(path, process=False, force="mesh")
    low, high = mesh.vertices.min(0), mesh.vertices.max(0)
    size = float((high - low).max() / 2)
    points = trimesh.sample.sample_surface(mesh, POINTS, seed=0)[0]
    points = (points - (low + high) / 2) / size
    generator = np.random.default_rng(0)
    one, other = generator.integers(POINTS, size=(2, PAIRS))
    distances = np.histogram(np.linalg.norm(points[one] - points[other], axis=1), 32, (0, 3))[0] / PAIRS
    profiles = [np.histogram(points[:, axis], 16, (-1, 1))[0] / POINTS for axis in range(3)]
    cells = np.clip(((points + 1.02) / 2.04 * CELLS).astype(int), 0, CELLS - 1)
    grid = np.bincount(cells @ [1, CELLS, CELLS**2], minlength=CELLS**3) / POINTS
    extents = np.ptp(points, axis=0)
    return np.concatenate([extents, points.mean(0), points.std(0), distances, *profiles, np.sqrt(grid)]), np.log(size)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    paths = sorted(path for path in args.folder.glob("*/*/*") if path.parent.name in ("train", "test"))
    names = sorted({path.parents[1].name for path in paths})
    labels = np.array([names.index(path.parents[1].name) for path in paths])
    train = np.array([path.parent.name == "train" for path in paths])
    begin = time.monotonic()
    shapes, sizes = zip(*map(features, paths), strict=True)
    print(
        f"{len(paths)} shapes in {len(names)} classes, {train.sum()} for training; features in {time.monotonic() - begin:.0f} s"
    )
    print("| features | test accuracy | among the first three |\n|---|---|---|")
    for title, columns in (("shape", np.array(shapes)), ("shape and size", np.c_[np.array(shapes), sizes])):
        found = []
        for seed in range(args.seeds):
            trees = ExtraTreesClassifier(600, max_features=0.1, random_state=seed).fit(columns[train], labels[train])
            order = trees.classes_[np.argsort(-trees.predict_proba(columns[~train]), axis=1)]
            right = order == labels[~train][:, None]
            found.append((right[:, 0].mean(), right[:, :3].any(1).mean()))
        means, spreads = 100 * np.mean(found, 0), 100 * np.std(found, 0, ddof=1) if args.seeds > 1 else (0, 0)
        print(f"| {title} | {means[0]:.1f} ± {spreads[0]:.1f} | {means[1]:.1f} ± {spreads[1]:.1f} |", flush=True)


if __name__ == "__main__":
    main()
