"""Scope: the spread of each layer is drawn to its target, by all engines alike, and mixed INRs lose less."""

import math

import pytest
import torch

from inr_factory.errors import UsageError
from inr_factory.generation.fit_config import FitConfig
from inr_factory.generation.fitting import fused_cpu
from inr_factory.generation.fitting.engines import engine_name
from inr_factory.generation.fitting.fit_views import fit_views
from inr_factory.generation.fitting.scope_regularizer import Scope, scope_of, scope_penalty
from inr_factory.generation.signals import Signal
from inr_factory.inr.initialization import initialize
from inr_factory.inr.pixel_grid import pixel_grid
from inr_factory.inr.spec import SirenSpec
from inr_factory.storage.manifest import ViewKey

needs_library = pytest.mark.skipif(not fused_cpu.available(), reason="the compiled engine was not built here")


def config(**settings):
    return FitConfig(
        **{"steps": 60, "target_psnr": None, "learning_rate": 3e-3, "floor_psnr": -100.0, "lanes": 2} | settings
    )


def fit(spec, count=2, **settings):
    coords = pixel_grid(8, 9)
    signals = [
        Signal(coords, torch.sin(3 * coords.sum(1, keepdim=True) + k).repeat(1, spec.out_dim)) for k in range(count)
    ]
    return fit_views(spec, [ViewKey("x", view) for view in range(count)], signals, config(**settings), 0)


@pytest.mark.parametrize(
    "spec", [SirenSpec(2, 1, hidden_dim=12), SirenSpec(2, 3, hidden_dim=7, num_hidden=3, omega_0=11.0)]
)
@pytest.mark.parametrize("engine", [pytest.param("fused", marks=needs_library), "batched"])
def test_engines_agree_under_a_scope(spec, engine):
    stds = tuple(0.05 + 0.1 * layer for layer in range(spec.num_hidden + 1))
    inrs, reference = (
        fit(spec, engine=name, scope=0.05, scope_std=stds).inrs.flatten() for name in (engine, "reference")
    )
    plain = fit(spec, engine=engine).inrs.flatten()

    torch.testing.assert_close(inrs, reference, atol=2e-3, rtol=0)
    assert float((inrs - plain).abs().max()) > 0.02


@pytest.mark.parametrize("engine", [pytest.param("fused", marks=needs_library), "batched", "reference"])
def test_a_strong_scope_sets_the_spreads(engine):
    spec, stds = SirenSpec(2, 1, hidden_dim=16), (0.5, 0.05, 0.2)
    inrs = fit(spec, engine=engine, scope=10.0, scope_std=stds, steps=400).inrs
    for W, target in zip(inrs.weights, stds, strict=True):
        for one in W:
            assert float(one.std(unbiased=False)) == pytest.approx(target, rel=0.1)
            assert abs(float(one.mean())) < 0.2 * target


def test_the_divergence_is_that_of_two_normal_distributions():
    spec = SirenSpec(2, 1, hidden_dim=8)
    flat, scope = initialize(spec, [3]).flatten()[0], Scope(2.0, (0.3, 0.1, 0.4))
    parts = torch.split(flat, list(spec.parameter_sizes))[::2]
    pairs = [
        torch.distributions.kl_divergence(
            torch.distributions.Normal(W.mean(), W.std(unbiased=False)), torch.distributions.Normal(0.0, std)
        )
        for W, std in zip(parts, scope.stds, strict=True)
    ]
    constant = sum(0.5 - math.log(std) for std in scope.stds)  # what no weight changes is left out
    torch.testing.assert_close(scope_penalty(spec, flat, scope), 2 * (sum(pairs) + constant))


def test_the_target_is_the_start_unless_it_is_given():
    spec = SirenSpec(2, 1, hidden_dim=32)
    found = scope_of(spec, config(scope=0.1))
    assert found is not None
    assert found.stds == pytest.approx((0.5 / math.sqrt(3), math.sqrt(2 / 32) / 30, math.sqrt(2 / 32) / 30), rel=0.05)
    assert scope_of(spec, config()) is None
    with pytest.raises(UsageError, match="each of 3 layers, got 2"):
        scope_of(spec, config(scope=0.1, scope_std=(1.0, 2.0)))


def test_a_gpu_takes_the_engine_that_knows_it(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    assert engine_name(config(scope=0.1), "cuda", SirenSpec(2, 1, hidden_dim=32)) == "batched"
