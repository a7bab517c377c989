"""Shape metrics: overlap, distances and the surface that an INR draws, on shapes whose answers are known."""

import pytest
import torch

from inr_factory.generation.geometry.surface_metrics import (
    chamfer,
    extract_surface,
    field_grid,
    iou,
    is_inside,
    mean_distance_error,
    nearest_distances,
)
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.initialization import initialize
from inr_factory.inr.spec import SirenSpec

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

    values = field_grid(inr, 44)

    where = torch.tensor([[0, 0, 0], [43, 1, 2], [2, 43, 7], [43, 43, 43]])
    assert torch.allclose(values[where[:, 0], where[:, 1], where[:, 2]], inr(axis[where])[0, :, 0], atol=1e-5)


def test_inside_goes_by_the_field():
    values = torch.tensor([-0.1, 0.005, 0.7])

    assert is_inside(values, "sdf").tolist() == [True, False, False]
    assert is_inside(values, "occupancy").tolist() == [False, True, True]
    assert is_inside(values, "udf").tolist() == [True, True, False]


def test_iou_counts_points_in_both_over_points_in_either():
    one = torch.tensor([[1, 1, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0], [1, 1, 1, 1]], dtype=torch.bool)
    other = torch.tensor([[1, 0, 1, 0], [0, 0, 0, 0], [0, 1, 0, 0], [1, 1, 1, 1]], dtype=torch.bool)

    assert torch.allclose(iou(one, other), torch.tensor([1 / 3, 1, 0, 1]))
    assert float(iou(one[0], other[0])) == pytest.approx(1 / 3)


def test_distance_errors_are_mean_and_clamped():
    predicted, targets = torch.tensor([0.0, 0.5, -0.5]), torch.tensor([0.1, 0.1, -0.1])

    assert float(mean_distance_error(predicted, targets)) == pytest.approx(0.3)
    assert float(mean_distance_error(predicted, targets, clamp=0.1)) == pytest.approx(0.1 / 3)


def test_nearest_distances_agree_with_all_pairs_also_when_tiny(generator):
    points, others = torch.rand(2500, 3, generator=generator), torch.rand(300, 3, generator=generator)
    others[:100] = points[:100] + 1e-5

    found = nearest_distances(points, others)

    exact = (points.double()[:, None] - others.double()).norm(dim=2).amin(dim=1)
    assert torch.allclose(found.double(), exact, atol=1e-7)


def test_chamfer_is_symmetric_and_in_the_points_own_unit(generator):
    points = torch.rand(500, 3, generator=generator)
    shifted = points + torch.tensor([0.0, 0.0, 5.0])

    assert chamfer(points, points) == 0
    assert chamfer(points, points[:1]) == chamfer(points[:1], points)
    assert chamfer(points[:1], shifted[:1]) == pytest.approx(5)
    assert chamfer(points, torch.empty(0, 3)) != chamfer(points, torch.empty(0, 3)), "nothing to be near to"
