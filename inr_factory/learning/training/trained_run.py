"""Trained runs: the folder of a trained classifier, from which it is evaluated and predicts.

Shape letters: N INRs, C classes.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch

from inr_factory.errors import IntegrityError, UsageError, blame_machine, did_you_mean, one_line, shorten
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.device import choose_device
from inr_factory.inr.plain_json import parse_json_object
from inr_factory.inr.regular_files import read_regular
from inr_factory.learning.data.dataset import INRDataset
from inr_factory.learning.data.target import NoTargetError
from inr_factory.learning.models.checkpoint import load_checkpoint, load_reader
from inr_factory.learning.models.classifier import Classifier
from inr_factory.learning.models.ensemble import Ensemble
from inr_factory.learning.models.predictor import Predictor
from inr_factory.learning.training.certificate import CERTIFICATE, CertificateReport, certify_model, spread_rows
from inr_factory.learning.training.classification import evaluate_model
from inr_factory.learning.training.metrics import EvaluationReport
from inr_factory.learning.training.prediction_report import PredictionReport, ValuePredictionReport
from inr_factory.learning.training.run_config import METRICS, RUN, Loss, best_record, checkpoint_of
from inr_factory.learning.training.run_data import check_count, check_values, class_names, evaluation_loader, open_split
from inr_factory.learning.training.value_metrics import ValueReport
from inr_factory.learning.training.value_prediction import evaluate_predictor, output_names, predict_values
from inr_factory.storage.atomic_files import write_atomically
from inr_factory.storage.locations import Location

MAX_RUN_BYTES = 2**28


@dataclass(frozen=True)
class TrainedRun:
    """A run on disk: what `train` returns and `open_run` opens.

    Attributes:
        folder: The run's folder.
        checkpoint: The checkpoint that is evaluated, best.pt of the folder unless another file was opened.
    """

    folder: Path
    checkpoint: Path

    @cached_property
    def _facts(self) -> Mapping[str, Any]:
        path = self.folder / RUN
        try:
            facts = parse_json_object(read_regular(path, MAX_RUN_BYTES))
            if not isinstance(facts.get("meta", {}), dict):
                raise ValueError("its meta is none")
            classes = facts.get("meta", {}).get("classes", [])
            if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
                raise ValueError("its classes are no names")
        except FileNotFoundError:
            return {}
        except (ValueError, OSError) as error:
            blame_machine(error, path)
            raise IntegrityError(
                f"{path} is damaged: {one_line(error)}; the same train command writes it again"
            ) from None
        return facts

    @property
    def meta(self) -> Mapping[str, Any]:
        """What identifies the run, as run.json has it: classes, data sets, augmentation; empty where there is none."""
        return self._facts.get("meta", {})  # type: ignore[no-any-return]

    @cached_property
    def _described(self) -> tuple[Mapping[str, Any], Mapping[str, Any], Any]:
        """Meta and settings of the run as its checkpoint has them, and the number of classes that its classifier knows."""
        saved = load_checkpoint(self.checkpoint)
        meta, config = (saved[part] if isinstance(saved.get(part), Mapping) else {} for part in ("meta", "config"))
        return meta, config, saved.get("classifier", {}).get("num_classes")

    @property
    def target(self) -> str | None:
        """Name of the target that the run learned, as its checkpoint has it; None for the classes of its set."""
        target = self._described[0].get("target")
        return target["name"] if isinstance(target, Mapping) and isinstance(target.get("name"), str) else None

    @property
    def loss(self) -> Loss | None:
        """The loss of a run of numbers that was requested."""
        loss = self._described[1].get("loss")
        return loss if loss in get_args(Loss) else None

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes that the classifier predicts, as its checkpoint has them; empty where it has none."""
        meta, _, count = self._described
        names = meta.get("classes")
        return tuple(map(str, names)) if isinstance(names, list) and len(names) == count else ()

    @property
    def dataset(self) -> str:
        """Path or URL of the data set that the run was trained on. Raises UsageError where it is not recorded."""
        if not isinstance(dataset := self._facts.get("dataset"), str):
            raise UsageError(f"{self.folder} does not record the data set it was trained on; name it by --dataset")
        return dataset

    @property
    def target_dataset(self) -> str | None:
        """Path or URL of the data set whose INRs an editor had as targets; None where it is not recorded."""
        dataset = self._facts.get("target")
        return dataset if isinstance(dataset, str) else None

    @cached_property
    def history(self) -> tuple[Mapping[str, float], ...]:
        """The record of every epoch, as metrics.jsonl has them."""
        path = self.folder / METRICS
        try:
            records = [parse_json_object(line) for line in read_regular(path, MAX_RUN_BYTES).splitlines()]
            if not all(isinstance(value, int | float) for record in records for value in record.values()):
                raise ValueError("a record has values that are no numbers")
        except FileNotFoundError:
            return ()
        except (ValueError, OSError) as error:
            blame_machine(error, path)
            raise IntegrityError(
                f"{path} is damaged: {one_line(error)}; the same train command writes it again"
            ) from None
        return tuple(records)

    @property
    def best(self) -> Mapping[str, float]:
        """The record of the best epoch, that of best.pt."""
        best = best_record([dict(record) for record in self.history])
        if best is None:
            raise UsageError(f"{self.folder} has no {METRICS}; train again to restore it from last.pt")
        return best

    def model(self, device: str = "auto") -> Classifier | Predictor:
        """The classifier or predictor in evaluation mode, on the device."""
        return load_reader(self.checkpoint).to(choose_device(device))

    def evaluate(
        self,
        dataset: str | Location | INRDataset | None = None,
        split: str = "test",
        views: int = 1,
        device: str = "auto",
    ) -> EvaluationReport | ValueReport:
        """Evaluate the classifier or predictor on labelled INRs, see the function `evaluate`."""
        return evaluate(self, dataset, split, views, device)

    def predict(
        self,
        dataset: str | Location | INRDataset,
        split: str = "test",
        views: int | None = None,
        device: str = "auto",
    ) -> PredictionReport | ValuePredictionReport:
        """Predict the class of each INR of a data set, or its values of the run's target.

        Args:
            dataset: Path or URL of a data set of the same INRs, or an open one, whose split and views then count.
            split: "train", "val" or "test".
            views: The first views of each object; by default all.
            device: "auto", "cpu", "cuda" or "cuda:N".

        Returns:
            Predicted labels and probabilities, or values, with the objects' names.

        Raises:
            UsageError: The INRs have another spec, or the split is empty.
        """
        model, data = self.model(device), self._open_to_predict(dataset, split, views)
        if isinstance(model, Predictor):
            predicted = predict_values(model, (inrs for inrs, _ in evaluation_loader(data, device)))
            known = data.target is not None and data.target.name == model.target["name"]
            return ValuePredictionReport(
                object_ids=tuple(data.object_ids.tolist()), views=data.views, target=model.target["name"],
                outputs=output_names(model), predicted=predicted, true=data.values if known else None, labels=not model.is_numeric,
                incomplete=data.incomplete,
            )  # fmt: skip
        recorded = self.meta.get("classes", data.classes)  # a damaged run.json is refused, though it is not needed
        classes = self.classes or tuple(recorded)
        check_count(self.checkpoint, model, classes, data)
        with torch.no_grad():
            parts = [model(inrs).softmax(1).float().cpu() for inrs, _ in evaluation_loader(data, device)]
        probabilities = torch.cat(parts)
        return PredictionReport(
            object_ids=tuple(data.object_ids.tolist()),
            views=data.views,
            true_classes=class_names(data),
            labels=probabilities.argmax(1).numpy(),
            probabilities=probabilities.numpy(),
            classes=classes,
            incomplete=data.incomplete,
        )

    def certify(
        self, dataset: str | Location | INRDataset | None = None, split: str = "test", device: str = "auto"
    ) -> CertificateReport:
        """Certify what the classifier is invariant to, see the function `certify`."""
        return certify(self, dataset, split, device)

    def _open_to_predict(self, dataset: str | Location | INRDataset, split: str, views: int | None) -> INRDataset:
        """The data set with the run's target, where it has that."""
        if isinstance(dataset, INRDataset):
            return dataset
        try:
            return INRDataset(dataset, split, views=views, target=self.target)
        except NoTargetError:
            return INRDataset(dataset, split, views=views)

    def numbers_like(self, other: "TrainedRun", num_classes: int) -> list[int]:
        """The number that each class of another run has in this one; UsageError where they know other classes."""
        if differing := sorted({*self.classes} ^ {*other.classes}):
            raise UsageError(
                f"{self.folder} and {other.folder} were trained on other classes: one lacks {differing[0]!r}; "
                "only runs of the same classes are averaged"
            )
        return [self.classes.index(name) for name in other.classes] or list(range(num_classes))

    def _numbers_of(self, data: INRDataset) -> list[int]:
        """The run's number of each class of a data set, found by its name; UsageError for INRs of a class without one.

        Names that are but numbers, as those of imports, say nothing: such classes count by their places.
        """
        known, names = self.classes, tuple(data.classes)
        if not known or (len(known) == len(names) and tuple(map(str, range(len(names)))) in (known, names)):
            return list(range(len(names)))
        for label in np.unique(data.labels).tolist():
            name = names[label] if 0 <= label < len(names) else ""
            if name not in known:
                raise UsageError(
                    f"{data.manifest.name} has INRs of class {name!r}, which {self.checkpoint} does not know; "
                    f"{did_you_mean(name, known)}; inr-factory predict takes INRs of any class"
                )
        return [known.index(name) if name in known else 0 for name in names]


