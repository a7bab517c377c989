"""Canonical form: one for all INRs that differ by signs and phases, and its own canonical form."""

import math

import pytest
import torch
from support.specs import KINDS, names, random_inrs

from inr_factory.inr.batch import INRBatch
from inr_factory.inr.initialization import initialize
from inr_factory.inr.spec import SirenSpec
from inr_factory.learning.transforms.canonical import Canonicalize, canonicalize
from inr_factory.learning.transforms.compose import Compose
from inr_factory.learning.transforms.neuron_ops import change_layer, half_turns
from inr_factory.learning.transforms.symmetries import (
    FlipSigns,
    PermuteNeurons,
    ScaleReLU,
    ShiftPhases,
)

OPERATIONS = [
    FlipSigns(),
    ShiftPhases(),
    Compose((ShiftPhases(max_k=4), FlipSigns(), ShiftPhases(max_k=4), FlipSigns())),
]

SYMMETRIES = {
    "sine": (FlipSigns(), ShiftPhases()),
    "relu": (PermuteNeurons(), ScaleReLU()),
    **dict.fromkeys(("tanh", "gauss", "finer"), (PermuteNeurons(), FlipSigns())),
}


def equal(first, second):
    return torch.equal(first.flatten(), second.flatten())


def test_the_canonical_form_is_the_same_function_in_other_weights(inrs, coords):
    before = inrs.flatten()

    form = canonicalize(inrs)

    assert not equal(form, inrs)
    assert torch.equal(inrs.flatten(), before), "the input batch was changed in place"
    torch.testing.assert_close(form(coords), inrs(coords), atol=1e-5, rtol=0)


@pytest.mark.parametrize("operation", OPERATIONS, ids=str)
def test_exact_operations_of_signs_and_phases_have_one_canonical_form(operation, inrs, generator):
    moved = operation(inrs, generator)
    assert float((moved.flatten() - inrs.flatten()).abs().max()) > 0.05

    torch.testing.assert_close(canonicalize(moved).flatten(), canonicalize(inrs).flatten(), atol=1e-6, rtol=0)


def test_the_weights_come_back_bit_for_bit(inrs, generator):
    moved = FlipSigns()(ShiftPhases(max_k=4)(inrs, generator), generator)

    for actual, expected in zip(canonicalize(moved).weights, canonicalize(inrs).weights, strict=True):
        assert torch.equal(actual, expected)


def test_inexact_operations_have_another_canonical_form(inrs):
    wrong = change_layer(inrs, 0, None, -torch.ones(5, 8), torch.ones(5, 8))

    assert float((canonicalize(wrong).flatten() - canonicalize(inrs).flatten()).abs().max()) > 1e-3


def test_a_canonical_form_is_a_fixed_point_bit_for_bit(inrs, generator):
    many = ShiftPhases(max_k=4)(FlipSigns()(inrs.select(torch.arange(5000) % 5), generator), generator)
    form = canonicalize(many)

    assert equal(canonicalize(form), form)
    assert equal(canonicalize(INRBatch.from_flat(form.spec, form.flatten())), form), "another memory layout"


def test_phases_lie_in_one_half_period_and_rows_on_one_side(inrs):
    form = canonicalize(inrs)

    for W, b in zip(form.weights[:-1], form.biases[:-1], strict=True):
        assert float((inrs.spec.omega_0 * b).abs().max()) <= math.pi / 2 * (1 + 3e-4)
        assert bool((W.sum(dim=2) > 0).all())


def test_the_canonical_form_does_not_depend_on_the_order_of_the_neurons(inrs, generator):
    order = torch.rand(5, 8, generator=generator).argsort(dim=1)

    assert equal(canonicalize(change_layer(inrs, 0, order)), change_layer(canonicalize(inrs), 0, order))
    assert not equal(canonicalize(PermuteNeurons()(inrs, generator)), canonicalize(inrs))


def one_layer(weight, bias):
    """One INR of one hidden layer from its rows (H, 2) and phases omega_0 b in quarter turns (H,)."""
    weight, phase = torch.tensor(weight), torch.tensor(bias) * math.pi / 2
    spec = SirenSpec(2, 1, hidden_dim=len(phase), num_hidden=1, omega_0=7.0)
    onward = torch.arange(1.0, len(phase) + 1)
    return INRBatch(spec, (weight[None], onward[None, None]), (phase[None] / 7, torch.zeros(1, 1)))


def test_pure_cosines_at_the_edge_of_the_period_come_out_on_one_side():
    inrs = one_layer([[1.0, 2.0]] * 6, [1.0, -1.0, 3.0, -3.0, 5.0, 1.00001])

    form = canonicalize(inrs)

    torch.testing.assert_close(form.biases[0], torch.full((1, 6), -math.pi / 14), atol=1e-5, rtol=0)
    torch.testing.assert_close(form.weights[1], torch.tensor([[[-1.0, 2.0, 3.0, -4.0, -5.0, -6.0]]]))
    assert equal(canonicalize(form), form)


def test_biases_within_rounding_of_an_edge_are_fixed_points_too():
    edge = (torch.tensor([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5], dtype=torch.float64) - 1e-4)[:, None]
    around = 1 + torch.arange(-4, 5) * 2.0**-24
    for omega_0 in torch.linspace(5, 40, 150).tolist():
        spec = SirenSpec(2, 1, hidden_dim=9, num_hidden=1, omega_0=omega_0)
        inrs = initialize(spec, range(6))
        inrs = INRBatch(spec, inrs.weights, ((edge * math.pi / omega_0 * around).float(), inrs.biases[1]))

        form = canonicalize(inrs)

        assert equal(canonicalize(form), form), omega_0


