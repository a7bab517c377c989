"""The augment report: how far each transform and each way of mixing changes the functions and the weights of a set.

Shape letters: N INRs, P points, I coordinates, O values.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from inr_factory.errors import UsageError
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.metrics import psnr_of_mse
from inr_factory.inr.pixel_grid import pixel_grid
from inr_factory.inr.spec import SirenSpec
from inr_factory.learning.alignment.mixup import mix
from inr_factory.learning.alignment.weight_matching import align, finest_match, relative_distance
from inr_factory.learning.data.dataset import INRDataset
from inr_factory.learning.data.image_size import image_size
from inr_factory.learning.transforms.compose import applicable_transforms
from inr_factory.learning.transforms.coordinate import CoordinateTransform
from inr_factory.learning.transforms.intensity import IntensityTransform
from inr_factory.learning.transforms.random_transform import RandomTransform
from inr_factory.learning.transforms.symmetries import FlipSigns, PermuteNeurons, ShiftPhases
from inr_factory.reporting.image_grid import Column, draw_columns
from inr_factory.storage.atomic_files import make_folder, write_atomically
from inr_factory.storage.fetch_dataset import fetch_dataset

MATCHES = ("none", "permute", "permutation", "signed", "phase")
EXACT_DB = 120.0
IMAGES_SHOWN = 6
MIXING_STEPS = (1.0, 0.75, 0.5, 0.25, 0.0)  # lam, the share of the first INR


@dataclass(frozen=True)
class TransformReport:
    """What one transform does.

    Attributes:
        name: The transform as text.
        psnr: Median PSNR in dB between the expected values of the new INRs and their values.
        weight_spread: The spread of each layer's weights, after over before.
        bias_spread: The same of biases.
        images: (N, P, O) values of the new INRs.
    """

    name: str
    psnr: float
    weight_spread: tuple[float, ...]
    bias_spread: tuple[float, ...]
    images: Tensor = field(repr=False)


@dataclass(frozen=True)
class MixingReport:
    """INRs halfway between two.

    Attributes:
        name: How the second INR was matched to the first, as MixUp names it.
        pairs: What the pairs are.
        psnr: Median PSNR in dB of the midpoint against the mean of the two images that it lies between.
        distance: Mean distance of the two INRs over the norm of the first.
        path: (K, N, P, O) values for lam from 1 to 0.
    """

    name: str
    pairs: str
    psnr: float
    distance: float
    path: Tensor = field(repr=False)


@dataclass(frozen=True)
class RecoveryReport:
    """How often alignment recovers a copy that was hidden by random exact operations.

    Attributes:
        match: How it aligns, and by which operations copies were hidden.
        share: The share of INRs whose copy comes back to a relative distance below RECOVERED.
        largest: The largest distance.
    """

    match: str
    share: float
    largest: float


@dataclass(frozen=True)
class AugmentReport:
    """What all transforms and all ways of mixing do to the INRs of a set.

    Attributes:
        heading: The set and its INRs, in a line.
        folder: Where the pictures and tables are.
        transforms: One for each transform at its defaults.
        mixings: One for each way of matching and kind of pairs.
        recoveries: One for each way of matching.
    """

    heading: str
    folder: Path
    transforms: tuple[TransformReport, ...]
    mixings: tuple[MixingReport, ...]
    recoveries: tuple[RecoveryReport, ...]

    def to_fields(self) -> dict[str, object]:
        """All tables as JSON."""
        transforms = [
            {"transform": t.name, "psnr": t.psnr, "weight_spread": t.weight_spread, "bias_spread": t.bias_spread}
            for t in self.transforms
        ]
        mixing = [
            {"mixing": m.name, "pairs": m.pairs, "midpoint_psnr": m.psnr, "distance": m.distance} for m in self.mixings
        ]
        return {"transforms": transforms, "mixing": mixing, "recovery": [vars(r) for r in self.recoveries]}

    def tables(self) -> list[tuple[list[str], list[tuple[str, ...]]]]:
        """Head and rows of each table, as text."""
        return [
            (
                ["transform", "PSNR to the expected values, dB", "spread of weights, by layer", "of biases"],
                [(t.name, decibels(t.psnr), ratios(t.weight_spread), ratios(t.bias_spread)) for t in self.transforms],
            ),
            (
                ["mixing, lam = 0.5", "pairs", "PSNR to the mean image, dB", "distance of the two"],
                [(m.name, m.pairs, decibels(m.psnr), f"{m.distance:.3f}") for m in self.mixings],
            ),
            (
                ["alignment", f"hidden copies recovered (distance below {RECOVERED:g})", "largest distance"],
                [(r.match, f"{r.share:.1%}", f"{r.largest:.1e}") for r in self.recoveries],
            ),
        ]

    def to_markdown(self) -> str:
        """All tables."""
        lines = [f"# {self.heading}"]
        for head, rows in self.tables():
            if head[0] == "transform":
                rows = [(f"`{name}`", *cells) for name, *cells in rows]
            lines += ["", f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
            lines += [f"| {' | '.join(row)} |" for row in rows]
        return "\n".join(lines) + "\n"


HIDDEN_BY: Mapping[str, tuple[RandomTransform, ...]] = {
    "permutation": (PermuteNeurons(),),
    "signed": (PermuteNeurons(), FlipSigns()),
    "phase": (PermuteNeurons(), FlipSigns(), ShiftPhases(max_k=4)),
}
RECOVERED = 1e-4


def augment_report(
    dataset: str | os.PathLike[str], count: int = 64, split: str = "train", out: str | os.PathLike[str] | None = None
) -> AugmentReport:
    """Measure and draw what every transform and every way of mixing does to the INRs of a set of images.

    Args:
        dataset: Folder or URL of the set.
        count: How many INRs are measured, at least 2.
        split: "train", "val" or "test".
        out: Folder of the report; else DATASET/augment-report. It gets report.md, report.json and pictures.

    Returns:
        The report, as it is stored.

    Raises:
        UsageError: For a set that holds no images, or what it does not have.
    """
    if isinstance(count, bool) or not isinstance(count, int) or count < 2:
        raise UsageError(f"count must be a whole number of at least 2, got {count!r}")
    root = fetch_dataset(dataset)
    data = INRDataset(root, split)
    if data.spec.in_dim != 2 or data.spec.out_dim not in (1, 3):
        raise UsageError(f"augment-report draws images, got INRs {data.spec}")
    if (size := image_size(data)) is None:
        raise UsageError(f"augment-report draws images, and {root} does not say their height and width")
    coords = pixel_grid(*size)
    rows = np.flatnonzero(data.views == data.views[0])
    rows = rows[np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int)]
    inrs = _inrs(data, rows)
    kinds = [kind for kind in HIDDEN_BY if kind in _matches(data.spec)]
    report = AugmentReport(
        heading=f"{data.manifest.name}: {len(inrs)} INRs, {data.spec}",
        folder=root / "augment-report" if out is None else Path(out),
        transforms=tuple(measure_transform(transform, inrs, coords) for transform in applicable_transforms(inrs)),
        mixings=tuple(_mixings(data, rows, inrs, coords)),
        recoveries=tuple(measure_recovery(kind, inrs) for kind in kinds),
    )
    make_folder(report.folder)
    _draw(report, data.manifest.name, inrs(coords), size)
    write_atomically(report.folder / "report.md", report.to_markdown().encode())
    write_atomically(report.folder / "report.json", json.dumps(report.to_fields(), indent=2).encode())
    return report


@torch.no_grad()
def measure_transform(transform: RandomTransform, inrs: INRBatch, coords: Tensor, seed: int = 0) -> TransformReport:
    """Apply a transform once and measure; a known change of coordinates or values is applied to the expected values, too."""
    changed: INRBatch = transform(inrs, Generator().manual_seed(seed))
    expected = inrs(coords)
    if isinstance(transform, CoordinateTransform):
        matrix, offset = transform.draw(inrs, Generator().manual_seed(seed))
        expected = inrs(torch.einsum("nij,pj->npi", matrix, coords) + offset[:, None])
    if isinstance(transform, IntensityTransform):
        matrix, offset = transform.draw(inrs, Generator().manual_seed(seed))
        expected = torch.einsum("nij,npj->npi", matrix, expected) + offset[:, None]
    images = changed(coords)
    return TransformReport(
        str(transform),
        median_psnr(images, expected),
        tuple(_spread(new, old) for new, old in zip(changed.weights, inrs.weights, strict=True)),
        tuple(_spread(new, old) for new, old in zip(changed.biases, inrs.biases, strict=True)),
        images,
    )


@torch.no_grad()
def measure_mixing(match: str, pairs: str, inrs: INRBatch, partners: INRBatch, coords: Tensor) -> MixingReport:
    """Mix each INR with its partner, brought to it by `match` as MixUp does, at MIXING_STEPS."""
    if match == "permute":
        partners = PermuteNeurons()(partners, Generator().manual_seed(0))
    elif match != "none":
        partners = align(partners, inrs, match)  # type: ignore[arg-type]
    path = torch.stack([mix(inrs, partners, share)(coords) for share in MIXING_STEPS])
    between = (path[0] + path[-1]) / 2
    midpoint = mix(inrs, partners, 0.5)(coords)
    gap = torch.linalg.vector_norm(inrs.flatten() - partners.flatten(), dim=1)
    distance = float((gap / torch.linalg.vector_norm(inrs.flatten(), dim=1)).mean())
    return MixingReport(match, pairs, median_psnr(midpoint, between), distance, path)


@torch.no_grad()
def measure_recovery(match: str, inrs: INRBatch, seed: int = 0) -> RecoveryReport:
    """Hide a copy of each INR by the operations that `match` knows, align it to the original, and compare."""
    generator, copies = Generator().manual_seed(seed), inrs
    for transform in HIDDEN_BY[match]:
        copies = transform(copies, generator)
    distance = relative_distance(align(copies, inrs, match), inrs)  # type: ignore[arg-type]
    return RecoveryReport(match, float((distance < RECOVERED).float().mean()), float(distance.max()))


def median_psnr(images: Tensor, expected: Tensor) -> float:
    """Median over N of the PSNR (dB) of images (N, P, O) in [0, 1]; capped where float32 cannot tell them apart."""
    mse = (images - expected).square().mean(dim=(1, 2)).clamp(min=10 ** (-EXACT_DB / 10))
    return float(psnr_of_mse(mse).median())


def _spread(new: Tensor, old: Tensor) -> float:
    return float(new.std() / old.std().clamp(min=1e-12))


def decibels(value: float) -> str:
    return "exact" if value >= 90 else f"{value:.1f}"


def ratios(values: Sequence[float]) -> str:
    return " ".join(f"{value:.2f}" for value in values)


def _inrs(data: INRDataset, rows: NDArray[np.int64]) -> INRBatch:
    return INRBatch.from_flat(data.spec, data.gather(rows)[0])


def _mixings(data: INRDataset, rows: NDArray[np.int64], inrs: INRBatch, coords: Tensor) -> Iterator[MixingReport]:
    """Midpoints between INRs of different objects and, where there are several, between two views of one object."""
    partners = {"different objects": (inrs, _inrs(data, np.roll(rows, 1)))}
    other_view = {int(data.objects[row]): row for row in np.flatnonzero(data.views != data.views[0])}
    both = [(row, other_view[int(data.objects[row])]) for row in rows if int(data.objects[row]) in other_view]
    if both:
        first, second = (np.array(side) for side in zip(*both, strict=True))
        partners["two views of one object"] = (_inrs(data, first), _inrs(data, second))
    kinds = _matches(data.spec)
    return (measure_mixing(kind, pairs, *sides, coords) for pairs, sides in partners.items() for kind in kinds)


def _matches(spec: SirenSpec) -> tuple[str, ...]:
    """MATCHES up to the one over all symmetries of INRs of a spec."""
    return MATCHES[: MATCHES.index(finest_match(spec)) + 1]


def _draw(report: AugmentReport, name: str, as_fitted: Tensor, size: tuple[int, int]) -> None:
    """Write the pictures: the transformed INRs, and for each kind of pairs the way from one INR to another."""

    def images(values: Tensor) -> NDArray[np.float32]:
        """Up to IMAGES_SHOWN rendered INRs (K, P, O) as images (K, H, W, O)."""
        return values[:IMAGES_SHOWN].reshape(-1, *size, values.shape[-1]).detach().numpy()

    shown = {"as fitted": images(as_fitted), **{t.name: images(t.images) for t in report.transforms}}
    columns = [
        Column((f"INR {at + 1}",), {row: values[at] for row, values in shown.items()})
        for at in range(len(shown["as fitted"]))
    ]
    title = f"{name}: INRs rendered after each transform of their weights, at its defaults"
    draw_columns(columns, report.folder / "augmentations.png", title, report.heading, label=1.6)
    for pairs in dict.fromkeys(mixing.pairs for mixing in report.mixings):
        rows = {
            f"pair {pair + 1}, {mixing.name}": images(mixing.path[:, pair])
            for pair in (0, 1)
            for mixing in report.mixings
            if mixing.pairs == pairs
        }
        columns = [
            Column((f"lam = {share:g}{end}",), {row: values[at] for row, values in rows.items()})
            for at, (share, end) in enumerate(zip(MIXING_STEPS, (", first", "", "", "", ", second"), strict=True))
        ]
        path = report.folder / f"mixing-{pairs.replace(' ', '-')}.png"
        title = f"{name}: mixtures lam a + (1 - lam) b of the weights of {pairs}, for each way of matching b to a"
        draw_columns(columns, path, title, report.heading, label=1.2)