def open_run(run: str | Path) -> TrainedRun:
    """Open the folder of a trained classifier, or one of its checkpoints.

    Args:
        run: Folder of a run, whose best.pt is taken, or a checkpoint.

    Returns:
        The run; its classifier is loaded by `model`, `evaluate` and `predict`.

    Raises:
        UsageError: There is no checkpoint.
    """
    if not isinstance(run, str | os.PathLike):
        raise UsageError(f"a run is the path of its folder or of a checkpoint, got {shorten(run)}")
    checkpoint = checkpoint_of(Path(run))
    return TrainedRun(checkpoint.parent, checkpoint)


Runs = str | Path | TrainedRun | Sequence[str | Path | TrainedRun]


def evaluate(
    run: Runs,
    dataset: str | Location | INRDataset | None = None,
    split: str = "test",
    views: int = 1,
    device: str = "auto",
) -> EvaluationReport | ValueReport:
    """Evaluate a trained classifier, or several as one, on labelled INRs: what the command `evaluate` does.

    Args:
        run: Folder of a run, a checkpoint, or what `train` returned. Of several, of the same classes and of any
            encoders, the probabilities are averaged.
        dataset: Path or URL of a data set of the same INRs, or an open one, whose split and views then count; by
            default the one that was trained on. Its classes are found by their names, whatever their order.
        split: "train", "val" or "test".
        views: The first views of each object. With more than one, the report also has `object_accuracy`.
        device: "auto", "cpu", "cuda" or "cuda:N".

    Returns:
        Accuracy, loss, confusion and calibration; of a target that is no class R², errors and Kendall's tau, or average
        precision.

    Raises:
        UsageError: There is no checkpoint, the INRs have another spec or are of classes that the run does not know,
            the split is empty, or several runs were trained on other classes or data sets.
    """
    members: Sequence[object] = run if isinstance(run, Sequence) and not isinstance(run, str) else [run]
    runs = [one if isinstance(one, TrainedRun) else open_run(one) for one in members]  # type: ignore[arg-type]
    if not runs:
        raise UsageError("evaluate needs a run, got none")
    first = runs[0]
    if dataset is None:
        dataset = first.dataset
        if others := {run.dataset for run in runs[1:]} - {dataset}:
            raise UsageError(f"these runs were trained on {dataset} and {min(others)}; name one by --dataset")
    if others := {run.target or "classes" for run in runs} - {first.target or "classes"}:
        raise UsageError(
            f"these runs predict {first.target or 'classes'} and {min(others)}; only runs of one target are averaged"
        )
    data = open_split(dataset, split, views, first.target)
    models = [one.model(device) for one in runs]
    classifiers = [model for model in models if isinstance(model, Classifier)]
    if len(classifiers) < len(models):
        return _evaluate_predictor(runs, models, data, device)
    for one, member in zip(runs, classifiers, strict=True):
        check_count(one.checkpoint, member, one.classes or data.classes, data)
    model = (
        classifiers[0]
        if len(runs) == 1
        else Ensemble(classifiers, [one.numbers_like(first, classifiers[0].num_classes) for one in runs])
    )
    batches = evaluation_loader(data, device)
    numbers = first._numbers_of(data)
    known = numbers == list(range(model.num_classes))
    if not known:
        shares = torch.eye(model.num_classes, device=batches.device)[numbers]
        batches = ((inrs, targets @ shares) for inrs, targets in batches)  # type: ignore[assignment]
    return evaluate_model(
        model, batches, data.objects, classes=tuple(data.classes) if known else first.classes, split=data.split,
        dataset=data.manifest.name, incomplete=data.incomplete,
    )  # fmt: skip


