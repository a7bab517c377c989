"""Level sets: the values of INRs on a grid, and the surfaces on which they have a given value.

Shape letters: N INRs, R grid points along each axis, P points, V vertices, F triangles.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from inr_factory.errors import needs_extra
from inr_factory.generation.fitting import fused_cpu
from inr_factory.generation.signals import Field
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.forward_pass import encode

# The value of an INR on the surface, by field; INRs of occupancies give logits. An unsigned distance does not cross
# zero: a shell around the surface replaces it, so far off that the kink, which an INR smooths, tears no holes.
SHELL = 0.02
LEVELS: dict[Field, float] = {"values": 0.5, "sdf": 0.0, "occupancy": 0.0, "udf": SHELL, "root_udf": math.sqrt(SHELL)}

POINTS = 2048  # evaluated at once on a CPU, whose cache holds what a layer makes of them; a multiple of 64
ACTIVATIONS = 2**26  # floats that a layer makes at once on a GPU: 256 MiB
INRS = 64  # whose grids a GPU holds at once

# Estimates err by about 1e-6 of the largest value. Nearer to the level than MARGIN of it they are replaced, and so are
# all where one errs by more than an eighth of that. Every CHECKED-th is compared in any case.
MARGIN, CHECKED = 1e-4, 251

DISTANCES = ("sdf", "udf", "root_udf")  # fields whose values give the distance, see `as_distances`
SURE = 0.9  # of the clamp: farther off, INRs have about the value of the clamp, and no more is known of the distance


def is_inside(values: Tensor, field: Field) -> Tensor:
    """Mask of the values of an INR, or targets, that mean inside; for unsigned distances, inside the shell (LEVELS)."""
    level = LEVELS[field]
    return values > level if field in ("occupancy", "values") else values < level


def as_distances(values: Tensor, field: Field) -> Tensor:
    """Distances of the values of sdf, udf and root_udf; below 0 inside, or where an INR errs."""
    return values * values.abs() if field == "root_udf" else values


def shell_of(field: Field) -> float:
    """How far from the shape the surface of an INR of distances is to be."""
    return SHELL if field in ("udf", "root_udf") else 0.0


def batches_inrs(device: torch.device) -> bool:
    """Whether a device computes many INRs or points at once, as GPUs do; a CPU takes them in parts that its cache holds."""
    return device.type != "cpu"


@torch.no_grad()
def field_grid(inrs: INRBatch, resolution: int) -> Tensor:
    """(N, R, R, R) values of INRs with one output, at even steps of x, y and z over [-1, 1].

    On a CPU INR by INR: the bits of a batched product depend on the number of factors. It has not run on a GPU yet.
    """
    assert (inrs.spec.in_dim, inrs.spec.out_dim) == (3, 1)
    axis = _axis(inrs, resolution)
    if batches_inrs(inrs.device):
        values = _values(inrs, _grid_points(axis, ACTIVATIONS // (len(inrs) * inrs.spec.widest)))
    else:
        values = torch.cat([_values(inr, _grid_points(axis, POINTS)) for inr in inrs])
    return values.reshape(-1, resolution, resolution, resolution)


@torch.no_grad()
def level_grid(inr: INRBatch, resolution: int, level: float) -> Tensor:
    """(R, R, R): what marching cubes reads of `field_grid`, on a CPU in 0.4 of its time.

    Values in the cells that the level crosses are those of `field_grid`, to the bit. The others are estimates on the
    same side of the level, from the sines of the fused engine.
    """
    axis = _axis(inr, resolution)
    estimates = _estimates(inr, _grid_points(axis, POINTS))
    if estimates is not None:
        grid = estimates.view((resolution,) * 3)
        margin = MARGIN * float(grid.abs().amax())
        crossed = _any_corner(grid <= level + margin) & _any_corner(grid >= level - margin)
        exact = _any_corner(F.pad(crossed, (1,) * 6))
        exact.view(-1)[::CHECKED] = True
        steps = exact.nonzero()
        padding = -len(steps) % 64  # torch computes the last rows of an odd number by other code
        points = axis[F.pad(steps, (0, 0, 0, padding))]
        replaced = _values(inr, torch.split(points, POINTS))[0, : len(steps)]
        if float((replaced - grid[exact]).abs().amax()) <= margin / 8:  # not so where they are not finite
            grid[exact] = replaced
            return grid
    return field_grid(inr, resolution)[0]


@torch.no_grad()
def refined_grid(inr: INRBatch, steps: int, field: Field, clamp: float) -> Tensor:
    """(steps + 1,) * 3: what marching cubes reads of `field_grid`, but for rounding, on a CPU in a fifth of its time.

    Cells of a grid of half the steps are halved where the distances at their corners let the surface pass within. Other
    values are those of a neighbour. `clamp` says how far from the surface targets end; fields without one have the whole
    grid.
    """
    half = 2 / (steps // 2)  # side of a cell before it is halved
    # Some points of a cell lie further than this from one corner: no surface of distances passes within.
    reach = min(half, SURE * clamp)
    if field not in DISTANCES or reach < half / math.sqrt(2):  # as far off all corners a thin limb may pass
        return _estimated(inr, _grid_points(_axis(inr, steps + 1), POINTS)).view((steps + 1,) * 3)
    coarse = _estimated(inr, _grid_points(_axis(inr, steps // 2 + 1), POINTS)).view((steps // 2 + 1,) * 3)
    off = as_distances(coarse, field) - shell_of(field)
    crossed = _any_corner(off < 0) & _any_corner(off >= 0)
    cells = crossed | (F.avg_pool3d(off.square()[None, None], 2, 1)[0, 0] <= reach**2)
    halved = cells.repeat_interleave(2, 0).repeat_interleave(2, 1).repeat_interleave(2, 2)
    exact = _any_corner(F.pad(halved, (1,) * 6))
    exact[::2, ::2, ::2] = False  # known
    grid = F.interpolate(coarse[None, None], (steps + 1,) * 3)[0, 0]
    grid[exact] = _estimated(inr, torch.split(_axis(inr, steps + 1)[exact.nonzero()], POINTS))
    return grid


def extract_surface(
    inr: INRBatch, resolution: int = 128, level: float | None = None, field: Field = "sdf"
) -> tuple[Tensor, Tensor]:
    """Extract a level set of one INR by marching cubes (Lewiner et al. 2003).

    Args:
        inr: One INR (N = 1) that maps 3 coordinates to 1 value.
        resolution: Grid points along each axis of [-1, 1]³.
        level: Value on the surface; None is that of the field, see LEVELS.
        field: What the values of the INR are.

    Returns:
        Vertices (V, 3) in [-1, 1] and triangles (F, 3), counter-clockwise from outside. The surface ends at the
        faces of the cube. Empty tensors where the INR does not cross the level or is not finite.
    """
    level = LEVELS[field] if level is None else level
    return _marched(level_grid(inr, resolution, level), level, field)


def _cropped(grid: Tensor, field: Field) -> tuple[Tensor, Tensor]:
    """The part of a grid that holds the surface, and its first step along each axis."""
    inside = is_inside(grid, field).numpy()
    spans = [np.flatnonzero(inside.any(axis=other)) for other in ((1, 2), (0, 2), (0, 1))]
    if not len(spans[0]):
        return grid, torch.zeros(3)
    low = [max(0, int(span[0]) - 1) for span in spans]
    box = tuple(slice(first, int(span[-1]) + 2) for first, span in zip(low, spans, strict=True))
    return grid[box], torch.tensor(low, dtype=torch.float32)


def _marched(
    grid: Tensor, level: float, field: Field, steps: int | None = None, first: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Vertices (V, 3) in [-1, 1] and triangles (F, 3) of the level set of a grid (R, R, R), on the CPU.

    Of a part of a grid, `first` are its first steps along each axis, of `steps` in all.
    """
    with needs_extra("shapes"):
        from skimage.measure import marching_cubes

    values = grid.float().cpu().numpy()
    if not np.isfinite(values).all() or not values.min() < level < values.max():
        return torch.empty(0, 3), torch.empty(0, 3, dtype=torch.long)
    downhill = (
        "descent" if field in ("sdf", "udf", "root_udf") else "ascent"
    )  # scikit-image's name for values that rise outward
    surface: Any = marching_cubes
    vertices, faces, _, _ = surface(values, level, gradient_direction=downhill)
    found = torch.from_numpy(np.ascontiguousarray(vertices, np.float32))
    coords = (found if first is None else found + first) * (2 / (steps or len(grid) - 1)) - 1
    return coords, torch.from_numpy(np.ascontiguousarray(faces, np.int64))


