"""The forward pass of a layer: bit by bit what the formula says, for one INR as for a batch.

Shape letters: N INRs, P points, I inputs and O outputs of a layer.
"""

import math

import pytest
import torch
from torch.nn import functional as F

from inr_factory.inr.batch import INRBatch
from inr_factory.inr.forward_pass import encode, hidden_layer, last_layer
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


@pytest.mark.parametrize(
    ("activation", "formula"),
    [
        ("relu", lambda z: z.clamp_min(0)),
        ("tanh", lambda z: 1 - 2 / (torch.exp(2 * z) + 1)),
        ("gauss", lambda z: torch.exp(-z.square() / (2 * (1 / 7) ** 2))),
        ("finer", lambda z: torch.sin(7 * (z.abs() + 1) * z)),
    ],
)
def test_each_activation_is_that_of_its_paper(activation, formula, generator):
    spec = SirenSpec(2, 1, omega_0=7.0, activation=activation)
    hidden, W, b = (torch.randn(*shape, generator=generator).double() for shape in ((9, 2), (32, 2), (32,)))
    torch.testing.assert_close(hidden_layer(spec, hidden, W, b), formula(hidden @ W.T + b))


def test_a_positional_encoding_has_sines_and_cosines_of_each_frequency_in_turn():
    spec = SirenSpec(2, 1, frequencies=3)
    x, y = coords = torch.tensor([0.3, -0.7])

    encoded = encode(spec, coords)

    angles = [(part(2**k * math.pi * c)) for k in range(3) for part in (math.sin, math.cos) for c in (x, y)]
    torch.testing.assert_close(encoded, torch.tensor([x, y, *angles]))
    without = encode(SirenSpec(2, 1, frequencies=3, coordinates=False), coords)
    assert torch.equal(without, encoded[2:])
    lower = encode(SirenSpec(2, 1, frequencies=4, first_frequency=math.pi / 2), coords)
    torch.testing.assert_close(torch.cat([lower[:2], lower[6:]]), encoded)


def test_inrs_of_encoded_coords_compute_their_first_layer_of_them(generator):
    spec = SirenSpec(3, 2, widths=(8, 5), frequencies=2, activation="relu")
    inrs = INRBatch.from_flat(spec, torch.randn(4, spec.num_parameters, generator=generator))
    coords = torch.rand(4, 6, 3, generator=generator)

    values = inrs(coords)

    first = torch.relu(encode(spec, coords) @ inrs.weights[0].mT + inrs.biases[0][:, None])
    second = torch.relu(first @ inrs.weights[1].mT + inrs.biases[1][:, None])
    torch.testing.assert_close(values, second @ inrs.weights[2].mT + inrs.biases[2][:, None])
    torch.testing.assert_close(inrs(coords[0])[:1], values[:1])
