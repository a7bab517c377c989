"""Training: fits a classifier to the batches it is handed, and measures it.

Shape letters: N INRs, C classes.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import Field, field_validator
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from inr_factory.errors import UsageError
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.device import choose_device
from inr_factory.learning.models.classifier import Classifier
from inr_factory.learning.targets import smooth_labels
from inr_factory.learning.training.distributed import Ranks
from inr_factory.learning.training.example_reweighting import ExampleWeights, losses_of, parse_reweighting
from inr_factory.learning.training.metrics import calibration, calibration_error, confusion_matrix
from inr_factory.learning.training.trainer import (
    Loader,
    OnStep,
    RunConfig,
    Trainer,
    TrainReport,
    check_finite,
)
from inr_factory.learning.training.weight_perturbation import parse_perturbation

Batches = Iterable[tuple[INRBatch, Tensor]]
"""INRs and their targets (N, C), shares that sum to 1."""


class TrainConfig(RunConfig):
    """How to train a classifier: see RunConfig, whose defaults follow the neural graphs of Kofinas et al. (2024), with a
    shorter warm-up than their 1,000 steps. Navon et al. (2023) trained DWS at learning_rate 5e-3 without warm-up or
    clipping. `perturb` ("damp:sigma=0.2", "asam", "wat") takes gradients beside the weights, see perturbation.py;
    `reweigh` ("mr") lets examples whose loss stays high count less, see reweighting.py.
    """

    label_smoothing: float = Field(0.0, ge=0, lt=1)
    perturb: str | None = None
    reweigh: str | None = None

    @field_validator("perturb")
    @classmethod
    def _known(cls, text: str | None) -> str | None:
        """As it is written with all its values; UsageError for what is not known."""
        return None if text is None else str(parse_perturbation(text))

    @field_validator("reweigh")
    @classmethod
    def _known_reweighting(cls, text: str | None) -> str | None:
        return None if text is None else str(parse_reweighting(text))


def train(
    model: Classifier,
    loader: Loader,
    validation: Batches,
    config: TrainConfig,
    out: Path,
    meta: Mapping[str, Any],
    on_epoch: Callable[[Mapping[str, float]], None] | None = None,
    stop: Callable[[], bool] | None = None,
    examples: Batches | None = None,
    ranks: Ranks | None = None,
    on_step: OnStep | None = None,
) -> TrainReport:
    """Train a model in place; it ends with the weights of the last epoch, best.pt has those of the best.

    Writes best.pt, last.pt, metrics.jsonl (one line an epoch; `seconds` are those of its training steps) and
    tensorboard/ into the folder `out`. Where last.pt is there already, goes on from it and ends, on the CPU, with the
    very weights of an uninterrupted run. `meta` is any JSON; a run goes on only under the same meta, so keep times
    and host names out of it. `on_epoch` is given each record, `on_step` how far it is. `stop` is asked after each step; where it says True,
    the run is saved there and PartialError raised. `examples` are all training examples as they are, in the order of
    their rows: what `reweigh` takes losses of after each epoch. `ranks` are processes that train the model together, each
    with batches of its own; the first writes.

    Raises UsageError for batches it cannot learn from or another run's folder, FactoryError where the loss or the
    gradient is no longer finite (last.pt is then the state before), ResourceError where the device is missing.
    """
    return _Training(model, loader, validation, config, out, meta, examples, ranks).fit(on_epoch, stop, on_step)


class _Training(Trainer[Classifier, TrainConfig]):
    """A classifier that learns from targets."""

    def __init__(
        self,
        model: Classifier,
        loader: Loader,
        validation: Batches,
        config: TrainConfig,
        out: Path,
        meta: Mapping[str, Any],
        examples: Batches | None,
        ranks: Ranks | None,
    ) -> None:
        if config.reweigh is not None and examples is None:
            raise UsageError("reweigh takes the loss of each training example; hand them to train, as examples")
        self.perturb = None if config.perturb is None else parse_perturbation(config.perturb)
        model = model.to(choose_device(config.device))
        extra_parameters = [] if self.perturb is None else self.perturb.parameters_for(model)
        super().__init__(model, loader, config, out, meta, extra_parameters, ranks)
        self.validation, self.examples = validation, examples
        self.weights: ExampleWeights | None = None

    def check(self, inrs: INRBatch, targets: Tensor) -> None:
        check_batch(inrs, targets, self.model.num_classes)
        at = self.progress
        if len(at.seen) < 2:
            at.seen = sorted({*at.seen, *targets.sum(0).nonzero().flatten().tolist()})

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
            self._weights_of(len(losses)).load(losses)

    @property
    def eval_model(self) -> Classifier:
        model: nn.Module = super().eval_model
        if self.perturb is not None:
            draws = Generator().manual_seed(self.config.seed * 1_000_003 + self.progress.epoch)
            model = self.perturb.read(model, self.extra_parameters, draws)
        assert isinstance(model, Classifier)
        return model

    def backward(self, inrs: INRBatch, targets: Tensor) -> Tensor:
        targets = smooth_labels(targets, self.config.label_smoothing)
        if self.weights is not None and self.rows is not None:
            targets = self.weights.weigh(targets, self.rows)
        if self.perturb is None:
            return super().backward(inrs, targets)
        return self.perturb.backward(self.model, self.loss, inrs, targets, self.extra_parameters)

    def loss(self, inrs: INRBatch, targets: Tensor) -> Tensor:
        with torch.autocast(self.model.device.type, torch.bfloat16, enabled=self.config.bf16):
            logits = self.model(inrs)
        return F.cross_entropy(logits.float(), targets)

    def validate(self) -> dict[str, float]:
        figures = evaluate(self.eval_model, self.validation)
        return {"val_accuracy": figures["accuracy"], "val_loss": figures["loss"]}


@torch.no_grad()
def evaluate(model: Classifier, loader: Batches) -> dict[str, Any]:
    """Figures of a model over all batches, in evaluation mode; plain numbers, ready for JSON.

    accuracy and loss (mean cross-entropy), count, per_class_accuracy (C numbers, None for a class without INRs),
    confusion (C rows of C counts, rows the true class, columns the predicted one), calibration (see
    `metrics.calibration`) and calibration_error. The true class of soft targets is their largest. Raises UsageError for no batch, NaN weights, or targets that are not shares of C classes.
    """
    training, device = model.training, model.device
    confusion = torch.zeros(model.num_classes, model.num_classes, dtype=torch.int64, device=device)
    loss = torch.zeros((), dtype=torch.float64, device=device)
    probabilities, labels = [], []
    model.eval()
    try:
        for inrs, targets in loader:
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
    bins = calibration(torch.cat(probabilities), torch.cat(labels))
    return {
        "accuracy": sum(correct) / count,
        "loss": float(loss) / count,
        "count": count,
        "per_class_accuracy": [c / n if n else None for c, n in zip(correct, totals, strict=True)],
        "confusion": confusion.tolist(),
        "calibration": bins,
        "calibration_error": calibration_error(bins),
    }


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
