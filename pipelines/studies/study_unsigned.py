"""Fits unsigned distances by several targets at equal cost, and prints how near the surfaces come.

python pipelines/studies/study_unsigned.py --count 6 ../shared/datasets/ldraw ../shared/datasets/modelnet_original_off

An unsigned distance d has a kink at the surface, which a SIREN rounds off. The targets are functions of d that have less of one,
or the occupancy of a shell of d < 0.02. All errors are measured in distances, which the inverse functions give.
"""

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from study_shapes import DEEP, fit, sample, timed
from torch import Tensor

from inr_factory.generation.geometry.distances import mesh_distances
from inr_factory.generation.geometry.level_set import SHELL, extract_surface, onto_surface
from inr_factory.generation.geometry.mesh import Mesh, draw_on_surface, without_flat_faces
from inr_factory.generation.recipe import ShapeSource, load_recipe
from inr_factory.generation.signals import Field, Signal
from inr_factory.inr.batch import INRBatch

Function = Callable[[Tensor], Tensor]
RESOLUTION, POINTS = 129, 8192


def softened(width: float) -> tuple[Function, Function]:
    return lambda d: (d * d + width**2).sqrt() - width, lambda y: ((y.clamp(min=0) + width) ** 2 - width**2).sqrt()


def power(exponent: float) -> tuple[Function, Function]:
    return lambda d: d**exponent, lambda y: y.clamp(min=0) ** (1 / exponent)


# The target of a distance, and the distance of a target; a shell gives no distances.
TARGETS: dict[str, tuple[Function, Function | None]] = {
    "distance": (lambda d: d, torch.abs),
    "square root": power(0.5),
    "power 0.7": power(0.7),
    "square": power(2),
    **{f"softened by {width:g}": softened(width) for width in (0.005, 0.02, 0.05)},
    "occupancy of a shell": (lambda d: (d < SHELL).float(), None),
}


def chamfer(inr: INRBatch, shape: Signal, level: float, field: Field) -> float:
    """Mean distance between the level set and the shell around the shape, both ways; NaN without a surface."""
    assert shape.truth is not None
    assert shape.truth.shape is not None
    vertices, faces = extract_surface(inr, RESOLUTION, level, field)
    if not len(faces):
        return float("nan")
    surface, mesh = without_flat_faces(Mesh(vertices.double().numpy(), faces.numpy())), shape.truth.shape()
    points = torch.from_numpy(draw_on_surface(surface, POINTS, np.random.Generator(np.random.Philox(0))))
    placed = onto_surface(inr, points, level, 2 / RESOLUTION)[0].double().numpy()
    back = mesh_distances(surface, shape.truth.surface[:POINTS].double().numpy())
    return float(sum(np.abs(part - SHELL).mean() for part in (mesh_distances(mesh, placed), back)) / 2)


@torch.no_grad()
def study(folders: list[Path], count: int, net: tuple[str, ...]) -> None:
    recipe = load_recipe("mesh_folder", ["source.field=udf", "fit.floor_psnr=0", *net])
    assert isinstance(recipe.source, ShapeSource)
    shapes = [shape for shape in sample(recipe.source, folders, count) if shape.truth is not None]
    clamp = recipe.source.clamp
    for name, (forward, backward) in TARGETS.items():
        field: Field = "occupancy" if backward is None else "udf"
        peak = float(forward(torch.tensor(clamp))) if backward else 1.0
        signals = [
            replace(shape, targets=forward(shape.targets), peak=peak, field=field, truth=None) for shape in shapes
        ]
        fitted, seconds = timed(fit, recipe.spec.spec(3, 1), signals, recipe.fit)
        level = float(forward(torch.tensor(SHELL))) if backward else 0.0
        rows = []
        for one, shape in zip(fitted.inrs, shapes, strict=True):
            errors = [float("nan")] * 2
            if backward is not None:
                pairs = ((shape.truth.coords, shape.truth.targets), (shape.truth.surface, torch.zeros(1)))  # type: ignore[union-attr]
                errors = [float((backward(one(x)[0]).clamp(max=clamp) - d).abs().mean()) for x, d in pairs]
            rows.append([*errors, chamfer(one, shape, level, field)])
        figures = " | ".join("" if np.isnan(value) else f"{value:.4f}" for value in np.median(rows, axis=0))
        print(f"| {name} | {recipe.spec.spec(3, 1).num_hidden} | {seconds / len(shapes):.2f} | {figures} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--count", type=int, default=6, help="shapes of each folder")
    options = parser.parse_args()
    print("| target | hidden layers | CPU s | distance error | at the surface | Chamfer |\n" + "|---" * 6 + "|")
    for net in (("fit.steps=1000",), DEEP):
        study(options.folders, options.count, net)


if __name__ == "__main__":
    main()
