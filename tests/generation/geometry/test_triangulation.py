"""Polygons: triangles cover what the polygon covers, also where it is concave."""

import numpy as np
import pytest

from inr_factory.generation.geometry.triangulation import triangles
from inr_factory.generation.signals import SignalError

UPRIGHT = np.eye(3)


def cut(outline, turn=UPRIGHT):
    """Signed areas of the triangles of one polygon (K, 2), which is laid into space by a turn."""
    vertices = np.column_stack([outline, np.zeros(len(outline))]) @ turn.T
    faces = triangles(vertices, np.array([len(outline)]), np.arange(len(outline)))
    first, second, third = vertices[faces].transpose(1, 0, 2)
    return np.cross(second - first, third - first) @ turn[:, 2] / 2, faces


def area(outline):
    x, y = np.transpose(outline)
    return (x * np.roll(y, -1) - y * np.roll(x, -1)).sum() / 2


def star(points, inner):
    angles = np.pi * np.arange(2 * points) / points
    reach = np.where(np.arange(2 * points) % 2 == 0, 1, inner)
    return reach[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def comb(teeth):
    """A long back with thin teeth; no corner sees all of it."""
    upper = [(x, y) for tooth in range(teeth) for x, y in ((2 * tooth + 1, 3), (2 * tooth + 1.5, 0.1))]
    return np.array([(0, 0), (2 * teeth, 0), *upper[::-1]], dtype=float)


OUTLINES = {
    "square": [(0, 0), (1, 0), (1, 1), (0, 1)],
    "dart from its tip": [(0, 0), (2, -1), (0.5, 0), (2, 1)],
    "dart from its notch": [(0.5, 0), (2, 1), (0, 0), (2, -1)],
    "dart from a wing": [(2, 1), (0, 0), (2, -1), (0.5, 0)],
    "L": [(0, 0), (2, 0), (2, 1), (1, 1), (1, 2), (0, 2)],
    "star": star(7, 0.4),
    "comb": comb(12),
}
TURN = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("name", OUTLINES)
def test_triangles_lie_within_the_outline_and_fill_it(name, backwards):
    outline = np.array(OUTLINES[name], dtype=float)[:: -1 if backwards else 1]

    for turn in (UPRIGHT, TURN):
        signed, faces = cut(outline, turn)
        assert len(faces) == len(outline) - 2
        assert signed.sum() == pytest.approx(area(outline))
        assert np.abs(signed).sum() == pytest.approx(abs(area(outline))), "no triangle sticks out"


def test_a_plain_fan_would_stick_out():
    outline = np.array(OUTLINES["dart from a wing"], dtype=float)
    fan = [area(outline[[0, step, step + 1]]) for step in (1, 2)]

    assert abs(sum(fan)) < sum(map(abs, fan))


def test_polygons_of_all_sizes_keep_their_order_and_those_without_area_give_nothing():
    vertices = np.random.default_rng(0).normal(size=(9, 3))
    sizes = np.array([3, 2, 4, 0, 3, 1, 5])
    corners = np.array([0, 1, 2, 5, 6, 3, 4, 5, 6, 6, 7, 8, 0, 1, 2, 3, 4, 5])

    faces = triangles(vertices, sizes, corners)

    assert len(faces) == 1 + 2 + 1 + 3
    assert faces[0].tolist() == [0, 1, 2]
    assert set(faces[1:3].ravel()) == {3, 4, 5, 6}
    assert faces[3].tolist() == [6, 7, 8]
    assert set(faces[4:].ravel()) == {1, 2, 3, 4, 5}


@pytest.mark.timeout(10)
def test_a_polygon_that_would_take_for_ever_is_refused():
    outline = comb(20_000)

    with pytest.raises(SignalError, match="concave polygons have 40002 corners"):
        cut(outline)


@pytest.mark.timeout(10)
def test_the_largest_polygon_that_is_cut_takes_seconds():
    cut(comb(990))


def test_a_polygon_without_a_side_is_still_cut():
    faces = triangles(np.zeros((5, 3)), np.array([5]), np.arange(5))

    assert len(faces) == 3
