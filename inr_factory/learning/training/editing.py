"""Editing: trains an editor on the images that its edits have to show, and measures it.

Shape letters: N INRs, O outputs, H height, W width.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from inr_factory.errors import UsageError
from inr_factory.inr.batch import INRBatch
from inr_factory.learning.models.decoder import decibels
from inr_factory.learning.models.editor import Editor
from inr_factory.learning.models.normalizer import check_finite
from inr_factory.learning.training.run_config import EditConfig, Loader
from inr_factory.learning.training.trainer import Trainer

Targets = Callable[[INRBatch, Any], Tensor]
"""INRs and the numbers of their rows in their set, or None where they are none of it -> images (N, H, W, O)."""
Batches = Iterable[tuple[INRBatch, Tensor]]


class EditTrainer(Trainer[Editor, EditConfig]):
    """Trains an editor in place; `fit` leaves it with the weights of the last epoch, best.pt has those of the best.

    The loss is the mean squared error of the edited INRs' pixels. See Trainer for the files of a run and how it resumes.

    Args:
        model: Moved to the device of `config`.
        loader: Training batches; their labels are not used.
        validation: INRs in the order of the rows of their set.
        targets: What the edits of training INRs have to show.
        validation_targets: The same of those of `validation`.
        config: Settings of the run.
        out: Folder of the run.
        meta: Any JSON that identifies the run; a run resumes only under the same meta.
    """

    def __init__(
        self,
        model: Editor,
        loader: Loader,
        validation: Batches,
        targets: Targets,
        validation_targets: Targets,
        config: EditConfig,
        out: Path,
        meta: Mapping[str, Any],
    ) -> None:
        super().__init__(model, loader, config, out, meta)
        self.validation, self.targets, self.validation_targets = validation, targets, validation_targets

    @property
    def needs_rows(self) -> bool:
        return True

    def check(self, inrs: INRBatch, targets: Tensor) -> None:
        check_finite(inrs)

    def loss(self, inrs: INRBatch, targets: Tensor) -> Tensor:
        with torch.no_grad():
            wanted = self.targets(inrs, self.rows)
        with torch.autocast(self.model.device.type, torch.bfloat16, enabled=self.config.bf16):
            edited = self.model(inrs)
        return squared_errors(edited.to(inrs.dtype), wanted).mean()

    def validate(self) -> dict[str, float]:
        report = measure(self.eval_model, self.validation, self.validation_targets)
        return {"val_mse": report.mse, "val_psnr": report.psnr, "val_trivial_mse": report.trivial_mse}


@dataclass(frozen=True)
class EditReport:
    """How close edited INRs come to what they have to show.

    Attributes:
        mse: Mean squared error over all pixels of all INRs.
        trivial_mse: That of the INRs as they are, the trivial edit.
        psnr: In dB, of `mse` and values from 0 to 1.
        trivial_psnr: That of the INRs as they are.
        count: Number of INRs.
        split: Of the data set.
    """

    mse: float
    trivial_mse: float
    psnr: float
    trivial_psnr: float
    count: int
    split: str = ""


def squared_errors(inrs: INRBatch, wanted: Tensor) -> Tensor:
    """(N,) mean squared error of what INRs render against images (N, H, W, O)."""
    return (inrs.images(*wanted.shape[1:3]) - wanted).square().mean(dim=(1, 2, 3))


@torch.no_grad()
def measure(model: Editor, batches: Batches, targets: Targets, split: str = "") -> EditReport:
    """Measure an editor, in evaluation mode, on batches whose INRs come in the order of their rows, from the first on."""
    training, errors, trivial, done = model.training, 0.0, 0.0, 0
    model.eval()
    try:
        for inrs, _ in batches:
            inrs = inrs.to(model.device)
            wanted = targets(inrs, range(done, done + len(inrs)))
            errors += float(squared_errors(model(inrs), wanted).double().sum())
            trivial += float(squared_errors(inrs, wanted).double().sum())
            done += len(inrs)
    finally:
        model.train(training)
    if not done:
        raise UsageError("there is nothing to measure edits on; the split is empty")
    mse, trivial_mse = errors / done, trivial / done
    return EditReport(mse, trivial_mse, decibels(mse, 1.0), decibels(trivial_mse, 1.0), done, split)
