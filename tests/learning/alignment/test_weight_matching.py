"""Alignment: moved copies come back, functions do not change, and every assignment is scipy's optimum."""

from dataclasses import replace
from itertools import permutations

import pytest
import torch
from scipy.optimize import linear_sum_assignment
from support.specs import KINDS, names, random_inrs

from inr_factory.errors import UsageError
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.initialization import initialize
from inr_factory.inr.spec import SirenSpec
from inr_factory.learning.alignment import weight_matching as alignment
from inr_factory.learning.alignment.weight_matching import (
    align,
    match_neurons,
    matches,
    relative_distance,
    solve_assignments,
)
from inr_factory.learning.transforms.compose import Compose
from inr_factory.learning.transforms.symmetries import FlipSigns, PermuteNeurons, ScaleReLU, ShiftPhases

MATCHES = ["permutation", "signed", "phase"]
HIDDEN_BY = {
    "permutation": PermuteNeurons(),
    "signed": Compose((PermuteNeurons(), FlipSigns())),
    "phase": Compose((PermuteNeurons(), FlipSigns(), ShiftPhases(max_k=4))),
}


def others(inrs):
    """As many INRs of the same spec, started independently."""
    return initialize(inrs.spec, range(100, 100 + len(inrs)))


@pytest.mark.parametrize("match", MATCHES)
def test_a_moved_copy_comes_back(match, inrs, generator):
    many = initialize(inrs.spec, range(40))
    moved = HIDDEN_BY[match](many, generator)
    assert float(relative_distance(moved, many).min()) > 0.5

    aligned = align(moved, many, match)

    assert float(relative_distance(aligned, many).max()) < 1e-6


@pytest.mark.parametrize(("match", "beyond"), [("permutation", "signed"), ("signed", "phase")])
def test_a_match_is_blind_to_operations_it_does_not_know(match, beyond, inrs, generator):
    moved = HIDDEN_BY[beyond](inrs, generator)

    assert float(relative_distance(align(moved, inrs, match), inrs).min()) > 0.1


@pytest.mark.parametrize("match", MATCHES)
def test_alignment_moves_weights_nearer_and_leaves_functions_alone(match, inrs, coords):
    moving = others(inrs)
    before = moving.flatten()

    aligned = align(moving, inrs, match)

    torch.testing.assert_close(aligned(coords), moving(coords), atol=1e-5, rtol=0)
    assert bool((relative_distance(aligned, inrs) < relative_distance(moving, inrs)).all())
    assert torch.equal(moving.flatten(), before), "the input batch was changed in place"


def test_a_wider_match_comes_nearer(inrs):
    moving = others(inrs)

    near = [relative_distance(align(moving, inrs, match), inrs).mean() for match in MATCHES]

    assert near[0] > near[1] > near[2]


@pytest.mark.parametrize("match", MATCHES)
def test_the_operations_are_permutations_signs_and_whole_half_turns_that_give_the_result(match, inrs):
    matching = match_neurons(others(inrs), inrs, match)

    identity = torch.arange(8).expand_as(matching.permutations)
    assert torch.equal(matching.permutations.sort(dim=2).values, identity)
    assert bool((matching.factors.abs() == 1).all())
    assert torch.equal(matching.half_turns, matching.half_turns.round())
    assert match != "permutation" or bool((matching.factors == 1).all())
    assert match == "phase" or not matching.half_turns.any()
    aligned = align(others(inrs), inrs, match)
    assert torch.equal(matching.apply(others(inrs)).flatten(), aligned.flatten())


@pytest.mark.parametrize("match", MATCHES)
def test_one_hidden_layer_is_matched_to_the_very_best(match):
    spec = SirenSpec(2, 1, hidden_dim=4, num_hidden=1, omega_0=7.0)
    moving, fixed = initialize(spec, range(6)), initialize(spec, range(50, 56))

    reached = relative_distance(align(moving, fixed, match), fixed)

    best = torch.full((6,), torch.inf)
    for order in permutations(range(4)):
        best = torch.minimum(best, best_of_one_order(moving, fixed, order, match))
    torch.testing.assert_close(reached, best, atol=1e-6, rtol=0)


