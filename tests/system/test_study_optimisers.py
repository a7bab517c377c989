"""The study of optimisers: its fits in torch are those of the engines, what it adds works, and ways cost the same."""

from dataclasses import replace

import pytest
import torch
from support.paths import ROOT
from support.signals import cloud, smooth

from inr_factory.generation.fitting.fit_views import fit_views
from inr_factory.storage.manifest import ViewKey

SIGNALS = [smooth(cloud(3000, 3, seed), shift=seed) for seed in range(2)]
KEYS = [ViewKey(str(number), 0) for number in range(2)]


@pytest.fixture
def study(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "pipelines" / "studies"))
    import study_optimisers

    return study_optimisers


def fitted(study, way):
    return study.TorchFit(way, SIGNALS, KEYS).run()


@pytest.mark.parametrize("first_omega_0", [None, 20.0])
@pytest.mark.parametrize("optimizer", ["sprint", "muon"])
def test_fits_in_torch_are_those_of_the_engines(study, optimizer, first_omega_0):
    way = study.Way(optimizer, 1e-3, steps=4, hidden_dim=8, first_omega_0=first_omega_0)
    by_engine = torch.as_tensor(fit_views(way.spec, KEYS, SIGNALS, study.config_of(way), 0).flat)
    torch.testing.assert_close(fitted(study, way), by_engine, atol=1e-4, rtol=0)
    other = replace(way, rows=False) if optimizer == "muon" else replace(way, learning_rate=2e-3)
    assert (fitted(study, other) - by_engine).abs().max() > 5e-4


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": "soap"},
        {"optimizer": "kfac", "learning_rate": 1.0, "damping": 1e-2},
        {"start_scale": 1.5},
        {"solve_every": 10},
        {"chosen": 0.5},
        {"batches": (512, 4096)},
        {"blur": 0.01},
    ],
    ids=str,
)
def test_every_way_reduces_the_error_and_differs_from_plain_muon(study, changes):
    plain = study.Way("muon", 2e-3, steps=20, hidden_dim=8)
    way = replace(plain, **changes)
    fit = study.TorchFit(way, SIGNALS, KEYS)
    before = (fit.forward(fit.coords)[0] - fit.targets).square().mean()
    flat = fit.run()
    assert (fit.forward(fit.coords)[0] - fit.targets).square().mean() < before
    assert not torch.equal(flat, fitted(study, plain))
    assert plain.fused
    assert not way.fused


def test_ways_have_the_steps_that_cost_what_muon_costs(study):
    budget = study.MUON.steps * study.step_cost(study.MUON)
    for name, ways in study.WAYS.items():
        for way in ways:
            cost = way.steps * study.step_cost(way)
            expected = 0.5 if name.endswith("half the steps") else 1.0
            assert name.startswith("sprint") or abs(cost / budget - expected) < 0.03, name
