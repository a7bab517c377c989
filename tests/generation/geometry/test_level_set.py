"""Level sets: the surface that an INR draws, on shapes whose answers are known, and all ways to compute it agree."""

from dataclasses import replace

import pytest
import torch
from support.shapes import inrs_with_surfaces
from support.specs import VARIANTS

from inr_factory.generation.fitting import fused_cpu
from inr_factory.generation.geometry import level_set
from inr_factory.generation.geometry.level_set import (
    edge_crossings,
    extract_surface,
    field_grid,
    is_inside,
    level_grid,
    onto_surface,
    refined_grid,
    surface_vertices,
    surfaces,
)
from inr_factory.generation.geometry.surface_metrics import nearest_distances
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.initialization import initialize
from inr_factory.inr.spec import SirenSpec

compiled = pytest.mark.skipif(not fused_cpu.available(), reason="the compiled engine was not built here")
SIZE = 0.5


def octahedron(sign=1.0, level=0.0):
    """The INR of sign * (|x| + |y| + |z| - SIZE) + level, in ReLUs."""
    spec = SirenSpec(3, 1, hidden_dim=6, num_hidden=1, activation="relu", start="linear")
    slopes = torch.cat([torch.eye(3), -torch.eye(3)])[None]
    last = torch.full((1, 1), level - sign * SIZE)
    return INRBatch(spec, (slopes, sign * torch.ones(1, 1, 6)), (torch.zeros(1, 6), last))


@pytest.mark.parametrize(("field", "inr"), [("sdf", octahedron()), ("occupancy", octahedron(-1.0))])
def test_the_surface_is_the_level_of_the_field_and_faces_outward(field, inr):
    vertices, faces = extract_surface(inr, 41, field=field)

    assert vertices.dtype == torch.float32
    assert torch.allclose(vertices.abs().sum(dim=1), torch.tensor(SIZE), atol=1e-5)
    first, second, third = vertices[faces].unbind(dim=1)
    volume = (first * torch.linalg.cross(second, third)).sum() / 6
    assert float(volume) == pytest.approx(4 / 3 * SIZE**3, rel=0.02)


def test_another_level_is_another_surface():
    vertices, _ = extract_surface(octahedron(), 41, level=0.2)

    assert torch.allclose(vertices.abs().sum(dim=1), torch.tensor(SIZE + 0.2), atol=1e-5)


@pytest.mark.parametrize("level", [-9.0, 9.0])
def test_an_inr_that_never_crosses_the_level_has_no_surface(level):
    vertices, faces = extract_surface(octahedron(), 9, level=level)

    assert (vertices.shape, faces.shape) == ((0, 3), (0, 3))


def test_an_inr_that_is_not_finite_has_no_surface():
    assert len(extract_surface(octahedron(level=float("nan")), 9)[0]) == 0


@pytest.mark.parametrize("omega_0", [30.0, 7.0])
def test_the_grid_goes_by_x_then_y_then_z(omega_0):
    inr = initialize(SirenSpec(3, 1, hidden_dim=8, omega_0=omega_0), [0])
    axis = torch.linspace(-1, 1, 44)  # more points than are asked at once

    (values,) = field_grid(inr, 44)

    where = torch.tensor([[0, 0, 0], [43, 1, 2], [2, 43, 7], [43, 43, 43]])
    assert torch.allclose(values[where[:, 0], where[:, 1], where[:, 2]], inr(axis[where])[0, :, 0], atol=1e-5)


def read_by_marching_cubes(grid, level):
    """Mask of the grid points that are corners of a cell that the level crosses."""
    above, read = grid > level, torch.zeros(grid.shape, dtype=torch.bool)
    for corner in torch.cartesian_prod(*[torch.arange(len(grid) - 1)] * 3):
        cell = tuple(slice(int(at), int(at) + 2) for at in corner)
        read[cell] |= bool(above[cell].any() and not above[cell].all())
    return read


@compiled
@pytest.mark.parametrize(("resolution", "hidden_dim"), [(12, 64), (12, 16), (13, 7)])
@pytest.mark.parametrize("level", [0.0, 0.02])
def test_the_grid_near_a_level_has_the_values_of_the_whole_grid(resolution, hidden_dim, level, monkeypatch):
    for inr in inrs_with_surfaces(hidden_dim):
        (whole,) = field_grid(inr, resolution)
        with monkeypatch.context() as context:
            context.setattr(level_set, "field_grid", None)
            grid = level_grid(inr, resolution, level)

        read = read_by_marching_cubes(whole, level)
        assert 0 < read.sum() < read.numel()
        # torch rounds the last rows of a product otherwise where their number is odd
        torch.testing.assert_close(grid[read], whole[read], rtol=0, atol=1e-7 if resolution == 13 else 0)
        assert torch.equal(grid > level, whole > level)
        torch.testing.assert_close(grid, whole, rtol=0, atol=1e-6)