def certify(
    run: str | Path | TrainedRun,
    dataset: str | Location | INRDataset | None = None,
    split: str = "test",
    device: str = "auto",
) -> CertificateReport:
    """Measure which symmetries of the INRs a run is invariant to, and how far augmentations move its predictions.

    The command `evaluate --certify` does this. The certificate stays in the run's folder, as certificate.json.

    Args:
        run: Folder of a run, a checkpoint, or what `train` returned.
        dataset: As for `evaluate`; the first view of at most 1,000 INRs is measured.
        split: "train", "val" or "test".
        device: "auto", "cpu", "cuda" or "cuda:N".

    Returns:
        Residuals of the symmetries that the activation of the INRs has, and shifts by each other transform at its defaults.

    Raises:
        UsageError: As `evaluate` does.
    """
    run = run if isinstance(run, TrainedRun) else open_run(run)
    data = open_split(run.dataset if dataset is None else dataset, split, 1, run.target)
    model = run.model(device)
    flat, truth = data.gather(spread_rows(len(data)))
    if isinstance(model, Classifier):
        check_count(run.checkpoint, model, run.classes or data.classes, data)
        truth = torch.tensor(run._numbers_of(data))[truth]
    else:
        check_values(run.checkpoint, model, data)
    report = certify_model(model, INRBatch.from_flat(data.spec, flat), truth, data.manifest.name, data.split)
    write_atomically(run.folder / CERTIFICATE, json.dumps(report.to_fields(), indent=2).encode())
    return report


