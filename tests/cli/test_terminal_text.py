"""Text of others on the terminal, in tables and in pictures: no control characters, no formulas, no secrets."""

import csv
import io
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from support.small_sets import SPEC, make_set

from inr_factory.cli import terminal
from inr_factory.cli.main import run
from inr_factory.errors import FactoryError, ResourceError, UsageError, csv_cell, printable, redact
from inr_factory.inr.device import choose_device
from inr_factory.learning.training.train_classifier import train
from inr_factory.reporting.plots import draw_evaluation
from inr_factory.storage.locations import parse_location

ESCAPES = (
    "\x1b[31mred",
    "a\x07b",
    "a\u202eb",
    "a\u2066b",
    "a\u2028b",
    "a\rb",
    "a\x85b",
    "a\ud800b",
    "a\x00b",
    "a\x7fb",
)


@pytest.mark.parametrize("name", ESCAPES, ids=ascii)
def test_control_characters_of_names_are_written_as_escapes(name, capsys):
    assert printable(name).isprintable()
    terminal.log_error(f"quarantine: {name}")
    terminal.log_info(f"name {name}")
    terminal.print_result(f"name {name}")
    terminal.print_table(["name"], [[name]])
    text = "".join(capsys.readouterr())
    assert not {"\x1b", "\x07", "\u202e", "\u2066", "\u2028", "\r", "\x85", "\ud800", "\x00", "\x7f"} & set(text)
    assert text.count("\\") >= 4


@pytest.mark.parametrize("name", ["Käse", "猫 and 犬", "[red]x[/red]", "fashion_mnist", "👩‍🔬", "a\u200cb"])
def test_plain_names_stay_as_they_are(name, capsys):
    assert printable(name) == name
    terminal.print_table(["name"], [[name]])
    terminal.log_info(name)
    out, err = capsys.readouterr()
    assert name in out
    assert name in err


@pytest.mark.parametrize("begin", ["=", "+", "-", "@"])
def test_cells_are_no_formulas(begin):
    assert csv_cell(f"{begin}1+1") == f"'{begin}1+1"
    assert csv_cell(f"a{begin}1") == f"a{begin}1"
    assert csv_cell("-1") + csv_cell("+0.5") + csv_cell("-1e-05") == "-1+0.5-1e-05"
    assert csv_cell("-1-cmd|x") == "'-1-cmd|x"
    assert csv_cell(f"\t{begin}1").startswith("\\")
    assert csv_cell(f"\r{begin}1").startswith("\\")


URLS = {
    "s3://user:hunter2@host/bucket": "s3://***@host/bucket",
    "https://ghp_hunter2@host/x": "https://***@host/x",
    "https://h/x?token=hunter2&a=1": "https://h/x?token=***&a=1",
    "https://h/x?a=1&X-Amz-Signature=hunter2": "https://h/x?a=1&X-Amz-Signature=***",
    "abfs://h/x?sv=1&sig=hunter2": "abfs://h/x?sv=1&sig=***",
    "https://h/x?access_token=hunter2": "https://h/x?access_token=***",
    "s3://user:hun/hunter2@host/x": "s3://***@host/x",
    "s3://user:hun@hunter2@host/x": "s3://***@host/x",
    "hf://datasets/user:hunter2@host/x": "hf://datasets/***@host/x",
    "hf://datasets/owner/name@main": "hf://datasets/owner/name@main",
    "https://h/a@b/x?monkey=1": "https://h/a@b/x?monkey=1",
}


@pytest.mark.parametrize("url", URLS)
def test_secrets_of_urls_are_not_shown(url, capsys):
    assert redact(f"of {url}, again") == f"of {URLS[url]}, again"
    assert "hunter2" not in str(FactoryError(f"no set in {url}"))
    for word in (url, url.replace("://", "+none://", 1), url.replace("datasets/", "")):
        run(["status", word])
        assert "hunter2" not in "".join(capsys.readouterr())


def test_a_location_is_shown_without_its_password_and_used_with_it():
    location = parse_location("memory://user:hunter2@host/set")
    assert "hunter2" not in f"{location}"
    assert "hunter2" in location.url


@pytest.mark.parametrize(
    "name", ["mps", "meta", "xpu", "cuda:x", "", "cpu:0", "hip", "cuda:-1", "auto:0", "gpu", "cuda:1000"]
)
def test_other_devices_than_cpu_and_cuda_are_refused_by_every_verb(name, tmp_path, capsys):
    """D14"""
    with pytest.raises(UsageError, match="auto, cpu, cuda or cuda:N"):
        choose_device(name)
    make_set(tmp_path / "set")
    for words in (
        ["train", str(tmp_path / "set"), "--out", str(tmp_path / "run")],
        ["fit", "digits", "--out", str(tmp_path / "x")],
    ):
        assert run([*words, "--device", name, "-q"]) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_a_gpu_that_is_not_there_ends_with_5():
    with pytest.raises(ResourceError, match="cuda:99"):
        choose_device("cuda:99")


