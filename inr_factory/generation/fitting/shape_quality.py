"""Shape quality: how well INRs represent shapes, as columns of their shard next to the PSNR.

Shape letters: N INRs, Q held-out points, S points on a shape, V on an INR's surface.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from inr_factory.errors import ResourceError
from inr_factory.generation.geometry.distances import cloud_distances, mesh_distances
from inr_factory.generation.geometry.level_set import batches_inrs, is_inside, surface_vertices, surfaces
from inr_factory.generation.geometry.mesh import Mesh, draw_on_surface, without_flat_faces
from inr_factory.generation.geometry.surface_metrics import chamfer, iou, mean_distance_error
from inr_factory.generation.recipe import RECIPE_VERSION
from inr_factory.generation.signal_stack import SignalStack
from inr_factory.generation.signals import Signal, SignalError, Truth
from inr_factory.inr.batch import INRBatch

QUALITIES = ("iou", "distance_error", "chamfer")
MEASURES = ("explained", *QUALITIES)  # besides the PSNR
SURFACE_RESOLUTION = 64
GPU_SAMPLE = 10  # of as many INRs one has an exact Chamfer distance
CHAMFER_POINTS = 1_000  # of each surface: the mean then errs by 3 % where distances spread as much as they are large


@torch.no_grad()
def measure_quality(
    inrs: INRBatch, signals: Sequence[Signal], device: torch.device | str = "cpu", version: int = RECIPE_VERSION
) -> dict[str, NDArray[np.float64]]:
    """Measure INRs of shapes at the held-out points of their signals.

    Args:
        inrs: N INRs.
        signals: Their N signals.
        version: That of the recipe.
        device: That of the fit, which also measures. A GPU rounds differently. It has not measured yet.

    Returns:
        Columns (N,) float64, NaN where a measure is not defined for the field; no columns for plain values.

        - iou: intersection over union of the insides at the held-out points (sdf, occupancy), in [0, 1];
        - distance_error: mean absolute error of the distance there, both clamped as the targets (sdf, udf), in the
          unit of the coordinates;
        - chamfer: mean of the distances from the INR's surface to the shape and back, in that unit: from points that
          are uniform over the area of each to the nearest triangle of the other, or point of a cloud. In version 1
          from vertices of marching cubes to points on the shape, and back. From version 2 on, a fit on a GPU measures
          one in GPU_SAMPLE INRs, the first included, since a core finds the triangles; the others have NaN.
    """
    if isinstance(signals, SignalStack):
        return {}
    truths = {row: signal.truth for row, signal in enumerate(signals) if signal.truth is not None}
    if not truths:
        return {}
    measured, device = list(truths), torch.device(device)
    inrs = inrs[measured].to(device)
    fields = [signals[row].field for row in measured]
    on_device = _on_device(list(truths.values()), device)
    if version == 1:
        vertices = surface_vertices(inrs, fields, SURFACE_RESOLUTION)
        chamfers = (chamfer(points, truth.surface) for points, truth in zip(vertices, on_device, strict=True))
    else:
        sampled = range(0, len(measured), GPU_SAMPLE if batches_inrs(device) else 1)
        found = surfaces(inrs[list(sampled)], [fields[number] for number in sampled], SURFACE_RESOLUTION)
        exact = {
            number: _exact_chamfer(*surface, truths[measured[number]])
            for number, surface in zip(sampled, found, strict=True)
        }
        chamfers = (exact.get(number, torch.tensor(float("nan"))) for number in range(len(measured)))
    parts = zip(inrs, measured, on_device, chamfers, strict=True)
    rows = [_measure(inr, signals[row], truth, distance) for inr, row, truth, distance in parts]
    columns = np.full((len(QUALITIES), len(signals)), np.nan)
    columns[:, measured] = torch.stack(rows, dim=1).cpu()
    return dict(zip(QUALITIES, columns, strict=True))


def _measure(inr: INRBatch, signal: Signal, truth: Truth, distance: Tensor) -> Tensor:
    """(3,) QUALITIES of one INR, the last of which is `distance`."""
    overlap = error = distance.new_tensor(float("nan"), device=inr.device)
    values = inr(truth.coords)[0]
    if signal.field in ("sdf", "occupancy"):
        inside = (is_inside(part, signal.field)[:, 0] for part in (values, truth.targets))
        overlap = iou(*inside)
    if signal.field in ("sdf", "udf"):
        clamp = signal.peak / 2 if signal.field == "sdf" else signal.peak
        error = mean_distance_error(values[:, 0], truth.targets[:, 0], clamp)
    return torch.stack([overlap, error, distance.to(error)])


def _exact_chamfer(vertices: Tensor, faces: Tensor, truth: Truth) -> Tensor:
    """(), from points on both surfaces to the nearest triangle or point of the other; NaN where one is missing."""
    try:
        surface = without_flat_faces(Mesh(vertices.numpy().astype(np.float64), faces.numpy()))
        shape = truth.surface.double().numpy() if truth.shape is None else truth.shape()
    except SignalError as error:
        if len(faces) and truth.shape is not None:
            raise ResourceError(f"a shape cannot be read again: {error}; put its file back, run again") from error
        return torch.tensor(float("nan"))
    on_shape = truth.surface[:CHAMFER_POINTS].double().numpy()
    points = draw_on_surface(surface, len(on_shape), np.random.Generator(np.random.Philox(0)))
    forth = mesh_distances(shape, points) if isinstance(shape, Mesh) else cloud_distances(shape, points)
    back = mesh_distances(surface, on_shape)
    return torch.tensor((forth.mean() + back.mean()) / 2)


def _on_device(truths: list[Truth], device: torch.device) -> list[Truth]:
    """Truths on a device, sent as three tensors: a GPU waits for each copy."""
    if not batches_inrs(device):
        return truths
    columns = []
    for name in ("coords", "targets", "surface"):
        tensors: list[Tensor] = [getattr(truth, name) for truth in truths]
        columns.append(torch.split(torch.cat(tensors).to(device), [len(tensor) for tensor in tensors]))
    return [Truth(*parts) for parts in zip(*columns, strict=True)]
