"""Terminal: what progress says off a terminal, where there is no bar."""

import io
import re

import pytest
from rich.console import Console

from inr_factory.cli import terminal
from inr_factory.generation.execution.progress_recorder import Progress
from inr_factory.generation.fitting.tally import Tally


@pytest.fixture
def hasty(monkeypatch):
    monkeypatch.setattr(terminal, "LINE_SECONDS", 0.0)


def test_a_log_gets_lines_with_count_rate_quality_and_time_left(hasty, capfd):
    with terminal.FitProgress("digits") as progress:
        progress(Progress(inrs=1000))
        progress(Progress(inrs=1000, tally=Tally(250, 200, 8000.0, 5)))
    first, second = capfd.readouterr().err.strip().splitlines()
    assert first == "0 of 1,000 INRs, starting"
    assert second.startswith("250 of 1,000 INRs, ")
    assert "INRs/s, 40.0 dB, " in second
    assert second.endswith("left")


def test_a_note_is_said_once(hasty, capfd):
    with terminal.FitProgress("digits") as progress:
        state = Progress(inrs=10, notes=["a worker died"])
        progress(state)
        progress(state)
    assert capfd.readouterr().err.count("a worker died") == 1


@pytest.mark.parametrize(("seconds", "text"), [(0.42, "0.4 s"), (61, "61 s"), (600, "10 min"), (9000, "2.5 h")])
def test_durations_are_said_in_units_that_people_use(seconds, text):
    assert terminal.duration(seconds) == text


def test_tables_set_numbers_to_the_right(capsys):
    terminal.tell_table(["name", "count"], [("a", 5), ("bb", 12345)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].split() == ["bb", "12,345"]
    assert lines[-2].endswith("     5")


def test_what_is_missing_does_not_move_the_numbers_beside_it(capsys):
    terminal.tell_table(["name", "share"], [("a", "-"), ("b", "0.25"), ("-c", "-3")])
    lines = capsys.readouterr().out.splitlines()
    assert [line[-4:] for line in lines[-3:]] == ["   -", "0.25", "  -3"]
    assert lines[-1].startswith("-c ")


@pytest.mark.parametrize(
    ("inrs", "seconds", "text"), [(420, 1168, "0.36 INRs/s"), (30, 10, "3 INRs/s"), (10_000, 8, "1,250 INRs/s")]
)
def test_slow_rates_keep_digits(inrs, seconds, text):
    assert terminal.rate(inrs, seconds) == text


def test_the_time_left_does_not_count_the_start(hasty, monkeypatch, capfd):
    now = 100.0
    monkeypatch.setattr(terminal, "monotonic", lambda: now)
    with terminal.FitProgress("digits") as progress:
        for now, done in [(130.0, 10), (140.0, 110)]:  # noqa: B007
            progress(Progress(inrs=1110, tally=Tally(done, done, 40.0 * done, done)))
    assert capfd.readouterr().err.splitlines()[-1].endswith("2 min left")  # 1,000 at 10 a second


COLUMNS = {"val_loss": ("val loss", ".2f"), "val_accuracy": ("val accuracy", ".1%")}
RECORDS = [{"epoch": e, "val_loss": 1.0, "val_accuracy": a} for e, a in enumerate((0.2, 0.6, 0.4))]


def test_a_log_gets_a_line_for_each_epoch(capfd):
    with terminal.RunProgress(3, COLUMNS, judge="val_accuracy") as progress:
        progress.step(0, 1, 2, 0.5)
        for record in RECORDS:
            progress.epoch(record)
    lines = capfd.readouterr().err.splitlines()
    assert lines[0] == "epoch   1 of 3  val loss 1.00  val accuracy 20.0%"
    assert len(lines) == 3


def test_a_terminal_gets_a_table_with_the_best_epoch_marked_and_the_step_at_work(monkeypatch):
    console = Console(force_terminal=True, width=100, record=True, file=io.StringIO())
    monkeypatch.setattr(terminal, "err", console)
    monkeypatch.setattr(terminal, "has_bars", lambda: True)
    with terminal.RunProgress(4, COLUMNS, judge="val_accuracy") as progress:
        for record in RECORDS:
            progress.epoch(record)
        progress.step(3, 5, 20, 0.25)
        progress.live.refresh()
    shown = console.export_text()
    assert "epoch 4 of 4, step 5 of 20, loss 0.2500" in shown
    rows = [line.split() for line in shown.splitlines() if line.strip()[:1].isdigit()]
    assert ["2", "1.00", "60.0%", "best"] in rows
    assert ["3", "1.00", "40.0%"] in rows


@pytest.fixture
def screen(monkeypatch, capsys):
    """What a table looks like on a terminal of so many columns."""

    def show(width, *table, **more):
        monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
        monkeypatch.setenv("COLUMNS", str(width))
        monkeypatch.setenv("TERM", "xterm")
        terminal.tell_table(*table, **more)
        return re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out)

    return show


WIDE = (["name", "what it is about", "count"], [("alpha", "some words that are long enough", 1234567)])


def test_a_pipe_gets_every_row_in_one_line_however_wide(capsys):
    terminal.tell_table(["name", "about"], [("a", "word " * 100 + "end")])
    assert [line.split()[-1] for line in capsys.readouterr().out.splitlines()] == ["about", "end"]


@pytest.mark.parametrize("width", [80, 40, 30, 18, 8])
def test_a_narrow_terminal_folds_and_cuts_nothing(screen, width):
    lines = screen(width, *WIDE, title="all of them").splitlines()
    assert max(map(len, lines)) <= width
    text = "".join("".join(lines).split())
    assert [part for part in ("all", "name", "alpha", "about", "enough", "1,234,567") if part not in text] == []
    assert "…" not in text


def test_where_words_do_not_fit_side_by_side_each_row_is_a_list(screen):
    assert screen(22, *WIDE).splitlines()[0].split() == ["name:", "alpha"]
    assert screen(60, *WIDE).splitlines()[0].split() == ["name", "what", "it", "is", "about", "count"]


@pytest.fixture
def quiet():
    terminal.be_quiet(True)
    yield
    terminal.be_quiet(False)


def test_quiet_leaves_out_progress_and_remarks_but_not_faults(hasty, quiet, capfd):
    with terminal.FitProgress("digits") as progress:
        progress(Progress(inrs=1000, notes=["a worker died"]))
    terminal.say("a remark")
    terminal.warn("a fault")
    terminal.tell("a result")
    assert capfd.readouterr() == ("a result\n", "a fault\n")


@pytest.mark.parametrize(
    ("tty", "variables", "moves"),
    [(True, {"TERM": "xterm"}, True), (True, {"TERM": "dumb"}, False), (False, {"FORCE_COLOR": "1"}, False)],
)
def test_bars_move_on_terminals_that_can_alone(monkeypatch, tty, variables, moves):
    monkeypatch.setattr("sys.stderr.isatty", lambda: tty, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert terminal.has_bars() is moves


@pytest.mark.parametrize(
    ("variables", "escapes"),
    [({"FORCE_COLOR": "1", "TERM": "xterm"}, True), ({}, False), ({"NO_COLOR": "1", "TERM": "dumb"}, False)],
)
def test_colours_are_used_when_asked_for_and_never_by_default_in_a_pipe(monkeypatch, capsys, variables, escapes):
    for name in ("FORCE_COLOR", "NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    terminal.tell_table(["name"], [("a",)])
    assert ("\x1b[" in capsys.readouterr().out) is escapes
