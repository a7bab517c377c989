"""Habits that all verbs share: JSON, quiet, no questions, suggestions for misspelt words."""

import ast
import io
import json
import subprocess
from pathlib import Path

import pytest
from support.paths import PACKAGE

from inr_factory.cli import main as cli
from inr_factory.cli.main import VERBS, program, run

SMALL = ["--backend", "local", "--workers", "1", "--set", "spec.hidden_dim=4", "--set", "fit.steps=5"]
SMALL += ["--set", "fit.floor_psnr=0", "--set", "shard_objects=20"]
READER = ["--model", "mlp:hidden_dim=8", "--batch-size", "8", "--device", "cpu"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a small set of digits, a run on it, and the file of a sweep."""
    folder = tmp_path_factory.mktemp("habits")
    digits = folder / "digits"
    assert run(["fit", "digits", "--limit", "40", "--out", str(digits), *SMALL]) == 0
    assert run(["train", str(digits), *READER, "--epochs", "1", "--out", str(folder / "run")]) == 0
    exported = str(folder / "exported-before")
    assert run(["export", str(digits), "--to", "safetensors", "--out", exported]) == 0
    (folder / "grid.yaml").write_text(
        f"dataset: {digits}\ntrain: {{epochs: 1, batch_size: 8, device: cpu}}\n"
        "grid: {model: ['mlp:hidden_dim=8'], seed: [0]}\n"
    )
    return folder


# The arguments of each verb, in the folder above. Add every new verb, so that the tests of all verbs cover it.
CALLS = {
    "fit": ["digits", "--limit", "40", "--out", "digits", *SMALL],
    "learn-start": ["digits", "--steps", "2", "--iterations", "2", "--out", "start.npz"],
    "status": ["digits"],
    "verify": ["digits", "--render"],
    "show": ["digits", "--out", "shown.png"],
    "repair": ["digits", "--no-fit"],
    "merge": ["digits", "--out", "merged"],
    "train": ["digits", *READER, "--epochs", "1", "--out", "trained"],
    "evaluate": ["run", "--dataset", "digits"],
    "embed": ["run", "digits"],
    "predict": ["run", "digits"],
    "search": ["run", "digits", "--page", "neighbours.html"],
    "pretrain": ["digits", *READER, "--epochs", "1", "--out", "pretrained"],
    "edit": ["digits", "--filter", "invert", "--model", "parity:hidden_dim=4", "--epochs", "1", "--out", "edited"],
    "sweep": ["grid.yaml", "--backend", "local", "--workers", "1", "--out", "swept"],
    "align": ["digits", "--out", "aligned"],
    "augment-report": ["digits", "--count", "2", "--out", "augmented"],
    "export": ["digits", "--to", "safetensors", "--out", "exported"],
    "import": ["exported-before", "--from", "safetensors", "--out", "imported"],
    "compare": ["digits", "digits", "--out", "compared.png"],
    "report": ["digits", "--out", "page.html"],
    "card": ["digits"],
    "targets": ["digits"],
    "recipes": [],
    "doctor": [],
    "cache": [],
    "version": [],
    "benchmark": ["mixup", "--rows", "64", "--batch-size", "16", "--seconds", "0.01"],
}


@pytest.fixture
def outcome(place, capfd, monkeypatch):
    """Exit code, stdout and stderr of a command in the folder, with an empty stdin."""
    from inr_factory.cli import environment_check

    monkeypatch.chdir(place)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    monkeypatch.setattr(environment_check, "_ray", lambda: iter(()))  # its start takes seconds

    def call(*arguments):
        capfd.readouterr()
        code = run(list(arguments))
        return code, *capfd.readouterr()

    yield call
    cli.terminal.set_quiet(False)


def test_every_verb_is_called_here():
    elsewhere = {"push", "pull"}  # they need a hub: tests/interop/test_hugging_face_hub.py, test_pull_dataset.py
    verbs = {verb.replace("_", "-") for verb in VERBS}
    assert set(CALLS) | elsewhere == verbs, "add the arguments of the new verb to CALLS"


class FinishedRun(subprocess.Popen):
    """Stands in for the process of a run of a sweep; tests/system/test_sweep.py starts real ones."""

    returncode = 0

    def __init__(self, *_, **__):
        pass

    def communicate(self):
        best, test = {"epoch": 0, "val_accuracy": 0.5}, {"accuracy": 0.5}
        return json.dumps({"run": "run", "best": best, "epochs": 1, "test": test}).encode(), b""

    def terminate(self):
        pass

    def __del__(self):
        pass


@pytest.mark.parametrize("verb", sorted(CALLS))
def test_json_is_all_that_stdout_gets_and_quiet_leaves_stderr_empty(outcome, verb, monkeypatch):
    if verb == "sweep":
        monkeypatch.setattr("subprocess.Popen", FinishedRun)
    code, out, err = outcome(verb, *CALLS[verb], "--json", "--quiet")
    assert code == 0
    assert isinstance(json.loads(out), dict | list)
    assert err == ""


def test_without_quiet_there_is_progress(outcome):
    """Shows that the test above can fail."""
    assert outcome("train", *CALLS["train"][:-1], "loud")[2] != ""


def test_every_verb_takes_json_quiet_and_debug_and_stands_under_a_heading():
    group = program()
    for name, verb in group.commands.items():
        assert {"--json", "--quiet", "--debug"} <= {name for option in verb.params for name in option.opts}, name
        assert any(name in names for names in group.panels.values()), f"{name} stands under no heading: see PANELS"
        assert verb.help, name


def test_quiet_and_debug_stand_before_or_after_the_verb(outcome, place):
    for arguments in (["--quiet", "recipes"], ["recipes", "-q"], ["-q", "recipes", "digits"], ["--debug", "recipes"]):
        assert outcome(*arguments)[0] == 0, arguments


def test_quiet_still_reports_faults(outcome, tmp_path, place):
    import shutil

    broken = Path(shutil.copytree(place / "digits", tmp_path / "broken"))
    next((broken / "data").glob("*.h5")).write_bytes(b"")
    code, _, err = outcome("verify", str(broken), "--quiet")
    assert code == 4
    assert "fault: " in err
    assert err.splitlines()[-1].startswith("inr-factory: ")


@pytest.mark.parametrize(("flags", "traced"), [(["--debug"], True), ([], False)])
def test_debug_alone_prints_tracebacks(outcome, flags, traced):
    code, out, err = outcome("status", "nowhere", *flags)
    assert (code, out) == (2, "")
    assert ("Traceback" in err) is traced
    assert err.splitlines()[-1].startswith("inr-factory: no data set in nowhere")


def test_the_version_is_that_of_the_package(outcome):
    from importlib import metadata

    assert outcome("--version") == (0, f"inr-factory {metadata.version('inr-factory')}\n", "")


MISSPELT = {
    "a verb": (["verfy", "digits"], "'verify'"),
    "an option": (["fit", "digits", "--limt", "3"], "'--limit'"),
    "an option of all verbs": (["status", "digits", "--quite"], "'--quiet'"),
    "a recipe": (["fit", "digit"], "'digits'"),
    "a recipe to print": (["recipes", "fashon_mnist"], "'fashion_mnist'"),
    "a key": (["fit", "digits", "--set", "spec.omega0=3"], "'spec.omega_0'"),
    "a value": (["fit", "digits", "--set", "spec.start=sirens"], "'siren'"),
    "a model": (["train", "digits", "--model", "dvs"], "'dws'"),
    "an option of a model": (["train", "digits", "--model", "mlp:hiden_dim=3"], "'hidden_dim'"),
    "a transform": (["train", "digits", "--augment", "permut"], "'permute'"),
    "a key of a transform": (["train", "digits", "--augment", "noise:scal=1"], "'scale'"),
    "a mixing": (["train", "digits", "--mixup", "mixip"], "'mixup'"),
    "a split to show": (["show", "digits", "--split", "tset"], "'test'"),
    "a split to predict": (["predict", "run", "digits", "--split", "trian"], "'train'"),
    "a benchmark": (["benchmark", "mixp"], "'mixup'"),
    "a backend": (["fit", "digits", "--backend", "rai"], "ray or local"),
    "a match": (["align", "digits", "--out", "x", "--match", "singed"], "signed"),
    "a device": (["train", "digits", "--device", "cup"], "cpu"),
    "a schedule": (["train", "digits", "--schedule", "cosin"], "cosine"),
}


@pytest.mark.parametrize("what", sorted(MISSPELT))
def test_a_misspelt_word_gets_a_suggestion(outcome, what):
    arguments, meant = MISSPELT[what]
    code, out, err = outcome(*arguments)
    assert (code, out) == (2, "")
    assert meant in err.splitlines()[-1]
    assert "Traceback" not in err


def test_no_verb_asks_a_question():
    calls = [
        (path.name, node.lineno)
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and getattr(node.func, "id", getattr(node.func, "attr", "")) in ("input", "prompt", "confirm", "getpass")
    ]
    options = [option for verb in program().commands.values() for option in verb.params]
    assert calls == []
    assert not [option.name for option in options if getattr(option, "prompt", None)]
