"""Classifies the shapes of a collection from the meshes themselves, without INRs: what their geometry gives away.

python pipelines/studies/study_shape_reference.py ../shared/datasets/ldraw
python pipelines/studies/study_shape_reference.py ../shared/datasets/ldraw --epochs 60 --seeds 1

Features of 8,192 points a shape: extents, means and spreads, histograms of coordinates and of distances between points,
a coarse grid of occupancies, and with `size` the logarithm of the shape's own size, which no normalised fit knows. Extremely
randomised trees learn them. With --epochs a convolutional network learns depth images instead, from both sides of each axis,
mirrored, turned by a quarter about z, stretched and moved at random. Splits are those of the folders CLASS/{train,test}.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch
import trimesh
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesClassifier
from torch import Tensor, nn
from torch.nn import functional as F

POINTS, PAIRS, CELLS = 8192, 20_000, 8
SPLATS, SIDE, BATCH = 40_000, 40, 32  # points of a depth image, its pixels along a side, images of shapes in a step


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


def depth_images(path: Path) -> NDArray[np.uint8]:
    """(3, 2, SIDE, SIDE): along each axis the nearness of the surface seen from either side, 0 where there is none."""
    mesh = trimesh.load(path, process=False, force="mesh")
    low, high = mesh.vertices.min(0), mesh.vertices.max(0)
    points = trimesh.sample.sample_surface(mesh, SPLATS, seed=0)[0]
    points = ((points - (low + high) / 2) / (high - low).max() * 0.96) + 0.5
    pixels = (points * SIDE).astype(int)
    images = np.zeros((3, 2, SIDE * SIDE))
    for axis, (across, up) in enumerate(((1, 2), (0, 2), (0, 1))):
        for side, nearness in enumerate((1 - points[:, axis], points[:, axis])):
            np.maximum.at(images[axis, side], pixels[:, up] * SIDE + pixels[:, across], 0.2 + 0.8 * nearness)
    return (images.reshape(3, 2, SIDE, SIDE) * 255).astype(np.uint8)


def varied(images: Tensor) -> Tensor:
    """Depth images (N, 3, 2, SIDE, SIDE) of shapes that are mirrored, turned, stretched and moved at random."""
    images = images.clone()
    for axis, flips in ((0, ((1, -1), (2, -1))), (1, ((0, -1), (2, -2)))):  # mirrored: the sides of an axis swap
        chosen = images[mirrored := torch.rand(len(images)) < 0.5]
        chosen[:, axis] = chosen[:, axis].flip(1)
        for other, along in flips:
            chosen[:, other] = chosen[:, other].flip(along)
        images[mirrored] = chosen
    chosen = images[turned := torch.rand(len(images)) < 0.5][:, [1, 0, 2]]  # x and y swap
    chosen[:, 2] = chosen[:, 2].mT
    images[turned] = chosen
    change = torch.eye(2, 3).repeat(len(images), 3, 1, 1)
    change[..., :2] *= 1 + 0.2 * (torch.rand(len(images), 1, 2, 1) - 0.5)
    change[..., 2] = 0.15 * (torch.rand(len(images), 1, 2) - 0.5)
    flat = images.flatten(0, 1)
    grid = F.affine_grid(change.flatten(0, 1), list(flat.shape), align_corners=False)
    return F.grid_sample(flat, grid, align_corners=False).view_as(images)


class DepthNetwork(nn.Module):
    """Reads the pair of each axis by the same convolutions; the parts are pooled over the axes."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(2, 24, 5, stride=2, padding=2, bias=False), nn.BatchNorm2d(24), nn.ReLU()]
        for before, after in ((24, 40), (40, 80), (80, 160)):
            for channels in (before, after):
                layers += [nn.Conv2d(channels, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
            layers.append(nn.MaxPool2d(2))
        self.stages = nn.Sequential(*layers)
        self.head = nn.Sequential(
            nn.Linear(4 * 160, 256), nn.BatchNorm1d(256), nn.ReLU(), nn.Dropout(0.5), nn.Linear(256, classes)
        )

    def forward(self, images: Tensor) -> Tensor:
        x, y, z = self.stages(images.flatten(0, 1)).amax((-1, -2)).view(len(images), 3, -1).unbind(1)
        together = torch.stack([x, y, z])
        return self.head(torch.cat([together.amax(0), together.mean(0), x + y, z], 1))


def by_network(paths: list[Path], labels: Tensor, train: Tensor, epochs: int, seed: int) -> tuple[float, float]:
    """(accuracy, accuracy of the first three classes) of a network on the shapes that are not for training."""
    torch.manual_seed(seed)
    images = torch.from_numpy(np.stack([depth_images(path) for path in paths]))
    network, rows = DepthNetwork(int(labels.max()) + 1), train.nonzero()[:, 0]
    steps = len(rows) // BATCH
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=epochs * steps)
    for epoch in range(epochs):
        network.train()
        for chosen in torch.split(rows[torch.randperm(len(rows))], BATCH)[:steps]:
            output = network(varied(images[chosen].float() / 255))
            loss = F.cross_entropy(output, labels[chosen], label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        print(f"epoch {epoch + 1} of {epochs}, loss {loss:.3f}", file=sys.stderr, flush=True)
    network.eval()
    with torch.no_grad():
        output = torch.cat([network(part.float() / 255) for part in torch.split(images[~train], 64)])
    right = output.argsort(1, descending=True) == labels[~train][:, None]
    return float(right[:, 0].float().mean()), float(right[:, :3].any(1).float().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, help="a network on depth images, this long, instead of trees")
    args = parser.parse_args()
    paths = sorted(path for path in args.folder.glob("*/*/*") if path.parent.name in ("train", "test"))
    names = sorted({path.parents[1].name for path in paths})
    labels = np.array([names.index(path.parents[1].name) for path in paths])
    train = np.array([path.parent.name == "train" for path in paths])
    print("| features | test accuracy | among the first three |\n|---|---|---|")
    if args.epochs:
        which = (paths, torch.from_numpy(labels), torch.from_numpy(train), args.epochs)
        _print_row("depth images", [by_network(*which, seed) for seed in range(args.seeds)])
        return
    begin = time.monotonic()
    shapes, sizes = zip(*map(features, paths), strict=True)
    print(
        f"{len(paths)} shapes in {len(names)} classes, {train.sum()} for training; features in {time.monotonic() - begin:.0f} s",
        file=sys.stderr,
    )
    for title, columns in (("shape", np.array(shapes)), ("shape and size", np.c_[np.array(shapes), sizes])):
        found = []
        for seed in range(args.seeds):
            trees = ExtraTreesClassifier(600, max_features=0.1, random_state=seed).fit(columns[train], labels[train])
            order = trees.classes_[np.argsort(-trees.predict_proba(columns[~train]), axis=1)]
            right = order == labels[~train][:, None]
            found.append((right[:, 0].mean(), right[:, :3].any(1).mean()))
        _print_row(title, found)


def _print_row(title: str, found: list[tuple[float, float]]) -> None:
    means, spreads = 100 * np.mean(found, 0), 100 * np.std(found, 0, ddof=1) if len(found) > 1 else (0, 0)
    print(f"| {title} | {means[0]:.1f} ± {spreads[0]:.1f} | {means[1]:.1f} ± {spreads[1]:.1f} |", flush=True)


if __name__ == "__main__":
    main()
