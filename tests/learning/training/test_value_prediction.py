"""Training on targets that are no class: numbers, vectors, labels, PSNR and facts; classes of a table; bad targets."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, r2_score
from support.small_sets import make_set

import inr_factory as inr
from inr_factory.errors import UsageError
from inr_factory.inr.batch import INRBatch
from inr_factory.learning.alignment.mixup import MixUp
from inr_factory.learning.data.dataset import INRDataset
from inr_factory.learning.data.loader import INRLoader
from inr_factory.learning.models.checkpoint import load_classifier, load_encoder
from inr_factory.learning.models.normalizer import Normalizer
from inr_factory.learning.models.predictor import Predictor, build_predictor
from inr_factory.learning.training.embed import embed
from inr_factory.learning.training.metrics import EvaluationReport
from inr_factory.learning.training.prediction_report import ValuePredictionReport
from inr_factory.learning.training.train_classifier import train
from inr_factory.learning.training.trained_run import TrainedRun, evaluate, open_run
from inr_factory.learning.training.value_metrics import ValueReport, label_figures, number_figures
from inr_factory.learning.training.value_prediction import value_loss
from inr_factory.storage.targets import TargetColumn, TargetTable, update_targets

OPTIONS: dict[str, Any] = {
    "model": "parity:hidden_dim=4", "batch_size": 4, "epochs": 2, "schedule": "constant", "device": "cpu",
}  # fmt: skip
OBJECTS = {"train": 14, "val": 6, "test": 7}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("values") / "set"
    make_set(root, objects=OBJECTS)
    names = tuple(f"{split}-{number}" for split, count in OBJECTS.items() for number in range(count))
    draw = np.random.default_rng(0)
    labels = draw.random((len(names), 3)) < 0.5
    labels[:, 2] &= np.array([not name.startswith("test") for name in names])
    columns = (
        TargetColumn("mass", "number", draw.normal(100, 5, len(names)), unit="g"),
        TargetColumn("place", "vector", draw.normal(size=(len(names), 2)), names=("x", "y")),
        TargetColumn("tags", "labels", labels, names=("red", "green", "blue")),
        TargetColumn("kind", "class", np.arange(len(names)) % 4, names=("a", "b", "c", "d")),
        TargetColumn("same", "number", np.full(len(names), 2.5)),
        TargetColumn("untagged", "labels", np.zeros((len(names), 2), bool), names=("p", "q")),
    )
    update_targets(root, lambda _: TargetTable(names, columns))
    return root


@pytest.fixture(scope="module")
def mass(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainedRun:
    return train(dataset, target="mass", mixup="mixup", out=tmp_path_factory.mktemp("runs") / "mass", **OPTIONS)


def values_of(data: INRDataset) -> np.ndarray[Any, Any]:
    assert data.values is not None
    return data.values


def test_every_view_of_an_object_has_its_value(dataset: Path) -> None:
    data = INRDataset(dataset, "train", target="mass")
    values = values_of(data)
    assert values.shape == (3 * OBJECTS["train"], 1)
    assert data.target is not None
    assert (data.target.kind, data.target.unit) == ("number", "g")
    by_object = {name: set(values[data.object_ids == name, 0].tolist()) for name in data.object_ids}
    assert all(len(held) == 1 for held in by_object.values())
    assert len(set.union(*by_object.values())) == OBJECTS["train"]
    _, target = data[3]
    assert target.tolist() == pytest.approx(values[3].tolist())


def test_psnr_and_facts_of_rows_are_targets(dataset: Path) -> None:
    data = INRDataset(dataset, "train", target="psnr")
    np.testing.assert_array_equal(values_of(data)[:, 0], data.psnr.astype(np.float64))
    with pytest.raises(UsageError, match="has no fact 'heigt'"):
        INRDataset(dataset, "train", target="facts.heigt")


def test_a_fact_without_a_value_names_an_object(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = INRDataset(dataset, "train").object_ids
    values = np.where(np.arange(len(names)) == 5, np.nan, 1.0)
    monkeypatch.setattr("inr_factory.learning.data.target._fact", lambda *_: values)
    with pytest.raises(UsageError, match=f"infinite in 1 rows, first {names[5]}; .* fit a set without these objects"):
        INRDataset(dataset, "train", target="facts.volume")


def test_classes_of_a_target_stand_in_for_those_of_the_set(dataset: Path, tmp_path: Path) -> None:
    data = INRDataset(dataset, "train", views=1, target="kind")
    assert (data.classes, data.values) == (("a", "b", "c", "d"), None)
    numbers = [int(name.removeprefix("train-")) % 4 for name in data.object_ids]
    assert data.labels.tolist() == numbers
    run = train(dataset, target="kind", out=tmp_path / "run", **OPTIONS)
    assert (run.classes, run.target) == (("a", "b", "c", "d"), "kind")
    report = evaluate(run)
    assert isinstance(report, EvaluationReport)
    assert report.classes == ("a", "b", "c", "d")
    assert report.count == OBJECTS["test"]


def test_mixup_mixes_values_as_it_mixes_inrs(dataset: Path) -> None:
    data = INRDataset(dataset, "train", target="place")
    plain = next(iter(INRLoader(data, 8, seed=3)))[1]
    mixed = next(iter(INRLoader(data, 8, seed=3, mixup=MixUp(match="none"))))[1]
    assert mixed.shape == (8, 2)
    assert not torch.equal(plain, mixed)
    assert bool(((mixed >= plain.amin(0) - 1e-6) & (mixed <= plain.amax(0) + 1e-6)).all())
    for wrong in ({"mixup": "mixup:same_class=true"}, {"label_smoothing": 0.1}):
        with pytest.raises(UsageError, match="is for classes, the target place is a vector"):
            INRLoader(data, 8, **wrong)  # type: ignore[arg-type]


def test_a_run_of_numbers_measures_predicts_and_resumes(mass: TrainedRun, dataset: Path, tmp_path: Path) -> None:
    assert mass.target == "mass"
    learned, model = values_of(INRDataset(dataset, "train", target="mass")), mass.model("cpu")
    assert isinstance(model, Predictor)
    assert (float(model.mean), float(model.std)) == (pytest.approx(learned.mean()), pytest.approx(learned.std()))
    report = mass.evaluate()
    assert isinstance(report, ValueReport)
    assert (report.outputs, report.unit, report.count, report.split) == (("mass",), "g", OBJECTS["test"], "test")
    assert report.r2 == report.score
    best = mass.best
    assert best["val_r2"] == max(record["val_r2"] for record in mass.history)
    validation = mass.evaluate(split="val")
    assert validation.score == pytest.approx(best["val_r2"])
    predicted = mass.predict(dataset)
    assert isinstance(predicted, ValuePredictionReport)
    assert predicted.true is not None
    one_view = predicted.views == 0
    true, said = predicted.true[one_view], predicted.predicted[one_view]
    assert report.r2 == pytest.approx(r2_score(true, said), abs=1e-5)
    assert abs(said.mean() - 100) < 10, "predictions are in the target's unit"
    per_object = predicted.per_object()
    assert len(per_object) == OBJECTS["test"]
    averaged = mass.evaluate(views=3)
    assert isinstance(averaged, ValueReport)
    assert averaged.object_score == pytest.approx(per_object.figures()["r2"], abs=1e-5)
    lines = predicted.to_csv(tmp_path / "table.csv").splitlines()
    assert lines[0] == "object_id,view,mass,predicted mass"
    assert len(lines) == 1 + len(predicted)
    history = mass.history
    again = train(dataset, target="mass", mixup="mixup", out=mass.folder, **OPTIONS)
    assert again.history == history
    with pytest.raises(UsageError, match="holds a run"):
        train(dataset, target="place", mixup="mixup", out=mass.folder, **OPTIONS)


def test_more_targets_of_one_loss_each(dataset: Path, tmp_path: Path) -> None:
    placed = train(dataset, target="place", loss="huber", out=tmp_path / "place", **OPTIONS)
    vector, validation = placed.evaluate(), placed.evaluate(split="val")
    assert isinstance(vector, ValueReport)
    assert validation.loss == pytest.approx(placed.best["val_loss"], rel=1e-4), "it is that of the run, Huber's"
    assert vector.outputs == ("x", "y")
    assert vector.r2 == pytest.approx(np.mean(vector.per_output))  # type: ignore[arg-type]
    run = train(dataset, target="tags", out=tmp_path / "tags", **OPTIONS)
    labels = run.evaluate()
    assert isinstance(labels, ValueReport)
    assert labels.outputs == ("red", "green", "blue")
    assert labels.per_output[2] is None, "no test object is blue"
    assert labels.mean_average_precision == pytest.approx(np.mean(labels.per_output[:2]))  # type: ignore[arg-type]
    predicted = run.predict(dataset)
    assert isinstance(predicted, ValuePredictionReport)
    data = INRDataset(dataset, "test")
    with torch.no_grad():
        logits = run.model("cpu")(INRBatch.from_flat(data.spec, data.gather(range(len(data)))[0]))
    np.testing.assert_allclose(predicted.predicted, logits.sigmoid().numpy(), atol=1e-5)


@pytest.mark.parametrize(("target", "unit"), [("psnr", "dB"), ("facts.explained", "")])
def test_facts_of_rows_are_learned_and_predicted_without_a_table(tmp_path: Path, target: str, unit: str) -> None:
    images = np.random.default_rng(0).random((24, 4, 4))
    fitted = inr.fit(images, hidden_dim=4, target_psnr=None, steps=20, floor_psnr=-100)
    fitted.save(tmp_path / "set", val=5, test=5)
    run = train(tmp_path / "set", target=target, out=tmp_path / "run", **OPTIONS)
    report = run.evaluate()
    assert isinstance(report, ValueReport)
    assert (report.target, report.unit, report.count) == (target, unit, 5)
    predicted = run.predict(tmp_path / "set")
    assert isinstance(predicted, ValuePredictionReport)
    assert predicted.figures()["r2"] == pytest.approx(report.r2, abs=1e-5)
    make_set(tmp_path / "bare", spec=fitted.inrs.spec, objects=OBJECTS)
    bare = run.predict(tmp_path / "bare")
    assert isinstance(bare, ValuePredictionReport)
    assert (bare.true is None) == (target != "psnr")


def test_a_set_without_the_target_is_predicted_but_not_evaluated(mass: TrainedRun, tmp_path: Path) -> None:
    make_set(tmp_path / "bare", objects=OBJECTS)
    report = mass.predict(tmp_path / "bare", views=1)
    assert isinstance(report, ValuePredictionReport)
    assert (report.true, report.score, report.figures()) == (None, "", {})
    other = mass.predict(INRDataset(tmp_path / "bare", "test", target="psnr"))
    assert isinstance(other, ValuePredictionReport)
    assert other.true is None, "the truth is of another target"
    with pytest.raises(UsageError, match="has no target 'mass'"):
        mass.evaluate(tmp_path / "bare")
    with pytest.raises(UsageError, match="predicts mass; open the data set with target='mass'"):
        mass.evaluate(INRDataset(tmp_path / "bare", "test"))


def test_a_predictor_is_no_classifier_but_its_encoder_serves(mass: TrainedRun, dataset: Path) -> None:
    with pytest.raises(UsageError, match="predicts mass, not classes"):
        load_classifier(mass.checkpoint)
    assert load_encoder(mass.checkpoint).kind == "predictor"
    assert len(embed(mass, dataset)) == 3 * OBJECTS["test"]
    with pytest.raises(UsageError, match="several runs are averaged where all predict classes"):
        evaluate([mass, mass])
    assert open_run(mass.folder).target == "mass"


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (
            {"target": "same"},
            "same of small is constant: same is 2.5 in all 42 rows of train; there is nothing to predict",
        ),
        ({"target": "untagged"}, "no row of train has any label"),
        ({"target": "weight"}, "small has no target 'weight'"),
        ({"target": 3}, "a target is given by its name, got 3"),
        ({"target": "mass", "label_smoothing": 0.1}, "--label-smoothing does not go with the target mass, number"),
        ({"target": "mass", "label_noise": 0.1}, "--label-noise does not go with the target mass, number"),
        ({"target": "mass", "reweigh": "mr"}, "--reweigh does not go with the target mass, number"),
        ({"target": "tags", "loss": "huber"}, "--loss does not go with the target tags, labels"),
        ({"target": "mass", "loss": "l1"}, "--loss: "),
        ({"loss": "mse"}, "--loss is for targets that are numbers"),
    ],
)
def test_targets_that_cannot_be_learned_are_refused_in_one_line(
    dataset: Path, tmp_path: Path, options: dict[str, Any], line: str
) -> None:
    with pytest.raises(UsageError) as caught:
        train(dataset, out=tmp_path / "run", **OPTIONS, **options)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_set_of_one_class_names_its_targets(tmp_path: Path) -> None:
    make_set(tmp_path / "set", classes=["object"], objects=OBJECTS)
    with pytest.raises(UsageError, match="at least two classes, got 1 in small; give another --target: psnr"):
        train(tmp_path / "set", out=tmp_path / "run", **OPTIONS)


def test_figures_are_those_of_scikit_learn() -> None:
    draw = np.random.default_rng(1)
    true, predicted = draw.normal(size=(50, 3)), draw.normal(size=(50, 3))
    figures = number_figures(predicted, true)
    assert figures["r2"] == pytest.approx(r2_score(true, predicted))
    assert figures["per_output"] == pytest.approx(r2_score(true, predicted, multioutput="raw_values"))
    perfect = number_figures(true, true)
    assert (perfect["r2"], perfect["mae"], perfect["kendall_tau"]) == (1, 0, pytest.approx(1))
    assert number_figures(np.zeros_like(true) + true.mean(0), true)["kendall_tau"] == 0
    with pytest.raises(UsageError, match="output 1 is the same number"):
        number_figures(predicted, np.stack([true[:, 0], np.ones(50), true[:, 2]], 1))
    has = true > 0.3
    assert label_figures(predicted, has)["mean_average_precision"] == pytest.approx(
        average_precision_score(has, predicted, average="macro")
    )
    with pytest.raises(UsageError, match="none of the 50 rows has any label"):
        label_figures(predicted, np.zeros_like(has))


def test_the_loss_is_in_units_of_the_spread_and_of_the_kind_that_was_chosen(dataset: Path) -> None:
    data = INRDataset(dataset, "train", target="mass")
    assert data.target is not None
    normalizer = Normalizer(data.spec)
    model = build_predictor("mlp", data.spec, data.target.describe(), 1, normalizer, 0, False, hidden_dim=4)
    model.standardize(torch.from_numpy(values_of(data)))
    outputs, targets = torch.full((1, 1), 3.0), model.mean.expand(1, 1)  # three standard deviations away
    assert float(value_loss(model, outputs, targets)) == pytest.approx(9)
    assert float(value_loss(model, outputs, targets, "huber")) == pytest.approx(2.5)
