"""Run configuration: settings, progress and report of a training run, and what it needs of a loader. Loads no torch."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from inr_factory.errors import UsageError, describe_fault
from inr_factory.learning.training import defaults
from inr_factory.storage.manifest import MANIFEST

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from inr_factory.inr.batch import INRBatch

BEST, LAST, METRICS, METRICS_TABLE = "best.pt", "last.pt", "metrics.jsonl", "metrics.csv"
RUN = "run.json"  # where the data set of a run lies, which may move, and the run's meta

RULES: Literal[4] = 4
"""The rules of new runs. Runs before version 0.2 have rules 1, and keep them when they resume: a warm-up longer than a
tenth of the steps is not cut, and perturbations move all parameters of two or more dimensions. Runs of rules 1 and 2 may
have begun with the former defaults: FORMER_MODEL, and for every model the schedule of models without a rate of their own. In
runs of rules 1 to 3 a MixUp that names no match has match=none, and the default schedule is the same with mixing."""

TRACKERS = ("wandb", "mlflow")
FEW_OBJECTS = 200

Objective = Literal["contrast", "decode"]
OBJECTIVES: tuple[Objective, ...] = get_args(Objective)
Positives = Literal["augment", "views", "both"]
POSITIVES: tuple[Positives, ...] = get_args(Positives)

Loss = Literal["mse", "huber"]
BEST_BY = {"val_accuracy": 1, "val_r2": 1, "val_map": 1, "val_mse": -1}
"""Metrics of which each kind of run has one, which decides on the best epoch: 1 where the highest does, -1 the lowest."""

OnEpoch = Callable[[Mapping[str, float]], None]
"""Called after each epoch with its record, a line of metrics.jsonl."""
OnStep = Callable[[int, int, int, float], None]
"""Called after each step with the epoch, the number of its steps that are done, the number of all, and the loss."""


class Loader(Protocol):
    """Batches that training can iterate over epoch by epoch and resume in mid-epoch.

    `len` is the number of batches of an epoch. After `load_state_dict({"epoch": e, "position": p, ...})` the next
    iteration gives batches p, p + 1, ... of epoch e; after `set_epoch(e)` all of them. The content of a batch depends
    on its epoch and position alone; `rows` are the numbers of its examples.
    """

    def __iter__(self) -> "Iterator[tuple[INRBatch, Tensor]]": ...
    def __len__(self) -> int: ...
    def rows(self, epoch: int, position: int = 0) -> "Iterator[NDArray[np.int64]]": ...
    def set_epoch(self, epoch: int) -> None: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class RunConfig(BaseModel):
    """Settings of every kind of run: the optimizer, see optimizers.py, a warm-up of at most a tenth of the steps, then a
    constant rate or a cosine to zero, gradients clipped.

    `early_stopping` ends the run after this number of epochs without a better validation metric; `save_steps` also
    saves in mid-epoch. `ema` is the decay per step of a running average of the weights, which is then validated and
    saved in best.pt. `bf16` runs forward passes of training in bfloat16 where that is safe (torch.autocast). `compile`
    passes the encoder to torch.compile. `track` names trackers, separated by commas.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: int = Field(default=defaults.EPOCHS, ge=1, le=1_000_000)
    learning_rate: float = Field(default=defaults.LEARNING_RATE, gt=0, le=1e3, allow_inf_nan=False)
    optimizer: Literal["adamw", "adam", "muon"] = "adamw"
    weight_decay: float = Field(default=defaults.WEIGHT_DECAY, ge=0, le=1e3, allow_inf_nan=False)
    schedule: Literal["constant", "cosine"] = "constant"
    warmup_steps: int = Field(default=defaults.WARMUP_STEPS, ge=0, le=2**31 - 1)
    gradient_clip: float | None = Field(default=10.0, gt=0, le=1e9, allow_inf_nan=False)
    ema: float | None = Field(default=None, gt=0, lt=1)
    bf16: bool = False
    compile: bool = False
    early_stopping: int | None = Field(default=None, ge=1, le=2**31 - 1)
    seed: int = Field(default=0, ge=0, lt=2**63)
    device: str = "auto"
    save_steps: int | None = Field(default=None, ge=1, le=2**31 - 1)
    tensorboard: bool = True
    track: str | None = None
    rules: Literal[1, 2, 3, 4] = RULES

    @field_validator("track")
    @classmethod
    def _known_trackers(cls, text: str | None) -> str | None:
        names = [name.strip() for name in text.split(",")] if text is not None else []
        if unknown := [name for name in names if name not in TRACKERS]:
            raise ValueError(f"expected {' or '.join(TRACKERS)}, or both with a comma, got {unknown[0]!r}")
        return ",".join(dict.fromkeys(names)) or None

    def warmup(self, num_steps: int) -> int:
        """The steps of the warm-up of a run of num_steps."""
        return self.warmup_steps if self.rules == 1 else min(self.warmup_steps, num_steps // 10)

    def rate(self, step: int, num_steps: int) -> float:
        """The learning rate of one step, counted from 0, of a run of num_steps."""
        steps = self.warmup(num_steps)
        rise = min(1.0, (step + 1) / steps) if steps else 1.0
        if self.schedule == "constant":
            return self.learning_rate * rise
        share = min(1.0, max(0, step - steps) / max(1, num_steps - steps))
        return self.learning_rate * rise * (1 + math.cos(math.pi * share)) / 2


class TrainConfig(RunConfig):
    """Settings of training a classifier: see RunConfig, whose defaults follow the neural graphs of Kofinas et al. (2024),
    with a shorter warm-up than their 1,000 steps. Navon et al. (2023) trained DWS at learning_rate 5e-3 without warm-up
    or clipping. `perturb` ("damp:sigma=0.2", "asam", "wat") takes gradients at perturbed weights, see
    weight_perturbation.py; `reweigh` ("mr") gives examples whose loss stays high less weight, see
    example_reweighting.py. Both are stored with all their values. `decode` is the weight of a second loss, by which the
    features have to render the INRs, see models/decoder.py. `loss` is that of targets that are numbers.
    """

    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    loss: Loss | None = None
    decode: float | None = Field(default=None, gt=0, le=1e6, allow_inf_nan=False)
    perturb: str | None = None
    reweigh: str | None = None

    @field_validator("perturb")
    @classmethod
    def _known_perturbation(cls, text: str | None) -> str | None:
        from inr_factory.learning.training.weight_perturbation import parse_perturbation  # torch

        return None if text is None else str(parse_perturbation(text))

    @field_validator("reweigh")
    @classmethod
    def _known_reweighting(cls, text: str | None) -> str | None:
        from inr_factory.learning.training.example_reweighting import parse_reweighting  # torch

        return None if text is None else str(parse_reweighting(text))


class PretrainConfig(RunConfig):
    """Settings of pre-training: see RunConfig. `objective` "contrast" compares rows that show one object, "decode"
    renders the INRs from the features. Of "contrast": `positives` are these rows, "augment", two augmentations of one
    INR (Shamsian et al. 2024); "views", two independent fits; "both", two fits, each augmented; `temperature` divides
    similarities. Every `probe_epochs` epochs, and after the last, val_accuracy is that of
    `neighbours` nearest neighbours.
    """

    epochs: int = Field(default=defaults.PRETRAIN_EPOCHS, ge=1, le=1_000_000)
    schedule: Literal["constant", "cosine"] = "cosine"
    objective: Objective = "contrast"
    positives: Positives = "both"
    temperature: float = Field(default=defaults.TEMPERATURE, ge=1e-4, le=1e4, allow_inf_nan=False)
    neighbours: int = Field(default=defaults.NEIGHBOURS, ge=1, le=2**31 - 1)
    probe_epochs: int = Field(default=1, ge=1, le=2**31 - 1)

    @property
    def views_per_object(self) -> int:
        """k: how many rows of each object the loader has to put next to each other."""
        return 1 if self.objective == "decode" or self.positives == "augment" else 2


class EditConfig(RunConfig):
    """Settings of training an editor: see RunConfig."""

    learning_rate: float = Field(default=defaults.EDIT_LEARNING_RATE, gt=0, le=1e3, allow_inf_nan=False)
    epochs: int = Field(default=defaults.EDIT_EPOCHS, ge=1, le=1_000_000)
    schedule: Literal["constant", "cosine"] = "cosine"
    gradient_clip: float | None = Field(default=1.0, gt=0, le=1e9, allow_inf_nan=False)


class Schedule(NamedTuple):
    """Settings of a run that depend on its model and its number of rows."""

    epochs: int
    batch_size: int
    learning_rate: float
    schedule: str


def default_schedule(model: str, rows: int, batch_size: int | None = None, mixed: bool = False) -> Schedule:
    """The default schedule of a model for a number of rows an epoch, in batches of batch_size where that is given.

    `mixed` runs take MIXED_EPOCHS times as many epochs: they overtake plain ones after those know their set by heart.
    Models in defaults.COSINE_RATES take 20 epochs, but at least 600 steps or 100 epochs, and at most 20,000 steps: enough
    for small sets and not more than large ones need. Measured for `parity`, on digits with 60 to 1,797 objects and on
    Fashion-MNIST with 10,000.
    """
    times = defaults.MIXED_EPOCHS if mixed else 1
    if model not in defaults.COSINE_RATES:
        return Schedule(times * defaults.EPOCHS, batch_size or defaults.BATCH_SIZE, defaults.LEARNING_RATE, "constant")
    batch_size = batch_size or max(2, min(defaults.COSINE_BATCH_SIZE, rows))
    steps_per_epoch = max(1, rows // batch_size)
    (epochs, most_epochs), (least, most) = defaults.COSINE_EPOCHS, defaults.COSINE_STEPS
    epochs = round(min(max(epochs * steps_per_epoch, least), most) / steps_per_epoch)
    return Schedule(times * min(max(1, epochs), most_epochs), batch_size, defaults.COSINE_RATES[model], "cosine")


ConfigT = TypeVar("ConfigT", bound=RunConfig)


def check_config(kind: type[ConfigT], **settings: Any) -> ConfigT:
    """Settings of a kind of run. UsageError names the option that does not fit, as on the command line."""
    try:
        return kind(**settings)
    except ValidationError as error:
        fault = error.errors()[0]
        option = str(fault["loc"][0]).replace("_", "-")
        raise UsageError(describe_fault(f"--{option}", fault)) from None


class TrainProgress(BaseModel):
    """How far a run is: `position` batches into `epoch`, `step` in all; sums of this epoch; one record per epoch."""

    model_config = ConfigDict(extra="forbid")

    epoch: int = 0
    position: int = 0
    step: int = 0
    loss_sum: float = 0.0
    rows: int = 0
    seconds: float = 0.0
    seen: list[int] = []  # classes of the targets so far, until there are two; the name is that of checkpoints
    history: list[dict[str, int | float]] = []

    @property
    def best(self) -> dict[str, int | float] | None:
        """The best record so far, see `best_record`."""
        return best_record(self.history)

    def finished(self, config: RunConfig) -> bool:
        return self.epoch >= config.epochs or self.stalled(config)

    def stalled(self, config: RunConfig) -> bool:
        """Whether early stopping ends the run at this point."""
        if config.early_stopping is None or self.best is None:
            return False
        return len(self.history) - 1 - self.history.index(self.best) >= config.early_stopping


def checkpoint_of(run: Path) -> Path:
    """The best checkpoint of a run's folder, or the file itself. Raises UsageError where there is none."""
    checkpoint = run / BEST if run.is_dir() else run
    if (run / MANIFEST).exists() and not checkpoint.exists():
        raise UsageError(
            f"{run} is a data set, expected the folder of a run; a set comes after the run, or by --dataset {run}"
        )
    if not checkpoint.exists():
        raise UsageError(
            f"no checkpoint {checkpoint}; name the folder of a run that inr-factory train or pretrain made"
        )
    return checkpoint


def metric_of(record: Mapping[str, float]) -> str | None:
    """The name of a record's metric of BEST_BY; None where the epoch went without."""
    return next((name for name in BEST_BY if name in record), None)


def best_record(history: list[dict[str, int | float]]) -> dict[str, int | float] | None:
    """The best record by its metric of BEST_BY; among equals that of the lowest loss, then the earliest."""
    validated = [(record, name) for record in history if (name := metric_of(record)) is not None]

    def quality(pair: tuple[Mapping[str, float], str]) -> tuple[float, float]:
        return BEST_BY[pair[1]] * pair[0][pair[1]], -pair[0].get("val_loss", 0.0)

    best = max(validated, key=quality, default=None)
    return None if best is None else best[0]


def few_objects(split: str, count: int) -> str:
    """A note on a split whose accuracies say little, else nothing: one standard error of FEW_OBJECTS is up to 3.5 points."""
    if not 0 < count < FEW_OBJECTS:
        return ""
    return (
        f"objects in {split}: {count}, so that one standard error of its accuracy is up to {50 / math.sqrt(count):.1f} "
        f"points; take at least {FEW_OBJECTS}, or compare the means of several seeds"
    )


@dataclass(frozen=True)
class TrainReport:
    """The outcome of a run: the record of its best epoch and of every epoch, as metrics.jsonl has them."""

    out: Path
    best: Mapping[str, float]
    history: tuple[Mapping[str, float], ...]
    stopped_early: bool
