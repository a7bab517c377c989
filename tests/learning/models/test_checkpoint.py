"""Checkpoints of earlier versions: an encoder's former name loads, trains on and initializes other models."""

from pathlib import Path

import pytest
import torch

from inr_factory.errors import IntegrityError, UsageError
from inr_factory.inr.initialization import initialize
from inr_factory.inr.spec import SirenSpec
from inr_factory.learning.models.checkpoint import (
    initialize_from,
    load_checkpoint,
    load_classifier,
    save_checkpoint,
)
from inr_factory.learning.models.classifier import build_classifier
from inr_factory.learning.models.registry import build_encoder

SPEC = SirenSpec(2, 1, hidden_dim=6, num_hidden=2, omega_0=7.0)


def former(path: Path, points: bool = False) -> Path:
    """A checkpoint as it was written while the encoder was called `forward`."""
    save_checkpoint(path, build_classifier("parity", SPEC, 3, seed=1, hidden_dim=4, points=points), {})
    saved = torch.load(path, weights_only=True)
    saved["classifier"]["encoder"] = "forward"
    torch.save(saved, path)
    return path


@pytest.mark.parametrize("points", [False, True])
def test_the_former_name_of_an_encoder_builds_the_same_one(points: bool, tmp_path: Path) -> None:
    inrs = initialize(SPEC, range(3))
    expected = build_classifier("parity", SPEC, 3, seed=1, hidden_dim=4, points=points).eval()

    loaded = load_classifier(former(tmp_path / "best.pt", points))

    assert torch.equal(loaded(inrs), expected(inrs))
    assert loaded.describe()["encoder"] == "parity"
    assert build_encoder("forward", SPEC).name == "parity"
    with pytest.raises(UsageError, match="parity has no option 'point'; did you mean 'points'"):
        build_encoder("forward", SPEC, point=True)


def test_a_model_is_initialized_from_an_encoder_under_its_former_name(tmp_path: Path) -> None:
    model = build_classifier("parity", SPEC, 5, seed=2, hidden_dim=4)

    initialize_from(model, former(tmp_path / "best.pt"))

    saved = load_checkpoint(tmp_path / "best.pt")["model"]
    assert all(torch.equal(value, saved[f"encoder.{name}"]) for name, value in model.encoder.state_dict().items())


def test_the_probe_mix_of_the_parity_encoder_keeps_its_name_on_disk(tmp_path: Path) -> None:
    saved = load_checkpoint(former(tmp_path / "best.pt", points=True))["model"]

    assert saved["encoder.layers.0.look"].shape == (4, 2)


def test_an_option_that_this_version_does_not_know_may_be_of_a_newer_one(tmp_path: Path) -> None:
    path = former(tmp_path / "best.pt")
    saved = torch.load(path, weights_only=True)
    saved["classifier"]["options"]["flair"] = 2
    torch.save(saved, path)

    with pytest.raises(IntegrityError, match=r"damaged, or of a newer inr-factory: .*flair"):
        load_classifier(path)