def test_3000_classes_tell_their_accuracy_and_a_picture_of_the_worst(tmp_path):
    """D15: the picture took 0.28 inch a class, 5.4 GB at 1,000 classes."""
    confusion = np.diag(np.full(3000, 2))
    confusion[7, 8] = 5
    path = tmp_path / "test.png"
    draw_evaluation(confusion.tolist(), ["$x^{$ " + "long" * 99] * 3000, [(0.5, 0.5, 6000)], path, "accuracy $50 \x1b")
    assert path.stat().st_size < 2_000_000


@pytest.mark.parametrize(("in_dim", "more", "drawn"), [(2, ["--decode", "1"], True), (2, [], False),
                                                       (3, ["--decode", "1"], False)])  # fmt: skip
def test_what_an_encoder_draws_is_shown(in_dim, more, drawn, tmp_path, capsys):
    """Of shapes there is no picture, and without a loss to draw by nothing is drawn."""
    make_set(tmp_path / "set", replace(SPEC, in_dim=in_dim), objects={"train": 14, "val": 5})
    words = ["--model", "parity:hidden_dim=4,grid=4", "--epochs", "1", "--batch-size", "4", "--device", "cpu", "-q"]

    assert run(["train", str(tmp_path / "set"), *words, *more, "--out", str(tmp_path / "run")]) == 0

    assert (tmp_path / "run" / "drawn.png").is_file() == drawn
    assert ("drawn.png" in capsys.readouterr().out) == drawn


def test_a_picture_without_memory_costs_no_result(tmp_path, monkeypatch, capsys):
    from inr_factory.reporting import plots

    make_set(tmp_path / "set", objects={"train": 14, "val": 5, "test": 6})

    def fail(*_, **__):
        raise MemoryError("std::bad_alloc")

    monkeypatch.setattr(plots, "draw_evaluation", fail)
    monkeypatch.setattr(plots, "draw_training", fail)
    words = [
        "--model",
        "mlp",
        "--epochs",
        "1",
        "--batch-size",
        "4",
        "--device",
        "cpu",
        "-q",
        "--out",
        str(tmp_path / "run"),
    ]
    assert run(["train", str(tmp_path / "set"), *words]) == 0
    out, err = capsys.readouterr()
    assert "test accuracy" in out
    assert "not enough memory to draw" in err


@pytest.fixture(scope="module")
def named(tmp_path_factory):
    """A run whose set has classes that are formulas, and not ASCII."""
    root = tmp_path_factory.mktemp("named")
    make_set(root / "set", objects={"train": 14, "val": 5, "test": 6}, classes=("=1+1", "Käse", "@x"))
    torch.manual_seed(0)
    train(root / "set", "mlp", batch_size=4, epochs=1, device="cpu", out=root / "run")
    return root


def test_predictions_hold_no_formula(named):
    from inr_factory.learning.training.trained_run import predict

    rows = list(csv.DictReader(io.StringIO(predict(named / "run", named / "set").to_csv())))
    assert {row["class"] for row in rows} == {"'=1+1", "Käse", "'@x"}


@pytest.mark.parametrize(
    "variables", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}]
)
def test_predictions_on_an_ascii_stdout_end_in_one_line(named, variables):
    words = [sys.executable, "-m", "inr_factory", "predict", str(named / "run"), str(named / "set"), "--device", "cpu"]
    environment = {**os.environ, **variables}
    done = subprocess.run(words, env=environment, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"--out" in done.stderr
    assert done.stderr.count(b"\n") == 1
    out = named / f"{len(variables)}.csv"
    assert (
        subprocess.run([*words, "--out", str(out)], env=environment, capture_output=True, check=False).returncode == 0
    )
    assert "Käse" in out.read_text(encoding="utf-8")
    done = subprocess.run(
        [*words[:3], "evaluate", str(named / "run"), "--device", "cpu"],
        env=environment,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_names_reach_card_and_report_escaped(tmp_path):
    from inr_factory.storage.dataset_card import write_card

    make_set(tmp_path / "set", classes=("\x1b[31mred", "<script>x", "a\u202eb"))
    write_card(tmp_path / "set")
    assert run(["report", str(tmp_path / "set")]) == 0
    pages = [*(tmp_path / "set").glob("*.html"), tmp_path / "set/README.md", tmp_path / "set/croissant.json"]
    assert len(pages) == 3
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert not {"\x1b", "\u202e"} & set(text), page.name
        assert "<script>x" not in text.replace("\\<script\\>x", "") or page.suffix == ".json", page.name


@pytest.mark.parametrize("views", [1, 2])
def test_training_on_one_view_is_named_as_what_to_change(tmp_path, capsys, views):
    make_set(tmp_path / "set", objects={"train": 14, "val": 5}, views=views)
    words = ["--model", "mlp:hidden_dim=4", "--epochs", "1", "--batch-size", "4", "--device", "cpu"]
    assert run(["train", str(tmp_path / "set"), *words, "--out", str(tmp_path / "run")]) == 0
    assert ("one view of each object" in capsys.readouterr().err) == (views == 1)
