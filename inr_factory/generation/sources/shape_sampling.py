"""Shape sampling: points around a shape, their distances from it, and the signal made of both.

P points to fit, Q points and S surface points to measure a fit by. All results are in normalised coordinates.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from inr_factory.generation.geometry.curvature import Bends
from inr_factory.generation.geometry.distances import cloud_distances, mesh_distances, winding_numbers
from inr_factory.generation.geometry.mesh import Mesh, draw_on_surface, multiplied, without_flat_faces
from inr_factory.generation.geometry.surfaces import consistent, share_of_sides, without_stray_faces
from inr_factory.generation.recipe import RECIPE_VERSION, ShapeSource
from inr_factory.generation.signals import Field, Signal, SignalError, Truth
from inr_factory.inr.stable_hash import seeded

Floats = NDArray[np.float64]
SurfaceDraw = Callable[[int, np.random.Generator], Floats]  # count -> points (count, 3) on a surface

# Settings of a recipe that the samples depend on, besides their sign; field and clamp are applied afterwards.
SAMPLING = ("fit_to", "radius", "num_points", "near", "num_truth", "num_surface")

# A smaller share of the points near a surface than lies inside a sheet a ten-thousandth thick; a surface without an
# inside has some points inside by the error of the winding number.
MIN_INSIDE = 1e-3
OFF_SURFACE = 0.02  # distance from which a winding number should be near an integer
MAX_REACH = 1e300  # and its inverse; scaled values must stay finite and normal
CROWDED = 0.1  # of a shape's radius, within which 99 % of its surface cannot lie: what is far off is none of it
FLAT = 1e-7  # a shape's thickness, as a share of its width, below which it is a plane

# Shares of a surface up to which its signed distances are of use; in docs/results/shapes.md is what real meshes have.
LIMITS = (
    ("sheet", 0.25, "has no inside on either side: sheets, or faces turned against each other"),
    ("buried", 0.5, "lies within its solid: parts overlap or enclose each other"),
)
UNSIGNED = "source.field=root_udf needs no inside"
ON_A_LINE = 1e-6  # mean distance of a cloud's points from a line, in normalised coordinates, below which it is one


@dataclass(frozen=True)
class ShapeSamples:
    """Points of a shape and their distances from it, not clamped, negative inside a mesh; float32.

    `arrays` has coords (P, 3), distances (P,), truth_coords (Q, 3), truth_distances (Q,), surface (S, 3).
    `facts` has scale and center_x, center_y, center_z, by which original = coords * scale + center, the counts
    vertices and faces, watertight (0 or 1), and ambiguous: the share of points off the surface whose winding number
    is nearer to a half than to an integer, which measures how uncertain the inside is (0 where nothing is signed).
    """

    arrays: Mapping[str, NDArray[np.float32]]
    facts: Mapping[str, int | float]


def mesh_samples(
    mesh: Mesh,
    config: ShapeSource,
    object_id: str,
    view: int | None,
    version: int = RECIPE_VERSION,
    matrix: Floats | None = None,
) -> ShapeSamples:
    """The samples of a mesh in the units of its file. `view` None draws the same points for all views. `matrix` (3, 3)
    changes the mesh when it is in the coordinates of the signal.

    Distances are negative inside unless the field is udf; signs take most of the time. Raises SignalError where the
    mesh has no area or is a single point.
    """
    if version == 1:
        surface = mesh.part(np.arange(len(mesh.faces)))
        vertices, normalisation = _normalised(surface.vertices, config)
        normalised = without_flat_faces(_changed(Mesh(vertices, surface.faces), matrix))
        about: dict[str, int | float] = {"watertight": int(normalised.is_watertight)}
    else:
        surface = without_stray_faces(mesh)
        vertices, normalisation = _normalised(surface.vertices, config)
        placed = _changed(Mesh(vertices, surface.faces), matrix)
        normalised, about = consistent(placed, orient=config.signed)

    def on_surface(count: int, rng: np.random.Generator) -> Floats:
        return draw_on_surface(normalised, count, rng)

    bends = Bends.of(normalised) if config.curvature else None
    arrays = _draw(on_surface, config, object_id, view, bends.draw if bends and bends.weights.any() else None)
    spans = np.linalg.svd(vertices - vertices.mean(axis=0), compute_uv=False)
    signed = config.signed and spans[-1] > FLAT * spans[0]
    unclear, off_surface = 0, 0
    both = np.concatenate([arrays["coords"], arrays["truth_coords"]]).astype(np.float64)
    ends = np.split(mesh_distances(normalised, both), [len(arrays["coords"])])
    for which, distances in zip(("", "truth_"), ends, strict=True):
        points = arrays[f"{which}coords"].astype(np.float64)
        if signed:
            winding = np.abs(winding_numbers(normalised, points))
            off = distances > OFF_SURFACE
            unclear += int((np.abs(winding - np.round(winding))[off] > 0.25).sum())
            off_surface += int(off.sum())
            distances = np.where(winding > 0.5, -distances, distances)
        arrays[f"{which}distances"] = distances.astype(np.float32)
    if version > 1:
        no_sides = {"sheet": 0.0, "buried": 0.0}
        about |= share_of_sides(normalised, seeded("sides", object_id)) if signed else no_sides
    if config.measure:
        about |= {"area": float(normalised.areas.sum()), "volume": normalised.volume}
    facts = {
        **normalisation,
        "vertices": len(mesh.vertices),
        "faces": len(mesh.faces),
        **about,
        "ambiguous": unclear / max(1, off_surface),
    }
    return ShapeSamples(arrays, facts)


def _changed(mesh: Mesh, matrix: Floats | None) -> Mesh:
    changed = mesh if matrix is None else multiplied(mesh, matrix)
    assert isinstance(changed, Mesh)
    return changed


def cloud_samples(
    cloud: Floats, config: ShapeSource, object_id: str, view: int | None, matrix: Floats | None = None
) -> ShapeSamples:
    """The samples of a cloud in the units of its file, as `mesh_samples`; distances are from its nearest point."""
    normalised, normalisation = _normalised(cloud, config)
    normalised = normalised if matrix is None else normalised @ matrix.T
    centred = normalised - normalised.mean(axis=0)
    if np.linalg.eigvalsh(centred.T @ centred)[1] < len(cloud) * ON_A_LINE**2:
        raise SignalError("all its points lie on one line")

    def on_surface(count: int, rng: np.random.Generator) -> Floats:
        return normalised[
            rng.permutation(len(normalised))[:count]
            if count <= len(normalised)
            else rng.integers(0, len(normalised), count)
        ]

    arrays = _draw(on_surface, config, object_id, view)
    for which in ("", "truth_"):
        points = arrays[f"{which}coords"].astype(np.float64)
        arrays[f"{which}distances"] = cloud_distances(normalised, points).astype(np.float32)
    return ShapeSamples(
        arrays, {**normalisation, "vertices": len(cloud), "faces": 0, "watertight": 0, "ambiguous": 0.0}
    )


def normalised_shape(
    shape: Mesh | Floats, facts: Mapping[str, int | float], matrix: Floats | None = None
) -> Mesh | Floats:
    """A shape in the units of its file, brought to the coordinates of the signal with these facts, for distances."""
    center = np.array([facts[f"center_{axis}"] for axis in "xyz"])
    if not isinstance(shape, Mesh):
        cloud: Floats = (shape - center) / facts["scale"]
        return cloud if matrix is None else multiplied(cloud, matrix)
    surface = without_stray_faces(shape)
    placed = Mesh((surface.vertices - center) / facts["scale"], surface.faces)
    return without_flat_faces(_changed(placed, matrix))


def shape_signal(samples: ShapeSamples, config: ShapeSource, version: int = RECIPE_VERSION) -> Signal:
    """The signal of samples: the values of the field. Raises SignalError where its inside is missing, or most of a
    shape is a speck, since something far off decides its scale."""
    arrays, field, clamp = samples.arrays, config.natural_field, config.clamp
    away = np.sort(np.abs(arrays["surface"] - np.median(arrays["surface"], axis=0)).max(axis=1))
    if version > 1 and (near := float(away[-1 - len(away) // 100])) < CROWDED * config.radius and len(away) >= 100:
        raise SignalError(
            f"99 % of its surface lies within {100 * near / config.radius:.2g} % of its size; remove what lies far off"
        )
    if config.signed:
        _check_inside(samples, config)
    truth = Truth(
        torch.from_numpy(arrays["truth_coords"]),
        _targets(arrays["truth_distances"], field, clamp),
        torch.from_numpy(arrays["surface"]),
    )
    return Signal(
        torch.from_numpy(arrays["coords"]),
        _targets(arrays["distances"], field, clamp),
        peak={"sdf": 2 * clamp, "udf": clamp, "root_udf": clamp**0.5}.get(field, 1.0),
        facts=samples.facts,
        field=field,
        truth=truth,
    )


def _check_inside(samples: ShapeSamples, config: ShapeSource) -> None:
    distances = samples.arrays["distances"]
    near = np.abs(distances) < config.clamp
    inside = int((distances < 0)[near].sum())
    if inside < max(1, MIN_INSIDE * near.sum()):
        raise SignalError(
            f"it has no inside: {inside} of {int(near.sum())} points near its surface are within; its surface is "
            f"open or flat, or each face has a twin that looks the other way{_edges(samples)}; {UNSIGNED}"
        )
    if (ambiguous := samples.facts["ambiguous"]) > config.max_ambiguous:
        closed = samples.facts.get("open_edges") == 0
        flaw = (
            "its faces contradict each other as to their inside" if closed else "its surface is too open for an inside"
        )
        raise SignalError(
            f"{flaw}: {ambiguous:.0%} of the points off it are neither clearly inside nor outside, "
            f"source.max_ambiguous allows {config.max_ambiguous:.0%}{_edges(samples)}; {UNSIGNED}"
        )
    for fact, limit, what in LIMITS:
        if (share := samples.facts.get(fact, 0.0)) > limit:
            raise SignalError(
                f"{share:.0%} of its surface {what}, at most {limit:.0%} may{_edges(samples)}; {UNSIGNED}"
            )


def _edges(samples: ShapeSamples) -> str:
    """What is wrong with the edges of a mesh, for a reason; empty where nothing is, or nothing is known."""
    kinds = {"open_edges": "with one face", "crowded_edges": "with more than two"}
    shares = {words: samples.facts.get(fact, 0.0) for fact, words in kinds.items()}
    found = [f"{share:.1%} {words}" for words, share in shares.items() if share]
    return f" (of its edges {' and '.join(found)})" if found else ""


def _targets(distances: NDArray[np.float32], field: Field, clamp: float) -> torch.Tensor:
    """Values (P, 1) of a field at distances (P,), negative inside."""
    if field == "occupancy":
        values = (distances < 0).astype(np.float32)
    elif field in ("udf", "root_udf"):
        values = np.minimum(np.abs(distances), np.float32(clamp))
        values = np.sqrt(values) if field == "root_udf" else values
    else:
        values = np.clip(distances, -np.float32(clamp), np.float32(clamp))
    return torch.from_numpy(values[:, None])


def _normalised(points: Floats, config: ShapeSource) -> tuple[Floats, dict[str, int | float]]:
    """Points (V, 3) moved and scaled into the sphere or cube of the recipe, and scale and centre."""
    low, high = points.min(axis=0), points.max(axis=0)
    center = low / 2 + high / 2
    with np.errstate(over="ignore", invalid="ignore"):
        away = points - center
        widest = float(np.abs(away).max())
        if widest == 0:
            raise SignalError("all its points lie at one place")
        if not widest < MAX_REACH or not widest > 1 / MAX_REACH:
            raise SignalError(f"it reaches {widest:g} from its middle, beyond what can be scaled")
        away = away / widest  # before anything is squared: 1e200 has no square
        reach = 1.0 if config.fit_to == "cube" else float(np.linalg.norm(away, axis=1).max())
    scale = widest * (reach / config.radius)
    axes = {f"center_{axis}": float(value) for axis, value in zip("xyz", center, strict=True)}
    return np.ascontiguousarray(away * (config.radius / reach)), {"scale": float(scale), **axes}


def _draw(
    on_surface: SurfaceDraw, config: ShapeSource, object_id: str, view: int | None, on_bends: SurfaceDraw | None = None
) -> dict[str, NDArray[np.float32]]:
    """The points to fit and to measure by, float32, all within [-1, 1]. `on_bends` draws the share `config.curvature` of
    the points to fit near the surface."""
    rng = seeded("points", object_id, "all views" if view is None else view)
    counts = [round(share * config.num_points) for share, _ in config.near]
    parts = []
    for count, (_, spread) in zip(counts, config.near, strict=True):
        bent = 0 if on_bends is None else round((config.curvature or 0) * count)
        parts += [_around(on_surface, count - bent, spread, rng)]
        parts += [] if on_bends is None else [_around(on_bends, bent, spread, rng)]
    parts.append(rng.uniform(-1, 1, (max(0, config.num_points - sum(counts)), 3)))
    truth = seeded("truth", object_id)
    widest = max((spread for share, spread in config.near if share), default=0.05)
    half = config.num_truth // 2
    drawn = {
        "coords": np.concatenate(parts)[: config.num_points],
        "truth_coords": np.concatenate(
            [truth.uniform(-1, 1, (config.num_truth - half, 3)), _around(on_surface, half, widest, truth)]
        ),
        "surface": on_surface(config.num_surface, truth),
    }
    return {name: points.astype(np.float32) for name, points in drawn.items()}


def _around(on_surface: SurfaceDraw, count: int, spread: float, rng: np.random.Generator) -> Floats:
    """(count, 3) points off the surface by a Gaussian on each axis; points outside the cube are mirrored into it."""
    points = on_surface(count, rng) + spread * rng.standard_normal((count, 3))
    points = np.where(np.abs(points) > 1, np.sign(points) * 2 - points, points)
    return np.clip(points, -1, 1)