def best_of_one_order(moving, fixed, order, match):
    """The distance that the best sign and half turns of each neuron reach, tried out one by one."""
    signs = (1, -1) if match != "permutation" else (1,)
    turns = range(-9, 10) if match == "phase" else (0,)
    W, b, c = moving.weights[0][:, order], moving.biases[0][:, order], moving.weights[1][:, 0, order]
    costs = []
    for sign in signs:
        for k in turns:
            gap_W = (sign * W - fixed.weights[0]).square().sum(dim=2)
            gap_b = (sign * b + k * torch.pi / 7 - fixed.biases[0]).square()
            costs.append(gap_W + gap_b + (sign * (-1) ** k * c - fixed.weights[1][:, 0]).square())
    rest = (moving.biases[1] - fixed.biases[1]).square().sum(dim=1)
    total = torch.stack(costs).amin(dim=0).sum(dim=1) + rest
    return total.sqrt() / fixed.flatten().norm(dim=1)


@pytest.mark.parametrize("match", ["permutation", "signed"])
def test_no_layer_can_be_improved_any_more(match, inrs):
    fixed = initialize(inrs.spec, range(40))
    aligned = align(others(fixed), fixed, match)

    for layer in range(inrs.spec.num_hidden):
        gain = fixed.weights[layer] @ aligned.weights[layer].mT
        gain = gain + fixed.biases[layer][:, :, None] * aligned.biases[layer][:, None, :]
        gain = gain + fixed.weights[layer + 1].mT @ aligned.weights[layer + 1]
        reached = gain.diagonal(dim1=1, dim2=2).sum(dim=1)
        for matrix, total in zip(gain.abs() if match == "signed" else gain, reached, strict=True):
            rows, best = linear_sum_assignment(matrix.numpy(), maximize=True)
            assert float(total) == pytest.approx(float(matrix[rows, best].sum()), rel=1e-5)


@pytest.mark.parametrize("match", MATCHES)
def test_no_inr_comes_out_further_off_than_it_went_in(match):
    # The first pass looks at what comes into a neuron; here that is nearly nothing, and it misleads.
    fixed = initialize(SirenSpec(2, 1, hidden_dim=8), range(200))
    misleading = PermuteNeurons()(fixed, torch.Generator().manual_seed(0)).weights[0]
    fixed, moving = (
        replace(fixed, weights=(0.05 * first, *fixed.weights[1:]), biases=(0 * fixed.biases[0], *fixed.biases[1:]))
        for first in (fixed.weights[0], misleading)
    )

    aligned = align(moving, fixed, match)

    assert bool((relative_distance(aligned, fixed) <= relative_distance(moving, fixed)).all())


@pytest.mark.parametrize("match", MATCHES)
def test_a_template_is_a_partner_for_everyone(match, inrs):
    moving, template = others(inrs), inrs.select(slice(1))

    to_template = align(moving, template, match)
    to_copies = align(moving, inrs.select(torch.zeros(5, dtype=torch.long)), match)

    assert torch.equal(to_template.flatten(), to_copies.flatten())


@pytest.mark.parametrize("match", MATCHES)
def test_a_pair_is_aligned_alone_as_in_any_batch(match, inrs, monkeypatch):
    moving = others(inrs)
    together = align(moving, inrs, match).flatten()

    monkeypatch.setattr(alignment, "CHUNK_ENTRIES", 2 * 64)
    in_chunks = align(moving, inrs, match).flatten()

    torch.testing.assert_close(in_chunks, together, atol=1e-6, rtol=0)


@pytest.mark.parametrize("match", MATCHES)
def test_an_inr_aligned_to_itself_stays_as_it_is(match, inrs):
    assert torch.equal(align(inrs, inrs, match).flatten(), inrs.flatten())


def test_identical_neurons_do_not_keep_it_going(generator):
    spec = SirenSpec(2, 1, hidden_dim=8)
    flat = torch.zeros(3, spec.num_parameters)
    flat[1] = 1

    aligned = align(INRBatch.from_flat(spec, flat), initialize(spec, range(3)), "phase")

    assert bool(aligned.flatten().isfinite().all())


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("size", [1, 2, 8, 32])
def test_assignments_are_scipys_optimum(size, scale, generator):
    gain = scale * torch.randn(20, size, size, generator=generator)
    gain[0] = 0
    gain[1, :, 0] += 100 * scale

    columns = solve_assignments(gain)

    assert torch.equal(columns.sort(dim=1).values, torch.arange(size).expand(20, size))
    for matrix, assigned in zip(gain.double(), columns, strict=True):
        rows, best = linear_sum_assignment(matrix.numpy(), maximize=True)
        total, optimum = float(matrix[rows, assigned].sum()), float(matrix[rows, best].sum())
        assert total == pytest.approx(optimum, rel=1e-6, abs=1e-6 * scale)


