"""Search: the neighbours of one INR among those of a set, and scores of all INRs of a split as queries.

Shape letters: N INRs of the gallery that is searched, F features, K neighbours.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from inr_factory.inr.batch import INRBatch
from inr_factory.learning.data.dataset import INRDataset
from inr_factory.learning.training.feature_kinds import UNTRAINED, FeatureKind, OnBatch, Run, feature_kind
from inr_factory.learning.training.retrieval import (
    Labels,
    Pair,
    Scores,
    comparable,
    expect_ranks,
    measure_ranks,
    nearest,
)
from inr_factory.learning.training.run_data import class_names

Sought = tuple[str, str, int]
"""Object, class and view of an INR; of what the set does not have the name, "" and 0."""


@dataclass(frozen=True)
class Neighbour:
    """An INR of the gallery: its object, view and class, and the cosine similarity of its features with the query's."""

    object_id: str
    view: int
    class_name: str
    similarity: float


@dataclass(frozen=True)
class SearchReport:
    """The neighbours of one query.

    Attributes:
        query: Name of its object or file.
        view: Its view; 0 of what the set does not have.
        class_name: Its class, "" where that is unknown.
        features: What was compared.
        split: The split that was searched.
        searched: How many INRs that were, without those that are left out.
        neighbours: The nearest INRs, the most similar first.
        inr: The query itself.
        inrs: The K neighbours themselves, in order.
        incomplete: Shards of the split that are missing.
    """

    query: str
    view: int
    class_name: str
    features: str
    split: str
    searched: int
    neighbours: tuple[Neighbour, ...]
    inr: INRBatch = field(repr=False)
    inrs: INRBatch = field(repr=False)
    incomplete: int = 0

    def to_fields(self) -> dict[str, Any]:
        """The report as JSON."""
        names = ("query", "view", "class_name", "features", "split", "searched", "incomplete")
        return {name: getattr(self, name) for name in names} | {"neighbours": [vars(one) for one in self.neighbours]}


@dataclass(frozen=True)
class RetrievalRow:
    """What one kind of features retrieves: INRs of the class of the query, and other views of its object.

    Attributes:
        name: "random", one of the words for what needs no training, or the run.
        features: What was compared.
        by_class: Scores with views of the query's object left out; None without classes.
        by_object: Scores of the other views of the query's object; None where there are none.
    """

    name: str
    features: str
    by_class: Scores | None
    by_object: Scores | None


@dataclass(frozen=True)
class RetrievalReport:
    """Retrieval with all INRs of a split as queries.

    Attributes:
        dataset: Name of the data set.
        split: The split of the queries.
        gallery: The split that was searched.
        queries: How many INRs were sought.
        searched: How many INRs there are in the gallery.
        k: Neighbours of `map_k`.
        rows: One for each kind of features, the random order first.
        examples: Neighbours of some queries by the last row.
        incomplete: Shards that are missing.
    """

    dataset: str
    split: str
    gallery: str
    queries: int
    searched: int
    k: int
    rows: tuple[RetrievalRow, ...]
    examples: tuple[SearchReport, ...] = field(default=(), repr=False)
    incomplete: int = 0

    def to_fields(self) -> dict[str, Any]:
        """The report as JSON, without the examples."""
        names = ("dataset", "split", "gallery", "queries", "searched", "k", "incomplete")
        rows = [
            {"name": row.name, "features": row.features, "by_class": row.by_class and vars(row.by_class),
             "by_object": row.by_object and vars(row.by_object)}
            for row in self.rows
        ]  # fmt: skip
        return {name: getattr(self, name) for name in names} | {"rows": rows}


