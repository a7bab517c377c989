"""Shape quality: how well INRs represent shapes, as columns of their shard next to the PSNR.

Shape letters: N INRs, Q held-out points, S points on a shape, V and F vertices and triangles of an INR's surface.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from inr_factory.errors import ResourceError
from inr_factory.generation.geometry.distances import cloud_distances, mesh_distances, nearest_on_mesh
from inr_factory.generation.geometry.level_set import (
    DISTANCES,
    LEVELS,
    as_distances,
    batches_inrs,
    is_inside,
    onto_surface,
    shell_of,
    surface_vertices,
    surfaces,
)
from inr_factory.generation.geometry.mesh import Mesh, draw_on_surface, without_flat_faces
from inr_factory.generation.geometry.surface_metrics import chamfer, fscore, iou, mean_distance_error
from inr_factory.generation.recipe import RECIPE_VERSION
from inr_factory.generation.signal_stack import SignalStack
from inr_factory.generation.signals import Field, Signal, SignalError, Truth
from inr_factory.inr.batch import INRBatch

QUALITIES = ("iou", "distance_error", "chamfer", "fscore", "normals")
EARLIER_QUALITIES = QUALITIES[:3]  # of recipe versions 1 and 2
MEASURES = ("explained", *QUALITIES)  # besides the PSNR
EARLIER_RESOLUTION = 64  # of recipe versions 1 and 2
STEPS = 56  # of the grid, along each axis
GPU_SAMPLE = 10  # of as many INRs one has an exact Chamfer distance
SURFACE_POINTS = 1_000  # of each surface: the mean then errs by 3 % where distances spread as much as they are large
THRESHOLD = 0.02  # 1 % of the side of the cube [-1, 1]


@torch.no_grad()
def measure_quality(
    inrs: INRBatch,
    signals: Sequence[Signal],
    device: torch.device | str = "cpu",
    version: int = RECIPE_VERSION,
    view: int = 0,
) -> dict[str, NDArray[np.float64]]:
    """Measure INRs of shapes at the held-out points of their signals.

    Args:
        inrs: N INRs.
        signals: Their N signals.
        version: That of the recipe.
        device: That of the fit, which also measures. A GPU rounds differently. It has not measured yet.
        view: Number of the view that the INRs are.

    Returns:
        Columns (N,) float64, NaN where a measure is not defined for the field; no columns for plain values.

        - iou: intersection over union of the insides at the held-out points (sdf, occupancy), in [0, 1];
        - distance_error: mean absolute error of the distance there, both clamped as the targets (sdf, udf, root_udf), in the
          unit of the coordinates;
        - chamfer: mean of the distances from the INR's surface to the shape and back, in that unit: from points that
          are uniform over the area of each to the nearest triangle of the other, or point of a cloud. In version 1
          from vertices of marching cubes to points on the shape, and back. From version 3 on, points of the INR's
          surface are moved from the triangles of marching cubes onto the level set, and of unsigned distances, whose
          surface is a shell, the shell's distance is subtracted;
        - fscore, from version 3 on: harmonic mean of the shares of these points, of each surface, that are nearer than
          THRESHOLD to the other (Tatarchenko et al., What do single-view 3D reconstruction networks learn?, CVPR 2019);
          0 where the INR has no surface;
        - normals, from version 3 on: mean absolute cosine between the normals at these points and at the points of the
          other surface that are nearest (Mescheder et al., Occupancy networks, CVPR 2019); NaN for a cloud.

        From version 4 on, chamfer, fscore and normals are those of view 0 alone; later views have NaN. Views of an
        object differ little in them, and a surface costs up to half as much as the fit of a small network.
        From version 2 on, a fit on a GPU measures the surfaces of one in GPU_SAMPLE INRs, the first included, since a
        core finds the triangles; the others have NaN.
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
    names = EARLIER_QUALITIES if version < 3 else QUALITIES
    found: dict[int, list[float]] = {}
    if version == 1:
        vertices = surface_vertices(inrs, fields, EARLIER_RESOLUTION)
        found = {
            row: [float(chamfer(points, truth.surface))]
            for row, (points, truth) in enumerate(zip(vertices, on_device, strict=True))
        }
    elif version < 4 or view == 0:
        for row, surface in _sampled_surfaces(inrs, [signals[row] for row in measured], version):
            inr = inrs.select(slice(row, row + 1))
            found[row] = _compare(*surface, truths[measured[row]], None if version == 2 else inr, fields[row])
    columns = np.full((len(names), len(signals)), np.nan)
    for row, (inr, number, truth) in enumerate(zip(inrs, measured, on_device, strict=True)):
        columns[:2, number] = _measure(inr, signals[number], truth).cpu()
        columns[2:, number] = found.get(row, np.nan)
    return dict(zip(names, columns, strict=True))


