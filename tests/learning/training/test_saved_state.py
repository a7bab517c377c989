"""Checkpoints that others made or damage reached: each is read right or refused in one line (faults.md, section 1)."""

import io
import json
import pickle
import random
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support.mutations import mutate
from support.small_runs import copy_run, make_run, make_set, read_best, read_last, read_predictions, refusal, rewrite

from inr_factory.learning.training.run_config import METRICS, RUN
from inr_factory.learning.training.trained_run import open_run

pytestmark = pytest.mark.faults


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("whole") / "all")


def first(saved: dict[str, Any]) -> str:
    return next(name for name, value in saved["model"].items() if value.is_floating_point() and value.numel() > 1)


def put(*path: Any, value: Any) -> Callable[[dict[str, Any]], None]:
    """Set saved[path[0]][path[1]]... to a value, or to what a function makes of the present one."""

    def change(saved: Any) -> None:
        for key in path[:-1]:
            saved = saved[key]
        saved[path[-1]] = value(saved[path[-1]]) if callable(value) else value

    return change


def drop(*path: Any) -> Callable[[dict[str, Any]], None]:
    def change(saved: Any) -> None:
        for key in path[:-1]:
            saved = saved[key]
        del saved[path[-1]]

    return change


def on_first(change: Callable[[torch.Tensor], Any]) -> Callable[[dict[str, Any]], None]:
    return lambda saved: saved["model"].update({first(saved): change(saved["model"][first(saved)])})


def nest(levels: int) -> Any:
    value: Any = 0
    for _ in range(levels):
        value = [value, value]
    return value


def itself() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


MODEL: dict[str, Callable[[dict[str, Any]], object]] = {
    "no description": drop("classifier"),
    "two descriptions": lambda saved: saved.update(contrastive=saved["classifier"]),
    "a description of text": put("classifier", value="x"),
    "no spec": drop("classifier", "spec"),
    "a spec of numbers": put("classifier", "spec", value=3),
    "text for a number of the spec": put("classifier", "spec", "hidden_dim", value="4"),
    "another spec": put("classifier", "spec", "num_hidden", value=3),
    "no encoder": drop("classifier", "encoder"),
    "another encoder": put("classifier", "encoder", value="mlp"),
    "an unknown encoder": put("classifier", "encoder", value="os.system"),
    "options that are none": put("classifier", "options", value=[1]),
    "another option": put("classifier", "options", "hidden_dim", value=8),
    "an option of text": put("classifier", "options", "hidden_dim", value="4"),
    "canonical of text": put("classifier", "canonical", value="no"),
    "classes of text": put("classifier", "num_classes", value="3"),
    "classes with a fraction": put("classifier", "num_classes", value=3.0),
    "endless classes": put("classifier", "num_classes", value=10**12),
    "a number of 10,000 digits": put("classifier", "num_classes", value=10**10_000),
    "classes below none": put("classifier", "num_classes", value=-3),
    "another number of classes": put("classifier", "num_classes", value=4),
    "no model": drop("model"),
    "a model of text": put("model", value="x"),
    "a model without weights": put("model", value={}),
    "a weight less": lambda saved: saved["model"].pop(first(saved)),
    "a weight more": put("model", value=lambda model: {**model, "more": torch.zeros(3)}),
    "a number for a name": put("model", value=lambda model: {**model, 3: torch.zeros(3)}),
    "text for a weight": on_first(lambda _: "x"),
    "another shape": on_first(lambda value: value.flatten()[:1]),
    "one axis more": on_first(lambda value: value[None]),
    "doubles": on_first(torch.Tensor.double),
    "halves": on_first(torch.Tensor.half),
    "whole numbers": on_first(torch.Tensor.long),
    "complex numbers": on_first(lambda value: value.to(torch.complex64)),
    "a sparse weight": on_first(torch.Tensor.to_sparse),
    "a weight without numbers": on_first(lambda value: value.to("meta")),
    "strides that claim terabytes": on_first(lambda value: torch.zeros(1).expand(2**30, 2**10)),
    "NaN": on_first(lambda value: value.fill_(torch.nan)),
    "infinite": on_first(lambda value: value.fill_(torch.inf)),
    "another kind": put("kind", value="x"),
    "no version": drop("version"),
    "a version of text": put("version", value="1"),
    "a version of 10,000 digits": put("version", value=10**10_000),
    "a value within itself": lambda saved: saved.update(more=itself()),
    "values that stand for 2**40": lambda saved: saved.update(more=nest(40)),
}
STATE: dict[str, Callable[[dict[str, Any]], object]] = {
    "no optimizer": drop("optimizer"),
    "an optimizer of text": put("optimizer", value="x"),
    "no groups": put("optimizer", "param_groups", value=[]),
    "a group less a setting's type": put("optimizer", "param_groups", 0, "betas", value="x"),
    "another decay": put("optimizer", "param_groups", 0, "weight_decay", value=0.25),
    "other parameters": put("optimizer", "param_groups", 0, "params", value=lambda params: params[:-1]),
    "no moments": put("optimizer", "state", value={}),
    "a moment of another shape": put("optimizer", "state", 0, "exp_avg", value=torch.zeros(3)),
    "a moment of another type": put("optimizer", "state", 0, "exp_avg", value=torch.Tensor.double),
    "a moment that is NaN": put("optimizer", "state", 0, "exp_avg", value=lambda v: v.fill_(torch.nan)),
    "a square below zero": put("optimizer", "state", 0, "exp_avg_sq", value=lambda v: v.fill_(-1)),
    "a moment less": drop("optimizer", "state", 0, "exp_avg"),
    "a state of another parameter": put("optimizer", "state", value=lambda state: {**state, 10**6: state[0]}),
    "more steps than the run": put("optimizer", "state", 0, "step", value=torch.tensor(1e6)),
    "steps of text": put("optimizer", "state", 0, "step", value="3"),
    "no loader": drop("loader"),
    "a loader elsewhere": put("loader", "epoch", value=7),
    "a loader of text": put("loader", value="x"),
    "no progress": drop("progress"),
    "an epoch of text": put("progress", "epoch", value="2"),
    "an epoch that never was": put("progress", "epoch", value=10**9),
    "an epoch before all": put("progress", "epoch", value=-1),
    "a position beyond the epoch": put("progress", "position", value=10**9),
    "steps below none": put("progress", "step", value=-1),
    "a sum that is NaN": put("progress", "loss_sum", value=float("nan")),
    "a history of text": put("progress", "history", value="x"),
    "a record less": put("progress", "history", value=lambda history: history[:1]),
    "a record of text": put("progress", "history", 0, "val_accuracy", value="1"),
    "a record without figures": put("progress", "history", 1, value={"epoch": 1}),
    "a record that is NaN": put("progress", "history", 1, "val_accuracy", value=float("nan")),
    "a field more": put("progress", "more", value=1),
    "no generators": drop("generators"),
    "generators of text": put("generators", value="x"),
    "no generator": put("generators", value=[]),
    "a generator of text": put("generators", 0, value="x"),
    "a generator's state of text": put("generators", 0, "cpu", value="x"),
    "a generator's state cut": put("generators", 0, "cpu", value=lambda state: state[:100]),
    "a generator's state of floats": put("generators", 0, "cpu", value=torch.Tensor.float),
    "parameters more": put("own", value=[torch.zeros(3)]),
    "no meta": drop("meta"),
    "a meta of text": put("meta", value="x"),
    "no config": drop("config"),
    "a setting that is none": put("config", "learning_rate", value="fast"),
    "a setting more": put("config", "more", value=1),
}


