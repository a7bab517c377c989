"""Floating types: every transform, mixing and model takes INRs of every floating type, and classifiers those of another."""

import pytest
import torch

from inr_factory.errors import UsageError
from inr_factory.inr.initialization import initialize
from inr_factory.inr.spec import SirenSpec
from inr_factory.learning.alignment.mixup import MixUp
from inr_factory.learning.models.classifier import build_classifier
from inr_factory.learning.models.registry import ENCODERS
from inr_factory.learning.transforms.compose import TRANSFORMS, parse_transform

DTYPES = [torch.float16, torch.bfloat16, torch.float64]
SPECS = [
    SirenSpec(2, 1, hidden_dim=6),
    SirenSpec(3, 3, hidden_dim=6),
    SirenSpec(2, 1, hidden_dim=6, activation="relu", start="linear"),
]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms_keep_the_floating_type(name, dtype):
    """Faults, section 5: quantile_dropout in bfloat16 on a CPU was a TypeError."""
    taken = 0
    for spec in SPECS:
        inrs = initialize(spec, range(4)).to(dtype)
        try:
            moved = parse_transform(name)(inrs, torch.Generator().manual_seed(0))
        except UsageError:
            continue
        taken += 1
        assert moved.dtype == dtype
        assert bool(moved.flatten().isfinite().all())
    assert taken


def test_quantile_dropout_in_bfloat16_drops_the_smallest():
    inrs = initialize(SPECS[0], range(4)).to(torch.bfloat16)
    moved = parse_transform("quantile_dropout:max_quantile=0.9")(inrs, torch.Generator().manual_seed(0)).flatten()
    for before, after in zip(inrs.flatten().abs(), moved, strict=True):
        assert before[after == 0].max() <= before[after != 0].min()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("match", ["none", "permute", "permutation", "signed", "phase"])
def test_mixing_keeps_the_floating_type(match, dtype):
    mixed, _ = MixUp(match=match)(initialize(SPECS[0], range(4)).to(dtype), torch.eye(4))
    assert mixed.dtype == dtype


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", ENCODERS)
def test_classifiers_take_inrs_of_every_floating_type(name, dtype):
    inrs = initialize(SPECS[0], range(4)).to(dtype)
    model = build_classifier(name, SPECS[0], 3, canonical=True)
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(inrs)
    logits.float().sum().backward()
    assert model.eval()(inrs).dtype == torch.float32
    assert model.to(dtype)(inrs).dtype == dtype
