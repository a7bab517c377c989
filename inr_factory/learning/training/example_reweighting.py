"""Reweighting: training examples whose loss stays high get less weight, against wrong labels and poor fits.

Shape letters: M training examples, n of one batch, C classes.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from inr_factory.inr.batch import INRBatch
from inr_factory.learning.option_strings import Option, check_number, parse_option


@dataclass(frozen=True)
class MultiplicativeReweighting(Option):
    """Example i counts by softmax(-eta L)_i, where L_i sums its losses after each epoch so far; a batch's loss is
    sum(w_i loss_i) / sum(w_i) (Bar, Koren and Giryes 2021, arXiv 2102.12192).

    `cap` bounds each weight, in multiples of the mean weight; 0 for no bound.
    """

    name: ClassVar[str] = "mr"
    eta: float = 0.01
    cap: float = 0.0

    def __post_init__(self) -> None:
        check_number(self, "eta", 0, 100)
        check_number(self, "cap", 0, 1e9)

    def weights(self, losses_M: Tensor) -> Tensor:
        """(M,) weights of mean 1 (before the cap) of examples with these summed losses."""
        weights = len(losses_M) * (-self.eta * losses_M).softmax(0)
        return weights.clamp(max=self.cap) if self.cap else weights


def parse_reweighting(text: str) -> MultiplicativeReweighting:
    """`mr:eta=0.1` and the like. Raises UsageError as `parse_option` does."""
    return parse_option(text, {MultiplicativeReweighting.name: MultiplicativeReweighting}, "reweighting")


class ExampleWeights:
    """The current weights of M training examples. `losses_M` (float64) is all that a checkpoint has to keep."""

    def __init__(self, option: MultiplicativeReweighting, count: int) -> None:
        self.option = option
        self.losses_M = torch.zeros(count, dtype=torch.float64)
        self._weights_M = option.weights(self.losses_M)

    def weigh(self, targets: Tensor, rows_n: NDArray[np.int64]) -> Tensor:
        """Targets (n, C) of these examples times w_i n / sum(w): cross-entropy is linear in its targets, so that its
        mean over the batch is then the weighted one."""
        weights = self._weights_M[torch.from_numpy(rows_n)].to(targets.device)
        return targets * (weights * len(weights) / weights.sum()).to(targets)[:, None]

    def add(self, losses_M: Tensor) -> None:
        """After an epoch: the loss of each example."""
        self.losses_M = self.losses_M + losses_M.double().cpu()
        self._weights_M = self.option.weights(self.losses_M)

    def load(self, losses_M: Tensor) -> None:
        self.losses_M = losses_M
        self._weights_M = self.option.weights(losses_M)


@torch.no_grad()
def losses_of(model: nn.Module, examples: Iterable[tuple[INRBatch, Tensor]], device: torch.device) -> Tensor:
    """(M,): the cross-entropy of each example, in evaluation mode."""
    training, losses = model.training, []
    model.eval()
    try:
        for inrs, targets in examples:
            losses.append(F.cross_entropy(model(inrs.to(device)), targets.to(device), reduction="none"))
    finally:
        model.train(training)
    return torch.cat(losses)