HIDDEN_FROM = {**HIDDEN_BY, "scale": Compose((PermuteNeurons(), ScaleReLU(max_factor=3)))}


@pytest.mark.parametrize("spec", KINDS, ids=names(KINDS))
def test_inrs_of_every_kind_come_back_by_the_matches_that_they_have_and_refuse_others_in_one_line(spec, generator):
    inrs, coords = random_inrs(spec, 20), torch.rand(64, 2, generator=generator, dtype=torch.float64)
    template = inrs.select(slice(1))
    finest = {"sine": "phase", "relu": "scale"}.get(spec.activation, "signed")
    assert matches(spec)[-1] == finest

    for match, hide in HIDDEN_FROM.items():
        if match not in matches(spec):
            with pytest.raises(UsageError, match=rf"^match {match} is exact for [^\n]* INRs only[^\n]*$"):
                align(inrs, inrs, match)
            continue
        moved = hide(inrs, generator)
        assert float(relative_distance(moved, inrs).min()) > 0.3
        assert float(relative_distance(align(moved, inrs, match), inrs).max()) < 1e-9
        to_template = align(moved, template, match)
        torch.testing.assert_close(to_template(coords), inrs(coords), atol=1e-10, rtol=0)
        assert bool((relative_distance(to_template, template) <= relative_distance(moved, template)).all())
        assert float(relative_distance(to_template, template)[1:].mean()) < float(
            relative_distance(moved, template)[1:].mean()
        )
    moved = HIDDEN_FROM[finest](inrs, generator)
    assert float(relative_distance(align(moved, inrs), inrs).min()) > 0.1, "permutation knows no signs and scales"


def test_one_hidden_layer_of_gaussians_is_matched_over_incoming_signs_alone():
    spec = SirenSpec(2, 1, hidden_dim=4, num_hidden=1, activation="gauss")
    moving, fixed = random_inrs(spec, 6), random_inrs(spec, 6, seed=1)

    reached = relative_distance(align(moving, fixed, "signed"), fixed)

    costs = []
    for order in permutations(range(4)):
        W, b, c = moving.weights[0][:, order], moving.biases[0][:, order], moving.weights[1][:, 0, order]
        incoming = [
            (sign * W - fixed.weights[0]).square().sum(dim=2) + (sign * b - fixed.biases[0]).square()
            for sign in (1, -1)
        ]
        costs.append((torch.minimum(*incoming) + (c - fixed.weights[1][:, 0]).square()).sum(dim=1))
    best = torch.stack(costs).amin(dim=0) + (moving.biases[1] - fixed.biases[1]).square().sum(dim=1)
    torch.testing.assert_close(reached, best.sqrt() / fixed.flatten().norm(dim=1))


def test_what_does_not_pair_up_is_refused_in_one_line(inrs):
    alien = replace(inrs, spec=replace(inrs.spec, omega_0=inrs.spec.omega_0 + 1))
    broken = INRBatch.from_flat(inrs.spec, inrs.flatten().index_fill(0, torch.tensor([3]), torch.nan))

    for wrong, words in (
        (lambda: align(inrs, alien), "INRs of one spec"),
        (lambda: align(inrs, inrs.select(slice(2))), "5 INRs need 5 partners or one for all, got 2"),
        (lambda: align(inrs, inrs, "signd"), "match must be one of permutation, signed, phase"),
        (lambda: align(broken, inrs), "NaN or infinite"),
    ):
        with pytest.raises(UsageError, match=r"^[^\n]*$") as caught:
            wrong()
        assert words in str(caught.value)


def test_nothing_is_aligned_to_a_template_as_nothing(inrs):
    assert len(align(inrs.select(slice(0)), inrs.select(slice(1)), "phase")) == 0
