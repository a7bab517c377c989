"""Small benchmarks: settings that make every benchmark quick, and a check of its result."""

import json
import tempfile

import torch

from inr_factory.cli.main import run
from inr_factory.inr.spec import SirenSpec

SPEC = SirenSpec(2, 1, hidden_dim=8)


def make_quick(monkeypatch, folder):
    """Benchmarks of few rounds and 8 hidden neurons in `folder`; torch.compile leaves code as it is."""
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setattr("inr_factory.benchmarks.harness.ROUNDS", 2)
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    monkeypatch.setattr("inr_factory.benchmarks.fit.GREY", SPEC)
    monkeypatch.setattr("inr_factory.benchmarks.fit.PROBLEMS", ((SPEC, 5), (SirenSpec(3, 1, 8), 20)))
    monkeypatch.setattr("inr_factory.benchmarks.fit.NUM_IMAGES", 2)
    monkeypatch.setattr("inr_factory.benchmarks.encoders.SPEC", SPEC)
    monkeypatch.setattr("inr_factory.benchmarks.fit.TARGETS", (10.0,))
    monkeypatch.setattr("inr_factory.benchmarks.pipeline.TURNS", 2)
    monkeypatch.setattr("inr_factory.benchmarks.pipeline.SHARD_OBJECTS", 10)
    monkeypatch.setattr("inr_factory.benchmarks.fixtures.FIT_STEPS", 3)


def run_and_check(what, expected, folder, capsys):
    """Run a benchmark by the command line: every candidate has a rate, the baseline's ratio is 1, nothing is left."""
    arguments = ["benchmark", what, "--rows", "60", "--batch-size", "4", "--seconds", "0.001"]
    picture = folder / "pictures" / "bars.png"

    assert run([*arguments, "--json", "--picture", str(picture)]) == 0

    result = json.loads(capsys.readouterr().out)
    assert result["machine"]["cores"]
    names = set()
    for table in result["tables"]:
        rows = {row["name"]: row for row in table["contenders"]}
        names |= set(rows)
        assert all(row["per_second"] > 0 for row in rows.values())
        assert all(0 < row["ratio_low"] <= row["ratio"] <= row["ratio_high"] for row in rows.values())
        assert rows[table["yardstick"]]["ratio"] == 1
    assert names >= expected
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert not list(folder.glob("inr-factory-*"))
