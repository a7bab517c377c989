"""Curvature: points lie where a mesh bends, as often as it bends, whatever its triangles are."""

import numpy as np
import pytest
from support.shapes import box, sphere

from inr_factory.generation.geometry.curvature import Bends
from inr_factory.generation.geometry.mesh import Mesh


def test_a_box_bends_along_its_edges_and_not_across_its_faces():
    bends = Bends.of(box())
    points = bends.draw(500, np.random.default_rng(0))

    on_edges = (np.abs(np.abs(points) - np.abs(box().vertices).max()) < 1e-9).sum(axis=1)
    assert on_edges.min() >= 2
    lengths = np.linalg.norm(bends.ends - bends.starts, axis=1)
    assert sorted(np.unique((bends.weights / lengths).round(6))) == [0, pytest.approx(np.pi / 2, abs=1e-5)]


def test_a_sphere_bends_alike_all_over_and_twice_its_mean_curvature():
    bends = Bends.of(sphere())
    points = bends.draw(20_000, np.random.default_rng(0))

    assert bends.weights.sum() == pytest.approx(8 * np.pi, rel=0.01)  # 2 * area * 1 / radius
    assert np.abs(points.mean(axis=0)).max() < 0.02
    assert np.abs((points**2).mean(axis=0) - 1 / 3).max() < 0.02


def test_neither_turned_faces_nor_separate_vertices_nor_needles_change_where_a_box_bends():
    mesh = box()
    expected = Bends.of(mesh).weights.sum()
    turned = Mesh(mesh.vertices, np.where(np.arange(len(mesh.faces))[:, None] % 2, mesh.faces[:, ::-1], mesh.faces))
    soup = Mesh(mesh.corners.reshape(-1, 3), np.arange(3 * len(mesh.faces)).reshape(-1, 3))

    for changed in (turned, soup):
        assert Bends.of(changed).weights.sum() == pytest.approx(expected, rel=1e-6)
    corners = np.array([[0.0, 0, 0], [1, 0, 0], [0.5, 1e-9, 1e-9], [0.5, -1, 0]])
    assert not Bends.of(Mesh(corners, np.array([[0, 1, 2], [1, 0, 3]]))).weights.any()


def test_a_sheet_bends_nowhere():
    square = Mesh(np.array([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]), np.array([[0, 1, 2], [0, 2, 3]]))
    assert not Bends.of(square).weights.any()
