"""Initial values: they depend on seed and signal alone, for one INR and for a batch."""

import pytest
import torch
from support.signals import cloud, smooth

from inr_factory.generation.fit_config import FitConfig
from inr_factory.generation.fitting.initial_values import initial_batch, initial_weights
from inr_factory.generation.signals import Signal
from inr_factory.inr.initialization import initialize
from inr_factory.inr.pixel_grid import pixel_grid
from inr_factory.inr.spec import SirenSpec

SPEC = SirenSpec(2, 1, hidden_dim=8, output_bias=0.5)
SPECS = [SPEC, SirenSpec(2, 3, hidden_dim=20, num_hidden=3, omega_0=7.0), SirenSpec(3, 1, hidden_dim=33)]


def image():
    return smooth(pixel_grid(9, 9))


def test_initial_values_depend_on_seed_and_signal_only():
    sprint = FitConfig(optimizer="sprint")
    assert torch.equal(initial_weights(SPEC, 5, image(), sprint), initial_weights(SPEC, 5, image(), sprint))
    assert not torch.equal(initial_weights(SPEC, 5, image(), sprint), initial_weights(SPEC, 6, image(), sprint))
    plain = initial_weights(SPEC, 5, image(), FitConfig())
    assert torch.equal(plain, initialize(SPEC, [5]).flatten()[0])


def test_a_larger_ridge_starts_with_smaller_weights():
    signal, size = image(), SPEC.hidden_dim + 1
    norms = []
    for ridge in (1e-3, 1.0, 1e3):
        flat = initial_weights(SPEC, 5, signal, FitConfig(optimizer="sprint", ridge=ridge))
        norms.append(float(flat[-size:].norm()))
    assert norms[0] > 2 * norms[1] > 4 * norms[2]


def test_a_constant_image_has_a_finite_start():
    flat = Signal(pixel_grid(3, 3), torch.full((9, 1), 0.5))
    assert initial_weights(SPEC, 1, flat, FitConfig(optimizer="sprint")).isfinite().all()


@pytest.mark.parametrize("optimizer", ["adam", "sprint"])
@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_a_batch_has_the_initial_values_of_single_calls(spec, optimizer):
    config, seeds = FitConfig(optimizer=optimizer), [5, 2**63 - 1]
    signals = [smooth(cloud(50, spec.in_dim), spec.out_dim, shift=number) for number in range(2)]
    targets = torch.stack([signal.targets for signal in signals])
    batch = initial_batch(spec, seeds, signals[0].coords, targets, "values", config)
    single = [initial_weights(spec, seed, signal, config) for seed, signal in zip(seeds, signals, strict=True)]
    torch.testing.assert_close(batch, torch.stack(single), rtol=1e-4, atol=1e-5)
    alone = initial_batch(spec, seeds[1:], signals[0].coords[None], targets[1:], "values", config)
    assert torch.equal(alone[0], batch[1]), "they depend on the rest of the batch"


def test_a_solution_that_overflows_leaves_the_drawn_values():
    signal = smooth(pixel_grid(4, 4))
    signal.targets[0] = float("inf")
    sprint = FitConfig(optimizer="sprint")
    batch = initial_batch(SPEC, [5], signal.coords, signal.targets[None], "values", sprint)
    assert torch.equal(batch[0], initial_weights(SPEC, 5, signal, sprint))
    assert torch.equal(batch[0], initial_weights(SPEC, 5, signal, FitConfig()))
