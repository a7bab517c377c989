"""Editing: an editor learns, its runs resume exactly, and what it makes of a set is a set like any other."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.small_sets import SPEC, make_set

from inr_factory.errors import PartialError, UsageError
from inr_factory.generation.maintenance.verify import verify_dataset
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.initialization import initialize
from inr_factory.inr.spec import SirenSpec
from inr_factory.learning.data.dataset import INRDataset
from inr_factory.learning.data.loader import INRLoader
from inr_factory.learning.models.checkpoint import load_checkpoint
from inr_factory.learning.models.editor import build_editor
from inr_factory.learning.training.edit import edit
from inr_factory.learning.training.edit_targets import FilterTargets, SetTargets
from inr_factory.learning.training.edited_run import EditRun
from inr_factory.learning.training.editing import EditTrainer
from inr_factory.learning.training.image_filters import Dilate, Erode, Invert
from inr_factory.learning.training.run_config import BEST, LAST, EditConfig, best_record
from inr_factory.learning.training.train_classifier import train
from inr_factory.storage.manifest_file import load_manifest

OPTIONS: dict[str, Any] = {
    "model": "parity:hidden_dim=8,points=true", "size": 6, "batch_size": 4, "device": "cpu", "epochs": 3
}  # fmt: skip
EPOCHS: dict[str, Any] = {**OPTIONS, "epochs": 15, "learning_rate": 5e-2}
CONFIG = EditConfig(epochs=2, warmup_steps=2, device="cpu", tensorboard=False)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("edit") / "set"
    make_set(root, views=2, objects={"train": 14, "val": 5, "test": 6})
    return root


@pytest.fixture(scope="module")
def run(small: Path, tmp_path_factory: pytest.TempPathFactory) -> EditRun:
    return edit(small, "invert", out=tmp_path_factory.mktemp("runs") / "run", **EPOCHS)


def inrs_of(root: Path, split: str = "test") -> INRBatch:
    data = INRDataset(root, split)
    return INRBatch.from_flat(data.spec, data.gather(np.arange(len(data)))[0])


def test_an_editor_learns_an_edit_and_says_how_well(small: Path, run: EditRun) -> None:
    report = run.evaluate()
    assert (report.split, report.count) == ("test", 6)
    assert report.mse < 0.7 * report.trivial_mse
    assert report.psnr > report.trivial_psnr
    assert run.evaluate(split="val").mse == pytest.approx(run.best["val_mse"])
    assert run.best == min(run.history, key=lambda record: record["val_mse"])

    data = INRDataset(small, "test", views=1)
    first = INRBatch.from_flat(data.spec, data.gather(range(6))[0])
    edited = run.apply(first)
    assert isinstance(edited, INRBatch)
    wanted = Invert()(first, 6, 6)
    assert report.mse == pytest.approx(float((edited.images(6, 6) - wanted).square().mean()), rel=1e-4)


def test_the_best_epoch_has_the_lowest_error_or_the_highest_accuracy() -> None:
    errors: list[dict[str, int | float]] = [{"val_mse": 0.3}, {"val_mse": 0.1}, {}, {"val_mse": 0.2}]
    assert best_record(errors) == {"val_mse": 0.1}
    assert best_record([{"val_accuracy": 0.3}, {"val_accuracy": 0.4}]) == {"val_accuracy": 0.4}


def trainer(small: Path, out: Path) -> EditTrainer:
    targets = FilterTargets(Dilate(), 6, 6)
    validation = INRLoader(INRDataset(small, "val", views=1), 16, shuffle=False)
    model = build_editor("parity", SPEC, hidden_dim=4, dropout=0.1)
    return EditTrainer(model, INRLoader(INRDataset(small), 4), validation, targets, targets, CONFIG, out, {})


def test_a_stopped_run_ends_as_one_that_was_not(small: Path, tmp_path: Path) -> None:
    trainer(small, tmp_path / "whole").fit()
    asked = iter(range(100))
    with pytest.raises(PartialError):
        trainer(small, tmp_path / "parts").fit(stop=lambda: next(asked) == 8)
    trainer(small, tmp_path / "parts").fit()
    whole, parts = (load_checkpoint(tmp_path / name / LAST)["model"] for name in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_another_filter_does_not_resume_a_run(small: Path, run: EditRun) -> None:
    with pytest.raises(UsageError, match="another filter"):
        edit(small, "dilate", out=run.folder, **EPOCHS)


def test_an_edited_set_has_the_rows_of_its_set_and_verifies(small: Path, run: EditRun, tmp_path: Path) -> None:
    out = tmp_path / "edited"
    run.apply(small, out)

    assert not verify_dataset(out).faults
    for split in ("train", "val", "test"):
        before, after = INRDataset(small, split), INRDataset(out, split)
        assert before.object_ids.tolist() == after.object_ids.tolist()
        assert before.views.tolist() == after.views.tolist()
    expected = run.apply(inrs_of(small))
    assert isinstance(expected, INRBatch)
    torch.testing.assert_close(inrs_of(out).flatten(), expected.flatten(), atol=1e-6, rtol=1e-5)
    errors = (inrs_of(out).images(6, 6) - Invert()(inrs_of(small), 6, 6)).square().mean((1, 2, 3))
    np.testing.assert_allclose(INRDataset(out, "test").psnr, -10 * errors.log10().numpy(), rtol=1e-4)
    derived = load_manifest(out).derived
    assert derived is not None
    assert derived.how.startswith("edit:invert,model=parity,run=")

    shard = sorted((out / "data").iterdir())[0]
    content = shard.read_bytes()
    shard.unlink()
    run.apply(small, out)
    assert shard.read_bytes() == content
    with pytest.raises(UsageError, match="verify it without --render"):
        verify_dataset(out, render=True)


def test_targets_of_another_set_are_those_of_the_same_object_and_view(
    small: Path, run: EditRun, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    run.apply(small, other)
    data, target = INRDataset(small, "train"), INRDataset(other, "train", views=1)
    targets = SetTargets.of(data, INRDataset(other, "train"), 5, 5)
    rows = np.array([20, 3])
    weights, _ = INRDataset(other, "train").gather(rows)
    inrs = inrs_of(small, "train")[:2]
    assert torch.equal(targets(inrs, rows), INRBatch.from_flat(SPEC, weights).images(5, 5))
    of_first = SetTargets.of(data, target, 5, 5)
    assert torch.equal(of_first(inrs, [0, 14]), of_first(inrs, [0, 0]))

    learned = edit(small, target=other, out=tmp_path / "run", **OPTIONS)
    report = learned.evaluate()
    assert report.mse < report.trivial_mse
    learned.apply(small, tmp_path / "twice")
    assert np.isfinite(INRDataset(tmp_path / "twice", "test").psnr).all()
    make_set(tmp_path / "more", objects={"train": 20, "val": 5})
    learned.apply(tmp_path / "more", tmp_path / "beyond")
    assert np.isnan(INRDataset(tmp_path / "beyond", "train").psnr).sum() == 3 * 6
    with pytest.raises(UsageError, match="lacks 6 objects of train, as 'train-14'"):
        edit(tmp_path / "more", target=small, out=tmp_path / "none", **OPTIONS)


def test_examples_show_each_class_before_and_after(run: EditRun) -> None:
    shown = run.examples(count=4, split="val")
    assert shown.labels.tolist() == [0, 0, 1, 2]
    assert shown.before.shape == shown.wanted.shape == shown.after.shape == (4, 6, 6, 1)
    torch.testing.assert_close(shown.wanted, 1 - shown.before)
    assert float((shown.after - shown.before).abs().mean()) > 1e-3


def test_augmented_inrs_have_targets_of_their_own(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[INRBatch, torch.Tensor]] = []
    original = FilterTargets.__call__

    def recorded(self: FilterTargets, inrs: INRBatch, rows: Any) -> torch.Tensor:
        seen.append((inrs, original(self, inrs, rows)))
        return seen[-1][1]

    monkeypatch.setattr(FilterTargets, "__call__", recorded)
    edit(small, "erode", augment="reflect:probability=1", out=tmp_path / "run", **{**OPTIONS, "epochs": 1})
    inrs, wanted = seen[0]
    stored = inrs_of(small, "train").flatten()
    assert not any(torch.equal(row, known) for row in inrs.flatten() for known in stored)
    assert torch.equal(wanted, Erode()(inrs, 6, 6))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "either --filter, as dilate, or --target, a set of the same objects; got neither"),
        ({"filter": "dilate", "target": "x"}, "got both"),
        ({"filter": "dilate", "model": "mlp"}, "edit takes --model parity, dws, ng_gnn, got 'mlp'"),
        ({"filter": "dilate", "size": None}, "does not say how large its images are; give --size"),
        ({"filter": "dilate", "size": 0}, "size must be a whole number from 1"),
        ({"filter": "dilate", "batch_size": 1}, "batch_size must be"),
        ({"filter": "dilate", "epochs": 0}, "--epochs"),
        ({"target": "x", "augment": "flip"}, "--augment needs a --filter"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_written(
    small: Path, tmp_path: Path, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        edit(small, **{**OPTIONS, "out": tmp_path / "run", **options})
    assert not (tmp_path / "run").exists()


def test_shapes_and_runs_of_other_kinds_are_refused(small: Path, run: EditRun, tmp_path: Path) -> None:
    make_set(tmp_path / "shapes", SirenSpec(3, 1, hidden_dim=4))
    with pytest.raises(UsageError, match="edit takes INRs of images, which have 2 inputs"):
        edit(tmp_path / "shapes", "dilate", out=tmp_path / "run", **OPTIONS)
    classifier = train(small, "parity:hidden_dim=4", epochs=1, batch_size=4, device="cpu", out=tmp_path / "classifier")
    with pytest.raises(UsageError, match="is no editor"):
        EditRun(classifier.folder)
    with pytest.raises(UsageError, match="needs the folder of the edited set"):
        run.apply(small)
    with pytest.raises(UsageError, match="out is for data sets"):
        run.apply(initialize(SPEC, [0]), tmp_path / "out")
    assert (run.folder / BEST).exists()
