"""Examples: each of them runs, on a tiny set."""

import copy
import os
import re
import subprocess
import sys

import nbformat
import pytest
from support.paths import ROOT

from inr_factory.cli.main import run
from inr_factory.errors import IntegrityError, UsageError
from inr_factory.generation.execution.fit_dataset import fit_dataset
from inr_factory.generation.recipe import Recipe, load_recipe
from inr_factory.storage.manifest_file import load_manifest

EXAMPLES = ROOT / "examples"
LOCAL = {"backend": "local", "workers": 1}


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    out = tmp_path_factory.mktemp("examples") / "digits"
    small = ["--backend", "local", "--workers", "1", "--set", "spec.hidden_dim=8", "--set", "fit.steps=20"]
    assert run(["fit", "digits", "--limit", "150", "--out", str(out), "--set", "fit.floor_psnr=0", *small]) == 0
    return out


def output_of(*command, folder):
    """The stdout of a Python command that succeeds."""
    environment = os.environ | {"PYTHONPATH": str(EXAMPLES.parent), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [sys.executable, *map(str, command)], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_the_plain_loop_runs(digits, tmp_path):
    lines = output_of("-W", "error", EXAMPLES / "plain_loop.py", digits, 2, folder=tmp_path).splitlines()
    assert [line.split(":")[0] for line in lines] == ["epoch 1", "epoch 2"]
    assert "nan" not in lines[-1]


def test_two_ranks_share_an_epoch(digits, tmp_path):
    command = ["-m", "torch.distributed.run", "--nproc-per-node", "2", EXAMPLES / "ddp_loop.py", digits, 1]
    line = output_of(*command, folder=tmp_path)
    rows = sum(entry.rows for entry in load_manifest(digits).shards if entry.split == "train")
    assert line.startswith(f"epoch 1: {rows // 64 * 64} INRs by 2 ranks")


NOTEBOOK = EXAMPLES / "fit_mix_look.ipynb"


def kinds_of(notebook):
    """The kinds of the outputs of each cell of code."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return [[sorted(output.get("data", {output.get("name"): ""})) for output in cell.outputs] for cell in cells]


@pytest.fixture(scope="module")
def notebook():
    return nbformat.read(NOTEBOOK, as_version=4)


def test_the_notebook_has_its_outputs_and_is_small(notebook):
    kinds = kinds_of(notebook)
    assert all(kinds), "a cell has no output"
    assert sum("image/png" in kind for cell in kinds for kind in cell) == 3
    assert NOTEBOOK.stat().st_size < 300_000
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert {output.output_type for output in outputs} <= {"execute_result", "display_data", "stream"}
    assert not [output for output in outputs if output.get("name") == "stderr"], "warnings"
    texts = [str(output.get("text", output.get("data", {}).get("text/plain"))) for output in outputs]
    assert not re.search(r"(?<![\w.])/(?:\w+/)+|[A-Z]:\\\\|0x[0-9a-f]{6}", "\n".join(texts)), "a path of a machine"


def test_the_notebook_shows_what_it_says(notebook):
    text = NOTEBOOK.read_text()
    errors = [float(number) for number in re.search(r"as they are': ([\d.]+), 'aligned': ([\d.]+)", text).groups()]
    assert errors[0] > 2 * errors[1]
    accuracy, count = re.search(r"([\d.]+)% of (\d+) INRs in test are right", text).groups()
    assert float(accuracy) > 90
    assert int(count) == 200


def test_the_notebook_runs_and_gives_the_same_kinds_of_outputs(notebook, tmp_path, monkeypatch):
    from nbclient import NotebookClient

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    executed = copy.deepcopy(notebook)
    for cell in executed.cells:
        cell.source = cell.source.replace("1000", "100").replace('out="runs/mine"', 'out="runs/mine", epochs=1')
    NotebookClient(executed, timeout=280, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert kinds_of(executed) == kinds_of(notebook)


@pytest.fixture
def textures(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    from own_source import Textures

    return Textures


def textures_recipe(**changes):
    fields = {"name": "textures", "source": {"collection": "own"}, "fit": {"steps": 5, "floor_psnr": 0}}
    return Recipe.model_validate(fields | {"spec": {"hidden_dim": 4}, "shard_objects": 5} | changes)


def test_a_source_in_python_is_thirty_lines_and_makes_a_set(tmp_path):
    text = (EXAMPLES / "own_source.py").read_text()
    body = text.partition("class Textures")[2].partition("if __name__")[0]
    assert len(body.strip().splitlines()) <= 30
    assert "120 INRs made, 0 in quarantine" in output_of(EXAMPLES / "own_source.py", "set", folder=tmp_path)
    assert load_manifest(tmp_path / "set").classes == ("rings", "stripes", "checks")


def test_such_a_set_takes_more_views_and_refuses_other_content(textures, tmp_path):
    first = fit_dataset(textures_recipe(), tmp_path, **LOCAL, source=textures(4))
    more = fit_dataset(textures_recipe(views=2), tmp_path, **LOCAL, source=textures(4))
    assert (first.inrs, more.inrs, more.missing) == (12, 12, 0)
    with pytest.raises(IntegrityError, match="other textures data"):
        fit_dataset(textures_recipe(views=3), tmp_path, **LOCAL, source=textures(5))


def test_spawned_workers_get_the_source_and_make_the_same_bytes(textures, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    fit_dataset(textures_recipe(), one, **LOCAL, source=textures(4))
    fit_dataset(textures_recipe(), two, backend="local", workers=2, source=textures(4))
    assert [entry.sha256 for entry in load_manifest(one).shards] == [e.sha256 for e in load_manifest(two).shards]


def test_a_source_and_a_recipe_that_names_another_are_refused(textures, tmp_path):
    with pytest.raises(UsageError, match="this recipe's is digits"):
        fit_dataset(load_recipe("digits"), tmp_path, **LOCAL, source=textures(4))
    with pytest.raises(UsageError, match="fit_dataset"):
        fit_dataset(textures_recipe(), tmp_path, **LOCAL)


def test_the_command_line_refuses_what_needs_the_source(textures, tmp_path, capsys):
    out = tmp_path / "set"
    fit_dataset(textures_recipe(), out, **LOCAL, source=textures(4))
    assert run(["status", str(out)]) == 0
    assert run(["show", str(out), "--count", "2"]) == 0
    assert run(["verify", str(out), "--render"]) == 2
    assert "made in Python, from arrays or a Source" in capsys.readouterr().err.splitlines()[-1]


def test_inrs_of_one_input_are_not_drawn(tmp_path, capsys):
    from support.small_sets import make_set

    from inr_factory.inr.spec import SirenSpec

    make_set(tmp_path, SirenSpec(1, 1, hidden_dim=4))
    assert run(["show", str(tmp_path)]) == 2
    assert "INRs of 1 inputs" in capsys.readouterr().err
