"""Run log: a run's log says what it did, and whether it is alive."""

import json
import os
import subprocess
import sys

from inr_factory.storage import run_log
from inr_factory.storage.atomic_files import writer_name
from inr_factory.storage.run_log import LOG_FOLDER, RunLog

ALL = (0, 1)


def lines(log):
    return [json.loads(line) for line in log.path.read_text().splitlines()]


def test_a_log_has_a_line_of_json_for_all_that_happened(tmp_path):
    log = RunLog(tmp_path, ALL, workers=2)
    log.note("death", shard="data/x.h5", reason="killed")
    log.note("end", made=3)
    assert [line["event"] for line in lines(log)] == ["start", "death", "end"]
    assert (lines(log)[0]["workers"], lines(log)[1]["reason"], lines(log)[2]["made"]) == (2, "killed", 3)
    assert all(line["time"].endswith("+00:00") for line in lines(log))


def test_a_run_sees_another_on_the_same_part_until_that_ends(tmp_path):
    other, log = RunLog(tmp_path, ALL), RunLog(tmp_path, ALL)
    assert log.others() == [writer_name()]
    other.note("end")
    assert log.others() == []


def test_a_run_on_another_part_is_no_other(tmp_path):
    RunLog(tmp_path, (1, 4))
    assert RunLog(tmp_path, (0, 4)).others() == []
    assert RunLog(tmp_path, (1, 4)).others() == [writer_name()]


def test_a_run_that_died_or_was_silent_for_long_is_no_other(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    dead = RunLog(tmp_path, ALL)
    dead.path.rename(dead.path.with_name(dead.path.name.replace(f"-{os.getpid()}", f"-{process.pid}")))
    silent = RunLog(tmp_path, ALL)
    long_ago = silent.path.stat().st_mtime - run_log.SILENT_SECONDS - 5
    os.utime(silent.path, (long_ago, long_ago))
    log = RunLog(tmp_path, ALL)
    assert log.others() == []
    silent.beat()
    assert log.others() == [writer_name()]


def test_beats_are_ten_seconds_apart(tmp_path, monkeypatch):
    log, now, touched = RunLog(tmp_path, ALL), [100.0], []
    monkeypatch.setattr(run_log, "monotonic", lambda: now[0])
    monkeypatch.setattr(run_log.os, "utime", touched.append)
    for _ in range(5):
        log.beat()
    assert len(touched) == 1
    now[0] += 10
    log.beat()
    assert len(touched) == 2


def test_a_foreign_or_broken_log_and_a_removed_one_disturb_nobody(tmp_path):
    log = RunLog(tmp_path, ALL)
    (tmp_path / LOG_FOLDER / "notes.log").write_text("mine")
    (tmp_path / LOG_FOLDER / f"20260101T000000.000000Z-{writer_name()}.log").write_text("{")
    assert log.others() == []
    log.path.unlink()
    log.beat()
    log.note("end")
    assert [line["event"] for line in lines(log)] == ["end"]


def test_a_log_that_cannot_be_written_does_not_end_the_run(tmp_path):
    (tmp_path / LOG_FOLDER).write_text("a file instead of a folder")
    log = RunLog(tmp_path, ALL)
    log.note("end")
    assert log.others() == []
