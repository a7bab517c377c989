"""Contrastive pre-training: an encoder learns without labels which INRs show the same object (SimCLR, Chen et al. 2020).

Shape letters: n objects of a batch, k views of each that the loader gives, c copies of each view, C classes.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from inr_factory.errors import UsageError
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.stable_hash import stable_seed
from inr_factory.learning.models.contrastive import Contrastive, nt_xent
from inr_factory.learning.models.normalizer import check_finite
from inr_factory.learning.training.probes import features_of, neighbour_accuracy
from inr_factory.learning.training.run_config import Loader, PretrainConfig
from inr_factory.learning.training.trainer import ModelT, Trainer

Batches = Iterable[tuple[INRBatch, Tensor]]
"""INRs and their targets (N, C)."""


class Augmentation(Protocol):
    """A transform of weights that draws for each INR independently."""

    def __call__(self, inrs: INRBatch, generator: Generator) -> INRBatch: ...


class PretrainTrainer(Trainer[ModelT, PretrainConfig]):
    """Pre-trains an encoder in place; `fit` leaves it with the weights of the last epoch, best.pt has those of the best.

    See Trainer for the files of a run and how it resumes.

    Args:
        model: Moved to the device of `config`.
        loader: INRs unchanged; their targets are ignored.
        known: Labelled batches of the training split: the neighbours of the monitor.
        validation: Labelled batches whose classes the neighbours predict; val_accuracy is the share that is right.
        transform: What is done to the INRs of a step.
        config: Settings of the run.
        out: Folder of the run.
        meta: Any JSON that identifies the run; a run resumes only under the same meta.
    """

    def __init__(
        self,
        model: ModelT,
        loader: Loader,
        known: Batches,
        validation: Batches,
        transform: Augmentation | None,
        config: PretrainConfig,
        out: Path,
        meta: Mapping[str, Any],
    ) -> None:
        if config.objective == "contrast" and transform is None and config.positives != "views":
            raise UsageError(f"positives={config.positives} needs an augmentation; name one, or take positives=views")
        super().__init__(model, loader, config, out, meta)
        self.known, self.validation, self.transform = known, validation, transform

    def validate(self) -> dict[str, float]:
        """Nothing, in an epoch without a probe."""
        done, config = self.progress.epoch + 1, self.config
        if done % config.probe_epochs and done < config.epochs:
            return {}
        known, queries = features_of(self.eval_model, self.known), features_of(self.eval_model, self.validation)
        return {"val_accuracy": neighbour_accuracy(*known, *queries, config.neighbours)}


class ContrastiveTrainer(PretrainTrainer[Contrastive]):
    """Pre-trains an encoder by a contrastive loss, see PretrainTrainer.

    `loader` gives n objects a batch, each once, or its `config.views_per_object` next to each other. `transform` is
    applied to each copy independently, with randomness of (seed, step).

    Raises:
        UsageError: `transform` is missing although `config.positives` needs one. `fit` raises it for batches without
            anything to learn, and where the encoder maps both rows of every object to the same features from the first
            step on, as under symmetries that it is invariant to.
    """

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
            self._check_distinct(projections)
        return nt_xent(projections, objects, self.config.temperature)

    def _check_distinct(self, projections: Tensor) -> None:
        """Rows of an object stand next to each other, two by two."""
        unit = F.normalize(projections.detach().double(), dim=1)
        if bool(((unit[::2] * unit[1::2]).sum(1) > 1 - 1e-7).all()):
            raise UsageError(
                "the two rows of each object have the same features, so that there is nothing to learn: the encoder is "
                "invariant to all augmentations; add others, such as noise or rotate2d"
            )


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