@dataclass(frozen=True)
class Gallery:
    """INRs of a set with their features, ready to be searched."""

    data: INRDataset
    kind: FeatureKind
    features_NF: Tensor

    @classmethod
    def of(cls, run: Run, data: INRDataset, device: str, on_batch: OnBatch | None = None) -> "Gallery":
        kind = feature_kind(run, data, device)
        return cls(data, kind, kind.features(data, device, on_batch))

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        return class_names(self.data)

    @torch.no_grad()
    def search(self, inr: INRBatch, sought: Sought, count: int, same_object: bool = False) -> SearchReport:
        """The at most `count` INRs nearest to one (N = 1), without itself and, unless asked, its object's other views."""
        gallery_NF, query_1F = comparable(self.features_NF, self.kind.read(inr), self.kind.scaled)
        data, (name, class_name, view) = self.data, sought
        left_out = data.object_ids == name
        left_out &= (data.views == view) | (not same_object)
        similarity, rows = nearest(gallery_NF, query_1F[0], left_out, count)
        found = rows.numpy()
        neighbours = tuple(
            Neighbour(str(data.object_ids[row]), int(data.views[row]), self.class_names[row], value)
            for row, value in zip(found, similarity.tolist(), strict=True)
        )
        return SearchReport(
            name, view, class_name, self.kind.about, data.split, int((~left_out).sum()), neighbours, inr,
            INRBatch.from_flat(data.spec, data.gather(found)[0]), data.incomplete,
        )  # fmt: skip


def measure_retrieval(
    run: Run,
    queries: INRDataset,
    gallery: INRDataset,
    k: int,
    num_examples: int = 0,
    device: str = "auto",
    on_batch: OnBatch | None = None,
) -> RetrievalReport:
    """Scores of a run's features, with those of a random order and of UNTRAINED for comparison.

    Args:
        run: As `feature_kind` takes it.
        queries: Each of its INRs is a query.
        gallery: What is searched; may be `queries` itself.
        k: Neighbours of mAP@k.
        num_examples: Queries, of as many classes as there are, whose k neighbours the report has.
        device: "auto", "cpu", "cuda" or "cuda:N".
        on_batch: Called after each batch of features with the INRs done, and all.

    Returns:
        The report.
    """
    objects = _numbered(queries.object_ids, gallery.object_ids)
    views = _numbered(*(number * 2**20 + data.views for number, data in zip(objects, (queries, gallery), strict=True)))
    classes: tuple[Pair, Pair] | None = ((queries.labels, gallery.labels), objects) if queries.num_classes > 1 else None
    pairs = (classes, (objects, views))  # what is sought, and what is left out
    chance = [None if pair is None else expect_ranks(*pair, k) for pair in pairs]
    rows = [RetrievalRow("random", "a random order, on average", *chance)]
    for kind in (*(kind for kind in UNTRAINED if kind != run), run):
        known = Gallery.of(kind, gallery, device, on_batch)
        sought = known.features_NF if queries is gallery else known.kind.features(queries, device, on_batch)
        compared = comparable(known.features_NF, sought, known.kind.scaled)
        scores = [
            None if pair is None or possible is None else measure_ranks(*compared, *pair, k)
            for pair, possible in zip(pairs, chance, strict=True)
        ]
        rows.append(RetrievalRow(known.kind.name, known.kind.about, *scores))
    chosen = _of_each_class(queries.labels, num_examples)
    inrs, names = INRBatch.from_flat(queries.spec, queries.gather(chosen)[0]), class_names(queries)
    examples = [
        known.search(inr, (str(queries.object_ids[row]), names[row], int(queries.views[row])), k)
        for row, inr in zip(chosen, inrs, strict=True)
    ]
    return RetrievalReport(
        queries.manifest.name, queries.split, gallery.split, len(queries), len(gallery), k, tuple(rows),
        tuple(examples), max(queries.incomplete, gallery.incomplete),
    )  # fmt: skip


def _numbered(*names: NDArray[Any]) -> tuple[Labels, Labels]:
    """Names of queries and gallery as numbers, equal where the names are."""
    number = np.unique(np.concatenate(names), return_inverse=True)[1]
    return number[: len(names[0])], number[len(names[0]) :]


def _of_each_class(labels_Q: Labels, count: int) -> Labels:
    """Rows of `count` queries in the order of their classes: every class's first before any class's second."""
    order = np.argsort(labels_Q, kind="stable")
    _, start, size = np.unique(labels_Q[order], return_index=True, return_counts=True)
    turn = np.arange(len(order)) - np.repeat(start, size)
    chosen = np.sort(np.argsort(turn, kind="stable")[:count])
    return order[chosen]
