"""Symmetries: the weights change and the function does not."""

from dataclasses import replace

import pytest
import torch
from support.specs import KINDS, names, random_inrs

from inr_factory.errors import UsageError
from inr_factory.inr.initialization import initialize
from inr_factory.inr.spec import SirenSpec
from inr_factory.learning.transforms.neuron_ops import change_layer, half_turns
from inr_factory.learning.transforms.symmetries import (
    FlipSigns,
    PermuteNeurons,
    ScaleReLU,
    ShiftPhases,
)

EXACT = [PermuteNeurons(), FlipSigns(), FlipSigns(probability=1.0), ShiftPhases(), ShiftPhases(max_k=3)]

# omega_0 times a bias is up to 60 here, and float32 knows its sine to 4e-6; the last layer averages the errors.
ATOL = 1e-5


@pytest.mark.parametrize("transform", EXACT, ids=str)
def test_exact_transforms_change_the_weights_but_not_the_function(transform, inrs, coords, generator):
    before = inrs.flatten()

    moved = transform(inrs, generator)

    assert bool((moved.flatten() != before).any(dim=1).all())
    assert torch.equal(inrs.flatten(), before), "the input batch was changed in place"
    torch.testing.assert_close(moved(coords), inrs(coords), atol=ATOL, rtol=0)


def test_scaling_relu_neurons_changes_the_weights_but_not_the_function(relu_inrs, generator):
    coords = 2 * torch.rand(64, 2, generator=generator) - 1

    moved = ScaleReLU()(relu_inrs, generator)

    assert bool((moved.weights[1] != relu_inrs.weights[1]).any())
    torch.testing.assert_close(moved(coords), relu_inrs(coords), atol=ATOL, rtol=0)


def test_scaling_relu_neurons_keeps_to_its_range(relu_inrs, generator):
    ratio = ScaleReLU(max_factor=3)(relu_inrs, generator).biases[0] / relu_inrs.biases[0]

    assert 1 / 3 - 1e-6 <= float(ratio.min()) < 0.8
    assert 1.25 < float(ratio.max()) <= 3 + 1e-6


def test_flips_without_their_outgoing_weights_change_the_function(inrs, coords):
    sign = -torch.ones(5, 8)
    wrong = change_layer(inrs, 0, None, sign, torch.ones(5, 8))

    assert float((wrong(coords) - inrs(coords)).abs().max()) > 100 * ATOL


def test_phases_shifted_by_another_omega_change_the_function(inrs, coords):
    alien = replace(inrs, spec=replace(inrs.spec, omega_0=inrs.spec.omega_0 + 1))
    wrong = replace(change_layer(alien, 0, None, None, *half_turns(alien, torch.ones(5, 8))), spec=inrs.spec)

    assert float((wrong(coords) - inrs(coords)).abs().max()) > 100 * ATOL


def test_a_permutation_says_where_each_neuron_was(inrs):
    order = torch.stack([torch.roll(torch.arange(8), n) for n in range(5)])

    moved = change_layer(inrs, 1, order)

    for n in range(5):
        assert torch.equal(moved.weights[1][n], inrs.weights[1][n][order[n]])
        assert torch.equal(moved.biases[1][n], inrs.biases[1][n][order[n]])
        assert torch.equal(moved.weights[2][n], inrs.weights[2][n][:, order[n]])
    assert torch.equal(moved.weights[0], inrs.weights[0])


def test_every_permutation_is_one_and_every_place_is_as_likely(generator):
    inrs = initialize(SirenSpec(2, 1, hidden_dim=4, num_hidden=1), [7]).select(torch.zeros(6000, dtype=torch.long))

    moved = PermuteNeurons()(inrs, generator).biases[0]

    torch.testing.assert_close(moved.sort(dim=1).values, inrs.biases[0].sort(dim=1).values, atol=0, rtol=0)
    share = torch.stack([(moved == value).float().mean(dim=0) for value in inrs.biases[0][0]])
    torch.testing.assert_close(share, torch.full((4, 4), 0.25), atol=0.03, rtol=0)


