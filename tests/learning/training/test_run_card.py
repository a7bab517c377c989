"""Run card: it says what a run reads, what it was trained on and how good it is, and leaves alone what a user wrote."""

import pytest
import yaml
from support.small_runs import copy_run, make_run
from support.small_sets import SPEC

import inr_factory as inr
from inr_factory.inr.spec import SirenSpec


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("made"), epochs=1, mixup="mixup")


@pytest.fixture
def folder(made, tmp_path):
    return copy_run(made / "run", tmp_path / "a|run")


def test_it_says_what_the_run_reads_learned_and_reaches(made, folder):
    path = inr.write_run_card(folder)
    text, run = path.read_text(), inr.open_run(folder)
    assert path == folder / "README.md"
    assert SirenSpec.from_dict(yaml.safe_load(text.split("---\n")[1])["siren_spec"]) == SPEC
    assert "# a\\|run" in text
    assert "predicts 3 classes" in text
    assert f"fingerprint {run.meta['train']['fingerprint']}" in text
    assert f"accuracy {run.evaluate().percent} of 6 INRs" in text
    assert f"| accuracy on split val | {run.best['val_accuracy']:.4f}, epoch 1 of 1 |" in text
    assert "| mixup | mixup" in text
    assert "| model: hidden\\_dim | 4 |" in text
    assert str(made) not in text


def test_without_the_set_it_has_no_test_accuracy(folder, monkeypatch):
    (folder / "run.json").write_text('{"meta": {}}')
    text = inr.write_run_card(folder).read_text()
    assert "on split test" not in text
    assert "on split val" in text


def test_a_card_that_a_user_edited_stays(folder):
    path = inr.write_run_card(folder)
    before = path.read_bytes()
    assert inr.write_run_card(folder) == path
    assert path.read_bytes() == before
    path.write_text("my notes")
    other = inr.write_run_card(inr.open_run(folder))
    assert (other.name, other.read_bytes()) == ("README.inr-factory.md", before)
    assert path.read_text() == "my notes"


def test_a_run_of_numbers_has_its_own_figures(tmp_path):
    make_run(tmp_path, epochs=1, target="psnr")
    text = inr.write_run_card(tmp_path / "run").read_text()
    assert "predicts the target psnr" in text
    assert "R² on split val" in text
    assert "MAE" in text


def test_what_is_no_run_is_refused(made, tmp_path):
    for folder, text in ((made / "set", "is a data set"), (tmp_path, "no checkpoint")):
        with pytest.raises(inr.UsageError, match=text):
            inr.write_run_card(folder)
