"""Terminal: tables for people and pipes, and what stays when quiet."""

import re

import pytest

from inr_factory.cli import terminal


def test_tables_set_numbers_to_the_right(capsys):
    terminal.print_table(["name", "count"], [("a", 5), ("bb", 12345)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].split() == ["bb", "12,345"]
    assert lines[-2].endswith("     5")


def test_what_is_missing_does_not_move_the_numbers_beside_it(capsys):
    terminal.print_table(["name", "share"], [("a", "-"), ("b", "0.25"), ("-c", "-3")])
    lines = capsys.readouterr().out.splitlines()
    assert [line[-4:] for line in lines[-3:]] == ["   -", "0.25", "  -3"]
    assert lines[-1].startswith("-c ")


@pytest.fixture
def screen(monkeypatch, capsys):
    """What a table looks like on a terminal of so many columns."""

    def show(width, *table, **more):
        monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
        monkeypatch.setenv("COLUMNS", str(width))
        monkeypatch.setenv("TERM", "xterm")
        terminal.print_table(*table, **more)
        return re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out)

    return show


WIDE = (["name", "what it is about", "count"], [("alpha", "some words that are long enough", 1234567)])


def test_a_pipe_gets_every_row_in_one_line_however_wide(capsys):
    terminal.print_table(["name", "about"], [("a", "word " * 100 + "end")])
    assert [line.split()[-1] for line in capsys.readouterr().out.splitlines()] == ["about", "end"]


def test_quiet_leaves_out_remarks_but_not_errors(capfd):
    terminal.set_quiet(True)
    terminal.log_info("a remark")
    terminal.log_error("an error")
    terminal.print_result("a result")
    terminal.set_quiet(False)
    assert capfd.readouterr() == ("a result\n", "an error\n")


@pytest.mark.parametrize(
    ("tty", "variables", "moves"),
    [(True, {"TERM": "xterm"}, True), (True, {"TERM": "dumb"}, False), (False, {"FORCE_COLOR": "1"}, False)],
)
def test_bars_move_on_terminals_that_can_alone(monkeypatch, tty, variables, moves):
    monkeypatch.setattr("sys.stderr.isatty", lambda: tty, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert terminal.can_show_bars() is moves


@pytest.mark.parametrize(
    ("variables", "escapes"),
    [({"FORCE_COLOR": "1", "TERM": "xterm"}, True), ({}, False), ({"NO_COLOR": "1", "TERM": "dumb"}, False)],
)
def test_colours_are_used_when_asked_for_and_never_by_default_in_a_pipe(monkeypatch, capsys, variables, escapes):
    for name in ("FORCE_COLOR", "NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    terminal.print_table(["name"], [("a",)])
    assert ("\x1b[" in capsys.readouterr().out) is escapes


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
