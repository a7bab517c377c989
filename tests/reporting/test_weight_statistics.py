"""Comparison: spreads as the published statistics give them, distances of the right pairs, and what the verb says."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from support.paths import DATASETS
from support.small_sets import SPEC, make_set, weights_of

from inr_factory.cli.main import run
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.initialization import initialize
from inr_factory.reporting.comparison import spec_differences
from inr_factory.reporting.weight_statistics import PUBLISHED, Spreads, measure_set, measure_spreads

STATISTICS = DATASETS / "peer_inr_files/neural-graphs/mnist_statistics.pth"


def test_spreads_are_the_standard_deviations_of_start_values(generator):
    spec = replace(SPEC, hidden_dim=16, start="dwsnets", omega_0=30.0)
    spreads = measure_spreads(initialize(spec, range(400)))
    bounds = [(6 / 2) ** 0.5 / 30, (6 / 16) ** 0.5 / 30, 16**-0.5]
    np.testing.assert_allclose(spreads.weights, np.array(bounds) / 3**0.5, rtol=0.03)
    assert spreads.biases[:2] == (0.0, 0.0)


def test_a_spread_is_over_inrs_not_over_the_numbers_of_one():
    one = initialize(SPEC, [1])
    same = INRBatch.cat([one, one, one])
    assert max(measure_spreads(same).weights) < 1e-7


@pytest.mark.skipif(not STATISTICS.is_file(), reason=f"the peers' statistics are not at {STATISTICS}")
def test_the_published_spreads_are_those_of_the_published_statistics():
    found = torch.load(STATISTICS, weights_only=True)
    rounded = [
        tuple(round(float(std.square().mean().sqrt()), 4) for std in found[kind]["std"])
        for kind in ("weights", "biases")
    ]
    assert Spreads(*rounded) == PUBLISHED["dwsnets_mnist"]


def test_the_typical_factor_is_one_for_the_same_and_two_for_twice_everywhere():
    spreads = PUBLISHED["dwsnets_mnist"]
    double = Spreads(tuple(2 * v for v in spreads.weights), tuple(2 * v for v in spreads.biases))
    assert spreads.typical_factor(spreads) == 1
    assert double.typical_factor(spreads) == pytest.approx(2)
    assert spreads.typical_factor(Spreads(spreads.weights, (0.0, 0.1, 0.1))) is None
    assert spreads.typical_factor(double) == pytest.approx(2)


def test_distances_are_of_different_objects_and_of_views_of_one_object(tmp_path):
    make_set(tmp_path / "set", views=2)
    statistics = measure_set(tmp_path / "set")
    stacked = {(n, v): weights_of(SPEC, f"train-{n}", v) for n in range(14) for v in range(2)}
    norm = torch.linalg.vector_norm
    views = [float(norm(stacked[n, 0] - stacked[n, 1]) / norm(stacked[n, 1])) for n in range(14)]
    assert statistics.view_distance == pytest.approx(float(torch.tensor(views).median()), rel=1e-5)
    assert 1.0 < statistics.distance < 2.0
    assert statistics.psnr == pytest.approx(38.25)


def test_one_view_has_no_distance_between_views_and_one_object_none_between_objects(tmp_path):
    make_set(tmp_path / "one-view", views=1)
    make_set(tmp_path / "one-object", views=3, objects={"train": 1})
    assert measure_set(tmp_path / "one-view").view_distance is None
    assert measure_set(tmp_path / "one-object").distance is None


def test_specs_differ_where_they_do():
    assert spec_differences(SPEC, replace(SPEC, omega_0=30.0)) == {"omega_0": (7.0, 30.0)}


def test_the_verb_sets_two_sets_side_by_side_and_draws_them(tmp_path, capsys):
    make_set(tmp_path / "a", views=2)
    make_set(tmp_path / "b", replace(SPEC, omega_0=30.0), views=1)
    assert run(["compare", str(tmp_path / "a"), str(tmp_path / "b")]) == 0
    out = capsys.readouterr().out
    assert "omega_0: 7.0 in A, 30.0 in B" in out
    assert (tmp_path / "a/compare.png").read_bytes()[:4] == b"\x89PNG"


def test_the_verb_compares_with_a_published_corpus_and_shows_both_beside_sets_of_its_spec(tmp_path, capsys):
    make_set(tmp_path / "a", replace(SPEC, hidden_dim=32, omega_0=30.0), views=1)
    for other in ("dwsnets_mnist", str(tmp_path / "a")):
        assert run(["compare", str(tmp_path / "a"), other, "--json", "--out", str(tmp_path / "c.png")]) == 0
        said = json.loads(capsys.readouterr().out)
        assert said["spec_differences"] == ({} if other in str(tmp_path / "a") else {"start": ["siren", "dwsnets"]})
        assert {"A", "B"} <= set(said["sets"])
    assert set(PUBLISHED) <= set(said["sets"])
    assert said["lines"]["std of weights 0"]["dwsnets_mnist"] == 0.0628
    assert said["typical_factor"] == 1.0


def test_a_published_corpus_may_stand_first(tmp_path, capsys):
    make_set(tmp_path / "a", replace(SPEC, hidden_dim=32, omega_0=30.0), views=1)
    assert run(["compare", "dwsnets_mnist", str(tmp_path / "a"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert set(said["sets"]) == {"A", "B"}
    assert said["spec_differences"] == {"start": ["dwsnets", "siren"]}
    assert (tmp_path / "a/compare.png").is_file()


def test_sets_of_other_shapes_are_compared_as_far_as_they_go_and_too_few_inrs_are_refused(tmp_path, capsys):
    make_set(tmp_path / "a", views=1)
    make_set(tmp_path / "b", replace(SPEC, num_hidden=3), views=1, objects={"train": 1})
    assert run(["compare", str(tmp_path / "a"), "dwsnets_mnist"]) == 0
    capsys.readouterr()
    assert run(["compare", str(tmp_path / "a"), str(tmp_path / "b")]) == 2
    assert "two are the least" in capsys.readouterr().err