def test_rows_that_sum_to_zero_and_rows_of_zeros_have_a_side_too(generator):
    rows = [[1.0, -1.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0], [0.0, 1.0], [-2.0, 2.0]]
    inrs = one_layer(rows, [0.3, 0.4, -0.4, 1.0, 0.0, 0.0])
    form = canonicalize(inrs)

    assert bool((form.biases[0][:, 1:4] > 0).all())
    for _ in range(20):
        moved = ShiftPhases(max_k=3)(FlipSigns()(inrs, generator), generator)
        torch.testing.assert_close(canonicalize(moved).flatten(), form.flatten(), atol=2e-6, rtol=0)
    assert equal(canonicalize(form), form)


def test_many_half_turns_still_come_back(inrs):
    moved = change_layer(inrs, 1, None, None, *half_turns(inrs, torch.full((5, 8), 41.0)))

    torch.testing.assert_close(canonicalize(moved).flatten(), canonicalize(inrs).flatten(), atol=1e-5, rtol=0)


def test_as_a_transform_it_draws_nothing(inrs, generator):
    state = generator.get_state()

    assert equal(Canonicalize()(inrs, generator), canonicalize(inrs))
    assert torch.equal(generator.get_state(), state)


@pytest.mark.parametrize("spec", KINDS, ids=names(KINDS))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_activation_has_one_form_for_all_copies_by_its_symmetries(spec, dtype, generator):
    inrs, coords = random_inrs(spec), torch.rand(64, 2, generator=generator, dtype=torch.float64)
    inrs = inrs.to(dtype)
    form = canonicalize(inrs)

    torch.testing.assert_close(form.to(torch.float64)(coords), inrs.to(torch.float64)(coords), atol=1e-4, rtol=0)
    assert equal(canonicalize(form), form)
    assert not equal(form, inrs)
    moved = inrs
    for transform in SYMMETRIES[spec.activation]:
        moved = transform(moved, generator)
        torch.testing.assert_close(canonicalize(moved).flatten(), form.flatten(), atol=1e-5, rtol=1e-5)
    other = change_layer(inrs, 0, None, torch.full((5, spec.hidden_dims[0]), 1.5, dtype=dtype))
    assert float((canonicalize(other).flatten() - form.flatten()).abs().max()) > 1e-3, "of another function"


@pytest.mark.parametrize("activation", ["tanh", "finer", "gauss", "relu"])
def test_neurons_without_weights_have_one_form_of_every_activation(activation, generator):
    spec = SirenSpec(2, 1, hidden_dim=6, omega_0=3.0, activation=activation)
    inrs = random_inrs(spec)
    weights, biases = [W.clone() for W in inrs.weights], [b.clone() for b in inrs.biases]
    weights[0][:, :4] = 0
    biases[0][:, :4] = torch.tensor([0, -0.5, -0.3, 0.7], dtype=torch.float64)
    inrs = INRBatch(spec, tuple(weights), tuple(biases))
    form, coords = canonicalize(inrs), torch.rand(64, 2, generator=generator, dtype=torch.float64)

    torch.testing.assert_close(form(coords), inrs(coords), atol=1e-12, rtol=0)
    assert equal(canonicalize(form), form)
    for transform in SYMMETRIES[activation]:
        moved = transform(inrs, generator)
        torch.testing.assert_close(canonicalize(moved).flatten(), form.flatten(), atol=1e-12, rtol=0)
    assert activation == "gauss" or int((form.weights[1] == 0).all(dim=1).sum()) == 5 * (
        3 if activation == "relu" else 1
    )


def test_neurons_that_are_no_sines_are_sorted_and_those_of_relu_have_norm_one():
    for activation in ("tanh", "relu"):
        form = canonicalize(random_inrs(SirenSpec(2, 1, hidden_dim=6, activation=activation)))
        for W, b in zip(form.weights[:-1], form.biases[:-1], strict=True):
            sums = W.sum(dim=2)
            assert bool((sums.diff(dim=1) >= 0).all())
            if activation == "tanh":
                assert bool((sums > 0).all())
            else:
                norms = torch.hypot(W.norm(dim=2), b)
                torch.testing.assert_close(norms, torch.ones_like(norms))


def test_float64_inrs_have_a_fixed_point_as_well():
    inrs = initialize(SirenSpec(2, 1, hidden_dim=8), range(200)).to(torch.float64)

    assert equal(canonicalize(canonicalize(inrs)), canonicalize(inrs))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_neurons_that_are_constantly_zero_have_one_form(dtype, generator):
    """Faults, section 5: the sign of their outgoing weights was whatever it had been."""
    inrs = initialize(SirenSpec(2, 1, hidden_dim=6, num_hidden=3), range(4)).to(dtype)
    weights, biases = [W.clone() for W in inrs.weights], [b.clone() for b in inrs.biases]
    weights[0][:, 2], biases[0][:, 2] = 0, 0
    weights[1][:, 3], weights[1][:, 3, 2], biases[1][:, 3] = 0, 0.5, 0  # sees the constant zero alone
    inrs = INRBatch(inrs.spec, tuple(weights), tuple(biases))
    form = canonicalize(inrs)

    assert not form.weights[1][:, :, 2].any()
    assert not form.weights[2][:, :, 3].any()
    coords = torch.rand(20, 2, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(form.to(torch.float64)(coords), inrs.to(torch.float64)(coords), atol=1e-5, rtol=0)
    for _ in range(5):
        moved = ShiftPhases(max_k=3)(FlipSigns()(inrs, generator), generator)
        torch.testing.assert_close(canonicalize(moved).flatten(), form.flatten(), atol=2e-6, rtol=0)
    assert equal(canonicalize(form), form)
