"""Trainer: trains a model on the batches of a loader, saves checkpoints, and resumes from them exactly."""

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Generic, NoReturn, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm  # private in torch 2.13: base of all BatchNorm modules
from torch.nn.utils import clip_grad_norm_
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from inr_factory.errors import (
    FactoryError,
    IntegrityError,
    PartialError,
    UsageError,
    blame_machine,
    brief,
    one_line,
    validation_message,
)
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.device import choose_device
from inr_factory.learning.models.checkpoint import load_checkpoint, load_state, save_checkpoint
from inr_factory.learning.models.normalized_encoder import NormalizedEncoder
from inr_factory.learning.training.distributed import Ranks
from inr_factory.learning.training.optimizers import build_optimizer
from inr_factory.learning.training.run_config import (
    BEST,
    LAST,
    METRICS,
    METRICS_TABLE,
    Loader,
    OnEpoch,
    OnStep,
    RunConfig,
    TrainProgress,
    TrainReport,
)
from inr_factory.learning.training.saved_state import (
    check_all_like,
    check_nothing_to_lose,
    check_same_data,
    checked_generators,
    checked_loader_state,
    checked_optimizer_state,
    checked_progress,
)
from inr_factory.learning.training.tracking import Tracking, metrics_csv, tensorboard_log
from inr_factory.storage.atomic_files import make_folder, remove_stale_temporaries, write_atomically
from inr_factory.storage.nested_mappings import flatten
from inr_factory.storage.torch_files import DAMAGE

ModelT = TypeVar("ModelT", bound=NormalizedEncoder)
ConfigT = TypeVar("ConfigT", bound=RunConfig)

RESUME, BEGIN_AGAIN = "run the same command again to resume", "move it away, and the run begins again"
# Settings that may change when a run resumes: how long and where it runs.
FREE_SETTINGS = {"device", "save_steps", "tensorboard", "track", "early_stopping", "compile"}


