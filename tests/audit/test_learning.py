"""Audited faults of learning (section 5 of the audit), through the public Python names."""

import pytest
import torch
from support.command_line import outcome
from support.small_sets import make_set

import inr_factory as inr
from inr_factory.inr.initialization import initialize

pytestmark = pytest.mark.faults

SPEC = inr.SirenSpec(2, 1, hidden_dim=8)
OPTIONS = {"batch_size": 4, "device": "cpu", "epochs": 1, "warmup_steps": 0}


@pytest.fixture
def dataset(tmp_path):
    make_set(tmp_path / "set", objects={"train": 14, "val": 5, "test": 6})
    return tmp_path / "set"


def test_the_features_of_parity_change_with_contrast_and_the_last_bias():
    torch.manual_seed(0)
    inrs = initialize(SPEC, range(6))
    inrs = inr.INRBatch(SPEC, inrs.weights, (*inrs.biases[:-1], inrs.biases[-1] + torch.rand(6, 1)))
    louder = inr.INRBatch(SPEC, (*inrs.weights[:-1], 3 * inrs.weights[-1]), (*inrs.biases[:-1], 3 * inrs.biases[-1]))
    shifted = inr.INRBatch(SPEC, inrs.weights, (*inrs.biases[:-1], 10 * inrs.biases[-1]))
    model = inr.build_classifier("parity", SPEC, 3).eval()
    with torch.no_grad():
        for changed in (louder, shifted):
            assert (model.features(changed) - model.features(inrs)).abs().max() > 1e-3


def test_parity_can_leave_out_what_could_learn_to_probe():
    count = [
        sum(p.numel() for p in inr.build_classifier("parity", SPEC, 3, **options).parameters())
        for options in ({}, {"sine_path": False})
    ]
    assert count[1] < count[0]


def test_a_step_brings_inrs_to_their_canonical_form_once(dataset, tmp_path, monkeypatch):
    from inr_factory.learning.models import normalized_encoder
    from inr_factory.learning.transforms import canonical

    once, calls = canonical.canonicalize, []

    def counted(inrs):
        calls.append(len(inrs))
        return once(inrs)

    monkeypatch.setattr(canonical, "canonicalize", counted)
    monkeypatch.setattr(normalized_encoder, "canonicalize", counted)
    inr.train(dataset, "mlp", out=tmp_path / "run", **OPTIONS)
    trained, validated = 3 * 14, 5
    assert sum(calls) <= 2 * trained + validated, "once for the statistics, once in a step, once in validation"


def test_shadow_weights_of_an_average_have_averaged_scales(dataset, tmp_path):
    """An average that hardly moves has the scales of the first step: one Adam step of 0.1 from 1."""
    kernels = []
    for evaluate in ("plain", "shadow"):
        how = {**OPTIONS, "ema": 0.9999999, "perturb": f"wat:sigma=0,evaluate={evaluate}", "learning_rate": 0.1}
        inr.train(dataset, "mlp", out=tmp_path / evaluate, **how)
        kernels.append(inr.load_classifier(tmp_path / evaluate / "best.pt").head.weight.detach())
    scale = float((kernels[1] / kernels[0]).median())
    assert abs(scale - 1) == pytest.approx(0.1, abs=0.02)


@pytest.mark.parametrize("perturb", ["wat:transform=shift", "wat:start=uniform"])
def test_wat_has_the_forms_of_its_authors(perturb, dataset, tmp_path):
    assert len(inr.train(dataset, "mlp", out=tmp_path / "run", perturb=perturb, **OPTIONS).history) == 1


def test_the_published_dws_is_reachable_from_the_command_line(dataset, tmp_path, capsys):
    words = ["--model", "dws:hidden_dim=8,num_heads=8,batch_norm=false", "--optimizer", "adam", "--no-normalize"]
    words += ["--no-canonical", "--epochs", 1, "--batch-size", 4, "--device", "cpu", "--out", tmp_path / "run"]
    code, _, err = outcome(capsys, "train", dataset, *words)
    assert code == 0, err


def test_a_run_shorter_than_the_warm_up_reaches_its_rate(dataset, tmp_path):
    history = inr.train(dataset, "mlp", out=tmp_path / "run", **{**OPTIONS, "warmup_steps": 1000, "epochs": 2}).history
    assert history[-1]["lr"] == pytest.approx(1e-3, rel=0.2)
