"""Neuron operations: the C code does what torch does, on INRs however they lie in memory, and can be done without."""

import pytest
import torch

from inr_factory.inr.batch import INRBatch
from inr_factory.inr.initialization import initialize
from inr_factory.inr.spec import SirenSpec
from inr_factory.learning.alignment.weight_matching import NeuronMatching
from inr_factory.learning.transforms import neuron_ops
from inr_factory.learning.transforms.canonical import canonicalize
from inr_factory.learning.transforms.neuron_ops import flat_view
from inr_factory.learning.transforms.symmetries import (
    FlipSigns,
    PermuteNeurons,
    ScaleReLU,
    ShiftPhases,
    random_permutations,
)

built = pytest.mark.skipif(neuron_ops._library() is None, reason="the C code was not compiled when this was installed")

SPECS = [
    SirenSpec(2, 1, hidden_dim=32, num_hidden=2, output_bias=0.5),
    SirenSpec(2, 3, hidden_dim=13, num_hidden=3, omega_0=7.0),
    SirenSpec(3, 1, hidden_dim=5, num_hidden=1, omega_0=10.0),
    SirenSpec(9, 2, hidden_dim=8, num_hidden=2),
]


def spread(spec, count=6):
    """INRs whose biases lie over several periods, so that phases have to be brought back."""
    flat = initialize(spec, range(count)).flatten()
    return INRBatch.from_flat(spec, 2 * flat)


def in_torch(monkeypatch, operate):
    with monkeypatch.context() as patch:
        patch.setattr(neuron_ops, "supports", lambda inrs: False)
        return operate()


@built
@pytest.mark.parametrize("spec", SPECS, ids=str)
@pytest.mark.parametrize("transform", [PermuteNeurons(), FlipSigns(), ShiftPhases(max_k=3)], ids=str)
def test_transforms_are_those_of_torch(transform, spec, monkeypatch):
    inrs = spread(spec)

    def operate():
        return transform(inrs, torch.Generator().manual_seed(3)).flatten()

    assert neuron_ops.supports(inrs)
    torch.testing.assert_close(operate(), in_torch(monkeypatch, operate), atol=0, rtol=0)


@built
def test_relu_scaling_is_that_of_torch(monkeypatch):
    inrs = spread(SirenSpec(2, 1, hidden_dim=9, num_hidden=3, activation="relu", start="linear"))

    def operate():
        return ScaleReLU()(inrs, torch.Generator().manual_seed(3)).flatten()

    torch.testing.assert_close(operate(), in_torch(monkeypatch, operate), atol=0, rtol=0)


@built
@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_canonical_forms_are_those_of_torch(spec, monkeypatch):
    inrs = spread(spec)
    inrs.weights[0][0, 0] = 0  # a constant neuron
    inrs.weights[0][1, 1, :2] = torch.tensor([-0.25, 0.25])
    inrs.weights[0][1, 1, 2:] = 0

    form = canonicalize(inrs)

    torch.testing.assert_close(
        form.flatten(), in_torch(monkeypatch, lambda: canonicalize(inrs).flatten()), atol=1e-7, rtol=0
    )
    assert torch.equal(canonicalize(form).flatten(), form.flatten())


@built
@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_alignments_are_applied_as_in_torch(spec, monkeypatch):
    inrs, generator = spread(spec), torch.Generator().manual_seed(1)
    shape = (len(inrs), spec.num_hidden, spec.hidden_dim)
    orders = random_permutations(shape, generator)
    signs = torch.randn(shape, generator=generator).sign()
    turns = torch.randint(-2, 3, shape, generator=generator).float()

    def operate():
        return NeuronMatching(orders, signs, turns).apply(inrs).flatten()

    torch.testing.assert_close(operate(), in_torch(monkeypatch, operate), atol=1e-6, rtol=0)


@built
def test_nothing_that_was_given_changes():
    inrs = spread(SPECS[0])
    before = inrs.flatten()

    canonicalize(inrs)
    FlipSigns()(inrs, torch.Generator().manual_seed(0))

    assert torch.equal(inrs.flatten(), before)


@built
def test_nan_stays_nan():
    inrs = spread(SPECS[0])
    inrs.weights[1][2, 3, 4] = float("nan")

    form = canonicalize(inrs).flatten()

    assert torch.isnan(form[2]).any()
    assert bool(torch.isfinite(form[[0, 1, 3, 4, 5]]).all())


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_inrs_that_lie_side_by_side_are_not_copied(spec):
    inrs = spread(spec)

    assert flat_view(inrs).data_ptr() == inrs.weights[0].data_ptr()
    assert torch.equal(flat_view(inrs), inrs.flatten())
    assert torch.equal(flat_view(inrs.select(slice(1, 6, 2))), inrs.flatten()[1:6:2])
    assert torch.equal(flat_view(inrs.select(slice(2, 3))), inrs.flatten()[2:3])
    assert len(flat_view(inrs.select(slice(0)))) == 0


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_inrs_that_do_not_are(spec):
    inrs = spread(spec)
    apart = INRBatch(spec, tuple(W.clone() for W in inrs.weights), tuple(b.clone() for b in inrs.biases))
    turned = INRBatch(spec, tuple(W.mT.contiguous().mT for W in inrs.weights), inrs.biases)
    swapped = INRBatch(spec, inrs.weights, (*inrs.biases[:-1], inrs.biases[-1].flip(0)))

    for other in (apart, turned, swapped):
        assert torch.equal(flat_view(other), other.flatten())


def test_gradients_other_types_and_very_wide_inrs_are_left_to_torch():
    inrs = spread(SPECS[0])
    leaf = inrs.flatten().requires_grad_()

    assert not neuron_ops.supports(INRBatch.from_flat(SPECS[0], leaf))
    assert not neuron_ops.supports(inrs.to(torch.float64))
    assert not neuron_ops.supports(initialize(SirenSpec(2, 1, hidden_dim=1025, num_hidden=1), [0]))
    canonicalize(INRBatch.from_flat(SPECS[0], leaf)).flatten().sum().backward()
    assert leaf.grad is not None


def test_without_the_library_torch_does_the_work(monkeypatch, tmp_path):
    monkeypatch.setattr(neuron_ops, "LIBRARY", tmp_path / "_neuron_ops.so")
    neuron_ops._library.cache_clear()
    try:
        inrs = spread(SPECS[0])
        assert not neuron_ops.supports(inrs)
        assert len(canonicalize(inrs)) == len(inrs)
    finally:
        neuron_ops._library.cache_clear()
