"""Augment report: how far each transform and each way of mixing moves the function and the weights.

Shape letters: N INRs, P points, I coordinates, O values.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor

from inr_factory.errors import UsageError
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.metrics import psnr_of_mse
from inr_factory.learning.alignment.mixup import mix
from inr_factory.learning.alignment.weight_matching import align, relative_distance
from inr_factory.learning.option_strings import Option
from inr_factory.learning.transforms.compose import TRANSFORMS
from inr_factory.learning.transforms.coordinate import CoordinateTransform
from inr_factory.learning.transforms.intensity import IntensityTransform
from inr_factory.learning.transforms.symmetries import FlipSigns, PermuteNeurons, ShiftPhases

MATCHES = ("none", "permute", "permutation", "signed", "phase")
EXACT_DB = 120.0


@dataclass(frozen=True)
class Moved:
    """What one transform does: median PSNR (dB) between what the new INRs should give and what they give, and the
    spread of each layer's weights and biases after over before. `images` (N, P, O) are the new INRs rendered."""

    name: str
    psnr: float
    weight_spread: tuple[float, ...]
    bias_spread: tuple[float, ...]
    images: Tensor = field(repr=False)


@dataclass(frozen=True)
class Mixed:
    """INRs halfway between two: median PSNR (dB) of the midpoint against the mean of the two images it lies between,
    and the mean distance of the two INRs over the norm of the first. `path` (K, N, P, O): lam from 1 to 0."""

    name: str
    pairs: str
    psnr: float
    distance: float
    path: Tensor = field(repr=False)


@dataclass(frozen=True)
class Found:
    """How often alignment finds a copy again that was hidden by random exact moves of its own kind: the share of INRs
    whose copy comes back to a relative distance below RECOVERED, and the largest distance."""

    match: str
    share: float
    largest: float


HIDDEN_BY: Mapping[str, tuple[Option, ...]] = {
    "permutation": (PermuteNeurons(),),
    "signed": (PermuteNeurons(), FlipSigns()),
    "phase": (PermuteNeurons(), FlipSigns(), ShiftPhases(max_k=4)),
}
RECOVERED = 1e-4


def fitting_transforms(inrs: INRBatch) -> Iterator[Option]:
    """Every transform at its defaults that can be asked of such INRs."""
    for kind in TRANSFORMS.values():
        transform = kind()
        try:
            transform(inrs, Generator().manual_seed(0))  # type: ignore[operator]
        except UsageError:
            continue
        yield transform


@torch.no_grad()
def report_transform(transform: Option, inrs: INRBatch, coords: Tensor, seed: int = 0) -> Moved:
    """Apply a transform once and measure; a known change of coordinates or values is taken out of the comparison."""
    moved: INRBatch = transform(inrs, Generator().manual_seed(seed))  # type: ignore[operator]
    expected = inrs(coords)
    if isinstance(transform, CoordinateTransform):
        matrix, offset = transform.draw(inrs, Generator().manual_seed(seed))
        expected = inrs(torch.einsum("nij,pj->npi", matrix, coords) + offset[:, None])
    if isinstance(transform, IntensityTransform):
        matrix, offset = transform.draw(inrs, Generator().manual_seed(seed))
        expected = torch.einsum("nij,npj->npi", matrix, expected) + offset[:, None]
    images = moved(coords)
    return Moved(
        str(transform),
        median_psnr(images, expected),
        tuple(_spread(new, old) for new, old in zip(moved.weights, inrs.weights, strict=True)),
        tuple(_spread(new, old) for new, old in zip(moved.biases, inrs.biases, strict=True)),
        images,
    )


@torch.no_grad()
def report_mixing(match: str, pairs: str, ours: INRBatch, partners: INRBatch, coords: Tensor, steps: int = 5) -> Mixed:
    """Mix each INR with its partner, brought to it by `match` as MixUp does, along lam = 1 ... 0."""
    if match == "permute":
        partners = PermuteNeurons()(partners, Generator().manual_seed(0))
    elif match != "none":
        partners = align(partners, ours, match)  # type: ignore[arg-type]
    shares = torch.linspace(1, 0, steps)
    path = torch.stack([mix(ours, partners, share.expand(len(ours)))(coords) for share in shares])
    between = (path[0] + path[-1]) / 2
    midpoint = mix(ours, partners, torch.full((len(ours),), 0.5))(coords)
    gap = torch.linalg.vector_norm(ours.flatten() - partners.flatten(), dim=1)
    distance = float((gap / torch.linalg.vector_norm(ours.flatten(), dim=1)).mean())
    return Mixed(match, pairs, median_psnr(midpoint, between), distance, path)


@torch.no_grad()
def report_recovery(match: str, inrs: INRBatch, seed: int = 0) -> Found:
    """Hide a copy of each INR by the moves that `match` knows, align it to the original, and see if it is there."""
    generator, copies = Generator().manual_seed(seed), inrs
    for move in HIDDEN_BY[match]:
        copies = move(copies, generator)  # type: ignore[operator]
    distance = relative_distance(align(copies, inrs, match), inrs)  # type: ignore[arg-type]
    return Found(match, float((distance < RECOVERED).float().mean()), float(distance.max()))


def median_psnr(images: Tensor, expected: Tensor) -> float:
    """Median over N of the PSNR (dB) of images (N, P, O) in [0, 1]; capped where float32 says they are the same."""
    mse = (images - expected).square().mean(dim=(1, 2)).clamp(min=10 ** (-EXACT_DB / 10))
    return float(psnr_of_mse(mse).median())


def _spread(new: Tensor, old: Tensor) -> float:
    return float(new.std() / old.std().clamp(min=1e-12))


def as_markdown(moved: Sequence[Moved], mixed: Sequence[Mixed], found: Sequence[Found], heading: str) -> str:
    """All tables."""
    lines = [
        f"# {heading}",
        "",
        "| transform | PSNR to what it should give, dB | spread of weights, by layer | of biases |",
    ]
    lines += ["|---|---|---|---|"]
    lines += [
        f"| `{m.name}` | {decibels(m.psnr)} | {ratios(m.weight_spread)} | {ratios(m.bias_spread)} |" for m in moved
    ]
    lines += [
        "",
        "| mixing, lam = 0.5 | pairs | PSNR to the mean of the two images, dB | distance of the two |",
        "|---|---|---|---|",
    ]
    lines += [f"| {m.name} | {m.pairs} | {decibels(m.psnr)} | {m.distance:.3f} |" for m in mixed]
    lines += [
        "",
        f"| alignment | copies found again (distance below {RECOVERED:g}) | largest distance |",
        "|---|---|---|",
    ]
    lines += [f"| {f.match} | {f.share:.1%} | {f.largest:.1e} |" for f in found]
    return "\n".join(lines) + "\n"


def as_fields(moved: Sequence[Moved], mixed: Sequence[Mixed], found: Sequence[Found]) -> Mapping[str, object]:
    """All tables as JSON."""
    transforms = [
        {"transform": m.name, "psnr": m.psnr, "weight_spread": m.weight_spread, "bias_spread": m.bias_spread}
        for m in moved
    ]
    mixing = [{"mixing": m.name, "pairs": m.pairs, "midpoint_psnr": m.psnr, "distance": m.distance} for m in mixed]
    return {"transforms": transforms, "mixing": mixing, "recovery": [vars(f) for f in found]}


def decibels(value: float) -> str:
    return "exact" if value >= 90 else f"{value:.1f}"


def ratios(values: Sequence[float]) -> str:
    return " ".join(f"{value:.2f}" for value in values)
