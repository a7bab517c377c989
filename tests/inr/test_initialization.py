"""Initial weights depend on their seed alone, and are uniform within their bounds."""

import math

import pytest
import torch

from inr_factory.inr.initialization import initialization_bounds, initialize
from inr_factory.inr.spec import SirenSpec


@pytest.mark.parametrize("start", ["siren", "dwsnets", "linear"])
def test_initial_weights_come_from_their_seed_alone(start):
    spec = SirenSpec(2, 1, hidden_dim=4, start=start)

    together = initialize(spec, [5, 0, 2**63 - 1, 77]).flatten()

    for row, seed in enumerate([5, 0, 2**63 - 1, 77]):
        assert torch.equal(initialize(spec, [seed]).flatten()[0], together[row])
    assert torch.equal(initialize(spec, [77, 2**63 - 1, 0, 5]).flatten(), together.flip(0))
    assert len(torch.unique(together, dim=0)) == 4
    for other in (6, 5 + 2**32, 5 + 2**62):
        assert not torch.equal(initialize(spec, [other]).flatten()[0], together[0])


def test_initial_weights_leave_the_global_generator_alone():
    state = torch.get_rng_state()

    initialize(SirenSpec(2, 1, hidden_dim=4), range(3))

    assert torch.equal(torch.get_rng_state(), state)


def test_initial_weights_are_the_same_in_every_version():
    """Data sets are made again from these: whoever changes them changes every set that was published."""
    spec = SirenSpec(1, 1, hidden_dim=2, num_hidden=1, start="linear")

    uniform = initialize(spec, [12345]).flatten()[0] / initialization_bounds(spec)

    known = [-0.8840746, 0.2927604, 0.0895201, 0.5485351, 0.9234657, 0.5728725, 0.6894431]
    torch.testing.assert_close(uniform, torch.tensor(known), atol=1e-6, rtol=0)


def sine(inputs, omega_0):
    return math.sqrt(6 / inputs) / omega_0


@pytest.mark.parametrize("omega_0", [30.0, 7.0])
@pytest.mark.parametrize(
    ("start", "weights", "biases"),
    [
        ("siren", (lambda w: 1 / 3, lambda w: sine(4, w), lambda w: sine(4, w)), (3**-0.5, 0.5, 0.5)),
        ("dwsnets", (lambda w: sine(3, w), lambda w: sine(4, w), lambda w: 0.5), (0.0, 0.0, 0.5)),
        ("linear", (lambda w: 3**-0.5, lambda w: 0.5, lambda w: 0.5), (3**-0.5, 0.5, 0.5)),
    ],
)
def test_initial_weights_are_uniform_within_the_bounds_of_their_convention(start, weights, biases, omega_0):
    spec = SirenSpec(3, 2, hidden_dim=4, num_hidden=2, omega_0=omega_0, start=start)

    inrs = initialize(spec, range(600))

    bounds = [bound(omega_0) for bound in weights] + list(biases)
    for values, bound in zip(inrs.weights + inrs.biases, bounds, strict=True):
        if bound == 0:
            assert not values.any()
            continue
        scaled = (values / bound).flatten()
        assert float(scaled.abs().max()) <= 1 + 1e-6
        assert float(scaled.min()) < -0.98, "the bound is not reached"
        assert float(scaled.max()) > 0.98, "the bound is not reached"
        counts = torch.histc(scaled, bins=4, min=-1, max=1) / len(scaled)
        torch.testing.assert_close(counts, torch.full((4,), 0.25), atol=0.05, rtol=0)