def surfaces(
    inrs: INRBatch, fields: Sequence[Field], resolution: int, clamps: Sequence[float] | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the surface of each INR, as `extract_surface` has it, on the CPU; with clamps from `refined_grid`. A GPU
    computes the grids of many INRs at once; this has not run on a GPU yet.
    """
    for start in range(0, len(inrs), INRS):
        part = slice(start, start + INRS)
        chosen = inrs.select(part)
        if batches_inrs(inrs.device):
            grids = field_grid(chosen, resolution)
            yield from (_marched(grid, LEVELS[field], field) for grid, field in zip(grids, fields[part], strict=True))
        elif clamps is not None:
            for inr, field, clamp in zip(chosen, fields[part], clamps[part], strict=True):
                grid, first = _cropped(refined_grid(inr, resolution - 1, field, clamp), field)
                yield _marched(grid, LEVELS[field], field, resolution - 1, first)
        else:
            yield from (
                extract_surface(inr, resolution, field=field) for inr, field in zip(chosen, fields[part], strict=True)
            )


def onto_surface(inr: INRBatch, points: Tensor, level: float, reach: float) -> tuple[Tensor, Tensor]:
    """Points (P, 3) near the level set of one INR moved onto it, by one step of Newton of at most `reach`, and the unit
    normals (P, 3), the directions in which its values rise. Triangles lie off the level set by the bend of the surface.
    """
    with torch.enable_grad():
        coords = points.to(inr.device, inr.dtype).requires_grad_(True)
        values = inr(coords)[0, :, 0]
        (slopes,) = torch.autograd.grad(values.sum(), coords)
    steepness = slopes.norm(dim=1, keepdim=True).clamp(min=torch.finfo(inr.dtype).tiny)
    normals = slopes / steepness
    steps = ((values.detach()[:, None] - level) / steepness).clamp(-reach, reach)
    return coords.detach() - steps * normals, normals


def surface_vertices(inrs: INRBatch, fields: Sequence[Field], resolution: int) -> Iterator[Tensor]:
    """Yield the vertices (V, 3) of each INR's surface, as `extract_surface` has them, on the INRs' device.

    A CPU extracts surface by surface. A GPU computes the grids of many INRs at once and takes `edge_crossings`, so that
    no grid leaves it; this has not run on a GPU yet.
    """
    if not batches_inrs(inrs.device):
        yield from (extract_surface(inr, resolution, field=field)[0] for inr, field in zip(inrs, fields, strict=True))
        return
    levels = torch.tensor([LEVELS[field] for field in fields], dtype=inrs.dtype, device=inrs.device)
    for start in range(0, len(inrs), INRS):
        part = slice(start, start + INRS)
        yield from edge_crossings(field_grid(inrs.select(part), resolution), levels[part])


def edge_crossings(values: Tensor, levels: Tensor) -> tuple[Tensor, ...]:
    """The points where edges of a grid cross a level: the vertices of marching cubes, without its triangles.

    Marching cubes adds a vertex within a cell where that is ambiguous, about one in 100,000.

    Args:
        values: Grids (N, R, R, R), as `field_grid` returns them.
        levels: The level of each, (N,).

    Returns:
        N tensors (V, 3) in [-1, 1]; empty where a grid does not cross its level or is not finite.
    """
    values = values - levels[:, None, None, None]
    lowest, highest = values.flatten(1).aminmax(dim=1)  # NaN where one is
    drawn = (lowest < 0) & (highest > 0) & lowest.isfinite() & highest.isfinite()
    steps = values.shape[1] - 1
    above = values > 0
    owners, vertices = [], []
    for axis in (1, 2, 3):
        crossed = above.narrow(axis, 0, steps) != above.narrow(axis, 1, steps)
        at = (crossed & drawn[:, None, None, None]).nonzero()
        first, second = (values.narrow(axis, shift, steps)[at.unbind(1)] for shift in (0, 1))
        coords = at[:, 1:].to(values.dtype)
        coords[:, axis - 1] += first / (first - second)
        owners.append(at[:, 0])
        vertices.append(coords * (2 / steps) - 1)
    owner = torch.cat(owners)
    counts = owner.bincount(minlength=len(values)).tolist()
    return torch.split(torch.cat(vertices)[owner.argsort(stable=True)], counts)


def _axis(inrs: INRBatch, resolution: int) -> Tensor:
    return torch.linspace(-1, 1, resolution, device=inrs.device, dtype=inrs.dtype)


def _grid_points(axis: Tensor, num_points: int) -> Iterator[Tensor]:
    """Yield the points of the grid of an axis (R,), z fastest, in parts (P, 3) of at most `num_points`."""
    for part in torch.split(axis, max(1, num_points // len(axis) ** 2)):
        yield from torch.split(torch.cartesian_prod(part, axis, axis), max(1, num_points))


def _values(inrs: INRBatch, points: Iterable[Tensor]) -> Tensor:
    """(N, P) values at points, which come in parts."""
    return torch.cat([inrs(part)[..., 0] for part in points], dim=1)


def _estimated(inr: INRBatch, points: Iterable[Tensor]) -> Tensor:
    """(P,) values of one INR, but for rounding where the fused engine's sines are faster."""
    points = list(points)
    estimates = _estimates(inr, points)
    return _values(inr, points)[0] if estimates is None else estimates


def _estimates(inr: INRBatch, points: Iterable[Tensor]) -> Tensor | None:
    """(P,) values of one INR but for their rounding, by the fused engine's sines; None where it has none for them."""
    spec, widths = inr.spec, fused_cpu.variants()
    if spec.activation != "sine" or inr.dtype != torch.float32 or inr.device.type != "cpu" or not widths:
        return None
    half_turns = spec.omega_0 / math.pi
    *layers, (weights, bias) = ((W[0], b[0]) for W, b in zip(inr.weights, inr.biases, strict=True))
    layers = [(W * half_turns, b * half_turns) for W, b in layers]
    parts, cosines = [], np.empty(0, np.float32)
    for part in points:
        hidden = encode(spec, F.pad(part, (0, 0, 0, -len(part) % 16)))
        for W, b in layers:
            hidden = F.linear(hidden, W, b)
            turns = hidden.numpy()
            cosines = cosines if cosines.size >= turns.size else np.empty_like(turns)
            fused_cpu.sincospi(turns, widths[0], out=(turns, cosines))  # sines take the place of half turns
        parts.append(torch.addmv(bias + spec.output_bias, hidden, weights[0])[: len(part)])
    return torch.cat(parts)


def _any_corner(mask: Tensor) -> Tensor:
    """(K - 1, K - 1, K - 1): whether one of the eight corners of each cell of a mask (K, K, K) is set."""
    for axis in range(3):
        cells = mask.shape[axis] - 1
        mask = mask.narrow(axis, 0, cells) | mask.narrow(axis, 1, cells)
    return mask
