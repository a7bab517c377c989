"""Value prediction: trains a predictor of numbers or labels on the batches that it is given, and evaluates it.

Shape letters: N INRs, K outputs.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from inr_factory.errors import UsageError
from inr_factory.inr.batch import INRBatch
from inr_factory.learning.models.normalizer import check_finite
from inr_factory.learning.models.predictor import Predictor
from inr_factory.learning.training.metrics import mean_per_object
from inr_factory.learning.training.run_config import Loss
from inr_factory.learning.training.supervised import Batches, SupervisedTrainer
from inr_factory.learning.training.value_metrics import ValueReport, label_figures, number_figures


class PredictorTrainer(SupervisedTrainer[Predictor]):
    """Trains a predictor in place, see SupervisedTrainer: numbers by the squared error or Huber's loss, in units of the
    training split's standard deviation; labels by the binary cross-entropy of each."""

    def check(self, inrs: INRBatch, targets: Tensor) -> None:
        check_values(inrs, targets, self.model)

    def criterion(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return value_loss(self.model, outputs, targets, self.config.loss)

    def metrics(self, model: Predictor) -> dict[str, float]:
        report = evaluate_predictor(model, self.validation, loss=self.config.loss)
        figures = {"val_r2": report.r2, "val_mae": report.mae, "val_map": report.mean_average_precision}
        return {"val_loss": report.loss, **{name: value for name, value in figures.items() if value is not None}}


def value_loss(model: Predictor, outputs: Tensor, targets: Tensor, loss: Loss | None = None) -> Tensor:
    """The mean loss of outputs (N, K) of a predictor's head, before they get the target's unit."""
    if not model.is_numeric:
        return F.binary_cross_entropy_with_logits(outputs, targets)
    standardized = model.standardized(targets)
    return F.huber_loss(outputs, standardized) if loss == "huber" else F.mse_loss(outputs, standardized)


@torch.no_grad()
def predict_values(model: Predictor, batches: Iterable[INRBatch]) -> NDArray[np.float32]:
    """Predicted values (N, K), in evaluation mode: numbers in their unit, or probabilities of labels.

    Raises UsageError where there is no batch, and for weights that are not finite.
    """
    training, parts = model.training, []
    model.eval()
    try:
        for inrs in batches:
            check_finite(inrs)
            values = model(inrs.to(model.device)).float()
            parts.append((values if model.is_numeric else values.sigmoid()).cpu())
    finally:
        model.train(training)
    if not parts:
        raise UsageError("there is nothing to predict; the split is empty")
    return torch.cat(parts).numpy()


def evaluate_predictor(
    model: Predictor,
    batches: Batches,
    objects_N: NDArray[np.int64] | None = None,
    loss: Loss | None = None,
    **context: Any,
) -> ValueReport:
    """Evaluate a predictor over all batches, in evaluation mode.

    Args:
        model: Stays as it is, also its training mode.
        batches: INRs and values (N, K).
        objects_N: Number of each INR's object, in the order of the batches.
        loss: The loss that is reported.
        context: `split`, `dataset` and `incomplete` of the report.

    Returns:
        The metrics, see ValueReport.

    Raises:
        UsageError: There is no batch, a weight is not finite, or the values leave nothing to measure.
    """
    truths: list[Tensor] = []

    def checked() -> Iterator[INRBatch]:
        for inrs, targets in batches:
            check_values(inrs, targets, model)
            truths.append(targets.float().cpu())
            yield inrs

    predicted = predict_values(model, checked())
    true = torch.cat(truths).numpy()
    figures = number_figures if model.is_numeric else label_figures
    if objects_N is not None:
        means, first = mean_per_object(torch.from_numpy(predicted), objects_N)
        context["objects"] = len(first)
        if len(first) < len(true):
            of_objects = figures(means.numpy(), true[first])
            context["object_score"] = of_objects["r2" if model.is_numeric else "mean_average_precision"]
    outputs, targets = torch.from_numpy(predicted).to(model.device), torch.from_numpy(true).to(model.device)
    outputs = model.standardized(outputs) if model.is_numeric else outputs.logit(1e-7)
    target = model.target
    return ValueReport(
        target=target["name"],
        outputs=output_names(model),
        unit=target["unit"],
        count=len(true),
        loss=float(value_loss(model, outputs, targets, loss)),
        **figures(predicted, true),
        **context,
    )


def output_names(model: Predictor) -> tuple[str, ...]:
    """K names: of labels or components, else the target's with a number."""
    name, names = model.target["name"], tuple(model.target["names"])
    if len(names) == model.num_outputs:
        return names
    return (name,) if model.num_outputs == 1 else tuple(f"{name}.{number}" for number in range(model.num_outputs))


def check_values(inrs: INRBatch, targets: Tensor, model: Predictor) -> None:
    """Raise UsageError unless weights and values (N, K) are finite."""
    if targets.shape != (len(inrs), model.num_outputs) or not bool(targets.isfinite().all()):
        raise UsageError(
            f"{model.target['name']} of {len(inrs)} INRs must be {(len(inrs), model.num_outputs)} finite numbers, got "
            f"{tuple(targets.shape)} {targets.dtype}"
        )
    check_finite(inrs)
