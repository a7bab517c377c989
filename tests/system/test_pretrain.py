"""Pre-training by the command line, and training from its encoder."""

import json
from pathlib import Path

import pytest
import torch
from support.small_sets import make_set

from inr_factory.cli.main import run
from inr_factory.learning.models.checkpoint import load_checkpoint
from inr_factory.learning.training.run_config import BEST, LAST

SMALL = ["--device", "cpu", "--batch-size", "4", "--epochs", "2"]
MODEL = ["--model", "dws:hidden_dim=4,set_layer=deepsets"]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pretrain") / "set"
    make_set(root, objects={"train": 14, "val": 5, "test": 6})
    return root


def outcome(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    capsys.readouterr()
    code = run([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_pretraining_and_going_on_from_the_command_line(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    learned = tmp_path / "learned"
    arguments = [
        "pretrain",
        small,
        *MODEL,
        *SMALL,
        "--positives",
        "both",
        "--augment",
        "noise:scale=0.1",
        "--out",
        learned,
    ]
    code, out, err = outcome(capsys, *arguments, "--json")
    assert code == 0, err
    assert err.count("neighbours on val") == 2
    observed = json.loads(out)
    assert (observed["epochs"], observed["split"], observed["chance"]) == (2, "test", pytest.approx(1 / 3))
    assert observed["pretrained"].keys() == observed["untrained"].keys() == {"neighbours", "linear"}
    assert (learned / "pretraining.png").read_bytes().startswith(b"\x89PNG")
    before = (learned / LAST).read_bytes()
    code, out, _ = outcome(capsys, *arguments)
    assert (learned / LAST).read_bytes() == before
    assert all(word in out for word in ("20 nearest neighbours", "linear probe", "untrained", "33.33%"))

    tune = ["train", small, *MODEL, *SMALL, "--init", learned, "--labels-per-class", 2]
    code, out, err = outcome(capsys, *tune, "--freeze", "--out", tmp_path / "frozen", "--json")
    assert code == 0, err
    frozen, first = load_checkpoint(tmp_path / "frozen" / LAST)["model"], load_checkpoint(learned / BEST)["model"]
    assert all(torch.equal(frozen[name], first[name]) for name in first if not name.startswith("projection."))
    meta = json.loads((tmp_path / "frozen/run.json").read_text())["meta"]
    assert (meta["freeze"], len(meta["init"]), meta["train"]["labels_per_class"]) == (True, 16, 2)
    assert outcome(capsys, *tune, "--out", tmp_path / "tuned")[0] == 0
    tuned = load_checkpoint(tmp_path / "tuned" / LAST)["model"]
    assert not all(torch.equal(tuned[name], first[name]) for name in first if name.startswith("encoder."))
    assert outcome(capsys, *tune, "--out", tmp_path / "frozen")[0] == 2, "a linear probe was continued unfrozen"
    assert outcome(capsys, "evaluate", tmp_path / "tuned")[0] == 0


def test_bad_input_is_told_in_one_line(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_set(tmp_path / "single", views=1)
    make_set(tmp_path / "no_val", objects={"train": 8})
    make_set(tmp_path / "lone", objects={"train": 1, "val": 2})
    noise = ["--augment", "noise"]
    bad: list[tuple[list[object], str]] = [
        ([tmp_path / "single", "--positives", "views"], "needs two views of an object"),
        ([small, "--views", 1], "or --views has 1"),
        ([small, "--positives", "augment"], "--positives augment needs --augment"),
        ([small, "--positives", "twins"], "--positives must be augment, views or both, got 'twins'"),
        ([tmp_path / "no_val"], "has no objects in split val"),
        ([tmp_path / "lone"], "at least 2 objects"),
        ([small, "--batch-size", 1], "greater than or equal to 2"),
        ([small, "--temperature", 0], "--temperature"),
        ([small, "--positives", "augment", "--augment", "permute+flip"], "nothing to learn"),
        ([small, *noise, "--model", "dsw"], "did you mean 'dws'?"),
    ]
    for number, (arguments, words) in enumerate(bad):
        code, _, err = outcome(capsys, "pretrain", *MODEL, *SMALL, *arguments, "--out", tmp_path / f"run{number}")
        line = err.strip().splitlines()[-1]
        assert (code, line.startswith("inr-factory: "), words in line) == (2, True, True), line
    code, _, err = outcome(capsys, "train", small, *MODEL, *SMALL, "--freeze", "--out", tmp_path / "x")
    assert (code, "name its run by --init" in err) == (2, True)
    code, _, err = outcome(capsys, "train", small, *MODEL, *SMALL, "--init", tmp_path, "--out", tmp_path / "x")
    assert (code, "no checkpoint" in err) == (2, True)