@pytest.mark.parametrize("spec", [kind for kind in VARIANTS if kind.values[0].in_dim == 3])
def test_the_surface_of_any_activation_and_encoding_lies_where_the_inr_has_its_level(spec):
    assert_surface_lies_at_level(replace(spec, omega_0=3.0, start="linear"))


@compiled
@pytest.mark.parametrize("coordinates", [True, False])
def test_the_fast_grid_encodes_coordinates(coordinates, monkeypatch):
    encoded = SirenSpec(3, 1, widths=(16, 8), omega_0=5.0, frequencies=2, first_frequency=1.0, coordinates=coordinates)
    monkeypatch.setattr(level_set, "field_grid", None)
    assert_surface_lies_at_level(encoded)


def assert_surface_lies_at_level(spec):
    inr = initialize(spec, [3])
    points = 2 * torch.rand(500, 3, generator=torch.Generator().manual_seed(0)) - 1
    level = float(inr(points).median())
    vertices, _ = extract_surface(inr, 48, level=level)

    assert len(vertices) > 50
    spread = float((inr(points) - level).abs().median())
    assert float((inr(vertices) - level).abs().quantile(0.9)) < 0.1 * spread


@compiled
def test_few_values_are_evaluated_twice(monkeypatch):
    rows, evaluate = [], level_set._values
    inr, resolution = inrs_with_surfaces()[0], 40
    level = float(field_grid(inr, resolution).quantile(0.98))
    monkeypatch.setattr(level_set, "_values", lambda inr, parts: rows.extend(map(len, parts)) or evaluate(inr, parts))

    level_grid(inr, resolution, level)

    assert 0 < sum(rows) < 0.15 * resolution**3


