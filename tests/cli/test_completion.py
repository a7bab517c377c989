"""Completion: the words that a shell offers next."""

import subprocess
import sys

import pytest

from inr_factory.cli import completion, known_names
from inr_factory.cli.main import run


@pytest.fixture
def offered(capsys, monkeypatch):
    """What bash is offered for the last word of a line."""

    def words_after(line):
        monkeypatch.setenv("_INR_FACTORY_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", str(len(line.split(" ")) - 1))
        with pytest.raises(SystemExit) as left:
            run([])
        assert left.value.code == 0
        return capsys.readouterr().out.split()

    return words_after


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("inr-factory st", ["status"]),
        ("inr-factory v", ["verify", "version"]),
        ("inr-factory --quiet augm", ["augment-report"]),
        ("inr-factory fit cifar", ["cifar10", "cifar10_10view", "cifar10_1view", "cifar10_40db"]),
        ("inr-factory recipes dig", ["digits"]),
        ("inr-factory fit digits --dry", ["--dry-run"]),
        ("inr-factory fit digits --qui", ["--quiet"]),
        ("inr-factory fit digits --set fit.target", ["fit.target_psnr=", "fit.target_error="]),
        ("inr-factory fit digits --backend l", ["local"]),
        ("inr-factory train inrs/digits --model ng", ["ng_gnn", "ng_t"]),
        ("inr-factory train inrs/digits --mixup mixup", list(known_names.MIXUPS)),
        ("inr-factory train inrs/digits --augment rot", ["rotate2d", "rotate3d"]),
        ("inr-factory predict runs/a inrs/digits --split t", ["train", "test"]),
        ("inr-factory benchmark p", ["pipeline"]),
    ],
)
def test_what_may_come_next_is_offered(offered, line, words):
    assert offered(line) == words


@pytest.mark.parametrize(
    "line", ["inr-factory show inrs", "inr-factory sweep g", "inr-factory train x --out r", "inr-factory evaluate r"]
)
def test_files_are_left_to_the_shell(offered, line):
    assert offered(line) == []


def test_keys_of_sections_are_not_offered_since_they_take_no_value():
    assert "fit.steps=" in completion.WORDS["settings"]()
    assert "fit=" not in completion.WORDS["settings"]()


@pytest.mark.parametrize(
    ("line", "words"),
    [("inr-factory s", ["status", "show", "search", "sweep"]), ("inr-factory train hf://a/b --mo", ["--model"])],
)
def test_completing_a_line_loads_nothing_that_takes_time_and_fetches_no_set(line, words):
    code = (
        "import os, sys, inr_factory.cli.main as c\n"
        f"os.environ |= {{'_INR_FACTORY_COMPLETE': 'complete_bash', 'COMP_WORDS': {line!r}, "
        f"'COMP_CWORD': '{len(line.split()) - 1}'}}\n"
        "try: c.run([])\n"
        "except SystemExit: print({'torch', 'h5py', 'ray', 'yaml', 'fsspec', 'inr_factory.storage.fetch_dataset'}"
        " & sys.modules.keys())"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert printed == [*words, "set()"]


@pytest.mark.parametrize(
    ("shell", "sign"), [("bash", "complete -o"), ("zsh", "compdef"), ("fish", "complete --command")]
)
def test_the_script_for_the_shell_that_asks_is_shown(capsys, monkeypatch, shell, sign):
    monkeypatch.setattr("shellingham.detect_shell", lambda *_: (shell, f"/bin/{shell}"))
    with pytest.raises(SystemExit):
        run(["--show-completion"])
    printed = capsys.readouterr().out
    assert "_INR_FACTORY_COMPLETE" in printed
    assert sign in printed
