"""Runs of readers of the function: INRs reach them as fitted, in training and in pre-training."""

import pytest
import torch
from support.small_sets import make_set

from inr_factory.learning.training.pretrain_encoder import pretrain
from inr_factory.learning.training.train_classifier import train

MODELS = ["probes:num_probes=3,hidden_dim=4,num_layers=1", "render:resolution=4,hidden_dim=2"]


@pytest.mark.parametrize("model", MODELS)
def test_a_run_neither_canonicalizes_nor_normalizes_and_starts_from_pretraining(model, tmp_path, monkeypatch):
    make_set(tmp_path / "set", objects={"train": 14, "val": 5, "test": 6})
    for module in ("models.normalized_encoder", "transforms.canonical", "training.run_data"):
        monkeypatch.setattr(f"inr_factory.learning.{module}.canonicalize", lambda inrs: pytest.fail("moved"))
    options = {"epochs": 1, "batch_size": 4, "device": "cpu"}
    pretrain(tmp_path / "set", model, "augment", "noise", out=tmp_path / "pre", **options)

    run = train(tmp_path / "set", model, mixup="mixup", out=tmp_path / "run", **options)
    continued = train(tmp_path / "set", model, init=tmp_path / "pre", out=tmp_path / "next", **options)

    scales = run.model("cpu").normalizer.weight_std
    assert torch.equal(scales, torch.ones_like(scales))
    assert continued.evaluate(device="cpu").count > 0
