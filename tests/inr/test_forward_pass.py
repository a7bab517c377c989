"""The forward pass of a layer: bit by bit what the formula says, for one INR as for a batch.

Shape letters: N INRs, P points, I inputs and O outputs of a layer.
"""

import pytest
import torch
from torch.nn import functional as F

from inr_factory.inr.forward_pass import hidden_layer, last_layer
from inr_factory.inr.spec import SirenSpec

SINE = SirenSpec(2, 1, omega_0=7.0, output_bias=0.5)
RELU = SirenSpec(2, 1, output_bias=0.5, activation="relu")


@pytest.mark.parametrize("spec", [SINE, RELU], ids=["sine", "relu"])
def test_hidden_and_last_layers_keep_the_bits_of_the_formulas(spec, generator):
    hidden, W, b = (torch.randn(3, *shape, generator=generator) for shape in ((50, 8), (5, 8), (5,)))

    def activate(linear):
        return torch.sin(spec.omega_0 * linear) if spec.activation == "sine" else torch.relu(linear)

    one, batch = F.linear(hidden[0], W[0], b[0]), torch.baddbmm(b[:, None, :], hidden, W.mT)
    assert torch.equal(hidden_layer(spec, hidden[0], W[0], b[0]), activate(one))
    assert torch.equal(hidden_layer(spec, hidden, W, b), activate(batch))
    assert torch.equal(last_layer(spec, hidden[0], W[0], b[0]), one + 0.5)
    assert torch.equal(last_layer(spec, hidden, W, b), batch + 0.5)


@pytest.mark.parametrize("spec", [SINE, RELU], ids=["sine", "relu"])
def test_in_place_and_out_of_place_activations_have_the_same_bits(spec, generator):
    """The start of a `sprint` fit once wrote over its hidden values; stored sets were made that way."""
    hidden, W, b = (torch.randn(*shape, generator=generator) for shape in ((784, 32), (32, 32), (32,)))
    linear = F.linear(hidden, W, b)

    written_over = linear.mul_(spec.omega_0).sin_() if spec.activation == "sine" else linear.relu_()

    assert torch.equal(hidden_layer(spec, hidden, W, b), written_over)