def test_the_run_as_it_is_can_be_read(whole: Path, tmp_path: Path) -> None:
    folder = copy_run(whole, tmp_path / "all")
    assert (read_best(folder)[0], read_last(folder), read_predictions(folder)) == (None, None, None)


def test_a_run_whose_optimizer_was_saved_before_it_was_fused_resumes(whole: Path, tmp_path: Path) -> None:
    folder = copy_run(whole, tmp_path / "all")
    rewrite(folder / "run" / "last.pt", put("optimizer", "param_groups", 0, "fused", value=None))
    assert read_last(folder) is None


@pytest.mark.parametrize("name", MODEL)
def test_a_crafted_model_is_refused_in_one_line(name: str, whole: Path, tmp_path: Path) -> None:
    folder = copy_run(whole, tmp_path / "all")
    for file in ("best.pt", "last.pt"):
        rewrite(folder / "run" / file, MODEL[name])
    assert read_best(folder)[0] is not None
    assert read_predictions(folder) is not None
    assert read_last(folder) is not None


@pytest.mark.parametrize("name", STATE)
def test_a_crafted_state_of_training_is_refused_in_one_line(name: str, whole: Path, tmp_path: Path) -> None:
    folder = copy_run(whole, tmp_path / "all")
    rewrite(folder / "run" / "last.pt", STATE[name])
    assert read_last(folder) is not None
    assert read_predictions(folder) is None, "best.pt is as it was"


CONTENT: dict[str, bytes] = {
    "empty": b"",
    "text": b"import os\n",
    "a zip of nothing": b"PK\x05\x06" + bytes(18),
    "a plain pickle": pickle.dumps({"kind": "inr-factory checkpoint"}),
    "an endless pickle": b"\x80\x02B" + struct.pack("<I", 2**32 - 1),
    "HDF5": b"\x89HDF\r\n\x1a\n" + bytes(99),
}


@pytest.mark.parametrize("name", CONTENT)
def test_another_file_is_refused_in_one_line(name: str, whole: Path, tmp_path: Path) -> None:
    folder = copy_run(whole, tmp_path / "all")
    (folder / "run/best.pt").write_bytes(CONTENT[name])
    (folder / "run/last.pt").write_bytes(CONTENT[name])
    assert read_best(folder)[0] is not None
    assert read_last(folder) is not None


