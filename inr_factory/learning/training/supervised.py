"""Supervised training: what training a classifier and training a predictor of values have in common.

Shape letters: N INRs, K outputs.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Generator, Tensor, nn

from inr_factory.inr.batch import INRBatch
from inr_factory.inr.device import choose_device
from inr_factory.learning.models.classifier import Classifier
from inr_factory.learning.models.decoder import Decoder, PictureDecoder
from inr_factory.learning.models.predictor import Predictor
from inr_factory.learning.training.decoding import decoding_loss, reconstruction_psnr, with_parameters
from inr_factory.learning.training.distributed import Ranks
from inr_factory.learning.training.run_config import Loader, TrainConfig
from inr_factory.learning.training.trainer import Trainer
from inr_factory.learning.training.weight_perturbation import parse_perturbation

Batches = Iterable[tuple[INRBatch, Tensor]]
"""INRs and their targets: (N, C), shares that sum to 1; or values (N, K)."""
HeadedT = TypeVar("HeadedT", bound=Classifier | Predictor)


class SupervisedTrainer(Trainer[HeadedT, TrainConfig]):
    """Trains an encoder and its head in place. A subclass defines `check`, `criterion` and `metrics`.

    See Trainer for the files of a run and how it resumes.

    Args:
        model: Moved to the device of `config`.
        loader: Training batches.
        validation: Validation batches, the same in every epoch.
        config: Settings of the run.
        out: Folder of the run.
        meta: Any JSON that identifies the run; a run resumes only under the same meta.
        ranks: Processes that train the model together, each with batches of its own; the first writes.
        decoder: Learns, where `config.decode` is set, to render the INRs from the features; only last.pt keeps it.

    Raises:
        UsageError: The device has an unknown name. `fit` raises it for batches that it cannot learn from and for another
            run's folder.
        ResourceError: The device is missing.
    """

    def __init__(
        self,
        model: HeadedT,
        loader: Loader,
        validation: Batches,
        config: TrainConfig,
        out: Path,
        meta: Mapping[str, Any],
        ranks: Ranks | None = None,
        decoder: Decoder | PictureDecoder | None = None,
    ) -> None:
        assert (decoder is None) == (config.decode is None), "a decoder and its weight go together"
        self.perturb = None if config.perturb is None else parse_perturbation(config.perturb)
        model.to(choose_device(config.device))
        own: Sequence[nn.Parameter] = []
        if self.perturb is not None:
            own = self.perturb.parameters_for(model, config.rules, config.seed)
        self.num_perturb = len(own)
        self.decoder = None if decoder is None else decoder.to(model.device)
        own = [*own, *([] if self.decoder is None else self.decoder.parameters())]
        super().__init__(model, loader, config, out, meta, own, ranks)
        self.validation = validation

    def criterion(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The mean loss of outputs (N, K) of the head."""
        raise NotImplementedError

    def metrics(self, model: HeadedT) -> dict[str, float]:
        """Metrics of a model on the validation split."""
        raise NotImplementedError

    @property
    def eval_model(self) -> HeadedT:
        model = super().eval_model
        if self.perturb is None:
            return model
        generator = Generator().manual_seed(self.config.seed * 1_000_003 + self.progress.epoch)
        own = self.eval_extra_parameters[: self.num_perturb]
        return self.perturb.eval_model(model, own, generator, self.config.rules)  # type: ignore[return-value]

    def backward(self, inrs: INRBatch, targets: Tensor) -> Tensor:
        if self.perturb is None:
            return super().backward(inrs, targets)
        own = self.extra_parameters[: self.num_perturb]
        return self.perturb.backward(self.model, self.loss, inrs, targets, own, self.config.rules)

    def loss(self, inrs: INRBatch, targets: Tensor) -> Tensor:
        with torch.autocast(self.model.device.type, torch.bfloat16, enabled=self.config.bf16):
            features = self.model.features(inrs)
            outputs = self.model.head(features)
        loss = self.criterion(outputs.float(), targets)
        if self.decoder is None or self.config.decode is None:
            return loss
        decoding = decoding_loss(self.decoder, features, inrs, self.config.seed, self.progress.step)
        return loss + self.config.decode * decoding

    def validate(self) -> dict[str, float]:
        model = self.eval_model
        metrics = self.metrics(model)
        if self.decoder is None:
            return metrics
        decoder = with_parameters(self.decoder, self.eval_extra_parameters[self.num_perturb :])
        return {**metrics, "val_psnr": reconstruction_psnr(model, decoder, self.validation)}
