"""Surface metrics: overlap and distances, on shapes whose answers are known."""

import pytest
import torch

from inr_factory.generation.geometry import surface_metrics
from inr_factory.generation.geometry.surface_metrics import chamfer, fscore, iou, mean_distance_error, nearest_distances


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


def of_all_pairs(points, others):
    """The distances as they were computed before there was a tree."""
    return torch.cdist(points, others, compute_mode="donot_use_mm_for_euclid_dist").amin(dim=1)


@pytest.mark.parametrize(
    "others",
    [
        lambda points, others: others,
        lambda points, others: torch.cat([others, others, points[:7]]),  # equally near ones
        lambda points, others: others[:1],
        lambda points, others: (others * 8).round() / 8,
    ],
    ids=["plain", "twice", "one", "lattice"],
)
def test_the_tree_finds_the_bits_of_all_pairs(others, generator):
    points = torch.rand(1000, 3, generator=generator)
    points = torch.cat([points, (points * 8).round() / 8])
    others = others(points, torch.rand(700, 3, generator=generator))

    for one, other in ((points, others), (others, points)):
        assert torch.equal(nearest_distances(one, other), of_all_pairs(one, other))


def test_the_tree_finds_the_bits_of_all_pairs_also_among_points_as_near_but_for_rounding(generator):
    middle = torch.zeros(1, 3)
    for _ in range(50):
        sphere = torch.nn.functional.normalize(torch.randn(10, 3, generator=generator, dtype=torch.float64)).float()

        assert torch.equal(nearest_distances(middle, sphere), of_all_pairs(middle, sphere))


def test_pairs_in_parts_as_on_a_gpu_give_the_distances_of_the_tree(generator, monkeypatch):
    points, others = torch.rand(100, 3, generator=generator), torch.rand(30, 3, generator=generator)
    expected = nearest_distances(points, others)
    monkeypatch.setattr(surface_metrics, "batches_inrs", lambda device: True)
    monkeypatch.setattr(surface_metrics, "PAIRS", 200)

    torch.testing.assert_close(nearest_distances(points, others), expected)


def test_chamfer_is_symmetric_and_in_the_points_own_unit(generator):
    points = torch.rand(500, 3, generator=generator)
    shifted = points + torch.tensor([0.0, 0.0, 5.0])

    assert chamfer(points, points) == 0
    assert chamfer(points, points[:1]) == chamfer(points[:1], points)
    assert float(chamfer(points[:1], shifted[:1])) == pytest.approx(5)
    assert chamfer(points, torch.empty(0, 3)).isnan(), "nothing to be near to"
    assert chamfer(points, points.index_fill(0, torch.tensor([3]), float("nan"))).isnan()


def test_an_fscore_is_the_harmonic_mean_of_both_shares():
    assert fscore(0.5, 1.0) == pytest.approx(2 / 3)
    assert fscore(0.0, 0.0) == 0
