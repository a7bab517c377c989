"""Embedding: a table of the encoder's features, of every kind of run, as CSV and NPZ."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.command_line import failure, outcome
from support.small_sets import make_set

from inr_factory.errors import UsageError
from inr_factory.learning.data.dataset import INRDataset
from inr_factory.learning.data.loader import INRLoader
from inr_factory.learning.models.checkpoint import load_encoder
from inr_factory.learning.training.embed import embed
from inr_factory.learning.training.pretrain_encoder import pretrain
from inr_factory.learning.training.probes import features_of
from inr_factory.learning.training.run_config import BEST
from inr_factory.learning.training.train_classifier import train

OPTIONS: dict[str, Any] = {"model": "parity:hidden_dim=4", "batch_size": 4, "device": "cpu", "epochs": 1}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set, and a run of each kind on it."""
    root = tmp_path_factory.mktemp("embed")
    make_set(root / "set", objects={"train": 14, "val": 5, "test": 6})
    train(root / "set", out=root / "classifier", **OPTIONS)
    for objective in ("contrast", "decode"):
        pretrain(root / "set", objective=objective, out=root / objective, **OPTIONS)
    return root


@pytest.mark.parametrize("kind", ["classifier", "contrast", "decode"])
def test_features_are_those_of_the_encoder_row_by_row(kind: str, runs: Path) -> None:
    data = INRDataset(runs / "set", "test", views=2)
    batches: list[tuple[int, int]] = []

    report = embed(runs / kind, runs / "set", views=2, device="cpu", on_batch=lambda *counts: batches.append(counts))

    expected, _ = features_of(load_encoder(runs / kind / BEST), INRLoader(data, 5, shuffle=False, drop_last=False))
    np.testing.assert_allclose(report.features, expected.numpy(), atol=1e-5)
    assert len(report) == 12
    assert report.object_ids == tuple(data.object_ids.tolist())
    assert report.views.tolist() == [0] * 6 + [1] * 6
    assert [data.classes.index(name) for name in report.true_classes] == data.labels.tolist()
    assert batches == [(12, 12)]
    assert len(np.unique(report.features, axis=0)) == 12, "all INRs have the same features: this test shows nothing"


def test_both_kinds_of_table_hold_the_same_numbers(runs: Path, tmp_path: Path) -> None:
    report = embed(runs / "decode", runs / "set", device="cpu")
    report.save(tmp_path / "deeper" / "table.csv")
    report.save(tmp_path / "table.NPZ")

    rows = list(csv.reader((tmp_path / "deeper" / "table.csv").read_text().splitlines()))
    arrays = np.load(tmp_path / "table.NPZ")

    assert rows[0] == ["object_id", "view", "class", "f0", "f1", "f2", "f3"]
    for number, name in enumerate(("object_id", "view", "class")):
        assert [row[number] for row in rows[1:]] == [str(value) for value in arrays[name]]
    assert np.array_equal(np.array([row[3:] for row in rows[1:]], dtype=np.float32), report.features)
    assert np.array_equal(arrays["features"], report.features)


def test_another_suffix_is_refused_before_any_work(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UsageError, match=r"NAME.csv or NAME.npz, got 'table.parquet'"):
        embed(runs / "decode", runs / "set", device="cpu").save(tmp_path / "table.parquet")
    code, line = failure(capsys, "embed", tmp_path / "no-run", runs / "set", "--out", tmp_path / "table.txt")
    assert code == 2
    assert "got 'table.txt'" in line


def test_what_is_no_run_is_refused_in_one_line(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, line = failure(capsys, "embed", tmp_path, runs / "set")
    assert (code, "no checkpoint" in line) == (2, True)
    code, line = failure(capsys, "embed", "./aligned", runs / "set")
    assert (code, "no checkpoint aligned" in line) == (2, True)
    assert outcome(capsys, "embed", "aligned", runs / "set", "--device", "cpu")[0] == 0
    make_set(tmp_path / "other", spec=INRDataset(runs / "set").spec.__class__(3, 1, hidden_dim=4, num_hidden=2))
    code, line = failure(capsys, "embed", runs / "decode", tmp_path / "other", "--split", "val", "--device", "cpu")
    assert code == 2
    assert "was made for INRs of in_dim 2" in line


def test_the_command_writes_what_python_returns(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = embed(runs / "classifier", runs / "set", "val", 1, device="cpu")
    arguments = ["embed", runs / "classifier", runs / "set", "--split", "val", "--views", "1", "--device", "cpu"]

    assert outcome(capsys, *arguments)[:2] == (0, expected.to_csv())
    code, out, _ = outcome(capsys, *arguments, "--out", tmp_path / "table.npz")
    assert (code, out) == (0, f"{tmp_path / 'table.npz'}: 5 INRs, 4 features each\n")
    assert np.array_equal(np.load(tmp_path / "table.npz")["features"], expected.features)
    observed = json.loads(outcome(capsys, *arguments, "--json")[1])
    assert torch.equal(torch.tensor([row["features"] for row in observed["rows"]]), torch.from_numpy(expected.features))
