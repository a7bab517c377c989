"""MixUp: weights and targets are averaged with the same lam, between members of the batch."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from inr_factory.errors import UsageError
from inr_factory.inr.initialization import initialize
from inr_factory.inr.spec import SirenSpec
from inr_factory.learning.alignment.mixup import MixUp, ThoroughMixUp, draw_lam, draw_partners, mix, parse_mixup
from inr_factory.learning.alignment.weight_matching import align, relative_distance

MATCHES = ["auto", "none", "permute", "permutation", "signed", "phase"]


@pytest.fixture
def targets():
    """One class for each of the five INRs of `inrs`, so that a mixed target tells who was mixed."""
    return torch.eye(5)


@pytest.mark.parametrize("match", MATCHES)
def test_targets_are_mixed_with_the_lam_of_the_weights(match, inrs, targets, generator):
    before = inrs.flatten()

    mixed, mixed_targets = MixUp(match=match)(inrs, targets, generator)

    assert mixed.spec == inrs.spec
    torch.testing.assert_close(mixed_targets.sum(dim=1), torch.ones(5))
    assert torch.equal(inrs.flatten(), before), "the input batch was changed in place"
    assert torch.equal(targets, torch.eye(5)), "the targets were changed in place"
    # The last bias is touched by no alignment, so it shows lam and the partner.
    torch.testing.assert_close(mixed.biases[-1], mixed_targets @ inrs.biases[-1])


def test_plain_mixing_is_the_average_of_the_flat_weights(inrs, targets, generator):
    mixed, mixed_targets = MixUp(match="none")(inrs, targets, generator)

    torch.testing.assert_close(mixed.flatten(), mixed_targets @ inrs.flatten())


@pytest.mark.parametrize("kind", [MixUp, ThoroughMixUp])
@pytest.mark.parametrize("match", ["permutation", "signed", "phase"])
def test_the_partner_is_aligned_before_it_is_mixed(match, kind, inrs, targets, generator):
    mixed, mixed_targets = kind(match=match)(inrs, targets, generator)

    for n in range(5):
        weight = mixed_targets[n].clone()
        lam, weight[n] = float(weight[n]), 0
        if lam < 1:
            partner = inrs.select(weight.argmax()[None])
            aligned = align(partner, inrs.select(slice(n, n + 1)), match, kind.max_sweeps)
            expected = lam * inrs.flatten()[n] + (1 - lam) * aligned.flatten()[0]
            torch.testing.assert_close(mixed.flatten()[n], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("match", MATCHES)
def test_lam_one_gives_the_input_back_bit_for_bit(match, inrs, targets, generator):
    mixed, mixed_targets = MixUp(match=match, probability=0)(inrs, targets, generator)

    assert torch.equal(mixed.flatten(), inrs.flatten())
    assert torch.equal(mixed_targets, targets)


def test_mix_is_exact_at_both_ends(inrs):
    partners = initialize(inrs.spec, range(10, 15))

    assert torch.equal(mix(inrs, partners, torch.ones(5)).flatten(), inrs.flatten())
    assert torch.equal(mix(inrs, partners, torch.zeros(5)).flatten(), partners.flatten())


def test_each_inr_is_mixed_with_the_probability_and_by_its_own_lam(inrs, generator):
    many, targets = inrs.select(torch.arange(2000) % 5), torch.eye(2000)

    _, mixed = MixUp(probability=0.3)(many, targets, generator)

    own = mixed.diagonal()
    assert abs(float((own < 1).float().mean()) - 0.3) < 0.04
    assert len(own[own < 1].unique()) > 500


def test_random_permutation_scrambles_the_partner(inrs, targets, generator):
    mixed, mixed_targets = MixUp(match="permute")(inrs, targets, generator)

    assert not torch.allclose(mixed.flatten(), mixed_targets @ inrs.flatten(), atol=1e-3)


@pytest.mark.parametrize("match", MATCHES)
def test_mixing_draws_from_the_generator_it_is_given_alone(match, inrs, targets):
    untouched = torch.get_rng_state()

    first = MixUp(match=match)(inrs, targets, torch.Generator().manual_seed(1))
    again = MixUp(match=match)(inrs, targets, torch.Generator().manual_seed(1))
    other = MixUp(match=match)(inrs, targets, torch.Generator().manual_seed(2))

    assert torch.equal(torch.get_rng_state(), untouched), "the global generator was used"
    assert torch.equal(first[0].flatten(), again[0].flatten())
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[1], other[1])


def test_partners_are_a_uniform_permutation_of_the_batch(generator):
    drawn = torch.stack([draw_partners(torch.zeros(4), generator) for _ in range(4000)])

    assert torch.equal(drawn.sort(dim=1).values, torch.arange(4).expand(4000, 4))
    share = torch.stack([(drawn == n).float().mean(dim=0) for n in range(4)])
    torch.testing.assert_close(share, torch.full((4, 4), 0.25), atol=0.03, rtol=0)


def test_partners_of_the_same_class_are_of_the_same_class(inrs, generator):
    labels = torch.randint(0, 3, (500,), generator=generator)
    many, targets = inrs.select(torch.arange(500) % 5), torch.eye(3)[labels]

    _, kept = MixUp(same_class=True)(many, targets, generator)
    _, mixed = MixUp()(many, targets, generator)

    assert torch.equal(kept, targets)
    assert not torch.equal(mixed, targets)
    partner = draw_partners(labels, generator)
    assert torch.equal(labels[partner], labels)
    assert torch.equal(partner.sort().values, torch.arange(500))
    assert float((partner == torch.arange(500)).float().mean()) < 0.1


@pytest.mark.parametrize("alpha", [0.01, 0.2, 1.0, 4.0])
def test_lam_has_the_moments_of_its_beta_distribution(alpha, generator):
    lam = draw_lam(40_000, alpha, generator)

    assert bool(((lam >= 0) & (lam <= 1)).all())
    assert abs(float(lam.mean()) - 0.5) < 0.01
    assert float(lam.var()) == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.03)


def test_alpha_one_is_uniform(generator):
    lam = draw_lam(40_000, 1.0, generator).sort().values

    torch.testing.assert_close(lam, torch.linspace(0, 1, 40_000, dtype=lam.dtype), atol=0.01, rtol=0)


def test_aligned_midpoints_stay_nearer_to_both(inrs, generator):
    many, partners = initialize(inrs.spec, range(20)), initialize(inrs.spec, range(50, 70))
    half = torch.full((20,), 0.5)

    aligned = align(partners, many, "phase")

    near, far = mix(many, aligned, half), mix(many, partners, half)
    assert float(relative_distance(near, many).mean()) < 0.8 * float(relative_distance(far, many).mean())


@pytest.mark.parametrize(
    ("activation", "finest"), [("sine", "phase"), ("relu", "permutation"), ("tanh", "signed"), ("gauss", "signed")]
)
def test_mixing_aligns_by_all_symmetries_that_the_inrs_have_unless_told_otherwise(activation, finest):
    inrs = initialize(SirenSpec(2, 1, hidden_dim=8, activation=activation), range(6))

    mixed, named, plain = (
        mixing(inrs, torch.eye(6), torch.Generator().manual_seed(1))[0].flatten()
        for mixing in (parse_mixup("mixup"), MixUp(match=finest), MixUp(match="none"))
    )

    assert torch.equal(mixed, named)
    assert not torch.allclose(mixed, plain)


def test_mixing_is_written_as_text():
    assert parse_mixup("mixup") == MixUp(alpha=1.0, match="auto", probability=1.0, same_class=False)
    assert parse_mixup("mixup:alpha=0.2,match=signed,same_class=true") == MixUp(
        alpha=0.2, match="signed", same_class=True
    )
    assert parse_mixup(str(MixUp(match="phase"))) == MixUp(match="phase")
    with pytest.raises(
        UsageError, match="match must be one of auto, none, permute, permutation, signed, phase, scale, got 'sign'"
    ):
        parse_mixup("mixup:match=sign")
    with pytest.raises(UsageError, match="did you mean 'mixup'"):
        parse_mixup("mixip")


@pytest.mark.parametrize("refused", [{"alpha": 0}, {"alpha": -1}, {"probability": 1.5}, {"match": "aligned"}])
def test_values_outside_their_range_are_refused(refused):
    with pytest.raises(UsageError):
        MixUp(**refused)


def test_targets_that_are_labels_and_inrs_of_other_specs_are_refused_in_one_line(inrs, generator):
    alien = replace(inrs, spec=replace(inrs.spec, omega_0=inrs.spec.omega_0 + 1))

    for wrong, words in (
        (lambda: MixUp()(inrs, torch.arange(5), generator), "needs targets (5, C) of floats, got (5,) of torch.int64"),
        (lambda: MixUp()(inrs, torch.eye(4), generator), "needs targets (5, C)"),
        (lambda: MixUp()(inrs, torch.eye(5), 7), "generator must be a torch.Generator"),
        (lambda: MixUp()(inrs, torch.eye(5, device="meta"), generator), "the INRs are on cpu and the targets on meta"),
        (lambda: MixUp()(inrs.flatten(), torch.eye(5), generator), "MixUp needs an INRBatch, got torch.Tensor"),
        (lambda: mix(inrs, alien, torch.ones(5)), "only INRs of one spec"),
        (lambda: mix(inrs, inrs.select(slice(3))), "5 INRs need 5 partners or one for all, got 3"),
        (lambda: mix(inrs, inrs.to(torch.float64)), "one dtype and device"),
        (lambda: mix(inrs, inrs.flatten()), "mix needs an INRBatch"),
        (lambda: mix(inrs, inrs, 1.5), "lam must lie in [0, 1]"),
        (lambda: mix(inrs, inrs, torch.ones(4)), "lam must have the shape () or (5,), got (4,)"),
    ):
        with pytest.raises(UsageError, match=r"^[^\n]*$") as caught:
            wrong()
        assert words in str(caught.value)


@pytest.mark.parametrize("match", MATCHES)
def test_one_inr_alone_and_none_at_all_are_mixed_with_themselves(match, generator):
    spec = SirenSpec(2, 1, hidden_dim=8)

    for count in (0, 1):
        inrs = initialize(spec, range(count))
        mixed, targets = MixUp(match=match)(inrs, torch.ones(count, 3), generator)
        assert len(mixed) == len(targets) == count


def test_the_midpoint_is_the_default_and_one_partner_serves_all(inrs):
    partner = initialize(inrs.spec, [77])
    expected = (inrs.flatten() + partner.flatten()) / 2

    torch.testing.assert_close(mix(inrs, partner).flatten(), expected)
    torch.testing.assert_close(mix(inrs, partner, lam=0.5).flatten(), expected)
    torch.testing.assert_close(mix(inrs, partner, np.full(5, 0.5)).flatten(), expected)


def test_without_a_generator_every_call_draws_other_numbers(inrs):
    mixing = MixUp(match="phase")

    (first, targets), (second, _) = mixing(inrs, np.eye(5, dtype=np.float32)), mixing(inrs, torch.eye(5))

    assert not torch.equal(first.flatten(), second.flatten())
    torch.testing.assert_close(targets.sum(dim=1), torch.ones(5))
