"""Optimisers: the rates and betas of sprint and muon; adam keeps the field's usual setting."""

import pytest
import torch
from support.signals import smooth

from inr_factory.errors import UsageError
from inr_factory.generation.fit_config import FitConfig
from inr_factory.generation.fitting.fit_views import fit_views
from inr_factory.generation.fitting.optimizers import Muon, adam_settings
from inr_factory.generation.recipe import check_recipe, load_recipe
from inr_factory.inr.pixel_grid import pixel_grid
from inr_factory.inr.spec import SirenSpec
from inr_factory.storage.manifest import ViewKey

SPEC = SirenSpec(2, 1, hidden_dim=8, output_bias=0.5)


def test_sprint_warms_up_and_falls_and_adam_stays():
    rates = adam_settings(FitConfig(optimizer="sprint", steps=100, learning_rate=0.01)).rates
    assert int(rates.argmax()) == 9
    assert rates[0] == pytest.approx(0.001)
    assert (rates[10:].diff() < 0).all()
    assert 0 < float(rates[-1]) < 0.0011
    assert adam_settings(FitConfig(steps=7)).rates.tolist() == [5e-4] * 7


def test_sprint_has_its_own_default_steps_and_rate():
    assert (FitConfig(optimizer="sprint").steps, FitConfig(optimizer="sprint").learning_rate) == (80, 8e-3)
    assert FitConfig(optimizer="sprint", steps=60).steps == 60
    assert (FitConfig().steps, FitConfig().learning_rate) == (1000, 5e-4)


def test_sprint_reaches_in_few_steps_what_adam_does_not():
    spec, keys, signals = SPEC, [ViewKey(f"{n}", 0) for n in range(6)], [smooth(pixel_grid(9, 9))] * 6
    config = FitConfig(optimizer="sprint", steps=40, target_psnr=35.0, floor_psnr=0)
    sprint = fit_views(spec, keys, signals, config, run_seed=0)
    adam = fit_views(spec, keys, signals, FitConfig(steps=40, target_psnr=35.0, floor_psnr=0), run_seed=0)
    assert sprint.psnr.min() > adam.psnr.max()


def test_muon_falls_to_nothing_and_looks_at_the_loss_less_often():
    settings = adam_settings(FitConfig(optimizer="muon", steps=100, learning_rate=0.01))
    assert int(settings.rates.argmax()) == 9
    assert settings.rates[[0, 50, 99]].tolist() == pytest.approx([0.001, 0.005, 0.0001])
    assert settings.looks > adam_settings(FitConfig(optimizer="sprint")).looks == 1


def test_a_step_of_muon_has_even_singular_values_and_the_size_of_one_of_adam():
    gradient = (
        torch.randn(3, 12, 9, generator=torch.Generator().manual_seed(0))
        * torch.tensor([1e-4, 1.0, 1e3])[:, None, None]
    )
    gradient[:, :, 0] *= 30  # one direction is steep
    settings = adam_settings(FitConfig(optimizer="muon"))
    muon = Muon(3, 12, 9, device="cpu")

    step = muon.step(gradient, settings, torch.full((3, 1, 1), 1 - settings.betas[1]))

    values = torch.linalg.svdvals(step)
    assert (torch.linalg.svdvals(gradient)[:, 0] > 10 * torch.linalg.svdvals(gradient)[:, -1]).all()
    assert (values[:, 0] < 3 * values[:, -1]).all()
    assert step.square().mean((1, 2)).tolist() == pytest.approx([1, 1, 1], rel=1e-4)
    assert (step * gradient).sum((1, 2)).min() > 0
    muon.reset(1)
    assert muon.momentum[1].abs().max() == 0 < muon.momentum[0].abs().max()


def test_a_matrix_without_a_gradient_stays_where_it_is():
    muon, settings = Muon(1, 4, 4, device="cpu"), adam_settings(FitConfig(optimizer="muon"))
    assert muon.step(torch.zeros(1, 4, 4), settings, torch.full((1, 1, 1), 0.03)).abs().max() == 0


@pytest.mark.parametrize(
    ("settings", "rate"),
    [
        ([], 2e-3),
        (["spec.hidden_dim=32"], 2.83e-3),
        (["spec.num_hidden=5"], 1e-3),
        (["spec.omega_0=30"], 9.27e-4),
        (["fit.learning_rate=5e-3"], 5e-3),
    ],
    ids=str,
)
def test_the_rate_of_muon_follows_the_net(settings, rate):
    fit = load_recipe("mesh_folder", settings).fit
    assert (fit.optimizer, fit.steps) == ("muon", 600)
    assert fit.learning_rate == pytest.approx(rate, rel=2e-3)


def test_muon_fits_a_deep_net_to_points_better_than_sprint():
    spec, signal = SirenSpec(2, 1, hidden_dim=16, num_hidden=4, omega_0=10), smooth(pixel_grid(9, 9))
    ends = {}
    for optimizer, rate in (("sprint", 2e-3), ("muon", 2e-3)):
        config = FitConfig(
            optimizer=optimizer, learning_rate=rate, steps=120, batch_points=27, target_psnr=None, floor_psnr=0
        )
        ends[optimizer] = fit_views(spec, [ViewKey(f"{n}", 0) for n in range(4)], [signal] * 4, config, run_seed=0).psnr
    assert ends["muon"].min() > ends["sprint"].max()


@pytest.mark.parametrize("optimizer", ["sprint", "muon"])
def test_a_start_by_least_squares_on_the_dwsnets_start_is_refused_with_the_reason(optimizer):
    fields = {
        "name": "x",
        "source": {"collection": "digits"},
        "fit": {"optimizer": optimizer},
        "spec": {"start": "dwsnets"},
    }
    with pytest.raises(UsageError, match="ill-conditioned"):
        check_recipe(fields, origin="x")
