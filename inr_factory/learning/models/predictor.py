"""Predictor: an encoder with a linear head for targets other than one class: numbers, vectors, and any number of labels.

Shape letters: N INRs, K outputs.
"""

from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn

from inr_factory.errors import UsageError, shorten
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.spec import SirenSpec
from inr_factory.learning.models.encoder import Encoder
from inr_factory.learning.models.normalized_encoder import NormalizedEncoder
from inr_factory.learning.models.normalizer import Normalizer
from inr_factory.learning.models.registry import build_encoder

KINDS = ("number", "vector", "labels")


class Predictor(NormalizedEncoder):
    """A NormalizedEncoder with one Linear: INRBatch of N INRs -> (N, K), numbers in their unit or logits of labels.

    The head gives numbers in units of their spread, which buffers turn into the target's: y = mean + std head(features).

    Args:
        spec: The INRs that it reads.
        target: What it predicts: kind, names and so on, see `Target.describe`.
        num_outputs: K.
        encoder: An encoder made for `spec`.
        normalizer: Statistics of the training split, made for `spec`; by default weights stay as they are.
        canonical: Bring INRs to their canonical form first.

    Raises:
        UsageError: A part is made for another spec.
    """

    kind = "predictor"

    def __init__(
        self,
        spec: SirenSpec,
        target: Mapping[str, Any],
        num_outputs: int,
        encoder: Encoder,
        normalizer: Normalizer | None = None,
        canonical: bool = False,
    ) -> None:
        super().__init__(spec, encoder, normalizer, canonical)
        texts = [target.get("name"), target.get("unit"), *(target.get("names") or [])]
        if target.get("kind") not in KINDS or num_outputs < 1 or not all(isinstance(text, str) for text in texts):
            raise UsageError(f"a predictor is of {', '.join(KINDS)}, got {shorten(target)} with {num_outputs} outputs")
        self.target, self.num_outputs = dict(target), num_outputs
        self.head = nn.Linear(encoder.features, num_outputs)
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.zeros(num_outputs))
        self.register_buffer("std", torch.ones(num_outputs))

    @property
    def is_numeric(self) -> bool:
        return bool(self.target["kind"] != "labels")

    def standardize(self, values: Tensor) -> Self:
        """Take mean and standard deviation of training values (N, K); a value that is always the same keeps its unit."""
        if self.is_numeric:
            values = values.double()
            std = values.std(0, correction=0)
            self.mean.copy_(values.mean(0))
            self.std.copy_(torch.where(std > 0, std, 1))
        return self

    def standardized(self, values: Tensor) -> Tensor:
        """Values (N, K) of the target as the head gives them."""
        return (values - self.mean) / self.std

    def forward(self, inrs: INRBatch) -> Tensor:
        """Numbers in the target's unit, or logits of its labels: (N, K)."""
        predicted: Tensor = self.mean + self.std * self.head(self.features(inrs))
        return predicted

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "target": self.target, "num_outputs": self.num_outputs}

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> "Predictor":
        """The predictor that `describe` described, with parameters drawn from torch's global generator."""
        spec = SirenSpec.from_dict(description["spec"])
        encoder = build_encoder(description["encoder"], spec, **description["options"])
        outputs, canonical = description["num_outputs"], description["canonical"]
        return cls(spec, description["target"], outputs, encoder, canonical=canonical)


def build_predictor(
    name: str,
    spec: SirenSpec,
    target: Mapping[str, Any],
    num_outputs: int,
    normalizer: Normalizer,
    seed: int,
    canonical: bool,
    **options: Any,
) -> Predictor:
    """Build a predictor on the encoder of a name, with parameters that depend on the seed alone; as `build_classifier`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(seed) % 2**63)
        return Predictor(spec, target, num_outputs, build_encoder(name, spec, **options), normalizer, canonical)
