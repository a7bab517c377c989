"""Meshes: areas, rims, and points that spread over the surface by area."""

import numpy as np
import pytest
from support.shapes import box

from inr_factory.generation.geometry.mesh import Mesh, draw_on_surface


def test_points_on_a_surface_spread_by_area():
    big, small = np.array([[0, 0, 0], [3, 0, 0], [0, 3, 0]]), np.array([[0, 0, 9], [1, 0, 9], [0, 1, 9]])
    mesh = Mesh(np.concatenate([big, small]).astype(float), np.arange(6).reshape(2, 3))

    points = draw_on_surface(mesh, 20_000, np.random.default_rng(0))

    on_small = points[:, 2] == 9
    assert on_small.mean() == pytest.approx(0.1, abs=0.01)
    assert np.allclose(points[on_small].mean(axis=0), [1 / 3, 1 / 3, 9], atol=0.02)
    assert (points[:, :2].sum(axis=1) <= 3 + 1e-9).all()


def test_normals_have_length_1_and_are_0_where_there_is_no_area():
    corners = np.array([[0.0, 0, 0], [2, 0, 0], [0, 3, 0]])
    mesh = Mesh(corners, np.array([[0, 1, 2], [2, 1, 0], [0, 1, 1]]))

    assert mesh.normals(np.arange(3)).tolist() == [[0, 0, 1], [0, 0, -1], [0, 0, 0]]


def test_a_box_without_a_face_is_smaller_and_not_watertight():
    closed = box()
    opened = Mesh(closed.vertices, closed.faces[:-1])

    assert closed.is_watertight
    assert not opened.is_watertight
    assert closed.areas.sum() > opened.areas.sum()
