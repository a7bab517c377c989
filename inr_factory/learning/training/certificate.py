"""Certificate: the symmetries of INRs that a trained reader is invariant to, and how far augmentations move its output.

Shape letters: N INRs, C outputs: logits of classes or labels, or numbers.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from inr_factory.inr.batch import INRBatch
from inr_factory.learning.models.classifier import Classifier
from inr_factory.learning.models.predictor import Predictor
from inr_factory.learning.training.value_metrics import label_figures, number_figures
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

    A residual is the largest change of an INR's outputs over DRAWS random elements, relative to the spread of outputs over
    the INRs: the root mean square of their distances from the mean of their column.

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
        moved: Of classes the mean total variation between the probabilities before and after, in [0, 1]; of other targets
            the mean absolute change of the outputs, relative to their spread.
        flipped: Share of INRs whose predicted class changes; None for other targets.
        score: The report's figure after it.
    """

    transform: str
    moved: float
    flipped: float | None
    score: float


@dataclass(frozen=True)
class CertificateReport:
    """What a reader is invariant to, measured on INRs of a split.

    Attributes:
        dataset: Name of the data set.
        split: The split.
        count: How many INRs were measured, at most MOST, spread evenly.
        draws: Random elements of a symmetry for each INR.
        threshold: INVARIANT.
        figure: "accuracy", "r2" or "mean_average_precision".
        score: That figure without any change.
        symmetries: One for each symmetry that the INRs' activation has.
        augmentations: One for each other transform that suits the INRs.
    """

    dataset: str
    split: str
    count: int
    draws: int
    threshold: float
    figure: str
    score: float
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
    model: Classifier | Predictor, inrs: INRBatch, truth: Tensor, dataset: str = "", split: str = "", seed: int = 0
) -> CertificateReport:
    """Measure a reader on INRs, in evaluation mode and in its floating type.

    `truth` are numbers (N,) of the classifier's classes, or values (N, C) of the predictor's target.
    """
    training, kept = model.training, next(model.parameters()).dtype
    model.eval()
    exact, others = _applicable(inrs)
    figure, score_of = _figure(model, truth)
    try:
        before = _outputs(model, inrs)
        shifts = []
        for one in others:
            after = _outputs(model, _changed(one, inrs, seed))
            shifts.append(AugmentationShift(str(one), *_moved(model, before, after), score_of(after)))
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
    return CertificateReport(
        dataset, split, len(inrs), DRAWS, INVARIANT, figure, score_of(before), tuple(symmetries), tuple(shifts)
    )  # fmt: skip


def _figure(model: Classifier | Predictor, truth: Tensor) -> tuple[str, Callable[[Tensor], float]]:
    """The name of the figure that a reader is measured by, and what gives it for outputs (N, C)."""
    if isinstance(model, Classifier):
        return "accuracy", lambda outputs: float((outputs.argmax(1) == truth).double().mean())
    name, figures = ("r2", number_figures) if model.is_numeric else ("mean_average_precision", label_figures)
    return name, lambda outputs: float(figures(outputs.numpy(), truth.numpy())[name])


def _applicable(inrs: INRBatch) -> tuple[dict[str, RandomTransform], list[RandomTransform]]:
    """The symmetries of these INRs by name, and all other transforms that they support but the canonical form."""
    transforms = {type(one): one for one in applicable_transforms(inrs[:1])}
    exact = {name: transforms.pop(kind) for name, kind in SYMMETRIES.items() if kind in transforms}
    return exact, [one for one in transforms.values() if not isinstance(one, Canonicalize)]


def _changed(transform: RandomTransform, inrs: INRBatch, seed: int) -> INRBatch:
    return transform(inrs, Generator(inrs.device).manual_seed(seed))


def _outputs(model: Classifier | Predictor, inrs: INRBatch) -> Tensor:
    """(N, C) on the CPU."""
    parts = [inrs.select(slice(start, start + BATCH)) for start in range(0, len(inrs), BATCH)]
    return torch.cat([model(part.to(model.device)).cpu() for part in parts])


def _residuals(model: Classifier | Predictor, inrs: INRBatch, transform: RandomTransform, seed: int) -> Tensor:
    """(N,): the largest change of each INR's outputs over DRAWS random elements of a symmetry, see SymmetryResidual."""
    before = _outputs(model, inrs)
    changes = [(_outputs(model, _changed(transform, inrs, seed + draw)) - before).abs() for draw in range(DRAWS)]
    return torch.stack(changes).amax(dim=(0, 2)) / _spread(before)


def _spread(outputs: Tensor) -> Tensor:
    spread = (outputs - outputs.mean(0)).square().mean().sqrt()
    return spread.clamp(min=torch.finfo(outputs.dtype).tiny)


def _moved(model: Classifier | Predictor, before: Tensor, after: Tensor) -> tuple[float, float | None]:
    """`moved` and `flipped` of AugmentationShift."""
    if not isinstance(model, Classifier):
        return float((after - before).abs().mean() / _spread(before)), None
    moved = (after.softmax(1) - before.softmax(1)).abs().sum(1) / 2
    return float(moved.mean()), float((after.argmax(1) != before.argmax(1)).double().mean())
