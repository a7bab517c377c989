"""Trackers themselves: runs that wandb and mlflow, where they are installed, keep without a network."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.small_sets import make_set

TRAIN = ("set", "--model", "mlp:hidden_dim=4", "--batch-size", "4", "--device", "cpu", "--schedule", "constant")


def train(folder: Path, epochs: int, *options: str, **environment: str) -> str:
    """The messages of a run in folder/run, in a process of its own."""
    names = {"HOME": str(folder), "MLFLOW_DISABLE_TELEMETRY": "true", "PYTHONPATH": os.pathsep.join(sys.path)}
    code = "from inr_factory.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "train", *TRAIN, "--epochs", str(epochs), "--out", "run", *options],
        cwd=folder, env={**os.environ, **names, **environment}, capture_output=True, text=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_set(tmp_path / "set", objects={"train": 14, "val": 5, "test": 6})
    return tmp_path


def test_wandb_keeps_a_resumed_run_under_one_id_offline(folder: Path) -> None:
    pytest.importorskip("wandb", reason="wandb (the extra tracking) is not installed")
    for epochs in (1, 2):
        errors = train(folder, epochs, "--track", "wandb", WANDB_MODE="offline")
        assert "tracked by wandb: offline, to upload: wandb sync run/wandb/offline-run-*" in errors
        assert "\nwandb: " not in errors, "the library prints, too"

    sessions = sorted((folder / "run/wandb").glob("offline-run-*"))
    assert len(sessions) == 2
    assert len({session.name.rpartition("-")[2] for session in sessions}) == 1
    assert all(list(session.glob("*.wandb")) for session in sessions)
    assert not (folder / "wandb").exists()


def test_without_a_login_wandb_costs_a_line_and_asks_nothing(folder: Path) -> None:
    pytest.importorskip("wandb", reason="wandb (the extra tracking) is not installed")
    errors = train(folder, 1, "--track", "wandb", WANDB_API_KEY="")

    assert errors.count("wandb") == errors.count("wandb failed (No API key configured. Use `wandb login`") + 1
    assert (folder / "run/best.pt").is_file()


def test_mlflow_keeps_a_resumed_run_in_its_own_store(folder: Path) -> None:
    pytest.importorskip("mlflow", reason="mlflow (the extra tracking) is not installed")
    pytest.importorskip("sqlalchemy", reason="sqlalchemy (the extra tracking) is not installed")
    for epochs in (1, 2):
        assert "tracked by mlflow: run" in train(folder, epochs, "--track", "mlflow", MLFLOW_TRACKING_URI="")

    code = """
from mlflow import MlflowClient
client = MlflowClient("sqlite:///mlflow.db")
(run,) = client.search_runs([client.get_experiment_by_name("inr-factory").experiment_id])
print([metric.step for metric in client.get_metric_history(run.info.run_id, "val_loss")])
print(run.info.status, run.info.run_name, run.data.params["model.encoder"], "test_accuracy" in run.data.metrics)
"""
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], cwd=folder, capture_output=True, text=True, check=True
    )
    assert result.stdout.splitlines() == ["[0, 1]", "FINISHED run mlp True"]


def test_a_server_that_is_down_costs_mlflow_a_line(folder: Path) -> None:
    pytest.importorskip("mlflow", reason="mlflow (the extra tracking) is not installed")
    errors = train(folder, 1, "--track", "mlflow", MLFLOW_TRACKING_URI="http://127.0.0.1:9")

    assert sum("mlflow" in line for line in errors.splitlines()) == 1
    assert "mlflow failed (API request to http://127.0.0.1:9" in errors
