"""Primitives: closed solids, each its own, the same in every process."""

import numpy as np
import pytest

from inr_factory.generation.geometry.primitives import KINDS, primitive
from inr_factory.inr.stable_hash import seeded


@pytest.mark.parametrize("kind", KINDS)
def test_each_is_closed_and_faces_outward(kind):
    for number in range(5):
        mesh = primitive(kind, seeded(kind, number))
        first, second, third = mesh.corners.transpose(1, 0, 2)

        assert mesh.is_watertight
        assert mesh.areas.min() > 0
        volume = np.einsum("fi,fi->", first, np.cross(second, third)) / 6
        box = np.prod(np.ptp(mesh.vertices, axis=0))
        assert 0.02 * box < volume <= box
        edges = np.concatenate([mesh.faces[:, [0, 1]], mesh.faces[:, [1, 2]], mesh.faces[:, [2, 0]]])
        assert len(np.unique(edges, axis=0)) == len(edges), "neighbours run along their edge in opposite ways"


@pytest.mark.parametrize("kind", KINDS)
def test_each_object_is_another_and_always_the_same(kind):
    one, again, other = (primitive(kind, seeded(kind, number)) for number in (1, 1, 2))

    assert np.array_equal(one.vertices, again.vertices)
    assert one.vertices.shape != other.vertices.shape or not np.allclose(one.vertices, other.vertices)


def test_primitives_have_at_least_ten_kinds():
    assert len(KINDS) >= 10