def test_half_turns_are_uniform_in_their_range(inrs, generator):
    many = inrs.select(torch.zeros(2000, dtype=torch.long))
    step = torch.pi / inrs.spec.omega_0

    k = (ShiftPhases(max_k=2)(many, generator).biases[0] - many.biases[0]) / step

    share = torch.stack([((k - value).abs() < 1e-3).float().mean() for value in range(-2, 3)])
    torch.testing.assert_close(share, torch.full((5,), 0.2), atol=0.02, rtol=0)


@pytest.mark.parametrize("transform", [PermuteNeurons(), FlipSigns(), ShiftPhases()], ids=str)
def test_one_neuron_in_one_hidden_layer_is_enough(transform, generator):
    inrs = initialize(SirenSpec(2, 1, hidden_dim=1, num_hidden=1), range(3))
    coords = torch.linspace(-1, 1, 10).view(5, 2)

    torch.testing.assert_close(transform(inrs, generator)(coords), inrs(coords), atol=ATOL, rtol=0)


def exact_for(transform, spec):
    has = {"flip": ("sine", "tanh", "finer", "gauss"), "phase": ("sine",), "scale_relu": ("relu",)}
    return spec.activation in has.get(transform.name, (spec.activation,))


@pytest.mark.parametrize("transform", [PermuteNeurons(), FlipSigns(), ShiftPhases(), ScaleReLU()], ids=str)
@pytest.mark.parametrize("spec", KINDS, ids=names(KINDS))
def test_a_symmetry_is_exact_for_its_activations_and_refused_for_others_in_one_line(transform, spec, generator):
    inrs, coords = random_inrs(spec), torch.rand(64, 2, generator=generator, dtype=torch.float64)
    if not exact_for(transform, spec):
        with pytest.raises(
            UsageError, match=r"^[^\n]* INRs only, got [^\n]*; their symmetries are permutations[^\n]*$"
        ):
            transform(inrs, generator)
        return

    moved = transform(inrs, generator)

    for before, after in zip(inrs.biases[:-1], moved.biases[:-1], strict=True):
        assert bool((before != after).any())
    torch.testing.assert_close(moved(coords), inrs(coords), atol=1e-12, rtol=0)


@pytest.mark.parametrize("activation", ["sine", "relu", "tanh", "gauss", "finer"])
def test_signs_and_scales_of_the_wrong_activation_change_the_function(activation, generator):
    inrs = random_inrs(SirenSpec(2, 3, hidden_dim=6, omega_0=3.0, activation=activation))
    coords = torch.rand(64, 2, generator=generator, dtype=torch.float64)

    def change(incoming, outgoing):
        factors = (torch.full((5, 6), factor, dtype=torch.float64) for factor in (incoming, outgoing))
        return float((change_layer(inrs, 0, None, *factors)(coords) - inrs(coords)).abs().max())

    assert (change(-1, -1) < 1e-12) == (activation in ("sine", "tanh", "finer"))
    assert (change(-1, 1) < 1e-12) == (activation == "gauss")
    assert (change(2, 0.5) < 1e-12) == (activation == "relu")


@pytest.mark.parametrize("spec", [KINDS[1], KINDS[5]], ids=str)
def test_every_layer_has_permutations_of_its_own_width(spec, generator):
    inrs = random_inrs(spec, 200)

    moved = PermuteNeurons()(inrs, generator)

    for before, after in zip(inrs.biases[:-1], moved.biases[:-1], strict=True):
        assert torch.equal(after.sort(dim=1).values, before.sort(dim=1).values)
        share = (after == before).double().mean()
        assert abs(float(share) - 1 / before.shape[1]) < 0.06


@pytest.mark.parametrize(
    "refused",
    [
        lambda: FlipSigns(probability=1.5),
        lambda: FlipSigns(probability=-0.1),
        lambda: ShiftPhases(max_k=0),
        lambda: ShiftPhases(max_k=1.5),
        lambda: ScaleReLU(max_factor=0.5),
    ],
)
def test_values_outside_their_range_are_refused(refused):
    with pytest.raises(UsageError):
        refused()
