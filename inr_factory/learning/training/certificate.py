"""Certificate: the symmetries of INRs that a trained reader is invariant to, and how far augmentations move its output.

Shape letters: N INRs, C classes.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from inr_factory.inr.batch import INRBatch
from inr_factory.learning.models.classifier import Classifier
from inr_factory.learning.transforms.canonical import Canonicalize
from inr_factory.learning.transforms.compose import applicable_transforms
from inr_factory.learning.transforms.random_transform import RandomTransform
from inr_factory.learning.transforms.symmetries import FlipSigns, PermuteNeurons, ScaleReLU, ShiftPhases

CERTIFICATE = "certificate.json"
INVARIANT = 1e-6
"""The largest residual, in float64, of a reader that is invariant. Rounding alone gives about 1e-12."""
DRAWS = 3  # random elements of a symmetry for each INR
MOST = 1000  # INRs that are measured
BATCH = 256

SYMMETRIES: Mapping[str, type[RandomTransform]] = {
    "permutations": PermuteNeurons, "signs": FlipSigns, "phases": ShiftPhases, "scales": ScaleReLU,
}  # fmt: skip


@dataclass(frozen=True)
class SymmetryResidual:
    """How far a symmetry, which leaves the function of an INR as it is, moves the output of the reader.

    A residual is the largest change of an INR's logits over DRAWS random elements, relative to the spread of logits over the
    INRs: the root mean square of their distances from the mean of their class.

    Attributes:
        symmetry: permutations, signs, phases or scales.
        largest: The largest residual of an INR in float32, as readers compute.
        median: The median over the INRs.
        exact: The largest in float64, where rounding does not count.
        invariant: Whether that is at most INVARIANT.
    """

    symmetry: str
    largest: float
    median: float
    exact: float
    invariant: bool


@dataclass(frozen=True)
class AugmentationShift:
    """How far an augmentation at its defaults moves predictions.

    Attributes:
        transform: The transform as text.
        moved: Mean total variation between the probabilities before and after, in [0, 1].
        flipped: Share of INRs whose predicted class changes.
        accuracy: Accuracy after it.
    """

    transform: str
    moved: float
    flipped: float
    accuracy: float


@dataclass(frozen=True)
class CertificateReport:
    """What a reader is invariant to, measured on INRs of a split.

    Attributes:
        dataset: Name of the data set.
        split: The split.
        count: How many INRs were measured, at most MOST, spread evenly.
        draws: Random elements of a symmetry for each INR.
        threshold: INVARIANT.
        accuracy: Accuracy without any change.
        symmetries: One for each symmetry that the INRs' activation has.
        augmentations: One for each other transform that suits the INRs.
    """

    dataset: str
    split: str
    count: int
    draws: int
    threshold: float
    accuracy: float
    symmetries: tuple[SymmetryResidual, ...]
    augmentations: tuple[AugmentationShift, ...]

    def to_fields(self) -> dict[str, Any]:
        """The certificate as JSON, which CERTIFICATE in the folder of the run holds."""
        return asdict(self)


def spread_rows(count: int) -> NDArray[np.int64]:
    """Rows of at most MOST of `count` INRs, evenly spread."""
    return np.linspace(0, count - 1, min(MOST, count)).round().astype(np.int64)


@torch.no_grad()
def certify_model(
    model: Classifier, inrs: INRBatch, labels_N: Tensor, dataset: str = "", split: str = "", seed: int = 0
) -> CertificateReport:
    """Measure a classifier on INRs of these numbers of its classes, in evaluation mode and in its floating type."""
    training, kept = model.training, next(model.parameters()).dtype
    model.eval()
    exact, others = _applicable(inrs)
    try:
        before = _logits(model, inrs)
        shifts = [_shift(str(one), before, _logits(model, _changed(one, inrs, seed)), labels_N) for one in others]
        residuals = {name: _residuals(model, inrs, one, seed) for name, one in exact.items()}
        model.double()
        precise = {name: _residuals(model, inrs.to(torch.float64), one, seed) for name, one in exact.items()}
    finally:
        model.to(kept).train(training)
    symmetries = [
        SymmetryResidual(
            name, float(part.max()), float(part.median()), largest := float(precise[name].max()), largest <= INVARIANT
        )
        for name, part in residuals.items()
    ]
    accuracy = float((before.argmax(1) == labels_N).double().mean())
    return CertificateReport(
        dataset, split, len(inrs), DRAWS, INVARIANT, accuracy, tuple(symmetries), tuple(shifts)
    )  # fmt: skip


def _applicable(inrs: INRBatch) -> tuple[dict[str, RandomTransform], list[RandomTransform]]:
    """The symmetries of these INRs by name, and all other transforms that they support but the canonical form."""
    transforms = {type(one): one for one in applicable_transforms(inrs[:1])}
    exact = {name: transforms.pop(kind) for name, kind in SYMMETRIES.items() if kind in transforms}
    return exact, [one for one in transforms.values() if not isinstance(one, Canonicalize)]


def _changed(transform: RandomTransform, inrs: INRBatch, seed: int) -> INRBatch:
    return transform(inrs, Generator(inrs.device).manual_seed(seed))


def _logits(model: Classifier, inrs: INRBatch) -> Tensor:
    """(N, C) on the CPU."""
    parts = [inrs.select(slice(start, start + BATCH)) for start in range(0, len(inrs), BATCH)]
    return torch.cat([model(part.to(model.device)).cpu() for part in parts])


def _residuals(model: Classifier, inrs: INRBatch, transform: RandomTransform, seed: int) -> Tensor:
    """(N,): the largest change of each INR's logits over DRAWS random elements of a symmetry, see SymmetryResidual."""
    before = _logits(model, inrs)
    spread = (before - before.mean(0)).square().mean().sqrt().clamp(min=torch.finfo(before.dtype).tiny)
    changes = [(_logits(model, _changed(transform, inrs, seed + draw)) - before).abs() for draw in range(DRAWS)]
    return torch.stack(changes).amax(dim=(0, 2)) / spread


def _shift(transform: str, before: Tensor, after: Tensor, labels_N: Tensor) -> AugmentationShift:
    moved = (after.softmax(1) - before.softmax(1)).abs().sum(1) / 2
    flipped = after.argmax(1) != before.argmax(1)
    right = after.argmax(1) == labels_N
    return AugmentationShift(
        transform, float(moved.mean()), float(flipped.double().mean()), float(right.double().mean())
    )
