"""Classification: trains a classifier on the batches that it is given, and evaluates it.

Shape letters: N INRs, C classes.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from inr_factory.errors import UsageError
from inr_factory.inr.batch import INRBatch
from inr_factory.learning.models.classifier import Classifier
from inr_factory.learning.models.decoder import Decoder, PictureDecoder
from inr_factory.learning.models.ensemble import Ensemble
from inr_factory.learning.models.normalizer import check_finite
from inr_factory.learning.targets import smooth_labels
from inr_factory.learning.training.distributed import Ranks
from inr_factory.learning.training.example_reweighting import ExampleWeights, losses_of, parse_reweighting
from inr_factory.learning.training.metrics import (
    EvaluationReport,
    calibration,
    calibration_error,
    confusion_matrix,
    mean_per_object,
)
from inr_factory.learning.training.run_config import Loader, TrainConfig
from inr_factory.learning.training.saved_state import check_like
from inr_factory.learning.training.supervised import Batches, SupervisedTrainer


class ClassifierTrainer(SupervisedTrainer[Classifier]):
    """Trains a classifier in place; `fit` leaves it with the weights of the last epoch, best.pt has those of the best.

    See SupervisedTrainer for the other arguments.

    Args:
        examples: All training examples unchanged, in the order of their rows; `config.reweigh` needs their losses.

    Raises:
        UsageError: `config.reweigh` is set and `examples` are missing, or as of SupervisedTrainer.
    """

    def __init__(
        self,
        model: Classifier,
        loader: Loader,
        validation: Batches,
        config: TrainConfig,
        out: Path,
        meta: Mapping[str, Any],
        examples: Batches | None = None,
        ranks: Ranks | None = None,
        decoder: Decoder | PictureDecoder | None = None,
    ) -> None:
        if config.reweigh is not None and examples is None:
            raise UsageError("reweigh needs the loss of each training example; pass them to the trainer as examples")
        super().__init__(model, loader, validation, config, out, meta, ranks, decoder)
        self.examples = examples
        self.weights: ExampleWeights | None = None

    def check(self, inrs: INRBatch, targets: Tensor) -> None:
        check_batch(inrs, targets, self.model.num_classes)
        progress = self.progress
        if len(progress.seen) < 2:
            progress.seen = sorted({*progress.seen, *targets.sum(0).nonzero().flatten().tolist()})

    def on_epoch_end(self) -> None:
        seen = self.progress.seen
        if len(seen) < 2:
            raise UsageError(f"every training target is of class {seen[0]}; a classifier needs at least two classes")
        if self.config.reweigh is not None:
            assert self.examples is not None
            losses = losses_of(self.model, self.examples, self.model.device)
            self._weights_of(len(losses)).add(self.ranks.broadcast(losses.cpu()))

    def _weights_of(self, count: int) -> ExampleWeights:
        if self.weights is None:
            assert self.config.reweigh is not None
            self.weights = ExampleWeights(parse_reweighting(self.config.reweigh), count)
        return self.weights

    @property
    def needs_rows(self) -> bool:
        return self.weights is not None

    def state(self) -> dict[str, Any]:
        return {"example_losses": None if self.weights is None else self.weights.losses_M}

    def restore(self, saved: Mapping[str, Any]) -> None:
        if (losses := saved.get("example_losses")) is not None:
            count = len(getattr(self.examples, "dataset", losses))
            check_like(losses, torch.zeros(count, dtype=torch.float64), "its losses of the examples")
            self._weights_of(len(losses)).load(losses)

    def backward(self, inrs: INRBatch, targets: Tensor) -> Tensor:
        targets = smooth_labels(targets, self.config.label_smoothing)
        if self.weights is not None and self.rows is not None:
            targets = self.weights.weigh(targets, self.rows)
        return super().backward(inrs, targets)

    def criterion(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(outputs, targets)

    def metrics(self, model: Classifier) -> dict[str, float]:
        report = evaluate_model(model, self.validation)
        return {"val_accuracy": report.accuracy, "val_loss": report.loss}


@torch.no_grad()
def evaluate_model(
    model: Classifier | Ensemble, batches: Batches, objects_N: NDArray[np.int64] | None = None, **context: Any
) -> EvaluationReport:
    """Evaluate a classifier over all batches, in evaluation mode.

    Args:
        model: Stays as it is, also its training mode.
        batches: INRs and targets (N, C); the true class of soft targets is their largest.
        objects_N: Number of each INR's object, in the order of the batches.
        context: `classes`, `split`, `dataset` and `incomplete` of the report.

    Returns:
        The metrics, see EvaluationReport.

    Raises:
        UsageError: There is no batch, a weight is NaN, or targets are not shares of C classes.
    """
    training, device = model.training, model.device
    confusion = torch.zeros(model.num_classes, model.num_classes, dtype=torch.int64, device=device)
    loss = torch.zeros((), dtype=torch.float64, device=device)
    probabilities, labels = [], []
    model.eval()
    try:
        for inrs, targets in batches:
            check_batch(inrs, targets, model.num_classes)
            targets = targets.to(device)
            logits = model(inrs.to(device))
            loss += F.cross_entropy(logits, targets, reduction="sum")
            probabilities.append(logits.softmax(1))
            labels.append(targets.argmax(1))
            confusion += confusion_matrix(logits.argmax(1), labels[-1], model.num_classes)
    finally:
        model.train(training)
    count, correct, totals = int(confusion.sum()), confusion.diagonal().tolist(), confusion.sum(1).tolist()
    if count == 0:
        raise UsageError("there is nothing to evaluate on; the split is empty")
    probabilities_NC, labels_N = torch.cat(probabilities), torch.cat(labels)
    bins = calibration(probabilities_NC, labels_N)
    if objects_N is not None:
        means, first = mean_per_object(probabilities_NC, objects_N)
        context["objects"] = len(first)
        if len(first) < count:
            context["object_accuracy"] = float((means.argmax(1) == labels_N[first]).double().mean())
    return EvaluationReport(
        accuracy=sum(correct) / count,
        loss=float(loss) / count,
        count=count,
        per_class_accuracy=[c / n if n else None for c, n in zip(correct, totals, strict=True)],
        confusion=confusion.tolist(),
        calibration=bins,
        calibration_error=calibration_error(bins),
        **context,
    )


def check_batch(inrs: INRBatch, targets: Tensor, num_classes: int) -> None:
    """Raise UsageError unless the weights are finite and targets (N, C) are shares that sum to 1 in each row."""
    if targets.shape != (len(inrs), num_classes) or not targets.is_floating_point():
        raise UsageError(
            f"targets of {len(inrs)} INRs and {num_classes} classes must be {(len(inrs), num_classes)} floats, "
            f"got {tuple(targets.shape)} {targets.dtype}; is a label outside 0..{num_classes - 1}?"
        )
    sums = targets.sum(1)
    if not bool(((sums - 1).abs() < 1e-3).all() and (targets >= 0).all()):
        raise UsageError(
            f"each row of targets must be shares of {num_classes} classes that sum to 1, got rows that sum to "
            f"{float(sums.min()):g}..{float(sums.max()):g}; is a label outside 0..{num_classes - 1}?"
        )
    check_finite(inrs)
