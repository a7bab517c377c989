"""Signatures: what help and completion are told of a verb is what the verb takes."""

import subprocess
import sys

import pytest
import typer

from inr_factory.cli import lazy_help as signatures
from inr_factory.cli.lazy_help import signature_of
from inr_factory.cli.main import VERBS, program


def described(app):
    """Of each verb its help and its parameters: name, how it is written, default, help and shape."""
    return {
        name: (
            verb.help,
            [
                (
                    p.name,
                    p.opts,
                    p.default,
                    getattr(p, "help", ""),
                    p.multiple if hasattr(p, "multiple") else None,
                    p.metavar,
                )
                for p in verb.params
            ],
        )
        for name, verb in typer.main.get_command(app).commands.items()
    }


@pytest.fixture(scope="module")
def real():
    return described(program())


def test_the_signature_of_a_verb_is_that_of_the_verb_itself(real):
    for name, told in described(program([], VERBS)).items():
        assert told == real[name], name


def test_without_parameters_a_verb_has_its_help_alone(real):
    for name, (text, parameters) in described(program([])).items():
        assert text == real[name][0]
        assert parameters == []


def test_a_verb_whose_options_need_a_heavy_module_is_loaded(tmp_path, monkeypatch):
    (tmp_path / "machine.py").write_text(
        "from typing import Annotated\nimport typer\nfrom inr_factory.learning.transforms.compose import TRANSFORMS\n"
        "KNOWN = ', '.join(TRANSFORMS)\ndef recipes(name: Annotated[str, typer.Option(help=KNOWN)]) -> None: ...\n"
    )
    monkeypatch.setattr(signatures, "__file__", str(tmp_path / "signatures.py"))
    from inr_factory.cli.commands.environment import recipes

    assert signature_of("machine", "recipes") is recipes


def test_callbacks_from_heavy_modules_stand_for_none(tmp_path, monkeypatch):
    (tmp_path / "room.py").write_text(
        "from typing import Annotated\nimport torch\nimport typer\nfrom nowhere import check\n"
        "Name = Annotated[str, typer.Option(callback=check)]\n"
        'def verb(name: Name = "a", size: int = 3) -> None:\n    "Does it."\n    torch.ones(size)\n'
    )
    monkeypatch.setattr(signatures, "__file__", str(tmp_path / "signatures.py"))
    function = signature_of("room", "verb")
    assert function.__doc__ == "Does it."
    assert function() is None
    assert function.__annotations__["name"].__metadata__[0].callback is None


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["augment-report", "-h"]])
def test_help_loads_no_library_that_takes_seconds(words):
    code = f"import sys; from inr_factory.cli.main import run; run({words!r}); print({{'torch', 'h5py', 'ray'}} & sys.modules.keys())"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told.splitlines()[-1] == "set()"
    assert "Usage: inr-factory" in told
