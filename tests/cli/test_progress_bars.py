"""Progress bars: lines in a log file, a table of epochs on a terminal."""

import io

import pytest
from rich.console import Console

from inr_factory.cli import progress_bars, terminal
from inr_factory.generation.execution.progress_recorder import FitProgress
from inr_factory.generation.fitting.tally import Tally


@pytest.fixture
def quiet():
    terminal.set_quiet(True)
    yield
    terminal.set_quiet(False)


@pytest.fixture
def hasty(monkeypatch):
    monkeypatch.setattr(progress_bars, "LINE_SECONDS", 0.0)


def test_a_log_gets_lines_with_count_rate_quality_and_time_left(hasty, monkeypatch, capfd):
    times = iter(range(0, 1000, 12))
    monkeypatch.setattr(progress_bars, "monotonic", lambda: float(next(times)))
    with progress_bars.FitProgress("digits") as progress:
        progress(FitProgress(inrs=1000))
        progress(FitProgress(inrs=1000, tally=Tally(steps=2000)))
        progress(FitProgress(inrs=1000, tally=Tally(250, 200, 8000.0, 5)))
    first, steps, second = capfd.readouterr().err.strip().splitlines()
    assert first == "0 of 1,000 INRs, starting"
    assert steps == "0 of 1,000 INRs, 2,000 INR-steps"
    assert second.startswith("250 of 1,000 INRs, ")
    assert "INRs/s, 40.0 dB, " in second
    assert second.endswith("left")


def test_a_note_is_said_once(hasty, capfd):
    with progress_bars.FitProgress("digits") as progress:
        state = FitProgress(inrs=10, notes=["a worker died"])
        progress(state)
        progress(state)
    assert capfd.readouterr().err.count("a worker died") == 1


def test_the_first_time_left_is_said_after_ten_seconds_of_fitting_and_does_not_count_the_start(
    hasty, monkeypatch, capfd
):
    """Faults, section 4: "12.9 h" of a run of two minutes, which had taken nine seconds to start."""
    now = 100.0
    monkeypatch.setattr(progress_bars, "monotonic", lambda: now)
    with progress_bars.FitProgress("digits") as progress:
        for now, done, steps in [(130.0, 0, 0), (130.1, 1, 60), (131.0, 10, 700), (141.0, 110, 7000)]:  # noqa: B007
            progress(FitProgress(inrs=1110, tally=Tally(done, done, 40.0 * done, steps)))
    *early, last = capfd.readouterr().err.splitlines()
    assert not any("left" in line for line in early)
    assert last.endswith("2 min left")  # 1,000 at 10 a second


def test_shards_tell_their_time_left_after_ten_seconds(monkeypatch):
    now = 0.0
    monkeypatch.setattr(progress_bars, "monotonic", lambda: now)
    with progress_bars.ShardProgress("verify", 100) as progress:
        for now, left in [(2.0, ""), (4.0, ""), (12.0, "8 min left")]:  # noqa: B007
            progress(None)
            assert progress.bar.tasks[0].fields["left"] == left


def test_a_download_tells_bytes_rate_and_time_left_of_what_has_to_come(hasty, monkeypatch, capfd):
    now = 0.0
    monkeypatch.setattr(progress_bars, "monotonic", lambda: now)
    with progress_bars.ByteProgress("pull a/b") as progress:
        for now, arrived in [(1.0, 0), (6.0, 10**7), (11.0, 2 * 10**7)]:  # noqa: B007
            progress(5 * 10**8 + arrived, 10**9, arrived)  # half of it was there
    first, *_, last = capfd.readouterr().err.splitlines()
    assert first == "500.0 MB of 1.0 GB"
    assert last == "520.0 MB of 1.0 GB, 1.8 MB/s, 4 min left"


def test_a_training_run_tells_its_time_left_after_ten_seconds_counted_from_where_it_resumed(monkeypatch):
    now = 0.0
    monkeypatch.setattr(progress_bars, "monotonic", lambda: now)
    progress = progress_bars.RunProgress(100, COLUMNS)
    said = []
    for step in range(1, 30):
        now = step * 1.0
        progress.step(50, step, 100, 0.5)
        said.append(str(progress.current))
    assert not any("left" in line for line in said[:10])
    assert said[-1].endswith("83 min left")


COLUMNS = {"val_loss": ("val loss", ".2f"), "val_accuracy": ("val accuracy", ".1%")}


RECORDS = [{"epoch": e, "val_loss": 1.0, "val_accuracy": a} for e, a in enumerate((0.2, 0.6, 0.4))]


def test_a_log_gets_a_line_for_each_epoch(capfd):
    with progress_bars.RunProgress(3, COLUMNS) as progress:
        progress.step(0, 1, 2, 0.5)
        for record in RECORDS:
            progress.epoch(record)
    lines = capfd.readouterr().err.splitlines()
    assert lines[0] == "epoch   1 of 3  val loss 1.00  val accuracy 20.0%"
    assert len(lines) == 3


def test_a_terminal_gets_a_table_with_the_best_epoch_marked_and_the_step_at_work(monkeypatch):
    console = Console(force_terminal=True, width=100, record=True, file=io.StringIO())
    monkeypatch.setattr(terminal, "console", console)
    monkeypatch.setattr(terminal, "can_show_bars", lambda: True)
    with progress_bars.RunProgress(4, COLUMNS) as progress:
        for record in RECORDS:
            progress.epoch(record)
        progress.step(3, 5, 20, 0.25)
        progress.live.refresh()
    shown = console.export_text()
    assert "epoch 4 of 4, step 5 of 20, loss 0.2500" in shown
    rows = [line.split() for line in shown.splitlines() if line.strip()[:1].isdigit()]
    assert ["2", "1.00", "60.0%", "best"] in rows
    assert ["3", "1.00", "40.0%"] in rows


def test_quiet_leaves_out_progress(hasty, quiet, capfd):
    with progress_bars.FitProgress("digits") as progress:
        progress(FitProgress(inrs=1000, notes=["a worker died"]))
    assert capfd.readouterr() == ("", "")
