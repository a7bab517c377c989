"""Editor: the model that changes what INRs show by changing their weights.

Shape letters: N INRs, H hidden neurons, O outputs and I inputs of a layer.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from inr_factory.inr.batch import INRBatch
from inr_factory.inr.spec import SirenSpec
from inr_factory.learning.models.edit_heads import build_heads, head_class
from inr_factory.learning.models.encoder import Encoder
from inr_factory.learning.models.normalized_encoder import NormalizedEncoder
from inr_factory.learning.models.normalizer import Normalizer, check_spec
from inr_factory.learning.models.registry import build_encoder
from inr_factory.learning.transforms.canonical import neuron_signs

SCALE = 0.01
"""What changes are multiplied by at first, as in published editing (Zhou et al. 2023)."""


class Editor(NormalizedEncoder):
    """Encoder, heads and a factor for each layer: INRBatch of N INRs -> the edited INRs, W + factor * change.

    The result follows the symmetries of the INRs: permuted, negated or phase-shifted neurons of INRs with an odd
    activation, given to the editor, have the same edit. `canonical` does that for heads that follow no signs: they see
    INRs whose signs and phases are fixed, and their changes are turned back.
    """

    kind = "editor"

    def __init__(
        self, spec: SirenSpec, encoder: Encoder, normalizer: Normalizer | None = None, canonical: bool = False
    ) -> None:
        super().__init__(spec, encoder, normalizer, canonical)
        self.heads = build_heads(encoder)
        self.log_scale = nn.Parameter(torch.full((len(self.heads), 2, spec.num_hidden + 1), math.log(SCALE)))

    def forward(self, inrs: INRBatch) -> INRBatch:
        """The edited INRs, of the same spec."""
        check_spec(self.spec, inrs, f"this {self.kind} was made")
        inrs = inrs.to(self.normalizer.weight_mean.dtype)
        memory: list[Tensor] = []
        if len(inrs):
            for head, scales in zip(self.heads, self.log_scale.exp(), strict=True):
                inrs = self._step(head, scales, inrs, memory)
        return inrs

    def _step(self, head: nn.Module, scales: Tensor, inrs: INRBatch, memory: list[Tensor]) -> INRBatch:
        signs = neuron_signs(inrs) if self.canonical else None
        seen = inrs if signs is None else signs.apply(inrs)
        weights, biases = head(self.encoder, self.normalizer(seen, self.encoder.centred), seen, memory)
        if signs is not None:
            weights, biases = signs.turn(weights, biases)
        return INRBatch(
            inrs.spec,
            tuple(W + scale * change for W, scale, change in zip(inrs.weights, scales[0], weights, strict=True)),
            tuple(b + scale * change for b, scale, change in zip(inrs.biases, scales[1], biases, strict=True)),
        )

    @property
    def _hidden(self) -> nn.Module:
        return self

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> "Editor":
        spec = SirenSpec.from_dict(description["spec"])
        encoder = build_encoder(description["encoder"], spec, **description["options"])
        return cls(spec, encoder, None, description["canonical"])


def build_editor(
    name: str, spec: SirenSpec, normalizer: Normalizer | None = None, seed: int = 0, **options: Any
) -> Editor:
    """One on the encoder of that name, its parameters drawn from the seed alone, on the CPU."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = build_encoder(name, spec, **options)
        return Editor(spec, encoder, normalizer, canonical=spec.is_odd and not head_class(name).exact_signs)
