"""GPU figures: their bundle runs in an environment that has nothing but what it assumes, with Triton's interpreter."""

import gzip
import importlib.metadata
import importlib.util
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from time import monotonic

import numpy as np
import pytest
import torch
from support.paths import ROOT

STUDIES = ROOT / "pipelines" / "studies"
TINY_BYTES = np.random.default_rng(0)


@pytest.fixture(scope="module", autouse=True)
def studies_on_the_path():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(STUDIES))
        yield


@pytest.fixture(scope="module")
def data_root(tmp_path_factory):
    """Fashion-MNIST's files with 40 and 12 images of noise."""
    root = tmp_path_factory.mktemp("data")
    raw = root / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for name, count in (("train", 40), ("t10k", 12)):
        pixels = TINY_BYTES.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        head = np.array([0x803, count, 28, 28], ">i4").tobytes()
        (raw / f"{name}-images-idx3-ubyte").write_bytes(head + pixels.tobytes())
        labels = (np.arange(count) % 10).astype(np.uint8)
        (raw / f"{name}-labels-idx1-ubyte").write_bytes(np.array([0x801, count], ">i4").tobytes() + labels.tobytes())
    return root


@pytest.fixture(scope="module")
def bundle(tmp_path_factory, data_root):
    import gpu_bundle

    folder = tmp_path_factory.mktemp("there") / "gpu-bundle"
    gpu_bundle.make_bundle(folder, [data_root], wheels=False, points=200)
    return folder


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory):
    """A Python with the assumed packages, those of the bundle's wheels and what both need, and no others."""
    import gpu_bundle

    names, waiting = set(), [*gpu_bundle.ASSUMED, *gpu_bundle.WHEELS, *gpu_bundle.ALONE]
    folder = tmp_path_factory.mktemp("packages")
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in names:
            continue
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # for other systems
        names.add(name)
        for file in distribution.files or ():
            top = file.parts[0]
            if top not in ("..", "__pycache__") and not (folder / top).exists():
                (folder / top).symlink_to(Path(distribution.locate_file(top)))
        needs = [need for need in distribution.requires or () if "extra ==" not in need]
        waiting += [re.match(r"[\w.-]+", need)[0] for need in needs]
    assert not names & {"ray", "trimesh", "typer", "matplotlib", "scikit-learn"}
    python = folder / "bare-python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    python.chmod(0o755)
    return {"PYTHON": str(python), "PYTHONPATH": str(folder)}


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed (it is for Linux only)")
@pytest.mark.timeout(900)
def test_the_bundle_measures_every_part_where_nothing_else_is_installed(bundle, bare_python, tmp_path):
    environment = {**os.environ, **bare_python, "TRITON_INTERPRET": "1", "OUT": str(tmp_path)}
    command = ["sh", str(bundle / "run.sh"), "--quick", "--device", "cpu", "--minutes", "14", "--then-train"]
    done = subprocess.run(command, cwd=bundle.parent, env=environment, capture_output=True, text=True)

    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    tables = json.loads((tmp_path / "gpu.json").read_text())
    assert "Failed" not in tables
    for title in (
        "Machine", "Parity, the worst INR", "PSNR of complete fits, dB", "Equal bits", "Least-squares start",
        "Complete sets of images, 2-32-32-1", "Time of a set by stage, sprint to 40 dB", "Speed of the kernel",
        "Speed compared with the usual ways, fp32", "Batched engine, initial values included",
        "A whole fit through workers", "Time of one shard by stage", "One shard of shapes, 3-64-64-64-1", "Alignment", "Loader", "Training steps",
        "Layouts of 2-32-32-1", "Goals", "Ten views of Fashion-MNIST", "Epochs", "Training at the published size",
    ):  # fmt: skip
        assert tables[title], title
        assert f"## {title}" in (tmp_path / "gpu.md").read_text()
    assert all(row["passed"] for title in ("Parity, the worst INR", "Equal bits") for row in tables[title])
    assert {row["encoder"] for row in tables["Training steps"]} >= {
        "mlp",
        "parity",
        "dws",
        "ng_gnn",
        "ng_t",
        "scalegmn",
    }
    left_out = " ".join(row["what"] for row in tables["Left out"])
    assert all(name in left_out for name in ("CUDA graph", "torch.compile", "JAX", "compilation", "hardware profile"))


def test_the_bundle_has_the_images_the_shapes_and_the_tree(bundle, capsys, data_root):
    from gpu.problems import load_shapes, training_images, unpack_images

    root = unpack_images(bundle, bundle.parent / "unpacked")
    images, kind = training_images(root, 40)
    raw = (data_root / "FashionMNIST" / "raw" / "train-images-idx3-ubyte").read_bytes()
    assert kind == "Fashion-MNIST"
    assert images.numpy().tobytes() == raw[16:]
    shapes = load_shapes(bundle)
    assert len(shapes) == 14
    assert all((shape.arrays["distances"] < 0).any() for shape in shapes)
    listing = subprocess.run(["tar", "-tzf", bundle / "tree.tar.gz"], capture_output=True, text=True, check=True).stdout
    assert "pipelines/studies/gpu_figures.py" in listing
    assert gzip.decompress((bundle / "t10k-labels-idx1-ubyte.gz").read_bytes())[8:] == bytes(range(10)) + b"\x00\x01"


def test_a_bundle_without_images_says_where_they_belong(tmp_path):
    import gpu_bundle

    with pytest.raises(SystemExit, match=r"Fashion-MNIST is missing: expected .*INR_FACTORY_DATA"):
        gpu_bundle.make_bundle(tmp_path / "bundle", [tmp_path], wheels=False)


@pytest.fixture
def record(tmp_path):
    from gpu.record import Record

    folder = {"scratch": tmp_path, "bundle": tmp_path}
    return Record(torch.device("cpu"), tmp_path / "gpu.json", monotonic() + 600, quick=True, **folder)


@pytest.mark.parametrize(("error", "engine"), [(0.0, "fused"), (-0.5, "batched")])
def test_a_kernel_that_is_wrong_fails_and_is_not_used_any_more(record, error, engine, monkeypatch):
    from gpu import parity

    from inr_factory.generation.fitting.fused_cuda import LaunchResult

    def launch(case, count=None):
        end = case.exact()[:count]
        flat = (end + error * (end - case.start[:count])).float()
        loss = (
            torch.cat([case.mse(end.float()), torch.zeros(0)])[: len(flat)] if count is None else torch.zeros(len(flat))
        )
        return LaunchResult(flat, loss.float(), torch.full((len(flat),), case.config.steps))

    monkeypatch.setattr(parity.Case, "fused", launch)
    parity.parity(record)
    assert record.engine == engine
    assert record.failed == (error != 0)
    assert json.loads(record.out.read_text())["Parity, the worst INR"][0]["passed"] == (error == 0)


def test_what_there_is_no_time_for_is_left_out_and_what_raises_is_a_failure(record):
    record.quick = False
    assert record.attempt("a", 1, lambda: 1) == 1
    assert record.attempt("b", 601, lambda: 1) is None
    record.within(3, lambda part: part.attempt("c", 5, lambda: 1))
    assert record.attempt("d", 1, lambda: math.sqrt(-1)) is None
    tables = json.loads(record.out.read_text())
    assert [row["what"] for row in tables["Left out"]] == ["b", "c"]
    assert [row["what"] for row in tables["Failed"]] == ["d"]
    assert record.failed
