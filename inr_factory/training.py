"""Training: fits a classifier to the batches it is handed, measures it, and keeps checkpoints that it can go on from.

Shape letters: N INRs, C classes.
"""

import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, field_validator
from torch import Generator, Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import clip_grad_norm_
from torch.optim import AdamW
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from inr_factory.errors import FactoryError, PartialError, ResourceError, UsageError
from inr_factory.inr import INRBatch
from inr_factory.manifest import sweep, write_atomically
from inr_factory.metrics import calibration, calibration_error, confusion_matrix
from inr_factory.models import Classifier
from inr_factory.models.checkpoint import load_checkpoint, save_checkpoint
from inr_factory.noise import smooth_labels
from inr_factory.perturbation import parse_perturbation
from inr_factory.reweighting import ExampleWeights, losses_of, parse_reweighting

BEST, LAST, METRICS = "best.pt", "last.pt", "metrics.jsonl"

Batches = Iterable[tuple[INRBatch, Tensor]]
"""INRs and their targets (N, C), shares that sum to 1."""


class Loader(Protocol):
    """Batches that training can go through epoch by epoch and take up again in mid-epoch.

    `len` is the number of batches of an epoch. After `load_state_dict({"epoch": e, "position": p, ...})` the next
    iteration gives batches p, p + 1, ... of epoch e; after `set_epoch(e)` all of them. What a batch holds depends
    on its epoch and position alone; `rows` are the numbers of its examples.
    """

    def __iter__(self) -> Iterator[tuple[INRBatch, Tensor]]: ...
    def __len__(self) -> int: ...
    def rows(self, epoch: int, position: int = 0) -> Iterator[NDArray[np.int64]]: ...
    def set_epoch(self, epoch: int) -> None: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class TrainConfig(BaseModel):
    """How to train: AdamW with amsgrad, a warm-up, then a constant rate or a cosine to zero, gradients clipped.

    The defaults follow the neural graphs of Kofinas et al. (2024), with a shorter warm-up than their 1,000 steps.
    Navon et al. (2023) trained DWS at learning_rate 5e-3 without warm-up or clipping. `early_stopping` ends the run
    after so many epochs without a better validation accuracy; `save_steps` saves in mid-epoch, too.

    `perturb` ("damp:sigma=0.2", "asam", "wat") takes gradients beside the weights, see perturbation.py; `reweigh` ("mr")
    lets examples whose loss stays high count less, see reweighting.py. `ema` is the decay a
    step of a running average of the weights, which is then what is validated and what best.pt keeps. `bf16` runs
    forward passes of training in bfloat16 where that is safe (torch.autocast). `compile` hands the encoder to
    torch.compile.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: int = Field(100, ge=1)
    learning_rate: float = Field(1e-3, gt=0, allow_inf_nan=False)
    weight_decay: float = Field(5e-4, ge=0, allow_inf_nan=False)
    schedule: Literal["constant", "cosine"] = "constant"
    warmup_steps: int = Field(100, ge=0)
    gradient_clip: float | None = Field(10.0, gt=0, allow_inf_nan=False)
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    perturb: str | None = None
    reweigh: str | None = None
    ema: float | None = Field(None, gt=0, lt=1)
    bf16: bool = False
    compile: bool = False
    early_stopping: int | None = Field(None, ge=1)
    seed: int = Field(0, ge=0, lt=2**63)
    device: str = "auto"
    save_steps: int | None = Field(None, ge=1)
    tensorboard: bool = True

    @field_validator("perturb")
    @classmethod
    def _known(cls, text: str | None) -> str | None:
        """As it is written with all its values; UsageError for what is not known."""
        return None if text is None else str(parse_perturbation(text))

    @field_validator("reweigh")
    @classmethod
    def _known_reweighting(cls, text: str | None) -> str | None:
        return None if text is None else str(parse_reweighting(text))

    def rate(self, step: int, num_steps: int) -> float:
        """The learning rate of one step, counted from 0, of a run of num_steps."""
        warmth = min(1.0, (step + 1) / self.warmup_steps) if self.warmup_steps else 1.0
        if self.schedule == "constant":
            return self.learning_rate * warmth
        share = min(1.0, max(0, step - self.warmup_steps) / max(1, num_steps - self.warmup_steps))
        return self.learning_rate * warmth * (1 + math.cos(math.pi * share)) / 2


class Progress(BaseModel):
    """How far a run is: `position` batches into `epoch`, `step` in all; sums of this epoch; a record an epoch."""

    model_config = ConfigDict(extra="forbid")

    epoch: int = 0
    position: int = 0
    step: int = 0
    loss_sum: float = 0.0
    rows: int = 0
    seconds: float = 0.0
    seen: list[int] = []  # classes met so far, until there are two
    history: list[dict[str, int | float]] = []

    @property
    def best(self) -> dict[str, int | float] | None:
        """The record with the highest validation accuracy; among equals the lowest loss, then the earliest."""
        return max(self.history, key=lambda record: (record["val_accuracy"], -record["val_loss"]), default=None)

    def finished(self, config: TrainConfig) -> bool:
        return self.epoch >= config.epochs or self.stalled(config)

    def stalled(self, config: TrainConfig) -> bool:
        """Whether early stopping ends the run here."""
        if config.early_stopping is None or self.best is None:
            return False
        return len(self.history) - 1 - self.history.index(self.best) >= config.early_stopping


@dataclass(frozen=True)
class TrainResult:
    """What became of a run: the record of its best epoch and of every epoch, as metrics.jsonl has them."""

    out: Path
    best: Mapping[str, float]
    history: tuple[Mapping[str, float], ...]
    stopped_early: bool


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
) -> TrainResult:
    """Train a model in place; it ends with the weights of the last epoch, best.pt has those of the best.

    Writes best.pt, last.pt, metrics.jsonl (one line an epoch; `seconds` are those of its training steps) and
    tensorboard/ into the folder `out`. Where last.pt is there already, goes on from it and ends, on the CPU, with the
    very weights of an uninterrupted run. `meta` is any JSON; a run goes on only under the same meta, so keep times
    and host names out of it. `on_epoch` is given each record. `stop` is asked after each step; where it says True,
    the run is saved there and PartialError raised. `examples` are all training examples as they are, in the order of
    their rows: what `reweigh` takes losses of after each epoch.

    Raises UsageError for batches it cannot learn from or another run's folder, FactoryError where the loss or the
    gradient is no longer finite (last.pt is then the state before), ResourceError where the device is missing.
    """
    device = _device(config.device)
    if len(loader) < 1:
        raise UsageError("there is no training batch; the split is empty, or smaller than one batch")
    if config.reweigh is not None and examples is None:
        raise UsageError(
            "reweigh takes the loss of each training example after an epoch; hand them to train, as examples"
        )
    out.mkdir(parents=True, exist_ok=True)
    sweep(out)
    run = _Run(model.to(device), loader, config, out, json.loads(json.dumps(meta)))
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(devices=[device] if device.type == "cuda" else []))
        torch.manual_seed(config.seed)
        run.resume()
        writer = None
        if config.tensorboard and not run.progress.finished(config):
            from torch.utils.tensorboard import SummaryWriter  # slow to import, and only wanted here

            writer = SummaryWriter(str(out / "tensorboard"))
            stack.callback(writer.close)
        while not run.progress.finished(config):
            run.epoch(stop)
            run.reweigh(examples)
            judged = run.judged()
            record = run.conclude(judged, evaluate(judged, validation))
            if writer is not None:
                for name in ("train_loss", "val_loss", "val_accuracy", "lr"):
                    writer.add_scalar(name, record[name], int(record["epoch"]))
                writer.flush()
            if on_epoch is not None:
                on_epoch(record)
            if stop is not None and not run.progress.finished(config) and stop():
                raise PartialError(f"stopped after epoch {run.progress.epoch}; the same command goes on from there")
    best = run.progress.best
    assert best is not None, "a run has at least one epoch"
    return TrainResult(out, best, tuple(run.progress.history), run.progress.stalled(config))


class _Run:
    """A model on its way through a loader, and what of it is saved."""

    def __init__(self, model: Classifier, loader: Loader, config: TrainConfig, out: Path, meta: dict[str, Any]) -> None:
        self.model = model
        self.loader = loader
        self.config = config
        self.out = out
        self.meta = meta
        self.progress = Progress()
        self.perturb = None if config.perturb is None else parse_perturbation(config.perturb)
        self.own = [] if self.perturb is None else self.perturb.parameters_for(model)
        groups: list[dict[str, Any]] = [{"params": list(model.parameters())}]
        if self.own:
            groups.append({"params": self.own, "weight_decay": 0.0})
        self.optimizer = AdamW(groups, lr=config.learning_rate, weight_decay=config.weight_decay, amsgrad=True)
        self.examples: ExampleWeights | None = None
        self.average = None
        if config.ema is not None:
            self.average = AveragedModel(model, multi_avg_fn=_ema(config.ema), use_buffers=True)
        if config.compile:
            model.encoder.compile()

    def judged(self) -> Classifier:
        """The model that is validated and kept after this epoch."""
        model: nn.Module = self.model if self.average is None else self.average.module
        if self.perturb is not None:
            draws = Generator().manual_seed(self.config.seed * 1_000_003 + self.progress.epoch)
            model = self.perturb.read(model, self.own, draws)
        assert isinstance(model, Classifier)
        return model

    def reweigh(self, examples: Batches | None) -> None:
        """After an epoch: examples count by their losses so far."""
        if self.config.reweigh is None:
            return
        assert examples is not None
        losses = losses_of(self.model, examples, self.model.device)
        self._weights(len(losses)).add(losses)

    def _weights(self, count: int) -> ExampleWeights:
        if self.examples is None:
            assert self.config.reweigh is not None
            self.examples = ExampleWeights(parse_reweighting(self.config.reweigh), count)
        return self.examples

    def epoch(self, stop: Callable[[], bool] | None) -> None:
        """The steps that are left of this epoch."""
        at, config, count = self.progress, self.config, len(self.loader)
        if at.position == 0:
            self.loader.set_epoch(at.epoch)
        self.model.train()
        begin = time.perf_counter()
        rows = self.loader.rows(at.epoch, at.position) if self.examples is not None else None
        for inrs, targets in self.loader:
            check_batch(inrs, targets, self.model.num_classes)
            if len(at.seen) < 2:
                at.seen = sorted({*at.seen, *targets.sum(0).nonzero().flatten().tolist()})
            loss = self._step(inrs, targets, None if rows is None else next(rows))
            at.step, at.position = at.step + 1, at.position + 1
            at.loss_sum, at.rows = at.loss_sum + loss * len(inrs), at.rows + len(inrs)
            if at.position < count:
                stopped = stop is not None and stop()
                if stopped or (config.save_steps is not None and at.step % config.save_steps == 0):
                    now = time.perf_counter()
                    at.seconds, begin = at.seconds + now - begin, now
                    self.save_last()
                if stopped:
                    raise PartialError(
                        f"stopped in epoch {at.epoch}, step {at.step}; the same command goes on from there"
                    )
        at.seconds += time.perf_counter() - begin
        assert at.position == count, f"the loader said {count} batches an epoch and gave {at.position}"
        if len(at.seen) < 2:
            raise UsageError(f"every training target is of class {at.seen[0]}; a classifier needs at least two classes")

    def _step(self, inrs: INRBatch, targets: Tensor, rows: NDArray[np.int64] | None) -> float:
        """One update; the loss before it. `rows` are those of the batch, where examples are weighed."""
        at, config, device = self.progress, self.config, self.model.device
        rate = config.rate(at.step, config.epochs * len(self.loader))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad()
        targets = smooth_labels(targets, config.label_smoothing)
        if self.examples is not None and rows is not None:
            targets = self.examples.weigh(targets, rows)
        inrs, targets = inrs.to(device, non_blocking=True), targets.to(device, non_blocking=True)
        if self.perturb is None:
            loss = self._loss(inrs, targets)
            loss.backward()  # type: ignore[no-untyped-call]
        else:
            loss = self.perturb.backward(self.model, self._loss, inrs, targets, self.own)
        norm = clip_grad_norm_([*self.model.parameters(), *self.own], config.gradient_clip or math.inf)
        value, steepness = float(loss.detach()), float(norm)
        if not (math.isfinite(value) and math.isfinite(steepness)):
            self._diverged(f"loss {value:g}, gradient norm {steepness:g}")
        self.optimizer.step()
        if self.average is not None:
            self.average.update_parameters(self.model)  # type: ignore[no-untyped-call]
        return value

    def _loss(self, inrs: INRBatch, targets: Tensor) -> Tensor:
        with torch.autocast(self.model.device.type, torch.bfloat16, enabled=self.config.bf16):
            logits = self.model(inrs)
        return F.cross_entropy(logits.float(), targets)

    def _diverged(self, figures: str) -> NoReturn:
        at = self.progress
        kept = f"{LAST} keeps an earlier state" if (self.out / LAST).exists() else "nothing was saved yet"
        raise FactoryError(
            f"training diverged in epoch {at.epoch}, step {at.step}: {figures}; {kept}; train again into another "
            f"folder with a learning_rate below {self.config.learning_rate:g}"
        )

    def conclude(self, judged: Classifier, figures: Mapping[str, Any]) -> dict[str, int | float]:
        """Close an epoch with a model's figures on the validation split: record it, save, and give the record."""
        at = self.progress
        if not math.isfinite(figures["loss"]):
            self._diverged(f"validation loss {figures['loss']:g}")
        record: dict[str, int | float] = {
            "epoch": at.epoch,
            "step": at.step,
            "train_loss": at.loss_sum / at.rows,
            "val_accuracy": figures["accuracy"],
            "val_loss": figures["loss"],
            "lr": self.optimizer.param_groups[0]["lr"],
            "seconds": round(at.seconds, 3),
        }
        at.history.append(record)
        at.epoch, at.position, at.loss_sum, at.rows, at.seconds = at.epoch + 1, 0, 0.0, 0, 0.0
        if at.best is record:
            save_checkpoint(self.out / BEST, judged, self.sections)
        self.save_last()
        self.write_metrics()
        return record

    @property
    def sections(self) -> dict[str, Any]:
        """What every checkpoint says of the run."""
        config = self.config.model_dump(mode="json")
        return {"config": config, "meta": self.meta, "progress": self.progress.model_dump()}

    def save_last(self) -> None:
        """Save all that a resume needs. best.pt is written first: what last.pt knows as done is done."""
        at, device = self.progress, self.model.device
        cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
        state = {
            "optimizer": self.optimizer.state_dict(),
            # A loader that reads ahead is further than training is: what counts is the batches learned from.
            "loader": {**self.loader.state_dict(), "epoch": at.epoch, "position": at.position},
            "generators": {"cpu": torch.get_rng_state(), "cuda": cuda},
            "own": [parameter.detach() for parameter in self.own],
            "example_losses": None if self.examples is None else self.examples.losses_M,
            "average": None if self.average is None else self.average.state_dict(),
        }
        save_checkpoint(self.out / LAST, self.model, self.sections | state)

    def write_metrics(self) -> None:
        lines = "".join(json.dumps(record) + "\n" for record in self.progress.history)
        write_atomically(self.out / METRICS, lines.encode())

    def resume(self) -> None:
        """Go on from last.pt where there is one. Raises UsageError where it is of another run."""
        path = self.out / LAST
        if not path.exists():
            return
        saved = load_checkpoint(path)
        self._check_same_run(saved)
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        if self.average is not None:
            self.average.load_state_dict(saved["average"])
        with torch.no_grad():
            for parameter, value in zip(self.own, saved.get("own", []), strict=True):
                parameter.copy_(value)
        if (losses := saved.get("example_losses")) is not None:
            self._weights(len(losses)).load(losses)
        self.progress = Progress.model_validate(saved["progress"])
        self.loader.load_state_dict(saved["loader"])
        torch.set_rng_state(saved["generators"]["cpu"])
        if self.model.device.type == "cuda" and saved["generators"]["cuda"] is not None:
            torch.cuda.set_rng_state(saved["generators"]["cuda"], self.model.device)
        self.write_metrics()

    def _check_same_run(self, saved: Mapping[str, Any]) -> None:
        """Refuse settings that would make it another run; how long and where it runs may change."""
        free = {"device", "save_steps", "tensorboard", "early_stopping", "compile"}
        if self.config.schedule == "constant":
            free.add("epochs")
        mine = {"classifier": self.model.describe(), **self.sections}
        for section in ("classifier", "meta", "config"):
            theirs = saved[section]
            if section == "config":  # of an older version, it lacks what was not there yet
                theirs = TrainConfig.model_validate(theirs).model_dump(mode="json")
            here, there = _flat(mine[section]), _flat(theirs)
            for name in sorted(here.keys() | there.keys()):
                if here.get(name) != there.get(name) and not (section == "config" and name in free):
                    raise UsageError(
                        f"{self.out} holds a run with another {name} ({there.get(name)} there, {here.get(name)} here); "
                        "train into another folder, or go on with the same settings"
                    )


def _ema(decay: float) -> Callable[..., None]:
    """How AveragedModel goes on: average = decay average + (1 - decay) weights."""
    update: Callable[..., None] = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
    return update


def _flat(fields: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as dotted names."""
    flat: dict[str, Any] = {}
    for name, value in fields.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat


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
    finite = torch.stack([tensor.isfinite().flatten(1).all(1) for tensor in (*inrs.weights, *inrs.biases)]).all(0)
    if not bool(finite.all()):
        raise UsageError(
            f"{int((~finite).sum())} of {len(inrs)} INRs of a batch have NaN or infinite weights; "
            "run `inr-factory verify` on the data set, and look at the transforms"
        )


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"device must be auto, cpu, cuda or cuda:N, got {name!r}") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ResourceError(f"device {name} is asked for, but torch sees no GPU; use device=cpu or auto")
    return device
