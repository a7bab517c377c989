"""status --watch: rate and time left from the set alone; it ends when nothing is missing."""

import json

import pytest
from support.tiny_recipes import LOCAL, tiny

from inr_factory.cli import main as cli
from inr_factory.cli.commands.watch import take_snapshot
from inr_factory.cli.pace import Pace
from inr_factory.generation.execution.fit_dataset import fit_dataset
from inr_factory.storage.atomic_files import write_atomically
from inr_factory.storage.manifest import MANIFEST, Quarantined
from inr_factory.storage.manifest_file import load_manifest


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "set"
    fit_dataset(tiny(), out, **LOCAL)
    return load_manifest(out)


def first(manifest, count):
    return manifest.model_copy(update={"shards": manifest.shards[:count]})


def test_rate_and_time_left_are_those_of_the_last_snapshots(whole):
    pace = Pace()
    done = [sum(entry.rows for entry in whole.shards[:count]) for count in (0, 2, 10)]
    begun = take_snapshot(first(whole, 0), 10, pace, 100.0)
    assert (begun.done, begun.inrs, begun.missing, begun.shards) == (0, 48, 10, 10)
    assert (begun.inrs_per_second, begun.seconds_left) == (None, None)
    early = take_snapshot(first(whole, 1), 9, pace, 107.0)
    assert early.inrs_per_second == pytest.approx(early.done / 7, abs=1e-3)
    assert early.seconds_left is None
    later = take_snapshot(first(whole, 2), 8, pace, 114.0)
    assert later.inrs_per_second == pytest.approx(done[1] / 14, abs=1e-3)
    assert later.seconds_left == pytest.approx((48 - done[1]) / (done[1] / 14), rel=0.02)
    assert take_snapshot(first(whole, 2), 8, pace, 200.0).inrs_per_second is None
    assert take_snapshot(whole, 0, pace, 220.0).done == done[2] == 48


def test_what_is_in_quarantine_counts_as_done(whole):
    bad = Quarantined(object_id="x", view=0, reason="broken")
    entry = whole.shards[0].model_copy(update={"rows": whole.shards[0].rows - 1, "quarantine": (bad,)})
    snapshot = take_snapshot(whole.with_entries([entry]), 0, Pace(), 0.0)
    assert (snapshot.done, snapshot.quarantined) == (48, 1)


def test_watching_a_set_that_is_being_made_ends_with_it(whole, tmp_path, capsys, monkeypatch):
    out = tmp_path / "set"
    fit_dataset(tiny(), out, **LOCAL)
    write_atomically(out / MANIFEST, first(whole, 3).to_json().encode())
    waits = []

    def sleep(seconds):
        waits.append(seconds)
        write_atomically(out / MANIFEST, first(whole, 3 if len(waits) < 2 else 10).to_json().encode())

    monkeypatch.setattr("inr_factory.cli.commands.watch.sleep", sleep)
    assert cli.run(["status", str(out), "--watch", "--every", "0.1"]) == 0
    assert waits == [0.1, 0.1]
    said = capsys.readouterr()
    lines = said.err.splitlines()
    assert "7 of 10 shards missing, 0 in quarantine" in lines[0]
    assert lines[2].startswith("48 of 48 INRs, 0 of 10 shards missing")
    assert lines[3].startswith("to extend it: ")
    assert "48 INRs" in said.out, "and then it says what status says"


def test_watching_a_whole_set_ends_at_once_and_json_is_an_object_a_look(whole, tmp_path, capsys):
    out = tmp_path / "set"
    fit_dataset(tiny(), out, **LOCAL)
    assert cli.run(["status", str(out), "--watch", "--every", "999", "--json"]) == 0
    snapshot = json.loads(capsys.readouterr().out)
    assert (snapshot["done"], snapshot["missing"], snapshot["seconds_left"]) == (48, 0, None)


def test_watching_what_is_no_set_is_refused(tmp_path):
    assert cli.run(["status", str(tmp_path), "--watch"]) == 2
