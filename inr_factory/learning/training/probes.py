"""Probes of features: how well they separate classes, by nearest neighbours and by a linear classifier. Not models/probes.py.

Shape letters: N INRs with known labels, M query INRs, F features.
"""

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from inr_factory.errors import UsageError
from inr_factory.inr.batch import INRBatch
from inr_factory.learning.models.normalized_encoder import NormalizedEncoder

CHUNK = 1024  # queries compared at once


@torch.no_grad()
def features_of(model: NormalizedEncoder, batches: Iterable[tuple[INRBatch, Tensor]]) -> tuple[Tensor, Tensor]:
    """Features (N, F) and labels (N,) of all batches, on the CPU, in evaluation mode.

    Raises UsageError where there is no batch.
    """
    training = model.training
    model.eval()
    try:
        parts = [(model.features(inrs.to(model.device)).float().cpu(), T.argmax(1).cpu()) for inrs, T in batches]
    finally:
        model.train(training)
    if not parts:
        raise UsageError("there is nothing to take features of; the split is empty")
    features, labels = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    return features, labels


def neighbour_accuracy(
    known_NF: Tensor, labels_N: Tensor, queries_MF: Tensor, query_labels_M: Tensor, neighbours: int = 20
) -> float:
    """Share of queries whose class their nearest known neighbours predict, by cosine similarity of features.

    Neighbours vote by exp(similarity / 0.07) (Wu et al., CVPR 2018). Features are centred on the mean of the known:
    those of a ReLU are positive, so that without centring all of them are similar. Fewer known than `neighbours`: all vote.
    """
    middle = known_NF.mean(0)
    known, queries = F.normalize(known_NF - middle, dim=1), F.normalize(queries_MF - middle, dim=1)
    count = min(neighbours, len(known))
    num_classes = int(torch.cat([labels_N, query_labels_M]).max()) + 1
    correct = 0
    for part, truth in zip(torch.split(queries, CHUNK), torch.split(query_labels_M, CHUNK), strict=True):
        near = (part @ known.T).topk(count, dim=1)
        votes = torch.zeros(len(part), num_classes).scatter_add_(
            1, labels_N[near.indices], ((near.values - 1) / 0.07).exp()
        )
        correct += int((votes.argmax(1) == truth).sum())
    return correct / len(queries)


def linear_accuracy(known_NF: Tensor, labels_N: Tensor, queries_MF: Tensor, query_labels_M: Tensor) -> float:
    """Share of queries that a linear classifier, fitted to the standardised known features, predicts correctly.

    Logistic regression by scikit-learn, L2 of strength 1; no randomness. Raises UsageError for a single class.
    """
    from sklearn.linear_model import LogisticRegression  # scikit-learn takes a second to import
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if len(set(labels_N.tolist())) < 2:
        raise UsageError(f"a linear probe needs at least two classes, every label is {int(labels_N[0])}")
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=5000))
    probe.fit(known_NF.double().numpy(), labels_N.numpy())
    return float(probe.score(queries_MF.double().numpy(), query_labels_M.numpy()))


def project_to_plane(features_NF: Tensor) -> NDArray[np.float64]:
    """(N, 2): standardised features projected onto their two principal components, the same in every run."""
    from sklearn.decomposition import PCA
    from sklearn.preprocessing import StandardScaler

    standard = StandardScaler().fit_transform(features_NF.double().numpy())
    projected: NDArray[np.float64] = PCA(2, svd_solver="full").fit_transform(standard)
    return projected
