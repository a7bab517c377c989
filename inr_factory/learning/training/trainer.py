"""Runs: a model on its way through the batches of a loader: its steps, what of it is saved, and going on from there.

Shape letters: N INRs, C classes.
"""

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, NoReturn, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import clip_grad_norm_
from torch.optim import AdamW
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from inr_factory.errors import FactoryError, PartialError, UsageError, needs_extra, skip_without_extra
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.device import choose_device
from inr_factory.learning.models.checkpoint import load_checkpoint, save_checkpoint
from inr_factory.learning.models.normalized_encoder import NormalizedEncoder
from inr_factory.learning.training.distributed import Ranks
from inr_factory.storage.atomic_files import remove_stale_temporaries, write_atomically
from inr_factory.storage.nested_mappings import flatten

BEST, LAST, METRICS = "best.pt", "last.pt", "metrics.jsonl"

OnStep = Callable[[int, int, int, float], None]
"""Called after each step with the epoch, the steps of it that are made, their number, and the loss."""


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


class RunConfig(BaseModel):
    """How to go through the batches: AdamW with amsgrad, a warm-up, then a constant rate or a cosine to zero, gradients
    clipped.

    `early_stopping` ends the run after so many epochs without a better validation accuracy; `save_steps` saves in
    mid-epoch, too. `ema` is the decay a step of a running average of the weights, which is then what is validated and
    what best.pt keeps. `bf16` runs forward passes of training in bfloat16 where that is safe (torch.autocast).
    `compile` hands the encoder to torch.compile.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: int = Field(100, ge=1)
    learning_rate: float = Field(1e-3, gt=0, allow_inf_nan=False)
    weight_decay: float = Field(5e-4, ge=0, allow_inf_nan=False)
    schedule: Literal["constant", "cosine"] = "constant"
    warmup_steps: int = Field(100, ge=0)
    gradient_clip: float | None = Field(10.0, gt=0, allow_inf_nan=False)
    ema: float | None = Field(None, gt=0, lt=1)
    bf16: bool = False
    compile: bool = False
    early_stopping: int | None = Field(None, ge=1)
    seed: int = Field(0, ge=0, lt=2**63)
    device: str = "auto"
    save_steps: int | None = Field(None, ge=1)
    tensorboard: bool = True

    def rate(self, step: int, num_steps: int) -> float:
        """The learning rate of one step, counted from 0, of a run of num_steps."""
        warmup = min(1.0, (step + 1) / self.warmup_steps) if self.warmup_steps else 1.0
        if self.schedule == "constant":
            return self.learning_rate * warmup
        share = min(1.0, max(0, step - self.warmup_steps) / max(1, num_steps - self.warmup_steps))
        return self.learning_rate * warmup * (1 + math.cos(math.pi * share)) / 2


class TrainProgress(BaseModel):
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
        validated = [record for record in self.history if "val_accuracy" in record]
        return max(validated, key=lambda record: (record["val_accuracy"], -record.get("val_loss", 0.0)), default=None)

    def finished(self, config: RunConfig) -> bool:
        return self.epoch >= config.epochs or self.stalled(config)

    def stalled(self, config: RunConfig) -> bool:
        """Whether early stopping ends the run here."""
        if config.early_stopping is None or self.best is None:
            return False
        return len(self.history) - 1 - self.history.index(self.best) >= config.early_stopping


@dataclass(frozen=True)
class TrainReport:
    """What became of a run: the record of its best epoch and of every epoch, as metrics.jsonl has them."""

    out: Path
    best: Mapping[str, float]
    history: tuple[Mapping[str, float], ...]
    stopped_early: bool


ModelT = TypeVar("ModelT", bound=NormalizedEncoder)
ConfigT = TypeVar("ConfigT", bound=RunConfig)


class Trainer(Generic[ModelT, ConfigT]):
    """A model on its way through a loader, and what of it is saved. A kind of run says what a batch must be (`check`),
    what is to fall (`loss`), and what an epoch is worth (`validate`)."""

    def __init__(
        self,
        model: ModelT,
        loader: Loader,
        config: ConfigT,
        out: Path,
        meta: Mapping[str, Any],
        extra_parameters: Sequence[nn.Parameter] = (),
        ranks: Ranks | None = None,
    ) -> None:
        """`extra_parameters` are learned besides the model's. The loader gives the batches of this one of `ranks`."""
        self.ranks = Ranks() if ranks is None else ranks
        self.model = model.to(choose_device(config.device))
        self.loader = loader
        self.config = config
        self.out = out
        self.meta = json.loads(json.dumps(meta))
        self.progress = TrainProgress()
        self.extra_parameters = list(extra_parameters)
        groups: list[dict[str, Any]] = [{"params": list(model.parameters())}]
        if self.extra_parameters:
            groups.append({"params": self.extra_parameters, "weight_decay": 0.0})
        self.optimizer = AdamW(groups, lr=config.learning_rate, weight_decay=config.weight_decay, amsgrad=True)
        self.rows: NDArray[np.int64] | None = None  # those of the batch at hand, where a run asks for them
        self.average = None
        if config.ema is not None:
            self.average = AveragedModel(model, multi_avg_fn=_ema(config.ema), use_buffers=True)
        if config.compile:
            model.encoder.compile()

    def check(self, inrs: INRBatch, targets: Tensor) -> None:
        """Raise UsageError for a batch that cannot be learned from; called once for each, in their order."""
        raise NotImplementedError

    def loss(self, inrs: INRBatch, targets: Tensor) -> Tensor:
        """What the step is to make smaller, a scalar, of a batch on the model's device."""
        raise NotImplementedError

    def validate(self) -> dict[str, float]:
        """Figures of `eval_model` after an epoch, for its record. By the highest `val_accuracy` best.pt is chosen; an epoch
        may go without, the last may not."""
        raise NotImplementedError

    def backward(self, inrs: INRBatch, targets: Tensor) -> Tensor:
        """Put gradients into the model; the loss."""
        loss = self.loss(inrs, targets)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    def on_epoch_end(self) -> None:
        """Called between an epoch and its validation. Raise UsageError where it has shown that there is nothing to learn."""

    @property
    def needs_rows(self) -> bool:
        return False

    def state(self) -> dict[str, Any]:
        """What last.pt has to keep besides the model, the optimizer and `extra_parameters`."""
        return {}

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Take up what `state` kept."""

    @property
    def eval_model(self) -> ModelT:
        """The model that is validated and kept."""
        return self.model if self.average is None else self.average.module  # type: ignore[return-value]

    def fit(
        self,
        on_epoch: Callable[[Mapping[str, float]], None] | None,
        stop: Callable[[], bool] | None,
        on_step: OnStep | None = None,
    ) -> TrainReport:
        """All that is left of the run: epochs, records, checkpoints, TensorBoard; goes on from last.pt where there is
        one. Global generators are as before afterwards."""
        config, out, device = self.config, self.out, self.model.device
        if len(self.loader) < 1:
            raise UsageError("there is no training batch; the split is empty, or smaller than one batch")
        out.mkdir(parents=True, exist_ok=True)
        if self.ranks.first:
            remove_stale_temporaries(out)
        with ExitStack() as stack:
            stack.enter_context(torch.random.fork_rng(devices=[device] if device.type == "cuda" else []))
            torch.manual_seed(config.seed + self.ranks.rank)  # ranks drop out different neurons
            self.resume()
            writer = None
            if config.tensorboard and self.ranks.first and not self.progress.finished(config):
                with skip_without_extra("TensorBoard log"):
                    with needs_extra("report"):
                        from torch.utils.tensorboard import SummaryWriter  # slow to import
                    writer = SummaryWriter(str(out / "tensorboard"))
                    stack.callback(writer.close)
            while not self.progress.finished(config):
                self.train_epoch(stop, on_step if self.ranks.first else None)
                record = self.end_epoch()
                if writer is not None:
                    for name in ("train_loss", "val_loss", "val_accuracy", "lr"):
                        if name in record:
                            writer.add_scalar(name, record[name], int(record["epoch"]))
                    writer.flush()
                if on_epoch is not None and self.ranks.first:
                    on_epoch(record)
                if not self.progress.finished(config) and self._asked_to_stop(stop):
                    raise PartialError(
                        f"stopped after epoch {self.progress.epoch}; the same command goes on from there"
                    )
        best = self.progress.best
        assert best is not None, "a run has at least one epoch"
        return TrainReport(out, best, tuple(self.progress.history), self.progress.stalled(config))

    def train_epoch(self, stop: Callable[[], bool] | None, on_step: OnStep | None = None) -> None:
        """The steps that are left of this epoch."""
        at, config, count = self.progress, self.config, len(self.loader)
        if at.position == 0:
            self.loader.set_epoch(at.epoch)
        self.model.train()
        begin = time.perf_counter()
        rows = self.loader.rows(at.epoch, at.position) if self.needs_rows else None
        for inrs, targets in self.loader:
            self.check(inrs, targets)
            self.rows = None if rows is None else next(rows)
            loss = self._step(inrs, targets)
            at.step, at.position = at.step + 1, at.position + 1
            at.loss_sum, at.rows = at.loss_sum + loss * len(inrs), at.rows + len(inrs)
            if on_step is not None:
                on_step(at.epoch, at.position, count, loss)
            if at.position < count:
                stopped = self._asked_to_stop(stop)
                if stopped or (config.save_steps is not None and at.step % config.save_steps == 0):
                    now = time.perf_counter()
                    at.seconds, begin = at.seconds + now - begin, now
                    self._share_statistics()
                    self.save_last()
                if stopped:
                    raise PartialError(
                        f"stopped in epoch {at.epoch}, step {at.step}; the same command goes on from there"
                    )
        at.seconds += time.perf_counter() - begin
        assert at.position == count, f"the loader said {count} batches an epoch and gave {at.position}"
        self.on_epoch_end()

    def _asked_to_stop(self, stop: Callable[[], bool] | None) -> bool:
        return stop is not None and self.ranks.broadcast(stop())

    def _step(self, inrs: INRBatch, targets: Tensor) -> float:
        """One update; the loss before it."""
        at, config, device = self.progress, self.config, self.model.device
        rate = config.rate(at.step, config.epochs * len(self.loader))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad()
        loss = self.backward(inrs.to(device, non_blocking=True), targets.to(device, non_blocking=True))
        loss = self.ranks.average_gradients([*self.model.parameters(), *self.extra_parameters], loss)
        norm = clip_grad_norm_([*self.model.parameters(), *self.extra_parameters], config.gradient_clip or math.inf)
        value, grad_norm = float(loss.detach()), float(norm)
        if not (math.isfinite(value) and math.isfinite(grad_norm)):
            self._diverged(f"loss {value:g}, gradient norm {grad_norm:g}")
        self.optimizer.step()
        if self.average is not None:
            self.average.update_parameters(self.model)  # type: ignore[no-untyped-call]
        return value

    def _share_statistics(self) -> None:
        """Bring the running statistics of batch norms, which each rank takes of its own batches, to their mean. A
        running mean is linear, so it makes no difference how often."""
        models: list[nn.Module] = [self.model] if self.average is None else [self.model, self.average]
        for model in models:
            norms = [part for part in model.modules() if isinstance(part, _BatchNorm)]
            self.ranks.average([s for norm in norms for s in (norm.running_mean, norm.running_var) if s is not None])

    def _diverged(self, figures: str) -> NoReturn:
        at = self.progress
        kept = f"{LAST} keeps an earlier state" if (self.out / LAST).exists() else "nothing was saved yet"
        raise FactoryError(
            f"training diverged in epoch {at.epoch}, step {at.step}: {figures}; {kept}; train again into another "
            f"folder with a learning_rate below {self.config.learning_rate:g}"
        )

    def end_epoch(self) -> dict[str, int | float]:
        """Close an epoch with its figures on the validation split: record it, save, and give the record."""
        self._share_statistics()
        at, eval_model = self.progress, self.eval_model
        figures = self.ranks.broadcast(self.validate())
        if not math.isfinite(figures.get("val_loss", 0.0)):
            self._diverged(f"validation loss {figures['val_loss']:g}")
        record: dict[str, int | float] = {
            "epoch": at.epoch,
            "step": at.step,
            "train_loss": at.loss_sum / at.rows,
            **figures,
            "lr": self.optimizer.param_groups[0]["lr"],
            "seconds": round(at.seconds, 3),
        }
        at.history.append(record)
        at.epoch, at.position, at.loss_sum, at.rows, at.seconds = at.epoch + 1, 0, 0.0, 0, 0.0
        if at.best is record and self.ranks.first:
            save_checkpoint(self.out / BEST, eval_model, self.sections)
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
            "generators": self.ranks.gather(
                {"cpu": torch.get_rng_state(), "cuda": None if cuda is None else cuda.cpu()}
            ),
            "own": [parameter.detach() for parameter in self.extra_parameters],
            **self.state(),
            "average": None if self.average is None else self.average.state_dict(),
        }
        if self.ranks.first:
            save_checkpoint(self.out / LAST, self.model, self.sections | state)

    def write_metrics(self) -> None:
        if not self.ranks.first:
            return
        lines = "".join(json.dumps(record) + "\n" for record in self.progress.history)
        write_atomically(self.out / METRICS, lines.encode())

    def resume(self) -> None:
        """Go on from last.pt where there is one. Raises UsageError where it is of another run."""
        path = self.out / LAST
        if not path.exists():
            return
        saved = load_checkpoint(path)
        self._check_same_run(saved)
        if len(saved["generators"]) != self.ranks.size:
            raise UsageError(
                f"{self.out} holds a run of {len(saved['generators'])} ranks, this one has {self.ranks.size}; go on with "
                "as many, or train into another folder"
            )
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        if self.average is not None:
            self.average.load_state_dict(saved["average"])
        with torch.no_grad():
            for parameter, value in zip(self.extra_parameters, saved.get("own", []), strict=True):
                parameter.copy_(value)
        self.restore(saved)
        self.progress = TrainProgress.model_validate(saved["progress"])
        self.loader.load_state_dict(saved["loader"])
        generators = saved["generators"][self.ranks.rank]
        torch.set_rng_state(generators["cpu"])
        if self.model.device.type == "cuda" and generators["cuda"] is not None:
            torch.cuda.set_rng_state(generators["cuda"], self.model.device)
        self.write_metrics()

    def _check_same_run(self, saved: Mapping[str, Any]) -> None:
        """Refuse settings that would make it another run; how long and where it runs may change."""
        free = {"device", "save_steps", "tensorboard", "early_stopping", "compile"}
        if self.config.schedule == "constant":
            free.add("epochs")
        kind = self.model.kind
        if kind not in saved:
            raise UsageError(f"{self.out} holds a run of another kind than {kind}; give this one another folder")
        mine = {kind: self.model.describe(), **self.sections}
        for section in (kind, "meta", "config"):
            theirs = saved[section]
            if section == "config":  # of an older version, it lacks what was not there yet
                theirs = type(self.config).model_validate(theirs).model_dump(mode="json")
            here, there = flatten(mine[section]), flatten(theirs)
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


def check_finite(inrs: INRBatch) -> None:
    """Raise UsageError unless all weights are finite."""
    finite = torch.stack([tensor.isfinite().flatten(1).all(1) for tensor in (*inrs.weights, *inrs.biases)]).all(0)
    if not bool(finite.all()):
        raise UsageError(
            f"{int((~finite).sum())} of {len(inrs)} INRs of a batch have NaN or infinite weights; "
            "run `inr-factory verify` on the data set, and look at the transforms"
        )
