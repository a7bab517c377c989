"""Run cost: milliseconds are those that a run recorded, per INR."""

import json

import pytest
from support.small_runs import make_run

from inr_factory.learning.training.run_cost import run_cost
from inr_factory.learning.training.trained_run import TrainedRun


def test_a_run_tells_what_it_reads_and_what_an_inr_cost_it(tmp_path):
    make_run(tmp_path, epochs=3)
    run = TrainedRun(tmp_path / "run", tmp_path / "run" / "best.pt")
    records = [dict(record) for record in run.history]
    steps = int(records[0]["step"])
    for record, seconds in zip(records, (9.0, 0.6, 0.3), strict=True):
        record["seconds"] = seconds  # the first epoch of a run is the slowest
    (tmp_path / "run" / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))

    cost = run_cost(TrainedRun(run.folder, run.checkpoint))

    assert cost["reads"] == "weights and probes"
    assert cost["flops_per_inr"] > 1000
    assert cost["ms_per_inr"] == pytest.approx(1e3 * 0.6 / (4 * steps))


def test_a_run_whose_record_is_lost_has_no_time(tmp_path):
    make_run(tmp_path, epochs=1)
    (tmp_path / "run" / "run.json").unlink()

    assert run_cost(TrainedRun(tmp_path / "run", tmp_path / "run" / "best.pt"))["ms_per_inr"] is None
