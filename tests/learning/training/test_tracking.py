"""Tracking: spreadsheets and trackers get every record of a run once, and a tracker that fails costs nothing else."""

import csv
import json
import shutil
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from support.small_sets import make_set
from support.stand_in_trackers import STAND_INS, StandInTracker

from inr_factory.cli.main import run as run_command
from inr_factory.errors import MissingExtraError, UsageError
from inr_factory.learning.models.checkpoint import load_checkpoint
from inr_factory.learning.training import train_classifier
from inr_factory.learning.training.distributed import Ranks
from inr_factory.learning.training.pretrain_encoder import pretrain
from inr_factory.learning.training.run_config import LAST, METRICS, METRICS_TABLE, TrainConfig, check_config
from inr_factory.learning.training.tracking import COLUMNS, IDS, Tracking, metrics_csv
from inr_factory.learning.training.train_classifier import train
from inr_factory.learning.training.trained_run import TrainedRun
from inr_factory.storage.nested_mappings import flatten

OPTIONS: dict[str, Any] = {"model": "mlp:hidden_dim=4", "batch_size": 4, "device": "cpu", "schedule": "constant"}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    make_set(root := tmp_path_factory.mktemp("tracking") / "set", objects={"train": 14, "val": 5, "test": 6})
    return root


@pytest.fixture(scope="module")
def plain(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainedRun:
    """A run that no tracker gets."""
    return train(dataset, out=tmp_path_factory.mktemp("runs") / "plain", epochs=3, **OPTIONS)


@pytest.fixture(params=["wandb", "mlflow"])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def tracker(name: str, monkeypatch: pytest.MonkeyPatch) -> StandInTracker:
    return STAND_INS[name](monkeypatch)


def copy(run: TrainedRun, folder: Path) -> Path:
    return Path(shutil.copytree(run.folder, folder / "copy"))


def table_of(folder: Path) -> list[dict[str, str]]:
    with open(folder / METRICS_TABLE, newline="", encoding="ascii") as file:
        return list(csv.DictReader(file))


# --- the table ---


def test_the_table_has_the_figures_of_every_epoch(plain: TrainedRun) -> None:
    rows = [{name: float(value) for name, value in row.items()} for row in table_of(plain.folder)]
    assert rows == [dict(record) for record in plain.history]
    assert len(rows) == 3


def test_the_first_columns_of_a_table_never_change() -> None:
    plain = {"epoch": 0, "step": 3, "train_loss": 1e-7, "lr": 1e-3, "seconds": 0.5}
    lines = metrics_csv([plain, {**plain, "epoch": 1, "val_accuracy": 0.5}]).splitlines()

    assert lines[0] == ",".join(COLUMNS) == metrics_csv([plain]).splitlines()[0]
    assert lines[1:] == ["0,3,1e-07,,,0.001,0.5", "1,3,1e-07,,0.5,0.001,0.5"]
    assert metrics_csv([{**plain, "more": 2}]).splitlines()[0] == ",".join([*COLUMNS, "more"])


def test_a_run_of_an_older_version_gets_its_table_when_it_resumes(
    dataset: Path, plain: TrainedRun, tmp_path: Path
) -> None:
    folder = copy(plain, tmp_path)
    (folder / METRICS_TABLE).unlink()

    train(dataset, out=folder, epochs=3, **OPTIONS)

    assert len(table_of(folder)) == 3


# --- trackers ---


def check_complete(tracker: StandInTracker, run: TrainedRun) -> None:
    """The tracker has one run with every record of every epoch once, and its final figures."""
    (kept,) = tracker.runs.values()
    for name in set(run.history[0]) - {"epoch"}:
        assert kept.figures[name] == [(record["epoch"], record[name]) for record in run.history]
    assert "epoch" not in kept.figures
    test = run.evaluate()
    assert kept.final == {
        "best_epoch": run.best["epoch"], "best_val_accuracy": run.best["val_accuracy"], "test_accuracy": test.accuracy,
        "test_loss": pytest.approx(test.loss), "test_calibration_error": pytest.approx(test.calibration_error),
    }  # fmt: skip


def test_a_tracker_gets_settings_every_epoch_once_and_test_figures(
    dataset: Path, tmp_path: Path, name: str, tracker: StandInTracker
) -> None:
    lines: list[str] = []
    run = train(dataset, out=tmp_path / "mine", epochs=3, track=name, log=lines.append, **OPTIONS)

    check_complete(tracker, run)
    (kept,) = tracker.runs.values()
    assert (kept.name, kept.states) == ("mine", ["finished"])
    settings = {key: str(value) for key, value in flatten(kept.settings).items()}
    assert (settings["model.encoder"], settings["model.options.hidden_dim"]) == ("mlp", "4")
    assert (settings["model.spec.omega_0"], settings["epochs"], settings["batch_size"]) == ("7.0", "3", "4")
    assert str(tmp_path) not in json.dumps(kept.settings), "a path of this machine"
    assert sum(line.startswith(f"tracked by {name}: ") for line in lines) == 1


def test_a_run_that_resumes_continues_in_the_same_run_of_the_tracker(
    dataset: Path, tmp_path: Path, name: str, tracker: StandInTracker
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(dataset, out=tmp_path, epochs=3, track=name, on_epoch=interrupt, **OPTIONS)
    (tmp_path / "moved").mkdir()
    for file in (LAST, IDS, METRICS, "best.pt"):
        (tmp_path / file).rename(tmp_path / "moved" / file)
    run = train(dataset, out=tmp_path / "moved", epochs=3, track=name, **OPTIONS)

    check_complete(tracker, run)
    (kept,) = tracker.runs.values()
    assert kept.states == ["failed", "finished"]


def test_more_epochs_of_a_complete_run_are_added_to_it(
    dataset: Path, tmp_path: Path, name: str, tracker: StandInTracker
) -> None:
    train(dataset, out=tmp_path, epochs=1, track=name, **OPTIONS)
    run = train(dataset, out=tmp_path, epochs=3, track=name, **OPTIONS)

    check_complete(tracker, run)


def test_a_complete_run_calls_no_tracker_again(
    dataset: Path, tmp_path: Path, name: str, tracker: StandInTracker
) -> None:
    train(dataset, out=tmp_path, epochs=1, track=name, **OPTIONS)
    calls = tracker.calls

    train(dataset, out=tmp_path, epochs=1, track=name, **OPTIONS)

    assert tracker.calls == calls


def test_a_run_that_was_trained_without_a_tracker_can_be_sent_later(
    dataset: Path, plain: TrainedRun, tmp_path: Path, name: str, tracker: StandInTracker
) -> None:
    folder = copy(plain, tmp_path)
    assert not (folder / IDS).exists()

    check_complete(tracker, train(dataset, out=folder, epochs=3, track=name, **OPTIONS))


def test_both_trackers_get_the_run(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trackers = [stand_in(monkeypatch) for stand_in in STAND_INS.values()]
    run = train(dataset, out=tmp_path, epochs=1, track="mlflow, wandb", **OPTIONS)

    for tracker in trackers:
        check_complete(tracker, run)


@pytest.mark.parametrize("call", [1, 4, 6], ids=["begin", "epoch", "end"])
def test_a_tracker_that_fails_costs_a_line_and_gets_the_rest_later(
    dataset: Path, plain: TrainedRun, tmp_path: Path, name: str, tracker: StandInTracker, call: int,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    lines: list[str] = []
    tracker.fails_at = call
    train(dataset, out=tmp_path / "run", epochs=3, track=name, log=lines.append, **OPTIONS)

    (line,) = (line for line in lines if "failed" in line)
    assert line.startswith(f"{name} failed (")
    assert "the server is down as it says" in line
    assert "own words" not in capsys.readouterr().err
    states = [load_checkpoint(folder / LAST)["model"] for folder in (plain.folder, tmp_path / "run")]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])

    tracker.fails_at = None
    run = train(dataset, out=tmp_path / "run", epochs=3, track=name, **OPTIONS)
    begun = [kept for kept in tracker.runs.values() if kept.figures]
    tracker.runs = dict(enumerate(begun[-1:]))  # type: ignore[assignment]
    check_complete(tracker, run)


def test_without_a_log_a_failure_is_a_warning(
    dataset: Path, tmp_path: Path, name: str, tracker: StandInTracker
) -> None:
    tracker.fails_at = 1
    with pytest.warns(UserWarning, match=f"{name} failed"):
        train(dataset, out=tmp_path, epochs=1, track=name, **OPTIONS)


@pytest.mark.parametrize("text", ["{", '{"wandb": {"id": 3}, "mlflow": 1}'])
def test_damaged_ids_cost_no_training(
    dataset: Path, tmp_path: Path, name: str, tracker: StandInTracker, text: str
) -> None:
    (tmp_path / IDS).write_text(text)
    lines: list[str] = []
    train(dataset, out=tmp_path, epochs=1, track=name, log=lines.append, **OPTIONS)

    assert any(line.startswith(f"{name} failed (") for line in lines)
    assert (tmp_path / IDS).read_text() == text


def test_pretraining_is_tracked_too(dataset: Path, tmp_path: Path, name: str, tracker: StandInTracker) -> None:
    report = pretrain(
        dataset, "mlp:hidden_dim=4", batch_size=4, epochs=3, probe_epochs=2, out=tmp_path, device="cpu", track=name
    )

    (kept,) = tracker.runs.values()
    assert [step for step, _ in kept.figures["val_accuracy"]] == [1, 2]
    assert kept.final["test_linear_accuracy"] == report.pretrained["linear"]
    assert [row["val_accuracy"] != "" for row in table_of(tmp_path)] == [False, True, True]


def test_no_option_loads_no_tracker(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for library in STAND_INS:
        monkeypatch.setitem(sys.modules, library, None)
    train(dataset, out=tmp_path, epochs=1, **OPTIONS)


def test_a_missing_package_is_named_before_the_set_is_read(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    for verb in (train, pretrain):
        with pytest.raises(MissingExtraError, match=f'this needs {name}: pip install "inr-factory\\[tracking\\]"'):
            verb(tmp_path / "none", track=name)


def test_an_unknown_tracker_is_refused(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for text in ("wand", "wandb,", "wandb mlflow"):
        with pytest.raises(UsageError, match="--track: expected wandb or mlflow"):
            check_config(TrainConfig, track=text)
    assert check_config(TrainConfig, track="mlflow, wandb,mlflow").track == "mlflow,wandb"
    for verb in ("train", "pretrain"):
        assert run_command([verb, str(dataset), "--track", "comet"]) == 2
        assert "got 'comet'" in capsys.readouterr().err


def test_only_the_first_of_several_processes_calls_a_tracker(
    dataset: Path, tmp_path: Path, name: str, tracker: StandInTracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    for method in ("average_gradients", "average", "broadcast", "gather"):  # the other process is not there
        monkeypatch.setattr(Ranks, method, lambda self, *values: values[-1])
    second = nullcontext((Ranks(rank=1, size=2), torch.device("cpu")))
    monkeypatch.setattr(train_classifier, "join_process_group", lambda device: second)

    train(dataset, out=tmp_path, epochs=1, track=name, **OPTIONS)

    assert (tracker.calls, list(tmp_path.iterdir())) == (0, [])


def test_a_run_in_no_tracker_keeps_no_ids(tmp_path: Path) -> None:
    with Tracking(tmp_path, None, {}) as tracking:
        tracking.send([{"epoch": 0}])
        tracking.finish([{"epoch": 0}], {})
    assert list(tmp_path.iterdir()) == []
