"""Pre-training: an encoder learns without labels which INRs show the same object (SimCLR, Chen et al., ICML 2020).

Shape letters: n objects of a batch, k views of each that the loader gives, c copies of each view, C classes.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import torch
from pydantic import Field
from torch import Generator, Tensor
from torch.nn import functional as F

from inr_factory.errors import UsageError
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.stable_hash import stable_seed
from inr_factory.learning.models.contrastive import Contrastive, nt_xent
from inr_factory.learning.training.probes import features_of, neighbour_accuracy
from inr_factory.learning.training.trainer import Loader, OnStep, RunConfig, Trainer, TrainReport, check_finite

Positives = Literal["augment", "views", "both"]
POSITIVES: tuple[Positives, ...] = get_args(Positives)

Batches = Iterable[tuple[INRBatch, Tensor]]
"""INRs and their targets (N, C)."""


class Augmentation(Protocol):
    """What a transform of weights can be called with; it draws for each INR by itself."""

    def __call__(self, inrs: INRBatch, generator: Generator) -> INRBatch: ...


class PretrainConfig(RunConfig):
    """How to pre-train: see RunConfig. `positives` says which rows show one object: "augment", two augmentations of one
    INR (Shamsian et al. 2024); "views", two independent fits; "both", two fits, each augmented. `temperature` divides
    similarities. Every `probe_epochs` epochs, and after the last, val_accuracy is that of `neighbours` nearest ones.
    """

    epochs: int = Field(50, ge=1)
    schedule: Literal["constant", "cosine"] = "cosine"
    positives: Positives = "both"
    temperature: float = Field(0.2, gt=0, allow_inf_nan=False)
    neighbours: int = Field(20, ge=1)
    probe_epochs: int = Field(1, ge=1)

    @property
    def views_per_object(self) -> int:
        """k: how many rows of each object the loader has to put next to each other."""
        return 1 if self.positives == "augment" else 2


def pretrain(
    model: Contrastive,
    loader: Loader,
    known: Batches,
    validation: Batches,
    transform: Augmentation | None,
    config: PretrainConfig,
    out: Path,
    meta: Mapping[str, Any],
    on_epoch: Callable[[Mapping[str, float]], None] | None = None,
    stop: Callable[[], bool] | None = None,
    on_step: OnStep | None = None,
) -> TrainReport:
    """Pre-train a model in place; it ends with the weights of the last epoch, best.pt has those of the best.

    The loader gives INRs as they are, n objects a batch, each once, or its `views_per_object` next to each other; their
    targets are not looked at. `transform` is applied here, to each copy by itself, with randomness of (seed, step).
    Targets count in the monitor alone: the classes of `validation` as its nearest neighbours in `known` tell them.

    Writes and goes on as `training.train` does. Raises UsageError for batches from which there is nothing to learn, and
    where the encoder cannot tell the rows of an object apart from the first step on, as under symmetries that it is
    invariant to.
    """
    if transform is None and config.positives != "views":
        raise UsageError(f"positives={config.positives} needs an augmentation; name one, or take positives=views")
    return _Pretraining(model, loader, known, validation, transform, config, out, meta).fit(on_epoch, stop, on_step)


class _Pretraining(Trainer[Contrastive, PretrainConfig]):
    """An encoder that learns from which rows show the same object."""

    def __init__(
        self,
        model: Contrastive,
        loader: Loader,
        known: Batches,
        validation: Batches,
        transform: Augmentation | None,
        config: PretrainConfig,
        out: Path,
        meta: Mapping[str, Any],
    ) -> None:
        super().__init__(model, loader, config, out, meta)
        self.known, self.validation, self.transform = known, validation, transform

    def check(self, inrs: INRBatch, targets: Tensor) -> None:
        check_finite(inrs)
        views = self.config.views_per_object
        if len(inrs) % views or len(inrs) // views < 2:
            raise UsageError(
                f"positives={self.config.positives} needs batches of at least 2 objects with {views} rows each, got one "
                f"of {len(inrs)} rows; take a larger batch_size, or a set of more objects"
            )

    def loss(self, inrs: INRBatch, targets: Tensor) -> Tensor:
        rows, objects = positives_of(inrs, self.config, self.transform, self.progress.step)
        with torch.autocast(self.model.device.type, torch.bfloat16, enabled=self.config.bf16):
            projections = self.model(rows).float()
        if self.progress.step == 0:
            self._check_apart(projections)
        return nt_xent(projections, objects, self.config.temperature)

    def _check_apart(self, projections: Tensor) -> None:
        """Rows of an object stand next to each other, two by two."""
        unit = F.normalize(projections.detach().double(), dim=1)
        if bool(((unit[::2] * unit[1::2]).sum(1) > 1 - 1e-7).all()):
            raise UsageError(
                "the two rows of each object are the same to this encoder, so that it has nothing to learn; its "
                "augmentations are symmetries that it does not see: add others, such as noise or rotate2d"
            )

    def validate(self) -> dict[str, float]:
        """Nothing, in an epoch that is not to be probed."""
        done, config = self.progress.epoch + 1, self.config
        if done % config.probe_epochs and done < config.epochs:
            return {}
        known, asked = features_of(self.eval_model, self.known), features_of(self.eval_model, self.validation)
        return {"val_accuracy": neighbour_accuracy(*known, *asked, config.neighbours)}


def positives_of(
    inrs: INRBatch, config: PretrainConfig, transform: Augmentation | None, step: int
) -> tuple[INRBatch, Tensor]:
    """The rows of a step, (n * k * c) INRs, those of an object next to each other, and the number of each one's object.

    k * c is 2: one INR twice, or two views once.
    """
    copies = 2 if config.positives == "augment" else 1
    rows = torch.arange(len(inrs), device=inrs.device).repeat_interleave(copies)
    inrs = inrs.select(rows)
    if transform is not None:
        generator = Generator(inrs.device)
        generator.manual_seed(stable_seed(config.seed, "positives", step))
        inrs = transform(inrs, generator)
    return inrs, torch.arange(len(inrs), device=inrs.device) // (copies * config.views_per_object)
