"""The command line's program: its verbs and what help loads."""

import subprocess
import sys

import pytest

from inr_factory.cli import main
from inr_factory.cli.main import PANELS, VERBS

HEAVY = "{'torch', 'h5py', 'ray', 'scipy', 'numpy', 'yaml', 'matplotlib'}"


def loaded_by(statement):
    """What a fresh process prints, and which heavy modules it has loaded."""
    code = f"import sys\nfrom inr_factory.cli.main import VERBS, run\n{statement}\nprint({HEAVY} & sys.modules.keys())"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    return printed, printed.splitlines()[-1]


def test_every_verb_stands_under_one_heading():
    assert len(VERBS) == len(set(VERBS)) == sum(map(len, PANELS.values()))


def test_help_of_every_verb_loads_no_heavy_module():
    printed, heavy = loaded_by("for verb in ('', *VERBS): run([*verb.replace('_', '-').split(), '--help'])")
    assert heavy == "set()"
    for verb in VERBS:
        assert f"Usage: inr-factory {verb.replace('_', '-')} " in printed


@pytest.mark.parametrize("module", ["torch", "h5py"])
def test_the_test_of_light_help_can_fail(module):
    assert loaded_by(f"import {module}")[1] != "set()"


@pytest.mark.parametrize(("limit", "code", "text"), [(1, 5, "out of memory"), (float("inf"), 1, "internal error")])
def test_an_error_of_the_interpreter_is_the_memory_where_that_is_used_up(limit, code, text, monkeypatch, capsys):
    def fail(*_):
        raise SystemError("error return without exception set")

    monkeypatch.setattr("inr_factory.generation.recipe.summarize_recipes", fail)
    monkeypatch.setattr(main, "_memory_limit", lambda: limit)

    assert main.run(["recipes"]) == code
    assert text in capsys.readouterr().err
