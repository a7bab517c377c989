"""Noise: how much is added, what is dropped, and what stays."""

import pytest
import torch

from inr_factory.errors import UsageError
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.initialization import initialize
from inr_factory.inr.spec import SirenSpec
from inr_factory.learning.transforms.noise import (
    Dropout,
    GaussianNoise,
    MultiplicativeNoise,
    QuantileDropout,
)

WIDE = SirenSpec(2, 1, hidden_dim=64)


def test_noise_has_the_share_of_each_layers_own_deviation(generator):
    inrs = initialize(WIDE, range(3))
    scaled = INRBatch.from_flat(WIDE, inrs.flatten() * torch.tensor([[1.0], [10.0], [0.1]]))

    moved = GaussianNoise(scale=0.5)(scaled, generator)

    for layer in range(2):
        for new, old in ((moved.weights, scaled.weights), (moved.biases, scaled.biases)):
            noise, deviation = (new[layer] - old[layer]).flatten(1).std(dim=1), old[layer].flatten(1).std(dim=1)
            torch.testing.assert_close(noise / deviation, torch.full((3,), 0.5), atol=0.15, rtol=0)


def test_noise_is_not_the_same_for_all_inrs_and_changes_the_function(repeated, coords, generator):
    moved = GaussianNoise()(repeated, generator)

    assert len(moved.flatten().unique(dim=0)) == 5
    assert float((moved(coords) - repeated(coords)).abs().max()) > 1e-3


def test_a_layer_of_one_number_has_no_deviation_and_gets_no_noise(generator):
    inrs = initialize(WIDE, range(3))

    moved = GaussianNoise()(inrs, generator)

    assert torch.equal(moved.biases[-1], inrs.biases[-1])


def test_multiplicative_noise_is_relative(generator):
    inrs = initialize(WIDE, range(3))

    ratio = MultiplicativeNoise(scale=0.1)(inrs, generator).flatten() / inrs.flatten()

    assert abs(float(ratio.mean()) - 1) < 0.01
    assert abs(float(ratio.std()) - 0.1) < 0.005


def test_dropout_zeroes_its_share_and_does_not_rescale_the_rest(generator):
    inrs = initialize(WIDE, range(5))

    dropped = Dropout(probability=0.3)(inrs, generator).flatten()

    zero = dropped == 0
    assert abs(float(zero.float().mean()) - 0.3) < 0.02
    assert torch.equal(dropped[~zero], inrs.flatten()[~zero])
    assert len(zero.unique(dim=0)) == 5


@pytest.mark.parametrize("joint", [True, False])
def test_quantile_dropout_zeroes_what_lies_below_the_quantile(joint, generator):
    inrs = initialize(WIDE, range(40))
    quantile = 0.4 * torch.rand(40, 1, generator=torch.Generator().manual_seed(0))

    dropped = QuantileDropout(max_quantile=0.4, joint=joint)(inrs, generator)

    parts = [(inrs.flatten(), dropped.flatten())]
    if not joint:
        parts = [
            (torch.cat([W.flatten(1), b], dim=1), torch.cat([new_W.flatten(1), new_b], dim=1))
            for W, b, new_W, new_b in zip(inrs.weights, inrs.biases, dropped.weights, dropped.biases, strict=True)
        ]
    for before, after in parts:
        threshold = torch.stack([row.abs().quantile(q) for row, q in zip(before, quantile[:, 0], strict=True)])
        expected = torch.where(before.abs() < threshold[:, None], 0, before)
        torch.testing.assert_close(after, expected, atol=0, rtol=0)


def test_quantile_dropout_draws_for_each_inr_from_its_whole_range(generator):
    inrs = initialize(WIDE, range(200))

    share = (QuantileDropout(max_quantile=0.2)(inrs, generator).flatten() == 0).float().mean(dim=1)

    assert float(share.min()) < 0.01
    assert 0.19 < float(share.max()) <= 0.201
    assert abs(float(share.mean()) - 0.1) < 0.01


@pytest.mark.parametrize(
    "nothing",
    [GaussianNoise(scale=0), Dropout(probability=0), QuantileDropout(max_quantile=0), MultiplicativeNoise(scale=0)],
    ids=str,
)
def test_none_of_it_leaves_the_inrs_as_they_are(nothing, inrs, generator):
    assert torch.equal(nothing(inrs, generator).flatten(), inrs.flatten())


@pytest.mark.parametrize("everything", [Dropout(probability=1), QuantileDropout(max_quantile=1)], ids=str)
def test_all_of_it_is_allowed(everything, inrs, generator):
    dropped = everything(inrs, generator).flatten()

    assert float((dropped == 0).float().mean()) > 0.2


@pytest.mark.parametrize(
    "refused",
    [
        lambda: GaussianNoise(scale=-1),
        lambda: GaussianNoise(scale=float("nan")),
        lambda: Dropout(probability=1.1),
        lambda: QuantileDropout(max_quantile=-0.1),
    ],
)
def test_values_outside_their_range_are_refused(refused):
    with pytest.raises(UsageError):
        refused()
