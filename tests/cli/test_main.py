"""The command line's program: its verbs, what help shows and what it loads."""

import re
import subprocess
import sys

import pytest
import typer

from inr_factory.cli import main
from inr_factory.cli.help_layout import OPTION_PANELS
from inr_factory.cli.main import PANELS, VERBS, program, run
from inr_factory.inr.version import __version__

HEAVY = (
    "{'torch', 'h5py', 'ray', 'scipy', 'numpy', 'yaml', 'matplotlib', 'pydantic', 'fsspec', 'markdown_it', 'pygments'}"
)


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


@pytest.fixture
def help_of(capsys, monkeypatch):
    """The help of a verb, or of the program, at a number of columns."""

    def text(verb, columns):
        monkeypatch.setenv("COLUMNS", str(columns))
        assert run([*filter(None, [verb.replace("_", "-")]), "--help"]) == 0
        return capsys.readouterr().out

    return text


@pytest.mark.parametrize("columns", [50, 80, 100])
@pytest.mark.parametrize("verb", ["", *VERBS])
def test_help_cuts_no_name_and_fits_the_terminal(help_of, verb, columns):
    text, command = help_of(verb, columns), program()
    params = (command.commands[verb.replace("_", "-")] if verb else command).params
    for name in [*(name for param in params if isinstance(param, typer.core.TyperOption) for name in param.opts), "-h"]:
        assert re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text), name
    assert "…" not in text
    assert "x>=" not in text
    assert max(map(len, text.splitlines())) <= columns or columns == 50


@pytest.mark.parametrize(("verb", "count"), [("fit", 2), ("train", 5), ("pretrain", 5), ("sweep", 1)])
def test_options_of_verbs_with_many_stand_in_panels_that_name_existing_ones(help_of, verb, count):
    panels = OPTION_PANELS[verb]
    names = {param.name for param in program().commands[verb].params}
    assert {name for listed in panels.values() for name in listed.split()} <= names
    text = help_of(verb, 80)
    assert all(f"\n{panel}:\n" in text for panel in (*panels, "Run"))
    assert len(panels) + 1 == count


def test_help_of_training_lists_models_transforms_and_mixings_with_their_meaning(help_of):
    text = help_of("train", 80)
    for line in (
        "parity +invariant",
        "quantile_dropout +zeroes small weights",
        "mixup:match=phase +after",
        "wat +tran",
    ):
        assert re.search(rf"\n  {line}", text), line


def test_the_program_alone_prints_its_help(capsys, help_of):
    text = help_of("", 80)
    assert run([]) == 2
    assert capsys.readouterr().out == text
    assert run(["--quiet"]) == 2
    assert capsys.readouterr().err == "inr-factory: Missing command. (inr-factory --help)\n"


def test_the_version_is_a_verb_and_an_option(capsys):
    assert run(["version"]) == run(["--version"]) == 0
    assert capsys.readouterr().out == 2 * f"inr-factory {__version__}\n"


@pytest.mark.parametrize("module", ["torch", "h5py", "pydantic"])
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


@pytest.mark.parametrize("given", [None, "7"])
def test_threads_of_torch_that_wait_leave_their_core_unless_the_user_says_otherwise(monkeypatch, given):
    name = "GOMP_SPINCOUNT"
    monkeypatch.setenv(name, given or "")
    if given is None:
        monkeypatch.delenv(name)
    monkeypatch.setattr(main, "run", lambda arguments: 0)
    monkeypatch.setattr(main.signal, "signal", lambda *_: None)
    with pytest.raises(SystemExit):
        main.main()
    assert main.os.environ[name] == (given or "1000")
