"""Decoder: renders what INRs show from an encoder's features, and the model that is pre-trained by it.

Shape letters: N INRs, P points, I inputs and O outputs of the INRs, F features, B functions of the basis.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Generator, Tensor, nn

from inr_factory.inr.batch import INRBatch
from inr_factory.inr.metrics import psnr_of_mse
from inr_factory.inr.spec import SirenSpec
from inr_factory.learning.models.encoder import Encoder
from inr_factory.learning.models.normalized_encoder import NormalizedEncoder
from inr_factory.learning.models.normalizer import Normalizer
from inr_factory.learning.models.registry import build_encoder

WIDTH, BASIS = 128, 256
OTHER_FREQUENCY = 10.0
STATISTICS_POINTS = 256


class Decoder(nn.Module):
    """Maps features (N, F) and coords (P, I) to the values (N, P, O) that the INRs of these features have there.

    The value is a sum of learned functions of the coordinates, each times a learned function of the features (DeepONet,
    Lu et al., 2021). The functions of the coordinates are two layers of sines. They are evaluated once for all INRs of
    a batch, unlike a perceptron on features and coordinates (inr2vec, De Luigi et al. 2023), and at any points.
    Values are standardised: `mean` and `std` (O,) are those of the training INRs.

    Args:
        spec: The INRs, which render the decoder's targets.
        features: F.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, spec: SirenSpec, features: int) -> None:
        super().__init__()
        self.spec = spec
        frequency = spec.omega_0 / spec.in_dim if spec.activation in ("sine", "finer") else OTHER_FREQUENCY
        self.first, self.second = nn.Linear(spec.in_dim, WIDTH), nn.Linear(WIDTH, BASIS)
        nn.init.uniform_(self.first.weight, -frequency, frequency)
        nn.init.uniform_(self.first.bias, -math.pi, math.pi)
        nn.init.uniform_(self.second.weight, -math.sqrt(6 / WIDTH), math.sqrt(6 / WIDTH))
        self.coefficients = nn.Sequential(nn.Linear(features, BASIS), nn.SiLU(), nn.Linear(BASIS, BASIS * spec.out_dim))
        self.offset = nn.Parameter(torch.zeros(spec.out_dim))
        self.register_buffer("mean", torch.zeros(spec.out_dim))
        self.register_buffer("std", torch.ones(spec.out_dim))

    @torch.no_grad()
    def standardize(self, inrs: INRBatch) -> None:
        """Take mean and std of the values of these INRs at fixed points, the same in every run."""
        values = inrs(random_points(self.spec, STATISTICS_POINTS, Generator(inrs.device).manual_seed(0)))
        self.mean.copy_(values.mean((0, 1)))
        self.std.copy_(values.std((0, 1)).clamp_min(1e-6))

    def standard_values(self, features: Tensor, coords: Tensor) -> Tensor:
        """Values (N, P, O), standardised."""
        basis_PB = torch.sin(self.second(torch.sin(self.first(coords))))
        coefficients_NOB = self.coefficients(features).unflatten(1, (-1, BASIS))
        values: Tensor = (math.sqrt(2 / BASIS) * coefficients_NOB @ basis_PB.mT).mT + self.offset
        return values

    def forward(self, features: Tensor, coords: Tensor) -> Tensor:
        """Values (N, P, O), as the INRs have them."""
        return self.standard_values(features, coords) * self.std + self.mean

    def errors(self, features: Tensor, inrs: INRBatch, coords: Tensor) -> tuple[Tensor, Tensor]:
        """Errors (N, P, O) of standardised values at coords (P, I), and the standard deviation (O,) that is their unit. The
        INRs render the targets themselves; the mean squared error is the share of the variance that is not explained."""
        with torch.no_grad():
            targets = (inrs(coords) - self.mean) / self.std
        return self.standard_values(features.float(), coords) - targets, self.std


class PictureDecoder(nn.Module):
    """Takes what an encoder draws (Encoder.picture) for what INRs show on its grid (P, I), up to contrast and brightness.

    It has no parameters, and no use for other coordinates.
    """

    def __init__(self, grid: Tensor) -> None:
        super().__init__()
        self.register_buffer("grid", grid)

    grid: Tensor

    def errors(self, features: Tensor, inrs: INRBatch, coords: Tensor) -> tuple[Tensor, Tensor]:
        """As those of Decoder, but on the grid: each output of each INR is standardised there, by its own unit (N, 1, O)."""
        with torch.no_grad():
            values = inrs(self.grid)
            std = values.std(1, keepdim=True).clamp_min(1e-4)
            targets = (values - values.mean(1, keepdim=True)) / std
        drawn = features[:, -targets[0].numel() :].float().view_as(targets)
        return drawn - targets, std


class Decoding(NormalizedEncoder):
    """A reader with a decoder: features of INRs from which it renders what they show."""

    kind = "decoding"

    def __init__(
        self, spec: SirenSpec, encoder: Encoder, normalizer: Normalizer | None = None, canonical: bool = False
    ) -> None:
        super().__init__(spec, encoder, normalizer, canonical)
        self.decoder = Decoder(spec, encoder.features)

    def forward(self, inrs: INRBatch, coords: Tensor) -> Tensor:
        """Values (N, P, O) at coords (P, I)."""
        values: Tensor = self.decoder(self.features(inrs).float(), coords)
        return values

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> "Decoding":
        spec = SirenSpec.from_dict(description["spec"])
        encoder = build_encoder(description["encoder"], spec, **description["options"])
        return cls(spec, encoder, None, description["canonical"])


def build_decoding(
    name: str,
    spec: SirenSpec,
    normalizer: Normalizer | None = None,
    seed: int = 0,
    canonical: bool = False,
    **options: Any,
) -> Decoding:
    """One on the encoder of that name, its parameters drawn from the seed alone, on the CPU."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Decoding(spec, build_encoder(name, spec, **options), normalizer, canonical)


def build_decoder(spec: SirenSpec, features: int, inrs: INRBatch, seed: int = 0) -> Decoder:
    """A decoder for features of INRs like these, its parameters drawn from the seed alone, on the CPU."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        decoder = Decoder(spec, features)
    decoder.standardize(inrs)
    return decoder


def random_points(spec: SirenSpec, count: int, generator: Generator) -> Tensor:
    """(count, I), uniform in [-1, 1]^I, on the generator's device."""
    return 2 * torch.rand(count, spec.in_dim, generator=generator, device=generator.device) - 1


def peak_of(spec: SirenSpec, values: Tensor) -> float:
    """The range of values, for PSNR: 1 for images, that of the values themselves for shapes."""
    return 1.0 if spec.in_dim == 2 else float(values.max() - values.min())


def decibels(mse: float, peak: float) -> float:
    return float(psnr_of_mse(torch.tensor(max(mse, 1e-20), dtype=torch.float64), peak))
