"""Decoding: an encoder learns to render what INRs show from its features; the INRs render the targets themselves.

Shape letters: N INRs, P points, I inputs and O outputs of the INRs.
"""

import copy
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Generator, Tensor

from inr_factory.inr.batch import INRBatch
from inr_factory.inr.pixel_grid import pixel_grid
from inr_factory.inr.spec import SirenSpec
from inr_factory.inr.stable_hash import stable_seed
from inr_factory.learning.models.decoder import Decoder, Decoding, PictureDecoder, decibels, peak_of, random_points
from inr_factory.learning.models.normalized_encoder import NormalizedEncoder
from inr_factory.learning.models.normalizer import check_finite
from inr_factory.learning.training.contrastive import PretrainTrainer

Batches = Iterable[tuple[INRBatch, Tensor]]
"""INRs and their targets (N, C), which are not used."""
AnyDecoder = TypeVar("AnyDecoder", bound=Decoder | PictureDecoder)

POINTS, VALIDATION_POINTS = 256, 1024
SLICE = 64  # pixels of a picture's side


class DecodingTrainer(PretrainTrainer[Decoding]):
    """Pre-trains an encoder and its decoder in place, see PretrainTrainer.

    `transform` changes the INRs of a step, with randomness of (seed, step); the changed INRs render the targets.
    """

    def check(self, inrs: INRBatch, targets: Tensor) -> None:
        check_finite(inrs)

    def loss(self, inrs: INRBatch, targets: Tensor) -> Tensor:
        config, step = self.config, self.progress.step
        if self.transform is not None:
            generator = Generator(inrs.device).manual_seed(stable_seed(config.seed, "changes", step))
            inrs = self.transform(inrs, generator)
        with torch.autocast(self.model.device.type, torch.bfloat16, enabled=config.bf16):
            features = self.model.features(inrs)
        return decoding_loss(self.model.decoder, features, inrs, config.seed, step)

    def validate(self) -> dict[str, float]:
        model = self.eval_model
        return {**super().validate(), "val_psnr": reconstruction_psnr(model, model.decoder, self.validation)}


def decoding_loss(decoder: Decoder | PictureDecoder, features: Tensor, inrs: INRBatch, seed: int, step: int) -> Tensor:
    """The share of the variance of INRs that is not explained, a scalar, at points of the step, uniform in [-1, 1]^I."""
    generator = Generator(inrs.device).manual_seed(stable_seed(seed, "points", step))
    errors, _ = decoder.errors(features, inrs, random_points(inrs.spec, POINTS, generator))
    return errors.square().mean()


def with_parameters(decoder: AnyDecoder, parameters: Sequence[Tensor]) -> AnyDecoder:
    """A copy of a decoder with these parameters, in their order."""
    other = copy.deepcopy(decoder)
    with torch.no_grad():
        for parameter, value in zip(other.parameters(), parameters, strict=True):
            parameter.copy_(value)
    return other


@torch.no_grad()
def reconstruction_psnr(model: NormalizedEncoder, decoder: Decoder | PictureDecoder, batches: Batches) -> float:
    """PSNR in dB of what is decoded against what the INRs render, of the mean squared error over all INRs."""
    training, total, count, peak = model.training, 0.0, 0, 0.0
    generator = Generator(model.device).manual_seed(0)
    coords = random_points(model.spec, VALIDATION_POINTS, generator)
    model.eval()
    try:
        for inrs, _ in batches:
            inrs = inrs.to(model.device)
            errors, unit = decoder.errors(model.features(inrs), inrs, coords)
            total, count = total + float((errors * unit).square().double().mean()) * len(inrs), count + len(inrs)
            peak = max(peak, peak_of(model.spec, inrs(coords)))
    finally:
        model.train(training)
    return decibels(total / count, peak)


@dataclass(frozen=True)
class Reconstructions:
    """What K INRs render on a grid and what is decoded from their features, (K, H, W, O) each; and their labels (K,).

    Values of shapes are scaled so that those of the INRs fill [0, 1].
    """

    rendered: Tensor
    decoded: Tensor
    labels: Tensor


@torch.no_grad()
def reconstruct(model: NormalizedEncoder, batches: Batches, count: int = 10) -> Reconstructions | None:
    """Up to `count` INRs, of as many classes as there are: images, or the plane z = 0 of shapes; None of other INRs.

    Args:
        model: In evaluation mode: a Decoding, or a model of an encoder that draws (Encoder.picture), whose pictures get
            the contrast and brightness of the INRs.
        batches: INRs and their targets (N, C), of which the largest is the class.
        count: Most INRs.
    """
    drawn, in_dim = model.encoder.picture, model.spec.in_dim
    if in_dim not in ((2, 3) if isinstance(model, Decoding) else (2,)):
        return None
    parts = [(inrs.to(model.device), targets.argmax(1)) for inrs, targets in batches]
    inrs, labels = INRBatch.cat([inrs for inrs, _ in parts]), torch.cat([labels for _, labels in parts]).cpu()
    turn = torch.tensor([int((labels[:row] == label).sum()) for row, label in enumerate(labels.tolist())])
    first = (turn * (int(labels.max()) + 1) + labels).argsort(stable=True)[
        :count
    ]  # each class's first, then its second
    rows = first[labels[first].argsort(stable=True)]
    chosen = inrs[rows]
    if isinstance(model, Decoding):
        coords = plane(model.spec).to(inrs.device)
        rendered, decoded = chosen(coords), model(chosen, coords)
    else:
        assert drawn is not None, "this encoder draws nothing"
        decoder = PictureDecoder(drawn.to(inrs.device))
        errors, unit = decoder.errors(model.features(chosen), chosen, decoder.grid)
        rendered = chosen(decoder.grid)
        decoded = rendered + errors * unit
    side = math.isqrt(rendered.shape[1])
    rendered, decoded = (values.cpu().unflatten(1, (side, side)) for values in (rendered, decoded))
    if in_dim == 3:
        least, extent = rendered.min(), (rendered.max() - rendered.min()).clamp_min(1e-6)
        rendered, decoded = (rendered - least) / extent, (decoded - least) / extent
    return Reconstructions(rendered, decoded, labels[rows])


def plane(spec: SirenSpec) -> Tensor:
    """Coords (P, I) of a grid of SLICE x SLICE points: the image, or the plane z = 0, seen from above."""
    grid = pixel_grid(SLICE, SLICE)
    return grid if spec.in_dim == 2 else torch.cat([grid * torch.tensor([1.0, -1.0]), torch.zeros(len(grid), 1)], 1)
