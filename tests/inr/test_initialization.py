"""Initial weights depend on their seed alone, and are uniform within their bounds."""

import math

import numpy as np
import pytest
import torch

from inr_factory.inr.initialization import (
    draw_on_device,
    initialization_bounds,
    initialize,
    initialize_flat,
    philox,
)
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


SEEDS = [0, 1, 5, 2**32 - 1, 2**32, 2**62 + 5, 2**63 - 1, *range(10**18, 10**18 + 150)]


@pytest.mark.parametrize("blocks", [1, 2, 149])
def test_bits_drawn_on_a_device_are_those_of_numpy(blocks):
    words = philox(torch.tensor(SEEDS), blocks).numpy()
    for row, seed in zip(words, SEEDS, strict=True):
        assert np.array_equal(row, np.random.Philox(key=seed).random_raw(4 * blocks).view("<i4"))


@pytest.mark.parametrize("start", ["siren", "dwsnets"])
@pytest.mark.parametrize("sizes", [(2, 1, 32, 2), (1, 1, 2, 1), (3, 2, 5, 3)], ids=str)
def test_weights_drawn_one_by_one_together_and_on_a_device_have_the_same_bits(sizes, start):
    spec = SirenSpec(sizes[0], sizes[1], hidden_dim=sizes[2], num_hidden=sizes[3], start=start)
    bounds, count = initialization_bounds(spec), spec.num_parameters
    raw = np.stack([np.random.Philox(key=seed).random_raw((count + 1) // 2) for seed in SEEDS]).astype("<u8")
    uniform = (raw.view("<u4")[:, :count] >> 8).astype(np.float32) * np.float32(2.0**-23) - np.float32(1)
    expected = (torch.from_numpy(uniform) * bounds).view(torch.int32)
    assert torch.equal(initialize_flat(spec, SEEDS).view(torch.int32), expected)
    assert torch.equal(initialize_flat(spec, np.array(SEEDS)[::-1]).view(torch.int32), expected.flip(0))
    assert torch.equal(draw_on_device(torch.tensor(SEEDS), bounds * 2.0**-23).view(torch.int32), expected)
    assert initialize_flat(spec, []).shape == (0, count)


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


@pytest.mark.parametrize("start", ["siren", "dwsnets", "linear"])
def test_a_first_layer_of_another_omega_0_starts_as_that_omega_0_asks_and_computes_as_it_would(start):
    spec = SirenSpec(1, 1, hidden_dim=6, omega_0=30.0, first_omega_0=3000.0, start=start)
    alone = SirenSpec(1, 1, hidden_dim=6, omega_0=3000.0, start=start)
    stored, of_first = initialize(spec, [3]), initialize(alone, [3])
    x = torch.linspace(-1, 1, 50)[:, None]

    _, first, *_ = stored.activations(x)

    W, b = of_first.weights[0][0].double(), of_first.biases[0][0].double()
    torch.testing.assert_close(first[0].double(), torch.sin(3000 * (x.double() @ W.T + b)), atol=2e-3, rtol=0)
    plain = initialize(SirenSpec(1, 1, hidden_dim=6, omega_0=30.0, start=start), [3])
    assert all(map(torch.equal, stored.weights[1:], plain.weights[1:]))


def test_finer_starts_are_those_of_sirens_with_wide_first_biases():
    finer = initialization_bounds(SirenSpec(2, 1, hidden_dim=4, start="finer", activation="finer"))
    siren = initialization_bounds(SirenSpec(2, 1, hidden_dim=4))
    assert finer[8:12].tolist() == [20.0] * 4
    assert torch.equal(torch.cat([finer[:8], finer[12:]]), torch.cat([siren[:8], siren[12:]]))
