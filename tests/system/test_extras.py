"""Extras: without them the core reads, trains and evaluates; all else ends in a line that names the extra."""

import json
import subprocess
import sys

import pytest

EXTRAS = {
    "images": ("torchvision", "PIL"), "shapes": ("trimesh", "igl", "skimage"), "ray": ("ray",),
    "report": ("matplotlib", "tensorboard", "jinja2", "markupsafe"), "hub": ("huggingface_hub",),
    "exchange": ("safetensors", "pyarrow"), "pyg": ("torch_geometric",),
    "tracking": ("wandb", "mlflow"),
}  # fmt: skip
SMALL = "--limit 40 --set spec.hidden_dim=4 --set fit.steps=5 --set fit.floor_psnr=0"

# Runs commands, one a line of stdin, with all extras blocked; prints [code, stdout, stderr] of each as a line of JSON.
PROGRAM = f"""
import contextlib, io, json, sys
sys.modules |= dict.fromkeys({[name for names in EXTRAS.values() for name in names]})
import inr_factory
from inr_factory.cli.main import run
if __name__ == "__main__":
    for line in sys.stdin:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = run(line.split())
        print(json.dumps([code, out.getvalue(), err.getvalue()]), flush=True)
"""


def run_core(folder, *commands):
    """(code, stdout, stderr) of each command in a folder, in one process that can import no module of an extra."""
    path = folder / "core.py"
    path.write_text(PROGRAM)
    result = subprocess.run(
        [sys.executable, str(path)],
        cwd=folder, input="\n".join(commands), capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a small set `digits`."""
    folder = tmp_path_factory.mktemp("core")
    (code, _, err), *_ = run_core(folder, f"fit digits --backend local --workers 1 --out digits {SMALL}")
    assert code == 0, err
    return folder


def test_the_core_reads_trains_and_evaluates_and_says_once_what_it_leaves_out(folder):
    train, evaluate, predict, status = run_core(
        folder,
        "train digits --model mlp:hidden_dim=8 --batch-size 8 --epochs 1 --device cpu --out run",
        "evaluate run --dataset digits",
        "predict run digits",
        "status digits",
    )
    assert [train[0], evaluate[0], predict[0], status[0]] == [0, 0, 0, 0], train[2]
    assert "test accuracy" in train[1]
    assert "pictures" not in train[1]
    lines = train[2].splitlines()
    for what, package in (("TensorBoard log", "tensorboard"), ("pictures", "matplotlib")):
        assert lines.count(f'no {what}: this needs {package}: pip install "inr-factory[report]"') == 1


NEEDED = {
    f"fit digits --backend ray --out other {SMALL}": ("ray", "ray", ", or use --backend local"),
    "fit fashion_mnist --backend local --limit 9": ("torchvision", "images", ""),
    "fit primitives --backend local --limit 7": ("igl", "shapes", ""),
    "show digits": ("matplotlib", "report", ""),
    "report digits": ("PIL", "report", ""),
    "compare digits digits": ("matplotlib", "report", ""),
    "augment-report digits --count 2": ("matplotlib", "report", ""),
    "export digits --to safetensors --out a": ("safetensors", "exchange", ""),
    "export digits --to parquet --out b": ("pyarrow", "exchange", ""),
    "export digits --to parquet --preview --out c": ("PIL", "images", ""),
    "push digits somebody/digits": ("huggingface_hub", "hub", ""),
    "pull somebody/digits": ("huggingface_hub", "hub", ""),
    "train digits --track wandb": ("wandb", "tracking", ""),
    "pretrain digits --track mlflow": ("mlflow", "tracking", ""),
}


def test_each_verb_that_needs_an_extra_names_it(folder):
    for (command, (package, extra, alternative)), (code, _, err) in zip(
        NEEDED.items(), run_core(folder, *NEEDED), strict=True
    ):
        line = f'inr-factory: this needs {package}: pip install "inr-factory[{extra}]"{alternative}'
        assert (code, err.splitlines()[-1]) == (2, line), command


def test_in_python_a_missing_extra_is_the_same_line(folder):
    code = f"""
import sys
sys.modules |= dict.fromkeys({[name for names in EXTRAS.values() for name in names]})
import inr_factory as inr
from inr_factory.interop.pyg import to_pyg
for call in (
    lambda: to_pyg(inr.INRDataset("digits")[0][0]),
    lambda: inr.fit_dataset("primitives", out="shapes", backend="local"),
    lambda: inr.export_dataset("digits", "parquet", "exported"),
):
    try:
        call()
    except inr.UsageError as error:
        print(error)
"""
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    assert result.stdout.splitlines() == [
        'this needs torch_geometric: pip install "inr-factory[pyg]"',
        'this needs igl: pip install "inr-factory[shapes]"',
        'this needs pyarrow: pip install "inr-factory[exchange]"',
    ]
