"""Ranks: processes that train together make the model that one would make from their batches joined."""

import json
import os
import subprocess
import sys

import pytest
import torch
from support.small_sets import make_set

from inr_factory.errors import UsageError
from inr_factory.learning.models.checkpoint import load_checkpoint
from inr_factory.learning.training.distributed import Ranks, join_process_group

# Prints the threads that remain after a run.
TRAIN = """
import os, sys
from pathlib import Path
import inr_factory as inr
inr.train(sys.argv[1], out=sys.argv[2], model="mlp:hidden_dim=6", epochs=1, batch_size=4, device="cpu")
print(sorted(Path(f"/proc/self/task/{task}/comm").read_text().strip() for task in os.listdir("/proc/self/task")))
"""

OPTIONS = [
    "--model",
    "mlp:hidden_dim=6,dropout=0.0,batch_norm=false",
    "--device",
    "cpu",
    "--warmup-steps",
    "0",
    "--weight-decay",
    "0",
]


TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--no-python", "--nproc-per-node"]


def train(folder, out, ranks, *more):
    start = [*TORCHRUN, str(ranks)]
    own = [sys.executable, "-c", "from inr_factory.cli.main import main; main()"]
    command = (start if ranks > 1 else []) + own
    return subprocess.run(
        [*command, "train", str(folder), "--out", str(out), "--json", *OPTIONS, *more],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


def test_two_ranks_make_what_one_makes_of_both_their_batches(tmp_path):
    make_set(tmp_path / "set", objects={"train": 24, "val": 5, "test": 6}, views=1)

    two = train(tmp_path / "set", tmp_path / "two", 2, "--batch-size", "4", "--epochs", "3")
    one = train(tmp_path / "set", tmp_path / "one", 1, "--batch-size", "8", "--epochs", "3")

    assert two.returncode == one.returncode == 0, two.stderr
    assert json.loads(two.stdout)["epochs"] == 3  # and the other rank said nothing
    here, there = (load_checkpoint(tmp_path / name / "last.pt") for name in ("one", "two"))
    assert here["progress"]["step"] == there["progress"]["step"] == 9
    for name, value in here["model"].items():
        torch.testing.assert_close(there["model"][name], value, atol=2e-5, rtol=0, msg=name)
    assert len(there["generators"]) == 2

    refused = train(tmp_path / "set", tmp_path / "two", 1, "--batch-size", "4", "--epochs", "4")
    assert refused.returncode == 2
    assert "ranks" in refused.stderr


def test_running_statistics_are_those_of_all_ranks(tmp_path):
    make_set(tmp_path / "set", objects={"train": 24, "val": 5, "test": 6}, views=1)
    still = ("--epochs", "2", "--lr", "1e-12", "--model", "mlp:hidden_dim=6,dropout=0.0,batch_norm=true")

    two = train(tmp_path / "set", tmp_path / "two", 2, "--batch-size", "4", *still)
    one = train(tmp_path / "set", tmp_path / "one", 1, "--batch-size", "8", *still)

    assert two.returncode == one.returncode == 0, two.stderr
    here, there = (load_checkpoint(tmp_path / name / "last.pt")["model"] for name in ("one", "two"))
    means = [name for name in here if name.endswith("running_mean")]
    assert means
    torch.testing.assert_close(there[means[0]], here[means[0]], atol=1e-5, rtol=0)


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads by Linux's /proc")
def test_a_run_leaves_no_thread_of_its_ranks(tmp_path):
    make_set(tmp_path / "set", objects={"train": 24, "val": 5, "test": 6}, views=1)

    ran = subprocess.run(
        [*TORCHRUN, "2", sys.executable, "-c", TRAIN, str(tmp_path / "set"), str(tmp_path / "run")],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip

    assert ran.returncode == 0, ran.stderr
    assert len(ran.stdout.splitlines()) == 2
    assert "gloo" not in ran.stdout, ran.stdout


def test_alone_nothing_is_sent():
    parameter = torch.nn.Parameter(torch.ones(2))
    parameter.grad = torch.full((2,), 3.0)
    with join_process_group(torch.device("cpu")) as (ranks, place):
        assert (ranks, place) == (Ranks(), torch.device("cpu"))
        assert float(ranks.average_gradients([parameter], torch.tensor(2.0))) == 2
        assert ranks.broadcast("x") == "x"
        assert ranks.gather(5) == [5]
    assert parameter.grad.tolist() == [3, 3]


def test_ranks_take_a_gpu_each(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="use --device cuda"), join_process_group(torch.device("cuda:1")):
        pass
