"""Terminal: what progress says off a terminal, where there is no bar."""

import pytest

from inr_factory import terminal
from inr_factory.factory import Progress
from inr_factory.fitting import Tally


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
