"""A pipe, a device, a folder or a socket in place of a file: every verb ends in one line, and none waits for it."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from support.mutations import within
from support.small_runs import copy_run, make_run

from inr_factory.cli.main import run
from inr_factory.generation.execution.fit_dataset import fit_dataset
from inr_factory.interop.export import export_dataset

pytestmark = pytest.mark.faults

SECONDS = 60  # a waiting verb would never end
SHARD = "set/data/train-view000-00000.h5"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_run(tmp_path_factory.mktemp("whole") / "all", epochs=1)
    export_dataset(folder / "set", "dwsnets-fmnist", folder / "export", views=1)
    fit_dataset("digits", folder / "digits", limit=40, views=1, backend="local", workers=1)
    (folder / "images/a").mkdir(parents=True)
    (folder / "images/b").mkdir()
    (folder / "mine.yaml").write_text("base: digits\nlimit: 40\n")
    return folder


def pipe(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def folder(path: Path) -> None:
    path.mkdir()


def sock(path: Path) -> None:
    before = os.getcwd()
    os.chdir(path.parent)  # names of sockets are short
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    finally:
        os.chdir(before)


KINDS: dict[str, Callable[[Path], None]] = {"pipe": pipe, "device": device, "folder": folder, "socket": sock}
FIT = ["fit", "digits", "--limit", "40", "--out", "digits", "--backend", "local", "--workers", "1"]
CASES = [
    *[(file, [verb, "digits"]) for file in ("digits/manifest.json", "digits/origin.json", "digits/data/train-view000-00000.h5")
      for verb in ("status", "verify", "show", "report", "card", "repair")],
    *[(file, words) for file in ("set/manifest.json", SHARD)
      for words in (["train", "set", "--out", "new", "--epochs", "1", "--model", "mlp"], ["predict", "run", "set"],
                    ["evaluate", "run"], ["export", "set", "--to", "fit-a-nef", "--out", "new"], ["merge", "set", "--out", "new"],
                    ["align", "set", "--out", "new"])],
    ("set/README.md", ["card", "set"]), ("set/croissant.json", ["card", "set"]),
    *[(f"digits/{name}", [*FIT, "--views", "2"])
      for name in ("manifest.json", "origin.json", "README.md", "logs/x.log", ".source.json", ".manifest.lock",
                   "data/train-view000-00000.h5", "data/train-view001-00000.h5")],
    ("digits/logs/x.log", ["report", "digits"]),
    ("run/best.pt", ["predict", "run", "set"]), ("run/best.pt", ["evaluate", "run"]),
    ("run/run.json", ["evaluate", "run"]), ("run/metrics.jsonl", ["train", "set", "--out", "run", "--model", "parity:hidden_dim=4"]),
    ("run/last.pt", ["train", "set", "--out", "run", "--model", "parity:hidden_dim=4", "--batch-size", "4", "--epochs", "1"]),
    ("run/best.pt", ["train", "set", "--out", "new", "--model", "parity:hidden_dim=4", "--init", "run"]),
    ("mine.yaml", ["fit", "mine.yaml", "--out", "new"]), ("grid.yaml", ["sweep", "grid.yaml"]),
    ("export/inr_factory.json", ["import", "export", "--from", "dwsnets-fmnist", "--out", "new"]),
    ("export/splits.json", ["import", "export", "--from", "dwsnets-fmnist", "--out", "new", "--no-sidecar"]),
    ("export/splits.json", ["import", "export", "--from", "dwsnets-fmnist", "--out", "new", "--splits", "export/splits.json", "--no-sidecar"]),
    ("export/fmnist_inrs/train/model_0.pth", ["import", "export", "--from", "dwsnets-fmnist", "--out", "new", "--no-sidecar"]),
    ("images/a/x.png", ["fit", "image_folder", "--data-root", "images", "--out", "new", "--backend", "local"]),
    ("images/a/x.off", ["fit", "mesh_folder", "--data-root", "images", "--out", "new", "--backend", "local"]),
    ("images/a/x.npy", ["fit", "point_folder", "--data-root", "images", "--out", "new", "--backend", "local"]),
]  # fmt: skip


FEW = CASES[:6] + [case for case in CASES if case[0] in ("run/best.pt", "mine.yaml", "images/a/x.png", SHARD)]


@pytest.mark.parametrize(
    ("kind", "file", "words"),
    [("pipe", *case) for case in CASES] + [(kind, *case) for kind in ("device", "folder", "socket") for case in FEW],
    ids=lambda value: value[0] if isinstance(value, list) else value,
)
def test_no_verb_waits_for_what_is_no_file(
    kind: str, file: str, words: list[str], whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    root = copy_run(whole, tmp_path / "all")
    path = root / file
    path.parent.mkdir(exist_ok=True, parents=True)
    path.unlink(missing_ok=True)
    KINDS[kind](path)
    monkeypatch.chdir(root)
    device = ["--device", "cpu"] if words[0] in ("train", "predict", "evaluate") else []
    with within(SECONDS):
        code = run([*words, "-q", *device])
    error = capsys.readouterr().err
    assert code in (0, 2, 3, 4, 5, 75), error
    assert "internal error" not in error
    assert code == 0 or error.strip(), "no reason was given"


@pytest.mark.parametrize("name", ["logs", "data", "set-aside", ".manifest.lock"])
def test_no_run_writes_through_a_link_out_of_its_set(
    name: str, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root, outside = copy_run(whole, tmp_path / "all"), tmp_path / "outside"
    monkeypatch.chdir(root)
    outside.mkdir()
    path = root / "digits" / name
    if path.is_dir():
        path.rename(tmp_path / "away")
    path.symlink_to(outside if name != ".manifest.lock" else outside / "lock")
    if name == "set-aside":
        (root / "digits/data/train-view000-00000.h5").write_bytes(b"x")
    words = ["repair", "digits", "--no-fit"] if name == "set-aside" else [*FIT, "--views", "2"]
    assert run([*words, "-q"]) == 4, capsys.readouterr().err
    assert list(outside.iterdir()) == []
