"""Fresh views by processes of their own: whoever dies, a run ends as it would have, and nothing stays behind."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from support.paths import ROOT
from support.tiny_recipes import LOCAL, processes_named, tiny

from inr_factory.errors import FactoryError
from inr_factory.generation.execution.fit_dataset import fit_dataset
from inr_factory.generation.fitting import fused_cpu
from inr_factory.learning.training.run_config import LAST
from inr_factory.learning.training.train_classifier import train
from inr_factory.streaming.stream import stream

EPOCHS = 12
RUN = {"model": "parity:hidden_dim=4", "batch_size": 8, "device": "cpu", "epochs": EPOCHS}
STOP_SECONDS = 60  # on a busy machine; alone it takes one


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """One view of 56 training objects in blocks of 7, each of which takes some 0.1 s to fit."""
    out = tmp_path_factory.mktemp("stored") / "set"
    steps = 1500 if fused_cpu.available() else 60
    fit = {"steps": steps, "target_psnr": None, "floor_psnr": -99, "lanes": 4}
    fit_dataset(tiny(views=1, limit={"train": 56, "val": 10, "test": 10}, fit=fit), out, **LOCAL)
    return out


def command(stored, out, fitters, *more):
    options = [f"--{name.replace('_', '-')}={value}" for name, value in RUN.items()]
    arguments = ["train", stored, "--fresh", "2", "--fitters", fitters, "--out", out, *options, *more]
    return [sys.executable, "-m", "inr_factory", *map(str, arguments)]


def start(stored, out, *arguments):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with open(out.with_suffix(".log"), "a") as log:
        return subprocess.Popen(
            command(stored, out, *arguments), env=environment, stdout=subprocess.DEVNULL, stderr=log,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )  # fmt: skip


def said(out):
    return out.with_suffix(".log").read_text()


def fitters_of(out):
    """Process ids of the fitters of a run."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                line = (folder / "cmdline").read_bytes()
            except OSError:
                continue
            if b"inr_factory.streaming" in line and str(out).encode() in line:
                found.append(int(folder.name))
    return found


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.02)


def epochs_done(out):
    return len((out / "metrics.jsonl").read_text().splitlines()) if (out / "metrics.jsonl").exists() else 0


def model_of(out):
    return torch.load(out / LAST, weights_only=True)["model"]


@pytest.fixture(scope="module")
def whole(stored, tmp_path_factory):
    """The classifier of a run without interruption, with one fitter."""
    out = tmp_path_factory.mktemp("whole") / "run"
    process = start(stored, out, 1)
    assert process.wait(120) == 0, said(out)
    return model_of(out)


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_two_fitters_and_a_second_run_that_resumes_give_the_same_classifier(stored, whole, tmp_path):
    out = tmp_path / "run"
    process = start(stored, out, 2)
    wait_for(lambda: epochs_done(out) >= 3)
    process.kill()
    process.wait()
    wait_for(lambda: not fitters_of(out), STOP_SECONDS)
    assert (out / "fresh" / "demand.json").is_file()
    assert epochs_done(out) < EPOCHS
    process = start(stored, out, 2)
    assert process.wait(120) == 0, said(out)
    assert same(model_of(out), whole)
    assert not (out / "fresh").exists()


def test_a_fitter_that_is_killed_is_replaced(stored, whole, tmp_path):
    out = tmp_path / "run"
    process = start(stored, out, 1)
    for _ in range(2):
        before = epochs_done(out)
        wait_for(lambda seen=before: epochs_done(out) >= seen + 2 and fitters_of(out))
        for fitter in fitters_of(out):
            os.kill(fitter, signal.SIGKILL)
    assert process.wait(120) == 0, said(out)
    assert same(model_of(out), whole)


def test_ctrl_c_ends_training_and_fitters(stored, tmp_path):
    out = tmp_path / "run"
    process = start(stored, out, 2, "--epochs=1000")  # so that it cannot end by itself
    wait_for(lambda: epochs_done(out) >= 2)
    process.send_signal(signal.SIGINT)
    assert process.wait(STOP_SECONDS) == 130, said(out)
    wait_for(lambda: not fitters_of(out), STOP_SECONDS)
    assert "Traceback" not in said(out), said(out)


def test_fitters_that_cannot_read_the_source_end_the_run_in_one_line(stored, tmp_path, monkeypatch):
    script = "import sys; sys.exit('no source today')"
    monkeypatch.setattr("inr_factory.streaming.fitters.sys.executable", _shim(tmp_path, script))
    with pytest.raises(FactoryError, match=r"fitters of fresh views died 6 times in a row .* no source today"):
        train(stream(stored, reuse=1, fitters=1), out=tmp_path / "run", **RUN)


def _shim(folder, script):
    path = folder / "python"
    path.write_text(f"#!{sys.executable}\n{script}\n")
    path.chmod(0o755)
    return str(path)


def test_two_ranks_show_the_views_that_one_shows(stored, tmp_path):
    exact = ["--model=mlp:hidden_dim=6,dropout=0.0,batch_norm=false", "--warmup-steps=0", "--weight-decay=0"]
    ranks = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "inr_factory"]
    one, two = tmp_path / "one", tmp_path / "two"
    assert start(stored, one, 1, *exact).wait(120) == 0, said(one)
    python, *plain = command(stored, two, 1, *exact, "--batch-size=4")
    ran = subprocess.run(
        [python, *ranks, *plain[2:]], env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    for name, value in model_of(one).items():
        assert torch.allclose(value.float(), model_of(two)[name].float(), atol=1e-4), name
    assert not fitters_of(two)


def test_what_the_fitters_do_is_in_the_records(stored, tmp_path):
    out = tmp_path / "run"
    assert start(stored, out, 1, "--keep", tmp_path / "kept").wait(120) == 0, said(out)
    records = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert sum(record["fresh"] for record in records) >= 56 * (EPOCHS // 2 - 1)
    assert any(record["fits_per_second"] > 0 for record in records)
    assert all(0 <= record["waiting"] <= 1 and 0 <= record["idle"] <= 1 for record in records)


def ray_command(*arguments):
    command = [Path(sys.executable).with_name("ray"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=90)


def test_fitters_on_a_ray_cluster_that_loses_a_node_give_the_same_classifier(stored, whole, tmp_path):
    pytest.importorskip("ray")
    out = tmp_path / "run"
    head = ray_command(
        "start", "--head", "--num-cpus=1", "--port=0", "--include-dashboard=false", "--disable-usage-stats"
    )
    assert head.returncode == 0, head.stderr
    try:
        address = re.search(r"address='([\d.]+:\d+)'", head.stdout)[1]
        of_head = set(raylets())
        node = ray_command("start", f"--address={address}", "--num-cpus=1", "--disable-usage-stats")
        assert node.returncode == 0, node.stderr
        process = start(stored, out, 2, "--address", address)
        wait_for(lambda: epochs_done(out) >= 2 and len(processes_named("ray::serve")) == 2, 120)
        (raylet,) = set(raylets()) - of_head
        os.kill(raylet, signal.SIGKILL)
        assert process.wait(180) == 0, said(out)
        assert same(model_of(out), whole)
    finally:
        ray_command("stop", "--force")


def raylets():
    """Process ids of the nodes of Ray clusters on this machine."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                if (folder / "comm").read_text().strip() == "raylet":
                    found.append(int(folder.name))
            except OSError:
                continue
    return found
