"""Schedules: what sprint starts from and how fast it goes; adam is left as the field has it."""

import pytest
import torch

from inr_factory.errors import UsageError
from inr_factory.generation.fitting import fit_views
from inr_factory.generation.fitting.optimizers import schedule, solve_last_layer, start_weights
from inr_factory.generation.recipe import FitConfig, check_recipe
from inr_factory.generation.signals import Signal, pixel_grid
from inr_factory.inr.batch import INRBatch, start_values
from inr_factory.inr.spec import SirenSpec
from inr_factory.storage.manifest import ViewKey

SPECS = [
    SirenSpec(2, 1, hidden_dim=8, output_bias=0.5),
    SirenSpec(2, 3, hidden_dim=6, num_hidden=3, omega_0=7.0),
    SirenSpec(2, 1, hidden_dim=8, activation="relu", start="linear"),
]


def image(channels=1):
    grid = pixel_grid(9, 9)
    values = [
        0.5 + 0.4 * torch.sin(3 * grid[:, 0] + channel) * torch.cos(2 * grid[:, 1]) for channel in range(channels)
    ]
    return Signal(grid, torch.stack(values, dim=1))


RIDGE = 0.01


def objective(inr, signal):
    """What the least-squares start minimises."""
    error = (inr(signal.coords)[0] - signal.targets).square().mean(dim=0).sum()
    last = torch.cat([inr.weights[-1][0].flatten(), inr.biases[-1][0]])
    return float(error + RIDGE * last.square().sum())


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_no_other_last_layer_fits_better(spec):
    signal, inr = image(spec.out_dim), start_values(spec, [3])
    solved = solve_last_layer(inr, signal, RIDGE)
    best, size = objective(solved, signal), spec.hidden_dim * spec.out_dim + spec.out_dim
    assert best < objective(inr, signal)
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        flat = solved.flatten()
        flat[0, -size:] += 0.01 * torch.randn(size, generator=generator)
        assert objective(INRBatch.from_flat(spec, flat), signal) > best
    assert torch.equal(solved.flatten()[:, :-size], inr.flatten()[:, :-size]), "another layer moved"


def test_a_start_hangs_on_seed_and_signal_alone():
    sprint = FitConfig(optimizer="sprint")
    assert torch.equal(start_weights(SPECS[0], 5, image(), sprint), start_weights(SPECS[0], 5, image(), sprint))
    assert not torch.equal(start_weights(SPECS[0], 5, image(), sprint), start_weights(SPECS[0], 6, image(), sprint))
    plain = start_weights(SPECS[0], 5, image(), FitConfig())
    assert torch.equal(plain, start_values(SPECS[0], [5]).flatten()[0])


def test_a_larger_ridge_starts_with_smaller_weights():
    signal, size = image(), SPECS[0].hidden_dim + 1
    norms = []
    for ridge in (1e-3, 1.0, 1e3):
        flat = start_weights(SPECS[0], 5, signal, FitConfig(optimizer="sprint", ridge=ridge))
        norms.append(float(flat[-size:].norm()))
    assert norms[0] > 2 * norms[1] > 4 * norms[2]


def test_a_constant_image_has_a_finite_start():
    flat = Signal(pixel_grid(3, 3), torch.full((9, 1), 0.5))
    assert start_weights(SPECS[0], 1, flat, FitConfig(optimizer="sprint")).isfinite().all()


def test_sprint_warms_up_and_falls_and_adam_stays():
    rates = schedule(FitConfig(optimizer="sprint", steps=100, learning_rate=0.01)).rates
    assert int(rates.argmax()) == 9
    assert rates[0] == pytest.approx(0.001)
    assert (rates[10:].diff() < 0).all()
    assert 0 < float(rates[-1]) < 0.0011
    assert schedule(FitConfig(steps=7)).rates.tolist() == [5e-4] * 7


def test_sprint_has_its_own_pace_unless_told_otherwise():
    assert (FitConfig(optimizer="sprint").steps, FitConfig(optimizer="sprint").learning_rate) == (80, 8e-3)
    assert FitConfig(optimizer="sprint", steps=60).steps == 60
    assert (FitConfig().steps, FitConfig().learning_rate) == (1000, 5e-4)


def test_sprint_reaches_in_few_steps_what_adam_does_not():
    spec, keys, signals = SPECS[0], [ViewKey(f"{n}", 0) for n in range(6)], [image()] * 6
    config = FitConfig(optimizer="sprint", steps=40, target_psnr=35.0, floor_psnr=0)
    sprint = fit_views(spec, keys, signals, config, run_seed=0)
    adam = fit_views(spec, keys, signals, FitConfig(steps=40, target_psnr=35.0, floor_psnr=0), run_seed=0)
    assert sprint.psnr.min() > adam.psnr.max()


def test_sprint_on_the_dwsnets_start_is_refused_with_the_reason():
    fields = {
        "name": "x",
        "source": {"collection": "digits"},
        "fit": {"optimizer": "sprint"},
        "spec": {"start": "dwsnets"},
    }
    with pytest.raises(UsageError, match="ill-conditioned"):
        check_recipe(fields, origin="x")
