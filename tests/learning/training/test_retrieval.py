"""Retrieval: scores are those of the formula rank by rank, a random order gets what chance gives, in tiles of any size."""

import numpy as np
import pytest
import torch

from inr_factory.learning.training import retrieval
from inr_factory.learning.training.retrieval import Pair, Scores, comparable, expect_ranks, measure_ranks, nearest

OBJECTS = np.arange(40) // 2
LABELS = np.random.default_rng(0).integers(0, 3, 20)[OBJECTS]
ROWS = np.arange(40)
CASES: dict[str, tuple[Pair, Pair]] = {
    "classes": ((LABELS, LABELS), (OBJECTS, OBJECTS)),
    "objects": ((OBJECTS, OBJECTS), (ROWS, ROWS)),
}


def features(seed: int, signal: float = 1.5) -> torch.Tensor:
    noise = torch.randn(40, 5, generator=torch.Generator().manual_seed(seed))
    return noise + signal * torch.nn.functional.one_hot(torch.from_numpy(LABELS), 5)


def by_hand(gallery: torch.Tensor, queries: torch.Tensor, sought: Pair, left_out: Pair, k: int) -> list[float]:
    """mAP@k, mAP and precision at 1, query by query and rank by rank."""
    scores = []
    for number, similarity in enumerate(queries @ gallery.T):
        order = [row for row in similarity.argsort(descending=True).tolist() if left_out[1][row] != left_out[0][number]]
        right = [bool(sought[1][row] == sought[0][number]) for row in order]
        if any(right):
            precision = [sum(right[: at + 1]) / (at + 1) * right[at] for at in range(len(right))]
            scores.append([sum(precision[:k]) / min(k, sum(right)), sum(precision) / sum(right), float(right[0])])
    means: list[float] = np.mean(scores, axis=0).tolist()
    return means


@pytest.mark.parametrize("tile", [1, 100, 2**20])
@pytest.mark.parametrize("case", CASES)
def test_scores_are_those_of_the_formula(case: str, tile: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrieval, "TILE", tile)
    gallery, queries = comparable(features(0), features(1), scaled=True)
    scores = measure_ranks(gallery, queries, *CASES[case], k=7)
    assert scores is not None
    assert [scores.map_k, scores.map_all, scores.first] == pytest.approx(
        by_hand(gallery, queries, *CASES[case], 7), abs=1e-6
    )


@pytest.mark.parametrize("case", CASES)
def test_random_features_get_what_chance_gives(case: str) -> None:
    expected = expect_ranks(*CASES[case], k=7)
    draws = [
        measure_ranks(*comparable(*[features(seed, 0)] * 2, scaled=False), *CASES[case], k=7) for seed in range(300)
    ]
    assert expected is not None
    for name, bound in (("map_k", 0.01), ("map_all", 0.01), ("first", 0.02)):
        assert np.mean([getattr(one, name) for one in draws]) == pytest.approx(getattr(expected, name), abs=bound)
    informed = measure_ranks(*comparable(*[features(0, 3)] * 2, scaled=False), *CASES["classes"], k=7)
    assert informed is not None
    assert informed.map_k > 0.7


def test_perfect_features_score_one_though_there_are_fewer_than_k() -> None:
    perfect = torch.nn.functional.one_hot(torch.from_numpy(OBJECTS), 20).float()
    assert measure_ranks(*comparable(perfect, perfect, scaled=False), *CASES["objects"], k=10) == Scores(1.0, 1.0, 1.0)


def test_equal_similarities_count_against_the_features() -> None:
    constant = torch.zeros(40, 3)
    scores = measure_ranks(*comparable(constant, constant, scaled=True), *CASES["classes"], k=5)
    assert scores is not None
    assert (scores.map_k, scores.first) == (0.0, 0.0)


def test_queries_without_what_they_seek_do_not_count() -> None:
    alone: Pair = (np.array([5]), LABELS)
    assert measure_ranks(*comparable(features(0), features(0)[:1], True), alone, (np.array([-1]), OBJECTS), 3) is None
    assert expect_ranks(alone, (np.array([-1]), OBJECTS), 3) is None


def test_features_of_weights_lose_their_scales_and_no_input_changes() -> None:
    plain = features(2)
    wide = plain * torch.tensor([1.0, 10, 100, 0.1, 1])
    kept = wide.clone()
    torch.testing.assert_close(comparable(wide, wide, scaled=True)[0], comparable(plain, plain, scaled=True)[0])
    assert not torch.allclose(comparable(wide, wide, scaled=False)[0], comparable(plain, plain, scaled=False)[0])
    assert torch.equal(wide, kept)


def test_the_nearest_come_first_without_those_left_out() -> None:
    gallery, _ = comparable(features(3), features(3), scaled=False)
    left_out = OBJECTS[4] == OBJECTS
    similarity, rows = nearest(gallery, gallery[4], left_out, 99)
    assert len(rows) == 38
    assert set(rows.tolist()) == set(np.flatnonzero(~left_out).tolist())
    assert torch.equal(similarity, (gallery @ gallery[4])[rows])
    assert (similarity.diff() <= 0).all()