def _evaluate_predictor(
    runs: Sequence[TrainedRun], models: Sequence[Classifier | Predictor], data: INRDataset, device: str
) -> ValueReport:
    model = models[0]
    if len(models) > 1 or not isinstance(model, Predictor):
        raise UsageError(f"several runs are averaged where all predict classes; evaluate {runs[0].folder} alone")
    check_values(runs[0].checkpoint, model, data)
    return evaluate_predictor(
        model, evaluation_loader(data, device), data.objects, runs[0].loss, split=data.split,
        dataset=data.manifest.name, incomplete=data.incomplete,
    )  # fmt: skip


def predict(
    run: str | Path | TrainedRun,
    dataset: str | Location | INRDataset,
    split: str = "test",
    views: int | None = None,
    device: str = "auto",
) -> PredictionReport | ValuePredictionReport:
    """Predict the class of each INR of a data set, or its values of the run's target: what the command `predict` does.

    Args:
        run: Folder of a run, a checkpoint, or what `train` returned.
        dataset: See TrainedRun.predict, as for the other arguments.
        split: "train", "val" or "test".
        views: The first views of each object; by default all.
        device: "auto", "cpu", "cuda" or "cuda:N".

    Returns:
        Predicted labels and probabilities, or values, with the objects' names.

    Raises:
        UsageError: There is no checkpoint, or the data set does not suit it.
    """
    run = run if isinstance(run, TrainedRun) else open_run(run)
    return run.predict(dataset, split, views, device)
