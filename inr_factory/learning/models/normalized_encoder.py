"""NormalizedEncoder: canonical form, normalizer and encoder in one module, the body of every model here.

Shape letters: N INRs, F features.
"""

from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from inr_factory.errors import UsageError, shorten
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.spec import SirenSpec
from inr_factory.learning.models.encoder import Encoder
from inr_factory.learning.models.normalizer import Normalizer, check_spec
from inr_factory.learning.transforms.canonical import canonicalize


class NormalizedEncoder(nn.Module):
    """Canonical form, normalizer and encoder, to which a head is added: INRBatch of N INRs -> features (N, F).

    `canonical` brings every INR to its canonical form first, so that the features do not change with the
    symmetries that it fixes (see canonical.py), whatever the encoder. Without a normalizer the encoder gets the weights as they are.
    Raises UsageError for parts made for different specs, and for INRs of another spec than its own.
    """

    kind: ClassVar[str]

    def __init__(
        self, spec: SirenSpec, encoder: Encoder, normalizer: Normalizer | None = None, canonical: bool = False
    ) -> None:
        super().__init__()
        normalizer = Normalizer(spec) if normalizer is None else normalizer
        for part in (encoder, normalizer):
            if part.spec != spec:
                raise UsageError(f"a {self.kind} of {spec} cannot use a {type(part).__name__} made for {part.spec}")
        if not isinstance(canonical, bool):
            raise UsageError(f"canonical must be True or False, got {shorten(canonical)}")
        self.spec = spec
        self.canonical = canonical
        self.normalizer = normalizer
        self.encoder = encoder
        self.frozen = False

    @property
    def device(self) -> torch.device:
        return next(self.encoder.parameters()).device

    def features(self, inrs: INRBatch) -> Tensor:
        """(N, F): the encoder's features of N INRs, in the model's floating type."""
        check_spec(self.spec, inrs, f"this {self.kind} was made")
        inrs = inrs.to(self.normalizer.weight_mean.dtype)
        if not len(inrs):
            return inrs.weights[0].new_empty(0, self.encoder.features)
        features: Tensor
        if self.encoder.function_only:
            features = self.encoder(inrs)
        else:
            inrs = canonicalize(inrs) if self.canonical else inrs
            features = self.encoder(self.normalizer(inrs, self.encoder.centred), inrs)
        if features.shape != (len(inrs), self.encoder.features):
            raise UsageError(
                f"{self.encoder.name} must return {(len(inrs), self.encoder.features)} features, as its `features` says; got "
                f"{tuple(features.shape)}"
            )
        return features

    @property
    def hidden_layers(self) -> list[nn.Linear]:
        """The linear layers whose weights Muon updates: not a last one, nor one of a single row or column."""
        return [part for part in self._hidden.modules() if isinstance(part, nn.Linear) and min(part.weight.shape) > 1]

    @property
    def _hidden(self) -> nn.Module:
        return self.encoder

    def freeze(self) -> None:
        """From now on only the head learns: the encoder keeps its parameters and stays in evaluation mode."""
        self.frozen = True
        self.encoder.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if self.frozen:
            self.encoder.eval()
        return self

    def describe(self) -> dict[str, Any]:
        """All but the numbers, as plain values: what `from_description` builds the same model from."""
        return {
            "encoder": self.encoder.name,
            "options": dict(self.encoder.options),
            "spec": self.spec.to_dict(),
            "canonical": self.canonical,
        }
