"""Optimisers: the rates and betas of sprint; adam keeps the field's usual setting."""

import pytest
from support.signals import smooth

from inr_factory.errors import UsageError
from inr_factory.generation.fit_config import FitConfig
from inr_factory.generation.fitting.fit_views import fit_views
from inr_factory.generation.fitting.optimizers import adam_settings
from inr_factory.generation.recipe import check_recipe
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


def test_sprint_on_the_dwsnets_start_is_refused_with_the_reason():
    fields = {
        "name": "x",
        "source": {"collection": "digits"},
        "fit": {"optimizer": "sprint"},
        "spec": {"start": "dwsnets"},
    }
    with pytest.raises(UsageError, match="ill-conditioned"):
        check_recipe(fields, origin="x")
