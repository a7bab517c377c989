"""Classifier: an encoder with a linear head.

Shape letters: N INRs, C classes.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from inr_factory.errors import UsageError, shorten
from inr_factory.inr.arguments import check_whole
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.spec import SirenSpec
from inr_factory.learning.models.encoder import Encoder
from inr_factory.learning.models.normalized_encoder import NormalizedEncoder
from inr_factory.learning.models.normalizer import Normalizer
from inr_factory.learning.models.registry import build_encoder


class Classifier(NormalizedEncoder):
    """A NormalizedEncoder with one Linear: INRBatch of N INRs -> logits (N, C).

    Args:
        spec: The INRs that it classifies.
        num_classes: C, at least 2.
        encoder: An encoder made for `spec`.
        normalizer: Statistics of the training split, made for `spec`; by default weights stay as they are.
        canonical: Bring INRs to their canonical form first.

    Raises:
        UsageError: There are fewer than two classes, or a part is made for another spec.
    """

    kind = "classifier"

    def __init__(
        self,
        spec: SirenSpec,
        num_classes: int,
        encoder: Encoder,
        normalizer: Normalizer | None = None,
        canonical: bool = False,
    ) -> None:
        super().__init__(spec, encoder, normalizer, canonical)
        if isinstance(num_classes, bool) or not isinstance(num_classes, int) or num_classes < 2:
            raise UsageError(f"a classifier needs a number of at least two classes, got {shorten(num_classes)}")
        self.num_classes = num_classes
        self.head = nn.Linear(encoder.features, num_classes)

    def forward(self, inrs: INRBatch) -> Tensor:
        """Logits (N, C)."""
        logits: Tensor = self.head(self.features(inrs))
        return logits

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "num_classes": self.num_classes}

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> "Classifier":
        """The classifier that `describe` described, with parameters drawn from torch's global generator."""
        spec = SirenSpec.from_dict(description["spec"])
        encoder = build_encoder(description["encoder"], spec, **description["options"])
        return cls(spec, description["num_classes"], encoder, canonical=description["canonical"])


def build_classifier(
    name: str,
    spec: SirenSpec,
    num_classes: int,
    normalizer: Normalizer | None = None,
    seed: int = 0,
    canonical: bool = False,
    **options: Any,
) -> Classifier:
    """Build a classifier on the encoder of a name, with parameters that depend on the seed alone.

    Args:
        name: The encoder, one of registry.ENCODERS.
        spec: The INRs that it classifies.
        num_classes: At least 2.
        normalizer: Statistics of the training split; by default weights stay as they are.
        seed: Of the initial parameters.
        canonical: Bring INRs to their canonical form first.
        options: Options of the encoder.

    Returns:
        The classifier, on the CPU, in training mode.

    Raises:
        UsageError: The name or an option is unknown, or a value is out of range.
    """
    check_whole(seed=seed)
    if not isinstance(normalizer, Normalizer | None):
        raise UsageError(f"a normalizer is made by Normalizer.fit, got {shorten(normalizer)}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(seed) % 2**63)
        return Classifier(spec, num_classes, build_encoder(name, spec, **options), normalizer, canonical)
