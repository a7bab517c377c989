"""Weight analysis: statistics of layers, distances and a map of a sample of INRs.

Shape letters: N INRs, D parameters of one INR.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from inr_factory.inr.batch import INRBatch
from inr_factory.learning.alignment.weight_matching import align, finest_match, relative_distance
from inr_factory.learning.transforms.canonical import canonicalize
from inr_factory.reporting.html.sampling import Sample
from inr_factory.reporting.weight_statistics import PUBLISHED, PUBLISHED_SPEC, measure_spreads

Floats = NDArray[np.float64]

# Names in the report of the published corpora of Navon et al. (2023).
CORPORA = {"Fashion-MNIST": "dwsnets_fashion_mnist", "MNIST": "dwsnets_mnist"}


@dataclass(frozen=True)
class Layer:
    """Mean and spread of one tensor over a sample, see weight_statistics.Spreads; `published`: spreads of corpora."""

    name: str
    shape: tuple[int, ...]
    mean: float
    std: float
    published: Mapping[str, float]


def layer_statistics(inrs: INRBatch) -> list[Layer]:
    """Weights and biases of each layer, with the published spreads where the INRs have the same shape."""
    comparable = inrs.spec.layer_shapes == PUBLISHED_SPEC.layer_shapes
    known = {corpus: PUBLISHED[name] for corpus, name in CORPORA.items()} if comparable else {}
    measured = measure_spreads(inrs)
    layers = []
    for number, pair in enumerate(zip(inrs.weights, inrs.biases, strict=True)):
        for what, tensor in zip(("weights", "biases"), pair, strict=True):
            spread, *others = (getattr(spreads, what)[number] for spreads in (measured, *known.values()))
            published = dict(zip(known, others, strict=True))
            shape, mean = tuple(tensor.shape[1:]), float(tensor.double().mean())
            layers.append(Layer(f"layer {number + 1}, {what}", shape, mean, spread, published))
    return layers


@dataclass(frozen=True)
class Distances:
    """Relative distances of pairs in one form: two views of one object, and views of different objects."""

    name: str
    same: Floats
    different: Floats


def view_distances(sample: Sample) -> list[Distances]:
    """Distances as fitted, in canonical form and after the alignment of each pair; none without pairs."""
    if sample.other is None or len(sample.other) < 2:
        return []
    other = sample.other
    first = sample.inrs.select(slice(0, len(other)))
    shuffled = other.select(torch.arange(len(other)).roll(1))  # every INR paired with another object's

    def between(form: Any) -> tuple[Floats, Floats]:
        same, different = (relative_distance(*form(first, second)).double().numpy() for second in (other, shuffled))
        return same, different

    forms: dict[str, Any] = {"as fitted": lambda a, b: (b, a)}
    canonical = canonicalize(first)
    forms["canonical"] = lambda a, b: (canonicalize(b), canonical)
    forms["aligned"] = lambda a, b: (align(b, a, finest_match(a.spec)), a)
    return [Distances(name, *between(form)) for name, form in forms.items()]


@dataclass(frozen=True)
class WeightMap:
    """INRs in one form on their first two principal axes.

    `positions` (N, 2), the axes' shares of the variance, and the share of the variance between the means of classes.
    """

    name: str
    positions: Floats
    shares: tuple[float, float]
    between_classes: float


def weight_maps(sample: Sample) -> list[WeightMap]:
    """Maps of the weights as fitted, in canonical form, and aligned to the first INR; none for one INR."""
    inrs = sample.inrs
    if len(inrs) < 3:
        return []
    forms = {"as fitted": inrs}
    forms["canonical"] = canonicalize(inrs)
    forms["aligned"] = align(inrs, inrs.select(slice(0, 1)), finest_match(inrs.spec))
    return [principal_axes(name, form.flatten().double().numpy(), sample.label) for name, form in forms.items()]


def principal_axes(name: str, weights: Floats, labels: NDArray[np.int64]) -> WeightMap:
    """The map of weights (N, D), by the N x N products, since D may be a million. Each axis's farthest INR is positive."""
    centred = weights - weights.mean(axis=0)
    total = float((centred**2).sum())
    values, vectors = np.linalg.eigh(centred @ centred.T)
    largest = values[::-1][:2].clip(min=0)
    positions = vectors[:, ::-1][:, :2] * np.sqrt(largest)
    extreme = np.abs(positions).argmax(axis=0)
    positions = positions * np.where(positions[extreme, [0, 1]] < 0, -1, 1)
    means = {label: centred[labels == label].mean(axis=0) for label in np.unique(labels)}
    between = sum(float((mean**2).sum()) * int((labels == label).sum()) for label, mean in means.items())
    shares = largest / total if total else largest * 0
    return WeightMap(name, positions, (float(shares[0]), float(shares[1])), between / total if total else 0.0)


def chance_between(labels: NDArray[np.int64]) -> float:
    """The share of variance between classes of random labels: (classes - 1) / (N - 1)."""
    return (len(np.unique(labels)) - 1) / max(1, len(labels) - 1)
