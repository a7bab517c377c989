"""Ensemble: classifiers of the same classes as one, by the mean of their probabilities.

Shape letters: N INRs, C classes.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from inr_factory.inr.batch import INRBatch
from inr_factory.learning.models.classifier import Classifier


class Ensemble(nn.Module):
    """Several classifiers, of any encoders: INRBatch of N INRs -> logarithms of the mean probabilities (N, C).

    Args:
        members: At least one.
        numbers: For each member the number that it gives each of the C classes.
    """

    def __init__(self, members: Sequence[Classifier], numbers: Sequence[Sequence[int]]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.numbers = [list(order) for order in numbers]
        self.num_classes, self.device = members[0].num_classes, members[0].device

    def forward(self, inrs: INRBatch) -> Tensor:
        logs = [member(inrs).log_softmax(1)[:, order] for member, order in zip(self.members, self.numbers, strict=True)]
        return torch.stack(logs).logsumexp(0) - torch.tensor(float(len(logs))).log()
