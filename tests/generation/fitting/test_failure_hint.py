"""failure_hint: what was asked for and what to try, by how a fit ended."""

import math

import pytest
import torch

from inr_factory.generation.fit_config import FitConfig
from inr_factory.generation.fitting.failure_hint import failure_hint, without_hint
from inr_factory.generation.signals import Signal
from inr_factory.inr.pixel_grid import pixel_grid
from inr_factory.inr.spec import SirenSpec

SIGNAL = Signal(pixel_grid(8, 8), torch.rand(64, 1, generator=torch.Generator().manual_seed(0)))
SPEC = SirenSpec(2, 1, 64, 3)


@pytest.mark.parametrize(
    ("psnr", "settings", "hint"),
    [
        (-math.inf, {"learning_rate": 8e-3}, "try a smaller rate, as --set fit.learning_rate=0.00267"),
        (9.0, {"learning_rate": 8e-3}, "learned no more than the signal's mean"),
        (19.0, {"learning_rate": 1e-3, "target_psnr": 60.0}, "try more steps, as --set fit.steps="),
        (19.0, {"learning_rate": 1e-3}, "try a wider net, as --set spec.hidden_dim=128, or"),
        (-math.inf, {"learning_rate": 1e-4}, "or --set fit.optimizer=adam"),
        (19.0, {"optimizer": "adam", "steps": 100}, "try more steps, as --set fit.steps=1000"),
    ],
)
def test_the_remedy_follows_from_how_the_fit_ended(psnr, settings, hint):
    config = FitConfig(**{"optimizer": "sprint", **settings})
    said = "it failed" + failure_hint(psnr, SIGNAL, SPEC, config)
    assert hint.removesuffix(", or") in said
    assert f"asked for: {config.target_psnr:g} dB in {config.steps} steps" in said
    assert without_hint(said) == "it failed"


@pytest.mark.parametrize(
    ("spec", "settings", "scale", "hint"),
    [
        ({}, {"learning_rate": 1e-6}, 1, "try a larger rate, as --set fit.learning_rate=0.00267"),
        ({}, {"optimizer": "adam", "learning_rate": 1e-6}, 1, "try a larger rate, as --set fit.learning_rate=0.001"),
        ({"omega_0": 1e5}, {}, 1, "try a usual frequency, as --set spec.omega_0=30"),
        ({"omega_0": 0.01}, {"optimizer": "adam"}, 1, "try a usual frequency, as --set spec.omega_0=30"),
        ({"num_hidden": 1}, {"learning_rate": 4e-3}, 1, "try a deeper net, as --set spec.num_hidden=2, a higher"),
        (
            {"activation": "relu"},
            {"learning_rate": 1e-3},
            1,
            "a positional encoding, as --set spec.frequencies=6, or a lower",
        ),
        (
            {"activation": "tanh", "frequencies": 8},
            {"learning_rate": 1e-3},
            1,
            "hidden_dim=128, or a lower fit.floor_psnr",
        ),
        (
            {"widths": (64, 32, 16)},
            {"learning_rate": 1e-3},
            1,
            "as --set spec.widths=[128,64,32], a higher spec.omega_0",
        ),
        ({"activation": "gauss", "omega_0": 0.01}, {}, 1, "try a usual frequency, as --set spec.omega_0=10"),
        ({"activation": "finer", "omega_0": 1e4}, {}, 1, "try a usual frequency, as --set spec.omega_0=30"),
        ({}, {"learning_rate": 4e-3, "steps": 20}, 1, "try more steps, as --set fit.steps=80"),
        ({}, {"optimizer": "adam"}, 255, "from spec.output_bias: scale them to [0, 1], and"),
    ],
)
def test_the_remedy_is_one_that_helps(spec, settings, scale, hint):
    net = SirenSpec(**{"in_dim": 2, "out_dim": 1, "hidden_dim": 64, "num_hidden": 3, **spec})
    config = FitConfig(**{"optimizer": "sprint", "learning_rate": 1e-3, "steps": 80, **settings})
    signal = Signal(SIGNAL.coords, scale * SIGNAL.targets)
    assert hint in failure_hint(15.0, signal, net, config)
