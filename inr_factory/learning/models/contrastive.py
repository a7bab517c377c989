"""Contrastive: an encoder with a projection head, and the loss that it is pre-trained by.

Shape letters: N INRs, M rows of projections, F features, P numbers of a projection.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from inr_factory.errors import UsageError, shorten
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.spec import SirenSpec
from inr_factory.learning.models.encoder import Encoder
from inr_factory.learning.models.normalized_encoder import NormalizedEncoder
from inr_factory.learning.models.normalizer import Normalizer
from inr_factory.learning.models.registry import build_encoder


class Contrastive(NormalizedEncoder):
    """A reader with two Linears and a ReLU between them (SimCLR, Chen et al. 2020): N INRs -> projections (N, P).

    What comes after the encoder is thrown away later: `features` are for use, projections are what the loss compares.
    """

    kind = "contrastive"

    def __init__(
        self,
        spec: SirenSpec,
        encoder: Encoder,
        normalizer: Normalizer | None = None,
        canonical: bool = False,
        projection_dim: int = 64,
    ) -> None:
        super().__init__(spec, encoder, normalizer, canonical)
        if isinstance(projection_dim, bool) or not isinstance(projection_dim, int) or not 2 <= projection_dim < 2**20:
            raise UsageError(
                f"projection_dim must be a whole number from 2 to 1,048,575, got {shorten(projection_dim)}"
            )
        self.projection_dim = projection_dim
        width = encoder.features
        self.projection = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, projection_dim))

    def forward(self, inrs: INRBatch) -> Tensor:
        """Projections (N, P), not normalised."""
        projections: Tensor = self.projection(self.features(inrs))
        return projections

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "projection_dim": self.projection_dim}

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> "Contrastive":
        spec = SirenSpec.from_dict(description["spec"])
        encoder = build_encoder(description["encoder"], spec, **description["options"])
        return cls(spec, encoder, None, description["canonical"], description["projection_dim"])


def build_contrastive(
    name: str,
    spec: SirenSpec,
    normalizer: Normalizer | None = None,
    seed: int = 0,
    canonical: bool = False,
    projection_dim: int = 64,
    **options: Any,
) -> Contrastive:
    """One on the encoder of that name, its parameters drawn from the seed alone, on the CPU."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Contrastive(spec, build_encoder(name, spec, **options), normalizer, canonical, projection_dim)


def nt_xent(projections_MP: Tensor, objects_M: Tensor, temperature: float) -> Tensor:
    """Normalised temperature-scaled cross-entropy (Chen et al. 2020), a scalar, over rows that show objects.

    With s_ij = cos(z_i, z_j) / temperature, the mean over all ordered pairs i, j of one object of
    -log(exp s_ij / (exp s_ij + sum over rows k of other objects of exp s_ik)). Two rows an object is the published
    loss; of more, the other rows of an object stand nowhere as negatives.

    Raises UsageError where there is no pair of one object, or a single object.
    """
    unit = F.normalize(projections_MP.float(), dim=1)
    similarity_MM = unit @ unit.T / temperature
    same_MM = objects_M[:, None] == objects_M
    pairs_MM = same_MM & ~torch.eye(len(unit), dtype=torch.bool, device=unit.device)
    if not bool(pairs_MM.any(1).all()):
        raise UsageError("each object of a contrastive batch needs at least two rows; take two views or augmentations")
    if bool(same_MM.all()):
        raise UsageError("a contrastive batch needs at least two objects, got one; take a larger batch_size")
    negatives_M = similarity_MM.masked_fill(same_MM, -torch.inf).logsumexp(1)
    return F.softplus(negatives_M[:, None] - similarity_MM)[pairs_MM].mean()
