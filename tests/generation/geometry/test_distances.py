"""Distances: between shapes that lie a known way apart, in agreement with scipy and trimesh."""

import math

import numpy as np
import pytest
from scipy.spatial import cKDTree

from inr_factory.generation.geometry.distances import mean_distances
from inr_factory.generation.geometry.mesh import Mesh, draw_on_surface
from inr_factory.generation.geometry.primitives import KINDS

COUNT = 20_000
EMPTY = Mesh(np.empty((0, 3)), np.empty((0, 3), np.int64))


def rng(seed=0):
    return np.random.default_rng(seed)


def sphere(radius):
    """4,512 triangles; its faces lie up to 0.3 % inside the sphere."""
    mesh = KINDS["sphere"](lambda low, high: high)
    return Mesh(mesh.vertices * radius, mesh.faces)


def box(*shift):
    mesh = KINDS["box"](lambda low, high: 1.0)
    return Mesh(mesh.vertices + shift, mesh.faces)


def torus(tube):
    return KINDS["torus"](lambda low, high: tube)


def moved_box_distance(shift):
    """Mean distance of a unit box's surface from that of the box moved by `shift` along x.

    Its leading face is behind the other's, but nearer to its sides along the rim: the mean of min(shift, d to the
    rim) is the integral of (1 - 2 t)² up to shift. The face behind lies `shift` away, the sides beyond it on average
    shift / 2 over a share of `shift`.
    """
    leading = (1 - (1 - 2 * shift) ** 3) / 6
    return (leading + shift + 4 * shift**2 / 2) / 6


PAIRS = {
    "spheres": (sphere(0.5), sphere(0.55), 0.05, 1e-3),
    "boxes": (box(0, 0, 0), box(0.1, 0, 0), moved_box_distance(0.1), 1e-3),
    "tori": (torus(0.2), torus(0.25), 0.05, 2e-3),
}


@pytest.mark.parametrize("name", PAIRS)
def test_shapes_a_known_way_apart(name):
    one, other, expected, tolerance = PAIRS[name]

    assert mean_distances(one, other, COUNT, rng()) == pytest.approx((expected, expected), abs=tolerance)


@pytest.mark.parametrize("name", PAIRS)
def test_they_agree_with_the_nearest_of_many_points(name):
    one, other, _, _ = PAIRS[name]

    forth, back = mean_distances(one, other, COUNT, rng())

    dense = [draw_on_surface(mesh, 200_000, rng(1)) for mesh in (one, other)]
    sparse = [points[:COUNT] for points in dense]
    assert forth == pytest.approx(cKDTree(dense[1]).query(sparse[0])[0].mean(), abs=3e-3)
    assert back == pytest.approx(cKDTree(dense[0]).query(sparse[1])[0].mean(), abs=3e-3)


def test_they_agree_with_trimesh():
    import trimesh

    one, other = torus(0.2), box(0.3, 0.1, 0)

    forth, _ = mean_distances(one, other, 2000, rng())

    points = draw_on_surface(one, 2000, rng())
    _, expected, _ = trimesh.proximity.closest_point_naive(trimesh.Trimesh(other.vertices, other.faces), points)
    assert forth == pytest.approx(expected.mean(), rel=1e-9)


def test_a_part_is_near_to_the_shape_but_the_shape_is_not_near_to_the_part():
    complete = box(0, 0, 0)
    part = Mesh(complete.vertices, complete.faces[:2])

    forth, back = mean_distances(part, complete, COUNT, rng())

    assert forth == pytest.approx(0, abs=1e-9)
    assert back > 0.2


def test_distances_of_clouds_are_taken_at_their_points():
    cloud = sphere(0.6).vertices

    forth, back = mean_distances(sphere(0.5), cloud, COUNT, rng())

    assert back == pytest.approx(0.1, abs=1e-3)
    assert forth == pytest.approx(cKDTree(cloud).query(draw_on_surface(sphere(0.5), COUNT, rng()))[0].mean(), rel=0.02)
    assert mean_distances(cloud, cloud, 10, rng()) == (0, 0)


def test_what_has_no_surface_is_at_no_distance():
    flat = Mesh(np.zeros((3, 3)), np.array([[0, 1, 2]]))
    for other in (EMPTY, flat, np.empty((0, 3))):
        assert all(map(math.isnan, mean_distances(box(0, 0, 0), other, 10, rng())))
        assert all(map(math.isnan, mean_distances(other, box(0, 0, 0), 10, rng())))


def test_triangles_without_area_are_passed_over():
    complete = box(0, 0, 0)
    more = Mesh(np.concatenate([complete.vertices, [[5.0, 5, 5]]]), np.concatenate([complete.faces, [[8, 8, 8]]]))

    assert mean_distances(sphere(0.5), more, 100, rng()) == mean_distances(sphere(0.5), complete, 100, rng())
