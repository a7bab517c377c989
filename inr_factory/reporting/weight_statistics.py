"""Weight statistics: the spread of each layer, distances between INRs, and PSNR of a set.

Shape letters: N INRs, I inputs and O outputs of a layer.
"""

from dataclasses import dataclass

import numpy as np
import torch

from inr_factory.errors import UsageError
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.spec import SirenSpec
from inr_factory.learning.alignment.weight_matching import relative_distance
from inr_factory.learning.data.dataset import INRDataset
from inr_factory.storage.locations import Location


@dataclass(frozen=True)
class Spreads:
    """The standard deviation over INRs, root mean square over the weights (biases) of each layer.

    The `std` of a statistics.pth gives the same, layer by layer.
    """

    weights: tuple[float, ...]
    biases: tuple[float, ...]

    def ratios(self, other: "Spreads") -> "Spreads":
        """These divided by another's, layer by layer."""
        pairs = ((self.weights, other.weights), (self.biases, other.biases))
        return Spreads(*(tuple(a / b for a, b in zip(values, others, strict=True)) for values, others in pairs))

    def typical_factor(self, other: "Spreads") -> float | None:
        """exp of the root mean square of the logarithms of all ratios: 1 for equal spreads, 1.2 for 20 % off; None where
        a spread is 0, as of biases that no fit has changed."""
        if 0 in (*self.weights, *self.biases, *other.weights, *other.biases):
            return None
        ratios = self.ratios(other)
        return float(np.exp(np.sqrt(np.mean(np.log([*ratios.weights, *ratios.biases]) ** 2))))


PUBLISHED_SPEC = SirenSpec(2, 1, hidden_dim=32, num_hidden=2, omega_0=30.0, output_bias=0.5, start="dwsnets")

# From the statistics that come with the corpora of Navon et al. (2023).
PUBLISHED = {
    "dwsnets_mnist": Spreads((0.0628, 0.0183, 0.1179), (0.0213, 0.0110, 0.0999)),
    "dwsnets_fashion_mnist": Spreads((0.0780, 0.0324, 0.1345), (0.0286, 0.0167, 0.0960)),
}
PUBLISHED_DISTANCE = 1.42  # median relative distance of two INRs of these corpora


@dataclass(frozen=True)
class SetStatistics:
    """What is compared of a set: `distance` between INRs of different objects, `view_distance` between two views of one
    object, medians, relative; None where a set has no such pair, or is a published one of which it is not known."""

    name: str
    spec: SirenSpec
    inrs: int | None
    spreads: Spreads
    distance: float | None
    view_distance: float | None
    psnr: float | None


def measure_spreads(inrs: INRBatch) -> Spreads:
    """The spreads of N INRs."""

    def spread(stacked: torch.Tensor) -> float:
        return float(stacked.double().var(dim=0, correction=0).mean().sqrt())

    return Spreads(tuple(map(spread, inrs.weights)), tuple(map(spread, inrs.biases)))


def published_statistics(name: str) -> SetStatistics:
    """The statistics of a published corpus."""
    return SetStatistics(name, PUBLISHED_SPEC, None, PUBLISHED[name], PUBLISHED_DISTANCE, None, None)


def measure_set(root: Location, split: str = "train", count: int = 2000) -> SetStatistics:
    """The statistics of a set in folder root, from `count` INRs of a split, evenly taken, and as many pairs at most.

    Raises UsageError where the split has fewer than two INRs.
    """
    data = INRDataset(root, split)
    if len(data) < 2:
        raise UsageError(f"{root} has {len(data)} INR in split {split}; two are the least that can be compared")
    chosen = np.unique(np.linspace(0, len(data) - 1, count).round().astype(int))
    inrs = INRBatch.from_flat(data.spec, data.gather(chosen)[0])
    objects = data.objects
    partners = np.roll(chosen, 1)  # rows come view by view, so that neighbours are different objects
    apart = objects[chosen] != objects[partners]
    known = data.psnr[np.isfinite(data.psnr)]
    return SetStatistics(
        name=data.manifest.name,
        spec=data.spec,
        inrs=len(chosen),
        spreads=measure_spreads(inrs),
        distance=_median_distance(data, chosen[apart], partners[apart]),
        view_distance=_median_distance(data, *_view_pairs(objects, data.views, count)),
        psnr=float(np.median(known)) if len(known) else None,
    )


def _view_pairs(objects: np.ndarray, views: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:  # type: ignore[type-arg]
    """Row numbers of up to `count` pairs: an object's first view and its next."""
    order = np.lexsort((views, objects))
    first = np.flatnonzero(np.diff(objects[order], prepend=-1) != 0)
    first = first[[at + 1 < len(order) and objects[order[at]] == objects[order[at + 1]] for at in first]]
    first = first[np.unique(np.linspace(0, len(first) - 1, min(count, len(first))).round().astype(int))]
    return order[first], order[first + 1]


def _median_distance(data: INRDataset, rows: np.ndarray, partners: np.ndarray) -> float | None:  # type: ignore[type-arg]
    if not len(rows):
        return None
    first, second = (INRBatch.from_flat(data.spec, data.gather(index)[0]) for index in (rows, partners))
    return float(relative_distance(first, second).median())
