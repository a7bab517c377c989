"""`targets`: lists what a set says of its objects, and joins a table; the errors are those of the function."""

import json

import numpy as np
import pytest
from support.command_line import failure, outcome
from support.small_sets import make_set

from inr_factory.cli.commands.targets import MOST_NAMES

NAMES = [f"train-{number}" for number in range(14)]


@pytest.fixture
def root(tmp_path):
    make_set(tmp_path / "set", views=1, objects={"train": 14})
    rows = [f"{name},{number},{number % 12},{'a|b' if number % 2 else ''}" for number, name in enumerate(NAMES)]
    (tmp_path / "t.csv").write_text("\n".join(["name,mass [kg],digit,tags", *rows, "other,1,1,a", ""]))
    return tmp_path / "set"


def test_a_set_without_targets_says_how_to_join_some(root, capsys):
    code, out, _ = outcome(capsys, "targets", root)

    assert code == 0
    assert "has no targets; inr-factory targets DATASET TABLE joins some" in out


def test_a_table_is_joined_and_listed(root, capsys):
    code, out, err = outcome(capsys, "targets", root, root.parent / "t.csv", "--kind", "digit=class")

    assert code == 0
    assert "3 targets of 14 objects joined" in out
    assert "1 in the table of no object of the set: other" in err
    mass, digit, tags = out.splitlines()[-3:]
    assert mass.split() == ["mass", "number", "kg", "14", "0", "to", "13,", "mean", "6.5"]
    assert digit.rstrip().endswith(f"{12 - MOST_NAMES} more")
    assert tags.rstrip().endswith("a 7, b 7")
    status = outcome(capsys, "status", root)[1]
    assert "targets: mass (number, kg), digit (12 classes), tags (2 labels)" in status


def test_json_has_what_was_joined_and_every_target(root, capsys):
    outcome(capsys, "targets", root, root.parent / "t.csv")
    code, out, _ = outcome(capsys, "targets", root, root.parent / "t.csv", "--replace", "--json")

    result = json.loads(out)
    assert code == 0
    assert (result["joined"], result["objects"], result["foreign"]) == (["mass", "digit", "tags"], 14, ["other"])
    assert result["targets"][0]["mean"] == [np.arange(14).mean()]
    assert [column["name"] for column in json.loads(outcome(capsys, "status", root, "--json")[1])["targets"]] == [
        "mass", "digit", "tags",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--replace"], "--kind and --replace are for a table to join"),
        (["t.csv", "--kind", "digit"], "--kind takes NAME=KIND, got 'digit'"),
        (["t.csv", "--kind", "digit=clas"], "did you mean 'class'?"),
        (["none.csv"], "none.csv cannot be read"),
    ],
)
def test_wrong_arguments_are_one_line(root, capsys, arguments, message, monkeypatch):
    monkeypatch.chdir(root.parent)
    code, line = failure(capsys, "targets", root, *arguments)

    assert code == 2
    assert message in line