class Trainer(Generic[ModelT, ConfigT]):
    """Trains a model and saves it. A subclass defines what a batch must be (`check`), what is minimised (`loss`), and the
    metrics of an epoch (`validate`).

    A run's folder has best.pt, last.pt, metrics.jsonl (a line per epoch; `seconds` of its training steps), the same as
    metrics.csv, and tensorboard/. Where last.pt exists, `fit` resumes from it and ends, on the CPU, with exactly the
    weights of an uninterrupted run. It does so only under the same `meta`: keep times and host names out of it.
    """

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
        self.meta = json.loads(json.dumps(meta, default=int))  # of numpy's whole numbers
        self.progress = TrainProgress()
        self.extra_parameters = list(extra_parameters)
        self.optimizer = build_optimizer(config, model, self.extra_parameters)
        self.rows: NDArray[np.int64] | None = None  # those of the current batch, where `needs_rows`
        self.average = self.extra_average = None
        if config.ema is not None:
            update: Callable[..., None] = get_ema_multi_avg_fn(config.ema)  # type: ignore[no-untyped-call]
            self.average = AveragedModel(model, multi_avg_fn=update, use_buffers=True)
            extra = nn.ParameterList(self.extra_parameters)
            self.extra_average = AveragedModel(extra, multi_avg_fn=update) if self.extra_parameters else None
        if config.compile:
            model.encoder.compile()

    def check(self, inrs: INRBatch, targets: Tensor) -> None:
        """Raise UsageError for a batch that cannot be learned from; called once for each, in their order."""
        raise NotImplementedError

    def loss(self, inrs: INRBatch, targets: Tensor) -> Tensor:
        """The scalar that a step reduces, of a batch on the model's device."""
        raise NotImplementedError

    def validate(self) -> dict[str, float]:
        """Metrics of `eval_model` after an epoch, for its record. The highest of BEST_BY decides on best.pt; an epoch
        may go without, the last may not."""
        raise NotImplementedError

    def backward(self, inrs: INRBatch, targets: Tensor) -> Tensor:
        """Put gradients into the model; return the loss."""
        loss = self.loss(inrs, targets)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    def on_epoch_end(self) -> None:
        """Called between an epoch and its validation. Raises UsageError where the epoch held nothing to learn."""

    @property
    def needs_rows(self) -> bool:
        return False

    def state(self) -> dict[str, Any]:
        """What last.pt has to keep besides the model, the optimizer and `extra_parameters`."""
        return {}

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Restore what `state` kept."""

    @property
    def eval_model(self) -> ModelT:
        """The model that is validated and saved in best.pt."""
        return self.model if self.average is None else self.average.module  # type: ignore[return-value]

    @property
    def eval_extra_parameters(self) -> list[nn.Parameter]:
        """The parameters besides the model's, averaged where the model is."""
        return self.extra_parameters if self.extra_average is None else list(self.extra_average.module.parameters())

    def fit(
        self,
        on_epoch: OnEpoch | None = None,
        stop: Callable[[], bool] | None = None,
        on_step: OnStep | None = None,
        tracking: Tracking | None = None,
    ) -> TrainReport:
        """Train until the run is finished, from last.pt on where it exists. Global generators are as before afterwards.

        Args:
            on_epoch: Called with each epoch's record, on the first rank.
            stop: Called after each step; where it returns True, the run is saved and ends with PartialError.
            on_step: Called after each step, on the first rank.
            tracking: Gets the records of the run, on the first rank.

        Returns:
            The records of all epochs.

        Raises:
            UsageError: There is no batch, a batch cannot be learned from, or the folder holds another run.
            PartialError: `stop` ended the run.
            FactoryError: Loss or gradient are no longer finite; last.pt keeps the state before.
            ResourceError: The disk is full.
        """
        config, out, device = self.config, self.out, self.model.device
        if len(self.loader) < 1:
            raise UsageError("there is no training batch; the split is empty, or smaller than one batch")
        make_folder(out)
        if self.ranks.first:
            remove_stale_temporaries(out)
        with ExitStack() as stack:
            stack.enter_context(torch.random.fork_rng(devices=[device] if device.type == "cuda" else []))
            torch.manual_seed(config.seed + self.ranks.rank)  # ranks drop out different neurons
            self.resume()
            watchers: list[Callable[[dict[str, int | float]], object]] = []
            if config.tensorboard and self.ranks.first and not self.progress.finished(config):
                watchers.append(stack.enter_context(tensorboard_log(out)))
            if tracking is not None and self.ranks.first:
                tracking.send(self.progress.history)
                watchers.append(lambda _: tracking.send(self.progress.history))
            if on_epoch is not None and self.ranks.first:
                watchers.append(on_epoch)
            while not self.progress.finished(config):
                self.train_epoch(stop, on_step if self.ranks.first else None)
                record = self.end_epoch()
                for watch in watchers:
                    watch(record)
                if not self.progress.finished(config) and self._stop_requested(stop):
                    raise PartialError(f"stopped after epoch {self.progress.epoch}; {RESUME}")
        assert self.progress.best is not None, "a run has at least one epoch"
        return TrainReport(out, self.progress.best, tuple(self.progress.history), self.progress.stalled(config))

    def train_epoch(self, stop: Callable[[], bool] | None, on_step: OnStep | None = None) -> None:
        """The steps that are left of this epoch."""
        progress, config, count = self.progress, self.config, len(self.loader)
        if progress.position == 0:
            self.loader.set_epoch(progress.epoch)
        self.model.train()
        begin = time.perf_counter()
        rows = self.loader.rows(progress.epoch, progress.position) if self.needs_rows else None
        for inrs, targets in self.loader:
            self.check(inrs, targets)
            self.rows = None if rows is None else next(rows)
            loss = self._step(inrs, targets)
            progress.step, progress.position = progress.step + 1, progress.position + 1
            progress.loss_sum, progress.rows = progress.loss_sum + loss * len(inrs), progress.rows + len(inrs)
            if on_step is not None:
                on_step(progress.epoch, progress.position, count, loss)
            if progress.position < count:
                stopped = self._stop_requested(stop)
                if stopped or (config.save_steps is not None and progress.step % config.save_steps == 0):
                    now = time.perf_counter()
                    progress.seconds, begin = progress.seconds + now - begin, now
                    self._average_batch_norms()
                    self.save_last()
                if stopped:
                    raise PartialError(f"stopped in epoch {progress.epoch}, step {progress.step}; {RESUME}")
        progress.seconds += time.perf_counter() - begin
        assert progress.position == count, f"the loader promised {count} batches an epoch and gave {progress.position}"
        self.on_epoch_end()

    def _stop_requested(self, stop: Callable[[], bool] | None) -> bool:
        return stop is not None and self.ranks.broadcast(stop())

    def _step(self, inrs: INRBatch, targets: Tensor) -> float:
        """One update; returns the loss before it."""
        config, device = self.config, self.model.device
        rate = config.rate(self.progress.step, config.epochs * len(self.loader))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad()
        loss = self.backward(inrs.to(device, non_blocking=True), targets.to(device, non_blocking=True))
        parameters = [*self.model.parameters(), *self.extra_parameters]
        loss = self.ranks.average_gradients(parameters, loss)
        norm = clip_grad_norm_(parameters, config.gradient_clip or math.inf)
        value, grad_norm = float(loss.detach()), float(norm)
        if not (math.isfinite(value) and math.isfinite(grad_norm)):
            self._diverged(f"loss {value:g}, gradient norm {grad_norm:g}")
        self.optimizer.step()
        if self.average is not None:
            self.average.update_parameters(self.model)  # type: ignore[no-untyped-call]
        if self.extra_average is not None:
            self.extra_average.update_parameters(nn.ParameterList(self.extra_parameters))  # type: ignore[no-untyped-call]
        return value

    def _average_batch_norms(self) -> None:
        """Average over ranks the running statistics of batch norms, which each rank takes of its own batches. A running
        mean is linear, so it makes no difference how often."""
        models: list[nn.Module] = [self.model] if self.average is None else [self.model, self.average]
        for model in models:
            norms = [part for part in model.modules() if isinstance(part, _BatchNorm)]
            self.ranks.average([s for norm in norms for s in (norm.running_mean, norm.running_var) if s is not None])

    def _diverged(self, figures: str) -> NoReturn:
        kept = f"{LAST} keeps an earlier state" if (self.out / LAST).exists() else "nothing was saved yet"
        raise FactoryError(
            f"training diverged in epoch {self.progress.epoch}, step {self.progress.step}: {figures}; {kept}; train "
            f"again into another folder with a learning_rate below {self.config.learning_rate:g}"
        )

    def end_epoch(self) -> dict[str, int | float]:
        """Validate the epoch, record it, save checkpoints, and return the record."""
        self._average_batch_norms()
        progress, model = self.progress, self.eval_model
        metrics = self.ranks.broadcast(self.validate())
        if not math.isfinite(metrics.get("val_loss", 0.0)):
            self._diverged(f"validation loss {metrics['val_loss']:g}")
        record: dict[str, int | float] = {
            "epoch": progress.epoch,
            "step": progress.step,
            "train_loss": progress.loss_sum / progress.rows,
            **metrics,
            "lr": self.optimizer.param_groups[0]["lr"],
            "seconds": round(progress.seconds, 3),
            **getattr(self.loader, "figures", dict)(),
        }
        progress.history.append(record)
        progress.epoch, progress.position = progress.epoch + 1, 0
        progress.loss_sum, progress.rows, progress.seconds = 0.0, 0, 0.0
        if progress.best is record and self.ranks.first:
            save_checkpoint(self.out / BEST, model, self.sections)
        self.save_last()
        self.write_metrics()
        return record

    @property
    def sections(self) -> dict[str, Any]:
        """What every checkpoint holds about the run."""
        config = self.config.model_dump(mode="json")
        return {"config": config, "meta": self.meta, "progress": self.progress.model_dump()}

    def save_last(self) -> None:
        """Save all that a resume needs. best.pt is written first, so that last.pt never lists an epoch without it."""
        progress, device = self.progress, self.model.device
        cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
        state = {
            "optimizer": self.optimizer.state_dict(),
            # A loader that prefetches is ahead of training; the batches learned from count.
            "loader": {**self.loader.state_dict(), "epoch": progress.epoch, "position": progress.position},
            "generators": self.ranks.gather(
                {"cpu": torch.get_rng_state(), "cuda": None if cuda is None else cuda.cpu()}
            ),
            "own": [parameter.detach() for parameter in self.extra_parameters],
            **self.state(),
            "average": None if self.average is None else self.average.state_dict(),
            "own_average": None if self.extra_average is None else self.extra_average.state_dict(),
        }
        if self.ranks.first:
            save_checkpoint(self.out / LAST, self.model, self.sections | state)

    def write_metrics(self) -> None:
        if self.ranks.first:
            lines = "".join(json.dumps(record) + "\n" for record in self.progress.history)
            write_atomically(self.out / METRICS, lines.encode())
            write_atomically(self.out / METRICS_TABLE, metrics_csv(self.progress.history).encode())

    def resume(self) -> None:
        """Restore the state of last.pt where it exists. Raises UsageError where it, or best.pt alone, is of another run."""
        path = self.out / LAST
        if not path.exists():
            return check_nothing_to_lose(self.out)
        saved = load_checkpoint(path)
        self._check_same_run(saved)
        try:
            self._restore(saved)
        except DAMAGE as error:
            blame_machine(error, path)
            raise IntegrityError(f"{path} is damaged: {one_line(error)}; {BEGIN_AGAIN}") from None
        self.write_metrics()

    def _restore(self, saved: Mapping[str, Any]) -> None:
        """Take over the state of a checkpoint of this run. Raises one of DAMAGE where it cannot be one."""
        progress = checked_progress(saved["progress"], self.config, len(self.loader))
        loader = checked_loader_state(saved["loader"], progress)
        load_state(self.model, saved["model"])
        self.optimizer.load_state_dict(checked_optimizer_state(saved["optimizer"], self.optimizer, progress.step))
        if self.average is not None:
            load_state(self.average, saved["average"])
        check_all_like(saved.get("own", []), self.extra_parameters, "its further parameters")
        with torch.no_grad():
            for parameter, value in zip(self.extra_parameters, saved.get("own", []), strict=True):
                parameter.copy_(value)
        if self.extra_average is not None:  # runs before version 0.2 did not average them: the average starts here
            self.extra_average.update_parameters(nn.ParameterList(self.extra_parameters))  # type: ignore[no-untyped-call]
            if saved.get("own_average") is not None:
                self.extra_average.load_state_dict(saved["own_average"])
        self.restore(saved)
        self.progress = progress
        self.loader.load_state_dict(loader)
        generators = checked_generators(saved["generators"], self.ranks.rank)
        torch.set_rng_state(generators["cpu"])
        if self.model.device.type == "cuda" and generators["cuda"] is not None:
            torch.cuda.set_rng_state(generators["cuda"], self.model.device)

    def _check_same_run(self, saved: Mapping[str, Any]) -> None:
        """Refuse settings that would make it another run."""
        free = FREE_SETTINGS | ({"epochs"} if self.config.schedule == "constant" else set())
        kind = self.model.kind
        if kind not in saved:
            raise UsageError(f"{self.out} holds a run of another kind than {kind}; give this one another folder")
        generators = saved.get("generators")
        sections = all(isinstance(saved.get(section), dict) for section in ("meta", "config"))
        if not sections or not isinstance(generators, list):
            raise IntegrityError(f"{self.out / LAST} is damaged: it lacks what a run resumes from; {BEGIN_AGAIN}")
        requested = {kind: self.model.describe(), **self.sections}
        check_same_data(saved["meta"], self.meta, self.out)
        for section in (kind, "meta", "config"):
            stored = saved[section]
            if section == "config":  # one of an older version lacks settings that did not exist yet
                try:
                    stored = type(self.config).model_validate({"rules": 1, **stored}).model_dump(mode="json")
                except ValidationError as error:
                    raise IntegrityError(
                        f"{self.out / LAST} has settings that no run has ({validation_message(error)}); {BEGIN_AGAIN}"
                    ) from None
            here, there = flatten(requested[section]), flatten(stored)
            for name in sorted(here.keys() | there.keys()):
                if here.get(name) != there.get(name) and not (section == "config" and name in free):
                    raise UsageError(
                        f"{self.out} holds a run with another {name} ({brief(there.get(name))} there, {brief(here.get(name))} here); "
                        "train into another folder, or resume with the same settings"
                    )
        if len(generators) != self.ranks.size:
            raise UsageError(
                f"{self.out} holds a run of {len(generators)} ranks, this one has {self.ranks.size}; resume with "
                "the same number, or train into another folder"
            )
