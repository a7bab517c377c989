"""A fault of the machine while a verb reads a file: exit code 5, and nothing is damaged, set aside or called missing."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support.small_runs import copy_run, make_run

from inr_factory.cli.main import run
from inr_factory.errors import ResourceError, UsageError, blame_machine
from inr_factory.interop.export import export_dataset
from inr_factory.learning.models import checkpoint

pytestmark = pytest.mark.faults

SHARD = "train-view000-00000.h5"
IMPORT = ["import", "--out", "new", "--no-sidecar", "--from"]
CASES = [
    *[("manifest.json", [*words]) for words in (["status", "set"], ["verify", "set"], ["repair", "set", "--no-fit"])],
    *[("origin.json", [*words]) for words in (["verify", "set"], ["repair", "set", "--no-fit"])],
    *[(SHARD, [*words]) for words in (["verify", "set"], ["repair", "set", "--no-fit"], ["merge", "set", "--out", "new"])],
    ("best.pt", ["evaluate", "run"]), ("run.json", ["evaluate", "run"]),
    ("last.pt", ["train", "set", "--out", "run", "--model", "parity:hidden_dim=4", "--batch-size", "4", "--epochs", "1"]),
    ("inr_factory.json", ["import", "export", "--from", "dwsnets-fmnist", "--out", "new"]),
    ("splits.json", ["import", "export", *IMPORT[1:], "dwsnets-fmnist"]),
    ("model_0.pth", ["import", "export", *IMPORT[1:], "dwsnets-fmnist"]),
    ("nef.json", ["import", "nef", *IMPORT[1:], "fit-a-nef"]),
    ("mine.yaml", ["fit", "mine.yaml", "--out", "new"]),
]  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_run(tmp_path_factory.mktemp("whole") / "all", epochs=1)
    export_dataset(folder / "set", "dwsnets-fmnist", folder / "export", views=1)
    export_dataset(folder / "set", "fit-a-nef", folder / "nef", views=1)
    (folder / "mine.yaml").write_text("base: digits\nlimit: 40\n")
    return folder


def failing(call: Callable[..., Any], name: str, number: int) -> Callable[..., Any]:
    def fail(path: Any, *rest: Any, **options: Any) -> Any:
        if isinstance(path, str | Path) and Path(path).name == name:
            raise OSError(number, os.strerror(number), str(path))
        return call(path, *rest, **options)

    return fail


@pytest.mark.parametrize("call", ["open", "stat"])
@pytest.mark.parametrize(("file", "words"), CASES, ids=lambda value: value if isinstance(value, str) else value[0])
def test_a_fault_of_the_machine_is_none_of_the_file(whole, tmp_path, monkeypatch, capsys, file, words, call):
    copy_run(whole, tmp_path / "all")
    monkeypatch.chdir(tmp_path / "all")
    before = sorted(str(path) for path in Path("set").rglob("*"))
    number = errno.EIO if call == "open" else errno.ESTALE
    monkeypatch.setattr(os, call, failing(getattr(os, call), file, number))

    assert run([*words, "--quiet"]) == ResourceError.exit_code
    assert os.strerror(number) in capsys.readouterr().err
    assert sorted(str(path) for path in Path("set").rglob("*") if path.name != ".manifest.lock") == before


def test_memory_that_runs_out_while_a_checkpoint_is_taken_over_is_no_damage(whole, monkeypatch, capsys):
    def load_state(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 MiB")

    monkeypatch.chdir(whole)
    monkeypatch.setattr(checkpoint, "load_state", load_state)
    assert run(["evaluate", "run"]) == ResourceError.exit_code
    assert "out of memory" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [["train", "set", "--model", "mlp", "--epochs", "1"], ["merge", "set"], ["align", "set"]]
)
@pytest.mark.parametrize("out", ["mine.yaml", "mine.yaml/new"])
def test_a_file_in_place_of_the_folder_of_results_is_a_wrong_option(whole, monkeypatch, capsys, words, out):
    monkeypatch.chdir(whole)
    assert run([*words, "--out", out, "--quiet"]) == UsageError.exit_code
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    "words",
    [["embed", "weights", "set", "--out", "mine.yaml/a.csv"], ["predict", "run", "set", "--split", "val", "--out", "mine.yaml/a.csv"],
     ["report", "set", "--out", "mine.yaml/a.html"], ["export", "set", "--to", "safetensors", "--out", "mine.yaml/new"],
     ["compare", "set", "set", "--out", "mine.yaml/a.png"],
     ["search", "weights", "set", "--page", "mine.yaml/a.html"], ["sweep", "grid.yaml", "--out", "mine.yaml", "--backend", "local"]],
    ids=lambda words: words[0],
)  # fmt: skip
def test_a_file_in_place_of_the_folder_of_a_table_or_picture_is_a_wrong_option(whole, monkeypatch, capsys, words):
    monkeypatch.chdir(whole)
    Path("grid.yaml").write_text("dataset: set\ngrid: {model: [mlp]}\n")
    assert run([*words, "--quiet"]) == UsageError.exit_code
    said = capsys.readouterr().err
    assert "mine.yaml is a file, or lies in one, and should be a folder; choose another --out" in said


def test_what_a_file_itself_says_is_not_blamed_on_the_machine():
    blame_machine(FileNotFoundError(errno.ENOENT, "No such file", "x"), "x")
    blame_machine(UsageError("out of memory"), "x")
    with pytest.raises(ResourceError, match="x cannot be read on this machine: Too many open files"):
        blame_machine(OSError(errno.EMFILE, os.strerror(errno.EMFILE)), "x")