def _measure(inr: INRBatch, signal: Signal, truth: Truth) -> Tensor:
    """(2,) iou and distance_error of one INR."""
    overlap = error = torch.tensor(float("nan"), device=inr.device)
    values = inr(truth.coords)[0]
    if signal.field in ("sdf", "occupancy"):
        inside = (is_inside(part, signal.field)[:, 0] for part in (values, truth.targets))
        overlap = iou(*inside)
    if signal.field in DISTANCES:
        measured, true = (as_distances(part[:, 0], signal.field) for part in (values, truth.targets))
        error = mean_distance_error(measured, true, _clamp(signal))
    return torch.stack([overlap, error])


def _clamp(signal: Signal) -> float:
    """The distance at which the targets of a signal end."""
    return {"sdf": signal.peak / 2, "root_udf": signal.peak**2}.get(signal.field, signal.peak)


def _sampled_surfaces(
    inrs: INRBatch, signals: Sequence[Signal], version: int
) -> Iterator[tuple[int, tuple[Tensor, Tensor]]]:
    """Number and surface of each INR, on a GPU of one in GPU_SAMPLE."""
    rows = range(0, len(inrs), GPU_SAMPLE if batches_inrs(inrs.device) else 1)
    fields = [signals[row].field for row in rows]
    resolution, clamps = EARLIER_RESOLUTION, None
    if version > 2:
        resolution, clamps = STEPS + 1, [_clamp(signals[row]) - shell_of(signals[row].field) for row in rows]
    return zip(rows, surfaces(inrs[list(rows)], fields, resolution, clamps), strict=True)


def _compare(vertices: Tensor, faces: Tensor, truth: Truth, inr: INRBatch | None, field: Field) -> list[float]:
    """chamfer, fscore and normals of an INR's surface; without the INR only chamfer, as version 2 has it."""
    try:
        surface = without_flat_faces(Mesh(vertices.numpy().astype(np.float64), faces.numpy()))
        shape = truth.surface.double().numpy() if truth.shape is None else truth.shape()
    except SignalError as error:
        if len(faces) and truth.shape is not None:
            raise ResourceError(f"a shape cannot be read again: {error}; put its file back, run again") from error
        return [np.nan] if inr is None else [np.nan, 0.0, np.nan]
    on_shape = truth.surface[:SURFACE_POINTS].double().numpy()
    points = draw_on_surface(surface, len(on_shape), np.random.Generator(np.random.Philox(0)))
    if inr is None:
        forth = mesh_distances(shape, points) if isinstance(shape, Mesh) else cloud_distances(shape, points)
        both = (forth.mean() + mesh_distances(surface, on_shape).mean()) / 2
        return [float(np.float32(both) if field in ("sdf", "udf") else both)]  # as version 2 rounds it
    nearest = nearest_on_mesh(surface, on_shape)[2]
    placed, rising = onto_surface(inr, torch.from_numpy(np.concatenate([points, nearest])), LEVELS[field], 2 / STEPS)
    points, nearest = placed.cpu().double().numpy().reshape(2, -1, 3)
    back = np.linalg.norm(on_shape - nearest, axis=1)
    cosines = np.nan
    if isinstance(shape, Mesh):
        distances, triangles, _ = nearest_on_mesh(shape, np.concatenate([points, on_shape]))
        forth = distances[: len(points)]
        cosines = float(np.abs((shape.normals(triangles) * rising.cpu().double().numpy()).sum(axis=1)).mean())
    else:
        forth = cloud_distances(shape, points)
    forth, back = np.abs(forth - shell_of(field)), np.abs(back - shell_of(field))
    score = fscore(float((forth < THRESHOLD).mean()), float((back < THRESHOLD).mean()))
    return [float(forth.mean() + back.mean()) / 2, score, cosines]


def _on_device(truths: list[Truth], device: torch.device) -> list[Truth]:
    """Truths on a device, sent as three tensors: a GPU waits for each copy."""
    if not batches_inrs(device):
        return truths
    columns = []
    for name in ("coords", "targets", "surface"):
        tensors: list[Tensor] = [getattr(truth, name) for truth in truths]
        columns.append(torch.split(torch.cat(tensors).to(device), [len(tensor) for tensor in tensors]))
    return [Truth(*parts) for parts in zip(*columns, strict=True)]