def test_a_best_checkpoint_without_the_last_is_not_overwritten(whole: Path, tmp_path: Path) -> None:
    folder = copy_run(whole, tmp_path / "all")
    (folder / "run/last.pt").unlink()
    kept = (folder / "run/best.pt").read_bytes()
    assert "which would be overwritten" in (read_last(folder) or "")
    (folder / "run" / RUN).unlink()
    (folder / "run/best.pt").write_bytes(b"another program's")
    assert "which would be overwritten" in (read_last(folder) or "")
    (folder / "run/best.pt").write_bytes(kept)
    rewrite(folder / "run/best.pt", put("progress", "epoch", value=1))
    assert read_last(folder) is None, "a run that was killed in saving its first epoch begins again"


def test_an_archive_with_two_parts_of_one_name_is_refused(whole: Path, tmp_path: Path) -> None:
    folder = copy_run(whole, tmp_path / "all")
    path = folder / "run/best.pt"
    with zipfile.ZipFile(path) as archive:
        name = next(name for name in archive.namelist() if "/data/" in name)
        content = archive.read(name)
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "a") as archive:
        archive.writestr(name, bytes(len(content)))
    line, _ = read_best(folder)
    assert line is not None
    assert "two parts of one name" in line


def test_a_flipped_byte_of_a_weight_is_refused(whole: Path, tmp_path: Path) -> None:
    """faults.md: one weight became 1.2e37 and the checkpoint loaded."""
    folder = copy_run(whole, tmp_path / "all")
    path = folder / "run/best.pt"
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        member = max(archive.infolist(), key=lambda member: member.file_size if "/data/" in member.filename else 0)
        with archive.open(member):
            part = content.index(archive.read(member))
    content[part + 3] ^= 0x40
    path.write_bytes(content)
    line, _ = read_best(folder)
    assert line is not None
    assert "CRC" in line


def test_random_damage_is_refused_or_leaves_all_numbers_as_they_were(whole: Path, tmp_path: Path) -> None:
    folder, chance = copy_run(whole, tmp_path / "all"), random.Random(0)
    path = folder / "run/best.pt"
    content, (_, good) = path.read_bytes(), read_best(folder)
    refused = 0
    for _ in range(150):
        path.write_bytes(mutate(content, chance))
        line, state = read_best(folder)
        refused += line is not None
        assert line is not None or all(torch.equal(state[name], value) for name, value in good.items())
    assert refused > 90


RUNS = {
    "torn": b'{"dataset": "x", "meta"', "binary": bytes(range(256)), "nested": b"[" * 10**5, "a list": b"[]",
    "no classes": b'{"meta": {"classes": 3}}', "classes of numbers": b'{"meta": {"classes": [1, 2, 3]}}',
    "a meta of text": b'{"meta": "x"}', "a key twice": b'{"meta": {}, "meta": {}}',
    "surrogates": b'{"meta": {"classes": ["\\ud800", "b", "c"]}}', "NaN": b'{"meta": NaN}',
}  # fmt: skip


@pytest.mark.parametrize("name", RUNS)
def test_a_crafted_run_file_is_refused_in_one_line(name: str, whole: Path, tmp_path: Path) -> None:
    folder = copy_run(whole, tmp_path / "all")
    (folder / "run" / RUN).write_bytes(RUNS[name])
    assert read_predictions(folder) is not None


@pytest.mark.parametrize("line", [b'{"epoch": 0', b"\xff\xfe", b"3", b'{"epoch": "x"}', b'{"epoch": NaN}'])
def test_a_crafted_history_is_refused_in_one_line(line: bytes, whole: Path, tmp_path: Path) -> None:
    from inr_factory.learning.training.trained_run import open_run

    folder = copy_run(whole, tmp_path / "all")
    path = folder / "run" / METRICS
    path.write_bytes(path.read_bytes() + line)
    assert refusal(lambda: open_run(folder / "run").best) is not None
    assert json.loads(io.BytesIO(path.read_bytes()).readline())["epoch"] == 0


def test_a_tensorboard_folder_that_is_a_link_out_of_the_run_is_refused(whole: Path, tmp_path: Path) -> None:
    folder, outside = copy_run(whole, tmp_path / "all"), tmp_path / "outside"
    outside.mkdir()
    (folder / "run/tensorboard").rename(tmp_path / "away")
    (folder / "run/tensorboard").symlink_to(outside)
    assert "is a link out of" in str(read_last(folder))
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize("count", [2, 4])
def test_a_checkpoint_without_names_of_classes_is_not_evaluated_on_another_number_of_them(
    count: int, whole: Path, tmp_path: Path
) -> None:
    folder = copy_run(whole, tmp_path / "all")
    rewrite(folder / "run/best.pt", lambda saved: saved["meta"].pop("classes"))
    make_set(folder / "other", objects={"train": 8, "val": 5, "test": 6}, classes="abcd"[:count])
    assert f"predicts 3 classes, small has {count}" in str(
        refusal(lambda: open_run(folder / "run").evaluate(folder / "other"))
    )
