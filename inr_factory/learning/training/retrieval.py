"""Retrieval: the INRs nearest to a query by their features, and how often they are of its class or its object.

Shape letters: Q queries, N INRs of the gallery that is searched, F features, K neighbours.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

TILE = 2**20  # similarities that are sorted at a time, 4 MB, which stay in the cache

Labels = NDArray[np.int64]
Pair = tuple[Labels, Labels]
"""Numbers (Q,) of the queries and (N,) of the gallery; a pair belongs together where both are equal."""


@dataclass(frozen=True)
class Scores:
    """How well the INRs that are sought are ranked: means over the queries that have any in the gallery, in [0, 1].

    Attributes:
        map_k: Mean average precision of the first K neighbours, see `measure_ranks`.
        map_all: That of all neighbours.
        first: Share of queries whose nearest neighbour is right: the precision at 1.
    """

    map_k: float
    map_all: float
    first: float


def comparable(gallery_NF: Tensor, queries_QF: Tensor, scaled: bool) -> tuple[Tensor, Tensor]:
    """Both less the gallery's mean, in rows of norm 1, so that products are cosine similarities.

    `scaled` also divides each feature by its standard deviation over the gallery, which weights need, since layers have
    scales of their own. Of pixels it would enlarge the noise of those that never change.
    """
    middle = gallery_NF.mean(0)
    spread = gallery_NF.std(0, correction=0).clamp(min=1e-6) if scaled else None

    def prepared(features: Tensor) -> Tensor:
        features = features - middle
        features = features if spread is None else features.div_(spread)
        return F.normalize(features, dim=1, out=features)

    gallery = prepared(gallery_NF)
    return gallery, gallery if queries_QF is gallery_NF else prepared(queries_QF)


def nearest(gallery_NF: Tensor, query_F: Tensor, left_out_N: NDArray[np.bool_], count: int) -> tuple[Tensor, Tensor]:
    """Similarities (K,) and rows (K,) of at most `count` INRs, the nearest first; of what `comparable` gives."""
    similarity = (gallery_NF @ query_F).masked_fill_(torch.from_numpy(left_out_N), -torch.inf)
    found = similarity.topk(min(count, int((~left_out_N).sum())))
    return found.values, found.indices


def measure_ranks(gallery_NF: Tensor, queries_QF: Tensor, sought: Pair, left_out: Pair, k: int) -> Scores | None:
    """Rank the gallery for each query by similarity, and score the ranks of what is sought.

    AP@k of a query is the sum of P(i) rel(i) over the ranks i <= k, over min(k, R): rel(i) is 1 where neighbour i is
    sought, else 0; P(i) is the share of these among the first i; R is how many the gallery has (Weyand et al., Google
    Landmarks Dataset v2, CVPR 2020, section 4.2). A query without any does not count. Of equally similar INRs those that
    are not sought come first.

    Args:
        gallery_NF: The gallery, as `comparable` gives it.
        queries_QF: The queries, as `comparable` gives them.
        sought: What belongs together, such as the classes.
        left_out: Pairs that do not count, such as those of the same object.
        k: Neighbours of AP@k.

    Returns:
        The scores; None where no query has what it seeks.
    """
    sums, count = np.zeros(3), 0
    for rows in np.array_split(np.arange(len(queries_QF)), 1 + len(queries_QF) * len(gallery_NF) // TILE):
        similarity = (queries_QF[rows] @ gallery_NF.T).clamp_(-1, 1).numpy()
        excluded = left_out[0][rows, None] == left_out[1]
        wanted = (sought[0][rows, None] == sought[1]) & ~excluded
        # One sort of whole numbers, in place of floats with their rows. The last bit says what is sought.
        keys = ((similarity + 1) * 2**28).astype(np.int32)
        keys = np.where(excluded, np.iinfo(np.int32).max, -2 * keys - ~wanted)
        keys.sort(axis=1)
        query, rank = np.nonzero(keys % 2 == 0)
        relevant = np.bincount(query, minlength=len(rows))
        number = np.arange(len(query)) - np.repeat(np.cumsum(relevant) - relevant, relevant)
        precision = (number + 1) / (rank + 1)
        total = np.bincount(query, precision, minlength=len(rows))
        early = np.bincount(query, precision * (rank < k), minlength=len(rows))
        has = relevant > 0
        sums += [
            (early[has] / np.minimum(relevant[has], k)).sum(), (total[has] / relevant[has]).sum(), (rank == 0).sum(),
        ]  # fmt: skip
        count += int(has.sum())
    return Scores(*(sums / count).tolist()) if count else None


def expect_ranks(sought: Pair, left_out: Pair, k: int) -> Scores | None:
    """The scores of `measure_ranks` that a random order gives on average.

    With M INRs that count, R of them sought, rank i holds one of these with probability R / M, and each rank before it then
    with (R - 1) / (M - 1). So the mean of P(i) rel(i) is R / M (1 + (i - 1) (R - 1) / (M - 1)) / i. Pairs that are left out
    must be among those sought.
    """
    excluded = _count_equal(*left_out)
    M, R = len(left_out[1]) - excluded, _count_equal(*sought) - excluded
    M, R = M[R > 0], R[R > 0]
    if not len(R):
        return None
    harmonic = np.concatenate([[0], np.cumsum(1 / np.arange(1, M.max() + 1))])

    def mean(last: Labels, normalizer: Labels) -> float:
        others = (R - 1) / np.maximum(M - 1, 1)
        return float((R / M * (harmonic[last] + (last - harmonic[last]) * others) / normalizer).mean())

    return Scores(mean(np.minimum(M, k), np.minimum(R, k)), mean(M, R), float((R / M).mean()))


def _count_equal(queries_Q: Labels, gallery_N: Labels) -> Labels:
    """(Q,): how many numbers of the gallery equal that of a query."""
    known, counts = np.unique(gallery_N, return_counts=True)
    at = np.searchsorted(known, queries_Q).clip(max=len(known) - 1)
    return np.where(known[at] == queries_Q, counts[at], 0)
