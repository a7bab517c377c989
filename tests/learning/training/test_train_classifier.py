"""`train`, `evaluate` and `predict` as functions: they do what the commands do, and refuse wrong arguments in one line."""

import csv
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import small_sets
from support.small_runs import rewrite
from support.small_sets import make_set

from inr_factory.errors import UsageError
from inr_factory.inr.spec import Activation, SirenSpec
from inr_factory.learning.alignment.aligned_dataset import align_dataset
from inr_factory.learning.data.dataset import INRDataset
from inr_factory.learning.models.checkpoint import load_checkpoint, load_classifier
from inr_factory.learning.training.pretrain_encoder import pretrain
from inr_factory.learning.training.run_config import BEST, LAST, TrainConfig, check_config
from inr_factory.learning.training.train_classifier import train
from inr_factory.learning.training.trained_run import TrainedRun, evaluate, open_run, predict
from inr_factory.learning.transforms.symmetries import FlipSigns

OPTIONS: dict[str, Any] = {
    "model": "parity:hidden_dim=4", "batch_size": 4, "epochs": 2, "schedule": "constant", "device": "cpu",
}  # fmt: skip


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("train") / "set"
    make_set(root, objects={"train": 14, "val": 5, "test": 6})
    return root


@pytest.fixture(scope="module")
def trained(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainedRun:
    return train(
        dataset, out=tmp_path_factory.mktemp("runs") / "run", augment=["noise:scale=0.1", FlipSigns()], **OPTIONS
    )


def test_a_run_reports_its_epochs_and_evaluates_its_best(trained: TrainedRun, dataset: Path, tmp_path: Path) -> None:
    assert [record["epoch"] for record in trained.history] == [0, 1]
    assert trained.best["val_accuracy"] == max(record["val_accuracy"] for record in trained.history)
    assert trained.dataset == str(dataset.absolute())
    report = trained.evaluate()
    assert (report.count, report.split, len(report.classes)) == (6, "test", 3)
    assert trained.evaluate(split="val").accuracy == trained.best["val_accuracy"]
    assert evaluate(trained.folder) == report == evaluate(trained.folder / BEST, dataset) == evaluate(trained)
    assert trained.evaluate(INRDataset(dataset, "test", views=2)).count == 12


def test_predictions_name_objects_classes_and_probabilities(trained: TrainedRun, dataset: Path, tmp_path: Path) -> None:
    report = trained.predict(dataset)
    data = INRDataset(dataset, "test")

    assert report.object_ids == tuple(data.object_ids)
    assert report.probabilities.shape == (len(data), 3) == (18, 3)
    np.testing.assert_allclose(report.probabilities.sum(1), 1, rtol=1e-5)
    assert np.array_equal(report.labels, report.probabilities.argmax(1))
    first = predict(open_run(trained.folder), dataset, views=1)
    share = np.mean([row["class"] == row["predicted"] for row in first.rows()])
    assert first.accuracy == share == pytest.approx(trained.evaluate().accuracy)
    text = report.to_csv(tmp_path / "new" / "p.csv")
    assert (tmp_path / "new" / "p.csv").read_text() == text
    assert list(csv.DictReader(io.StringIO(text))) == list(report.rows())


@pytest.mark.parametrize("classes", [("high", "low", "mid"), ("low", "mid")])
def test_classes_of_another_set_are_found_by_their_names(
    classes: tuple[str, ...], trained: TrainedRun, dataset: Path, tmp_path: Path
) -> None:
    """The accuracy was that of numbers of classes, whatever they were called."""
    make_set(tmp_path / "other", classes=classes, objects={"train": 14, "val": 5, "test": 6})
    (tmp_path / BEST).write_bytes(trained.checkpoint.read_bytes())
    report, predictions = trained.evaluate(tmp_path / "other"), predict(tmp_path, tmp_path / "other", views=1)
    right = [row["class"] == row["predicted"] for row in predictions.rows()]
    assert report.accuracy == pytest.approx(np.mean(right))
    assert report.classes == predictions.classes == ("low", "mid", "high")
    truth = [sum(row["class"] == name for row in predictions.rows()) for name in report.classes]
    assert [sum(row) for row in report.confusion] == truth


def test_classes_that_are_but_numbers_count_by_their_places(trained: TrainedRun, tmp_path: Path) -> None:
    make_set(tmp_path, classes=("0", "1", "2"), objects={"train": 14, "val": 5, "test": 6})
    assert trained.evaluate(tmp_path).accuracy == trained.evaluate().accuracy


def test_averaging_the_views_of_an_object_is_its_mean_prediction(trained: TrainedRun, dataset: Path) -> None:
    report, predictions = trained.evaluate(views=2), trained.predict(dataset, views=2)

    objects = predictions.per_object()

    for row, name in enumerate(objects.object_ids):
        views = [number for number, other in enumerate(predictions.object_ids) if other == name]
        assert len(views) == 2
        np.testing.assert_allclose(objects.probabilities[row], predictions.probabilities[views].mean(0), rtol=1e-6)
    assert objects.accuracy == report.object_accuracy
    assert (report.accuracy, report.count, report.objects) == (predictions.accuracy, 12, 6)
    assert [row["view"] for row in objects.rows()] == ["all"] * 6
    assert trained.evaluate().object_accuracy is None


def test_runs_of_any_encoder_are_evaluated_as_one_by_their_mean_probabilities(
    trained: TrainedRun, dataset: Path, tmp_path: Path
) -> None:
    other = train(dataset, model="mlp:hidden_dim=8", epochs=1, batch_size=4, device="cpu", out=tmp_path / "other")
    mean = (trained.predict(dataset, views=2).probabilities + other.predict(dataset, views=2).probabilities) / 2
    labels = INRDataset(dataset, "test", views=2).labels

    both = evaluate([trained, other.folder], views=2)

    assert both.accuracy == (mean.argmax(1) == labels).mean()
    assert both.loss == pytest.approx(-np.log(mean[range(12), labels]).mean(), rel=1e-4)
    assert both.object_accuracy is not None
    alone = evaluate([trained])
    assert alone == trained.evaluate()
    assert evaluate([trained, trained]).loss == pytest.approx(alone.loss, rel=1e-5)


def test_runs_are_averaged_by_the_names_of_their_classes(trained: TrainedRun, dataset: Path, tmp_path: Path) -> None:
    shutil.copytree(trained.folder, tmp_path / "turned")
    order = [2, 0, 1]

    def turn(saved: dict[str, Any]) -> None:
        saved["meta"]["classes"] = [saved["meta"]["classes"][number] for number in order]
        for name in ("head.weight", "head.bias"):
            saved["model"][name] = saved["model"][name][order]

    rewrite(tmp_path / "turned" / BEST, turn)
    assert evaluate([trained, tmp_path / "turned"]).loss == pytest.approx(trained.evaluate().loss, rel=1e-5)
    assert evaluate([tmp_path / "turned", trained]).accuracy == trained.evaluate().accuracy

    rewrite(tmp_path / "turned" / BEST, lambda saved: saved["meta"].update(classes=["low", "mid", "top"]))
    with pytest.raises(UsageError, match="were trained on other classes: one lacks 'high'; only runs of the same"):
        evaluate([trained, tmp_path / "turned"])
    with pytest.raises(UsageError, match="needs a run, got none"):
        evaluate([])
    shutil.copytree(dataset, tmp_path / "set")
    other = train(tmp_path / "set", model="mlp", epochs=1, batch_size=4, device="cpu", out=tmp_path / "other")
    with pytest.raises(UsageError, match=r"were trained on .* and .*; name one by --dataset"):
        evaluate([trained, other])
    assert evaluate([trained, other], dataset).count == 6


@pytest.mark.parametrize("classes", [("low", "mid", "hihg"), ("object",), ()])
def test_inrs_of_classes_that_a_run_does_not_know_are_predicted_and_not_evaluated(
    classes: tuple[str, ...], trained: TrainedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(small_sets, "label_of", lambda name, _: int(name[-1]) % len(classes) if classes else -1)
    make_set(tmp_path, classes=classes, objects={"train": 14, "val": 5, "test": 6})
    with pytest.raises(UsageError, match="does not know"):
        trained.evaluate(tmp_path)
    report = trained.predict(tmp_path)
    rows = list(report.rows())
    assert {row["predicted"] for row in rows} <= {"low", "mid", "high"}
    assert {row["class"] for row in rows} == ({*classes} or {""})
    right = [row["class"] == row["predicted"] for row in rows if row["class"] in ("low", "mid", "high")]
    assert report.accuracy == (np.mean(right) if right else None)


def test_views_of_an_object_are_not_independent_in_a_standard_error(trained: TrainedRun) -> None:
    report = trained.evaluate(views=3)
    assert (report.count, report.objects) == (18, 6)
    assert report.standard_error == pytest.approx((report.accuracy * (1 - report.accuracy) / 6) ** 0.5)


def test_missing_shards_are_told_with_the_result(trained: TrainedRun, tmp_path: Path) -> None:
    make_set(tmp_path, objects={"train": 14, "val": 5, "test": 6}, unfitted=[("test", 0, 1)])
    assert trained.evaluate(tmp_path).incomplete == trained.predict(tmp_path, views=1).incomplete == 1


def test_the_same_call_resumes_a_run(dataset: Path, tmp_path: Path) -> None:
    notes: list[str] = []
    train(dataset, out=tmp_path, **OPTIONS, log=notes.append)
    before = (tmp_path / LAST).read_bytes()
    assert train(dataset, out=tmp_path, **OPTIONS).history == open_run(tmp_path).history
    assert (tmp_path / LAST).read_bytes() == before
    records: list[Any] = []
    longer = train(dataset, out=tmp_path, **{**OPTIONS, "epochs": 3}, on_epoch=records.append)
    assert (len(longer.history), [record["epoch"] for record in records]) == (3, [2])
    assert [note.split()[0] for note in notes] == ["objects", "parity,"]


@pytest.mark.parametrize("name", ["forward", "parity"])
def test_a_run_under_the_former_name_of_its_encoder_resumes(name: str, dataset: Path, tmp_path: Path) -> None:
    train(dataset, out=tmp_path, **OPTIONS)
    for file in (BEST, LAST):
        saved = torch.load(tmp_path / file, weights_only=True)
        saved["classifier"]["encoder"] = "forward"
        torch.save(saved, tmp_path / file)

    longer = train(dataset, out=tmp_path, **{**OPTIONS, "model": f"{name}:hidden_dim=4", "epochs": 3})

    assert len(longer.history) == 3
    assert longer.evaluate().count == 6
    assert load_checkpoint(tmp_path / LAST)["classifier"]["encoder"] == "parity"


def test_the_default_folder_has_the_name_of_the_model_as_it_was_typed(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name = json.loads((dataset / "manifest.json").read_text())["name"]

    run = train(dataset, **{**OPTIONS, "model": "forward:hidden_dim=4", "epochs": 1, "seed": 3})

    assert run.folder == Path("runs") / f"{name}-forward-3"


def test_an_open_data_set_is_trained_on_as_it_is(dataset: Path, tmp_path: Path) -> None:
    run = train(INRDataset(dataset, views=1, classes=[0, 1]), out=tmp_path, **OPTIONS)

    assert run.meta["train"]["rows"] == sum(label < 2 for label in INRDataset(dataset, views=1).labels)
    for data, options in ((INRDataset(dataset, "val"), {}), (INRDataset(dataset), {"views": 1})):
        with pytest.raises(UsageError, match="an open data set must be the split train"):
            train(data, out=tmp_path / "x", **OPTIONS, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "--epochs: input should be greater than or equal to 1, got 0"),
        ({"schedule": "cosin"}, "--schedule: unknown value 'cosin'; did you mean 'cosine'"),
        ({"model": "parity:hiden_dim=4"}, "did you mean 'hidden_dim'"),
        ({"model": "parity:hidden_dim"}, "--model takes name:key=value,key=value"),
        ({"freeze": True}, "name its run by --init"),
        ({"mixup": "mixup", "reweigh": "mr"}, "use one of the two"),
        ({"device": "tpu"}, "device must be auto"),
        ({"augment": ["permut"]}, "did you mean 'permute'"),
        ({"augment": 5}, "augment takes transforms or their texts"),
        ({"mixup": 5}, "mixup must be text or an object that can be called"),
        ({"model": 5}, "a model is given as text"),
        ({"model": torch.nn.Linear(2, 2)}, "got Linear; a network of your own is a class of inr.Encoder"),
        ({"views": 9}, "views"),
        ({"canonical": np.zeros(2)}, "canonical must be True or False"),
        ({"normalize": "no"}, "normalize must be True or False, got 'no'"),
        ({"optimizer": "sgd"}, "--optimizer: unknown value 'sgd'"),
        ({"init": np.zeros(2)}, "the path of a run must be text or a Path"),
        ({"on_epoch": 3}, "on_epoch must be a function or None, got 3"),
        ({"learning_rate": float("nan")}, "--learning-rate: .* finite number, got nan"),
        ({"learning_rate": 0}, "--learning-rate: .* greater than 0, got 0"),
        ({"init": "nowhere"}, "no checkpoint nowhere"),
    ],
)
def test_wrong_options_are_refused_in_one_line(options: dict, message: str, dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        train(dataset, out=tmp_path / "run", **{**OPTIONS, **options})
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_folder_without_a_run_is_refused(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no checkpoint"):
        open_run(tmp_path)
    with pytest.raises(UsageError, match=f"{dataset} is a data set, .* --dataset {dataset}"):
        open_run(dataset)
    with pytest.raises(UsageError, match="a run is the path of its folder"):
        evaluate(5)  # type: ignore[arg-type]
    (tmp_path / BEST).write_bytes((train(dataset, out=tmp_path / "a", **OPTIONS).folder / BEST).read_bytes())
    with pytest.raises(UsageError, match="does not record the data set"):
        open_run(tmp_path).evaluate()
    with pytest.raises(UsageError, match=r"has no metrics\.jsonl"):
        _ = open_run(tmp_path).best
    (tmp_path / "manifest.json").touch()
    assert len(open_run(tmp_path).predict(dataset)) == 18, "a set in the folder of a run hides no run"


def test_the_published_dws_can_be_trained_and_resumes(dataset: Path, tmp_path: Path) -> None:
    """Faults, section 5: batch norm, one head, AdamW and normalised weights were no published model."""
    options: dict[str, Any] = {**OPTIONS, "model": "dws:hidden_dim=8,num_heads=8,batch_norm=false", "epochs": 1}
    options |= {"optimizer": "adam", "normalize": False, "canonical": False}
    run = train(dataset, out=tmp_path, **options)

    normalizer = run.model("cpu").normalizer
    assert all(bool((normalizer.get_buffer(f"{part}_std") == 1).all()) for part in ("weight", "bias"))
    assert len(train(dataset, out=tmp_path, **{**options, "epochs": 2}).history) == 2
    for other in ({"optimizer": "adamw"}, {"normalize": True}):
        with pytest.raises(UsageError, match="another"):
            train(dataset, out=tmp_path, **{**options, **other})


def test_small_validation_splits_are_named(dataset: Path, tmp_path: Path) -> None:
    notes: list[str] = []
    train(dataset, out=tmp_path, **{**OPTIONS, "epochs": 1, "warmup_steps": 7}, log=notes.append)
    assert any("objects in val: 5" in note and "22.4 points" in note for note in notes)
    assert any(note.startswith("the warm-up has 1 steps instead of 7") for note in notes)


def test_classes_that_training_lacks_are_named(dataset: Path, tmp_path: Path) -> None:
    notes: list[str] = []
    options = {**OPTIONS, "epochs": 1, "batch_size": np.int64(4)}
    train(INRDataset(dataset, classes=["low", "mid"]), out=tmp_path, **options, log=notes.append)
    assert any("lack 1 classes of val, as 'high', so that 20% of the validation INRs" in note for note in notes)


def test_pre_training_on_a_single_class_is_refused_before_it_begins(tmp_path: Path) -> None:
    """It took the first epoch for the best, and failed after the last."""
    make_set(tmp_path / "set", classes=("object",), objects={"train": 14, "val": 5})
    with pytest.raises(UsageError, match="has no two classes to train on"):
        pretrain(tmp_path / "set", positives="views", out=tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()


def test_a_run_from_before_version_0_2_resumes_as_it_began(dataset: Path, tmp_path: Path) -> None:
    """Its checkpoints lack the rules of runs, and options of parity that did not exist."""
    model = "parity:hidden_dim=4,amplitudes=false,sine_path=true,frequencies=0,dropout=0.0,grid=0"
    train(dataset, out=tmp_path, **{**OPTIONS, "model": model, "epochs": 1})
    for file in (BEST, LAST):
        saved = torch.load(tmp_path / file, weights_only=True)
        del saved["config"]["rules"], saved["config"]["optimizer"]
        for option in ("amplitudes", "sine_path", "frequencies", "grid"):
            del saved["classifier"]["options"][option]
        torch.save(saved, tmp_path / file)

    longer = train(dataset, out=tmp_path, **{**OPTIONS, "model": "parity:hidden_dim=4", "epochs": 2})

    saved = load_checkpoint(tmp_path / LAST)
    assert len(longer.history) == 2
    assert saved["config"]["rules"] == 1
    assert saved["classifier"]["options"]["amplitudes"] is False
    with pytest.raises(UsageError, match=r"another options\.amplitudes"):
        train(dataset, out=tmp_path, **{**OPTIONS, "model": "parity:hidden_dim=4,amplitudes=true", "epochs": 3})


@pytest.mark.parametrize(
    "option",
    [
        "epochs",
        "warmup_steps",
        "early_stopping",
        "save_steps",
        "seed",
        "learning_rate",
        "weight_decay",
        "gradient_clip",
    ],
)
@pytest.mark.parametrize("value", [10**20, float("inf"), float("nan"), -1])
def test_odd_numbers_of_training_are_refused_by_the_name_of_their_option(option, value):
    """Faults, section 2: --epochs 99999999999999999999 began to train."""
    with pytest.raises(UsageError, match=f"--{option.replace('_', '-')}: "):
        check_config(TrainConfig, **{option: value})


@pytest.mark.parametrize("activation", ["sine", "relu", "tanh", "gauss", "finer"])
def test_inrs_of_every_activation_with_other_widths_and_an_encoding_are_aligned_and_read(
    activation: Activation, tmp_path: Path
) -> None:
    spec = SirenSpec(2, 1, widths=(5, 4), frequencies=1, activation=activation)
    make_set(tmp_path / "set", spec, views=1)
    report = align_dataset(tmp_path / "set", tmp_path / "aligned")
    options = {"model": "parity:hidden_dim=4", "batch_size": 7, "epochs": 1, "device": "cpu"}

    run = train(
        tmp_path / "aligned", augment="permute+noise", mixup="mixup", decode=1.0, out=tmp_path / "run", **options
    )
    pretrained = pretrain(tmp_path / "set", objective="decode", out=tmp_path / "pretrained", **options)

    assert report.after < report.before
    assert run.evaluate(tmp_path / "aligned", "val").accuracy <= 1
    model = load_classifier(run.folder / BEST)
    assert (model.spec, model.canonical) == (spec, activation != "relu")
    assert pretrained.psnr is not None


def test_it_says_where_the_canonical_form_gives_up_what_the_inrs_have_in_common(dataset: Path, tmp_path: Path) -> None:
    align_dataset(dataset, tmp_path / "aligned", match="phase")
    options = OPTIONS | {"epochs": 1, "model": "mlp:hidden_dim=4"}
    for name, source, canonical, noted in (
        ("a", dataset, True, False), ("b", tmp_path / "aligned", True, True), ("c", tmp_path / "aligned", False, False),
    ):  # fmt: skip
        lines: list[str] = []
        train(source, out=tmp_path / name, log=lines.append, canonical=canonical, **options)
        assert any("--no-canonical" in line for line in lines) == noted