@pytest.mark.parametrize("gain", [1e9, float("inf"), float("nan")])
def test_where_estimates_are_wrong_the_whole_grid_is_evaluated(gain):
    """The engine's sines of more than 2^22 half turns have no meaning."""
    (inr, *_) = inrs_with_surfaces()
    inr = INRBatch.from_flat(inr.spec, gain * inr.flatten())

    torch.testing.assert_close(level_grid(inr, 8, 0.0), field_grid(inr, 8)[0], rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("inr", [octahedron(), inrs_with_surfaces()[0].to(torch.float64)], ids=["relu", "double"])
def test_an_inr_without_estimates_is_evaluated_on_the_whole_grid(inr):
    assert torch.equal(level_grid(inr, 9, 0.0), field_grid(inr, 9)[0])


def test_without_the_compiled_engine_the_whole_grid_is_evaluated(monkeypatch):
    monkeypatch.setattr(fused_cpu, "variants", lambda: ())
    monkeypatch.setattr(level_set, "_any_corner", None)

    assert torch.equal(level_grid(inrs_with_surfaces()[0], 9, 0.0), field_grid(inrs_with_surfaces()[0], 9)[0])


def test_grids_of_many_inrs_at_once_are_those_of_each(monkeypatch):
    inrs = inrs_with_surfaces()
    expected = torch.cat([field_grid(inr, 10) for inr in inrs])

    assert torch.equal(field_grid(inrs, 10), expected)
    monkeypatch.setattr(level_set, "batches_inrs", lambda device: True)
    monkeypatch.setattr(level_set, "ACTIVATIONS", 3 * 16 * 250)  # two planes at once
    torch.testing.assert_close(field_grid(inrs, 10), expected, rtol=0, atol=1e-6)


def assert_same_points(crossings, vertices):
    """Marching cubes may have a vertex within an ambiguous cell, on no edge."""
    assert len(crossings) == 0 or float(nearest_distances(crossings, vertices).max()) < 1e-5
    assert len(crossings) <= len(vertices) <= 1.01 * len(crossings)


def test_crossings_of_edges_are_the_vertices_of_marching_cubes():
    inrs = INRBatch.cat([octahedron(), octahedron(level=-9.0), octahedron(level=float("nan")), octahedron(level=-0.2)])
    surfaces = [extract_surface(inr, 41)[0] for inr in inrs]  # some of the grid's points lie on the level

    crossings = edge_crossings(field_grid(inrs, 41), torch.zeros(4))

    assert [len(vertices) > 0 for vertices in crossings] == [True, False, False, True]
    for part, vertices in zip(crossings, surfaces, strict=True):
        assert_same_points(part, vertices)


def test_a_grid_that_only_touches_its_level_or_is_not_finite_has_no_crossings():
    rising = torch.arange(27.0).view(3, 3, 3).repeat(5, 1, 1, 1)
    rising[3, 0, 0, 0], rising[4, 2, 2, 2] = float("nan"), float("inf")

    crossings = edge_crossings(rising, torch.tensor([13.5, 0.0, 26.0, 13.5, 13.5]))

    assert [len(vertices) for vertices in crossings] == [9 + 3 + 1, 0, 0, 0, 0]


def test_surfaces_of_many_inrs_at_once_have_the_vertices_of_each(monkeypatch):
    inrs, fields = inrs_with_surfaces(), ["sdf", "udf", "occupancy"]
    surfaces = list(surface_vertices(inrs, fields, 16))
    monkeypatch.setattr(level_set, "batches_inrs", lambda device: True)
    monkeypatch.setattr(level_set, "extract_surface", None)
    monkeypatch.setattr(level_set, "INRS", 2)

    for part, vertices in zip(surface_vertices(inrs, fields, 16), surfaces, strict=True):
        assert_same_points(part, vertices)


def test_inside_goes_by_the_field():
    values = torch.tensor([-0.1, 0.005, 0.7])

    assert is_inside(values, "sdf").tolist() == [True, False, False]
    assert is_inside(values, "occupancy").tolist() == [False, True, True]
    assert is_inside(values, "udf").tolist() == [True, True, False]


def distances(sizes=(0.3, 0.05), shift=0.0):
    """INRs of (|x| + |y| + |z| - size) / sqrt(3), distances near the faces, moved by shift along each axis."""
    inr = octahedron()
    slopes, first = inr.weights[-1] / 3**0.5, shift * torch.tensor([[-1.0, -1, -1, 1, 1, 1]])
    return [INRBatch(inr.spec, (inr.weights[0], slopes), (first, torch.tensor([[-size / 3**0.5]]))) for size in sizes]


@pytest.mark.parametrize("field", ["sdf", "udf", "occupancy"])
def test_a_refined_grid_has_the_surface_of_the_whole_grid(field):
    for inr in distances(shift=1 / 16):  # the small one lies within one cell of the coarse grid
        (whole,) = field_grid(inr, 33)
        grid = refined_grid(inr, 32, field, 0.2)
        read = read_by_marching_cubes(whole, level_set.LEVELS[field])

        assert read.sum() > 0
        torch.testing.assert_close(grid[read], whole[read], rtol=0, atol=1e-5)
        assert torch.equal(is_inside(grid, field), is_inside(whole, field))
        assert torch.equal(grid, whole) == (field == "occupancy"), "elsewhere it is not evaluated"

        vertices, faces = next(surfaces(inr, [field], 33, [0.2]))
        expected, triangles = extract_surface(inr, 33, field=field)
        torch.testing.assert_close(vertices, expected, rtol=0, atol=1e-5)
        assert torch.equal(faces, triangles)


def test_a_clamp_shorter_than_a_cell_has_the_whole_grid():
    inr, _ = distances()
    torch.testing.assert_close(refined_grid(inr, 16, "sdf", 0.05), field_grid(inr, 17)[0], rtol=0, atol=1e-5)


def test_an_inr_without_a_level_or_not_finite_has_no_refined_surface():
    for inr in (distances([-0.5])[0], distances([float("nan")])[0]):
        ((vertices, faces),) = surfaces(inr, ["sdf"], 17, [0.2])
        assert (len(vertices), len(faces)) == (0, 0)


def test_points_move_onto_the_level_set_along_its_normals_but_not_far():
    inr, _ = distances()
    points = torch.tensor([[0.2, 0.1, 0.05], [0.9, 0.05, 0.02]])

    moved, normals = onto_surface(inr, points, 0.0, 0.1)

    assert float(inr(moved[:1])[0]) == pytest.approx(0, abs=1e-6)
    assert torch.allclose(normals, torch.full((2, 3), 3**-0.5))
    assert torch.allclose((moved - points).norm(dim=1)[1], torch.tensor(0.1))
