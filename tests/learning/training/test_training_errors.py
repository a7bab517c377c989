"""Learning from what cannot be learned from: one clear line and the exit code, by the command line."""

import json

import numpy as np
import pytest
from support.small_sets import SPEC, make_set

from inr_factory.cli.main import run
from inr_factory.inr.spec import SirenSpec

SIZES = {"train": 14, "val": 5, "test": 6}
QUICK = ("--model", "mlp:hidden_dim=4", "--epochs", "1", "--batch-size", "4", "--device", "cpu")


def line_of(capfd, *arguments):
    """(exit code, what it complained of): one line, without a traceback."""
    code = run(list(map(str, arguments)))
    observed = [line for line in capfd.readouterr().err.splitlines() if line.startswith("inr-factory: ")]
    assert len(observed) == 1, observed
    return code, observed[0]


@pytest.fixture
def trained(tmp_path, capfd):
    make_set(tmp_path / "set", objects=SIZES, views=1)
    assert run(["train", str(tmp_path / "set"), "--out", str(tmp_path / "run"), *QUICK]) == 0
    capfd.readouterr()
    return tmp_path / "run"


@pytest.mark.parametrize("verb", ["evaluate", "predict"])
def test_a_checkpoint_of_another_spec(trained, tmp_path, capfd, verb):
    other = SirenSpec(2, 1, hidden_dim=5, num_hidden=2, omega_0=30.0, output_bias=0.5)
    make_set(tmp_path / "other", other, objects=SIZES, views=1)
    where = ("--dataset", tmp_path / "other") if verb == "evaluate" else (tmp_path / "other",)
    code, line = line_of(capfd, verb, trained, *where)
    assert code == 2
    assert "was made for INRs of hidden_dim 4, omega_0 7.0, got hidden_dim 5, omega_0 30.0" in line


def test_an_encoder_of_another_spec_to_go_on_from(trained, tmp_path, capfd):
    other = SirenSpec(2, 1, hidden_dim=5, num_hidden=2, omega_0=7.0, output_bias=0.5)
    make_set(tmp_path / "other", other, objects=SIZES, views=1)
    code, line = line_of(capfd, "train", tmp_path / "other", "--init", trained, "--out", tmp_path / "more", *QUICK)
    assert code == 2
    assert "hidden_dim" in line


@pytest.mark.parametrize("verb", ["train", "pretrain"])
def test_a_transform_for_other_inrs_leaves_no_run(verb, tmp_path, capfd):
    make_set(tmp_path / "set", objects=SIZES, views=2)
    code, line = line_of(capfd, verb, tmp_path / "set", "--augment", "rotate3d", "--out", tmp_path / "run", *QUICK)
    assert (code, "for 2 use rotate2d" in line) == (2, True)
    assert not (tmp_path / "run").exists()


def test_a_set_of_one_class(tmp_path, capfd):
    make_set(tmp_path / "set", classes=["only"], objects=SIZES, views=1)
    code, line = line_of(capfd, "train", tmp_path / "set", "--out", tmp_path / "run", *QUICK)
    assert code == 2
    assert "at least two classes, got 1" in line


def test_a_set_without_validation(tmp_path, capfd):
    make_set(tmp_path / "set", objects={"train": 14, "test": 5}, views=1)
    code, line = line_of(capfd, "train", tmp_path / "set", "--out", tmp_path / "run", *QUICK)
    assert code == 2
    assert "val" in line
    assert "splits.val" in line  # the remedy


def test_labels_outside_the_classes(tmp_path, capfd):
    make_set(tmp_path / "set", objects=SIZES, views=1)
    manifest = tmp_path / "set" / "manifest.json"
    fields = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(fields | {"classes": ["low", "mid"]}))
    code, line = line_of(capfd, "train", tmp_path / "set", "--out", tmp_path / "run", *QUICK)
    assert code == 4
    assert "labels outside 0..1" in line


def test_weights_that_are_not_numbers(tmp_path, capfd, monkeypatch):
    from support import small_sets

    def spoiled(spec, seeds):
        inrs = small_sets_start(spec, seeds)
        inrs.weights[1][0, 0, 0] = np.nan
        return inrs

    small_sets_start = small_sets.initialize
    monkeypatch.setattr(small_sets, "initialize", spoiled)
    make_set(tmp_path / "set", SPEC, objects=SIZES, views=1)
    code, line = line_of(capfd, "train", tmp_path / "set", "--out", tmp_path / "run", *QUICK)
    assert code == 2
    assert "NaN or infinite weights" in line
    assert "inr-factory verify" in line
