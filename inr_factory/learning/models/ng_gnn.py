"""NG-GNN: principal neighbourhood aggregation over an INR's neural graph (Corso et al. 2020; Kofinas et al. 2024).

Shape letters: N INRs, V neurons of a layer, O and I neurons after and before a block of edges, F features.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from inr_factory.inr.batch import INRBatch
from inr_factory.inr.spec import SirenSpec
from inr_factory.learning.models.encoder import Encoder, check_kind
from inr_factory.learning.models.neural_graph import (
    EdgeEmbedding,
    NodeEmbedding,
    check_reach,
    first_needed,
)

VARIANCE_FLOOR = 1e-5


class Convolution(nn.Module):
    """Messages scale(e_ij) * Lin[x_i, x_j] + shift(e_ij) to node i, and of them mean, min, max and std, each as it
    is and times log(degree + 1) / its mean over all nodes; Linear of these and x_i, Linear."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.edge = nn.Linear(dim, 2 * dim)
        self.pair = nn.Linear(2 * dim, dim)
        self.join = nn.Linear(9 * dim, dim)
        self.out = nn.Linear(dim, dim)

    def forward(
        self, nodes: Sequence[Tensor], forward: Sequence[Tensor], backward: Sequence[Tensor], rows: range
    ) -> list[Tensor]:
        """New features (N, V, F) of the nodes of the layers `rows`.

        Of block l, forward[l] leads to the neurons after it and backward[l] to those before it, (N, O, I, F) both.
        """
        to_target, to_source = self.pair.weight.chunk(2, dim=1)
        targets = [F.linear(x, to_target, self.pair.bias) for x in nodes]
        sources = [F.linear(x, to_source) for x in nodes]
        degrees = [
            sum(nodes[other].shape[1] for other in (row - 1, row + 1) if 0 <= other < len(nodes))
            for row in range(len(nodes))
        ]
        total = sum(x.shape[1] * math.log(degree + 1) for x, degree in zip(nodes, degrees, strict=True))
        mean_log = total / sum(x.shape[1] for x in nodes)
        results = []
        for row in rows:
            sides = []
            if row > 0:
                pairs = targets[row].unsqueeze(2) + sources[row - 1].unsqueeze(1)
                sides.append((self._messages(forward[row - 1], pairs), 2))
            if row + 1 < len(nodes):
                pairs = targets[row].unsqueeze(1) + sources[row + 1].unsqueeze(2)
                sides.append((self._messages(backward[row], pairs), 1))
            aggregates = torch.cat(_aggregate(sides, degrees[row]), dim=-1)
            amplified = aggregates * (math.log(degrees[row] + 1) / mean_log)
            results.append(self.out(self.join(torch.cat([nodes[row], aggregates, amplified], dim=-1))))
        return results

    def _messages(self, edges: Tensor, pairs: Tensor) -> Tensor:
        (to_scale, to_shift), (scale_bias, shift_bias) = self.edge.weight.chunk(2), self.edge.bias.chunk(2)
        return torch.addcmul(F.linear(edges, to_shift, shift_bias), F.linear(edges, to_scale, scale_bias), pairs)


def _aggregate(sides: Sequence[tuple[Tensor, int]], degree: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Mean, min, max, std over the messages (N, O, I, F) of one or two sides, each along its own dimension."""
    mean = torch.stack([m.sum(dim) for m, dim in sides]).sum(0) / degree
    square = torch.stack([m.square().sum(dim) for m, dim in sides]).sum(0) / degree
    low = torch.stack([m.min(dim).values for m, dim in sides]).min(0).values
    high = torch.stack([m.max(dim).values for m, dim in sides]).max(0).values
    return mean, low, high, (square - mean.square()).clamp(min=VARIANCE_FLOOR).sqrt()


class EdgeUpdate(nn.Module):
    """Lin SiLU(Lin e + Lin x_from + Lin x_to)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.edge, self.source, self.target, self.out = (nn.Linear(dim, dim) for _ in range(4))

    def forward(self, edges: Tensor, before: Tensor, after: Tensor, backward: bool) -> Tensor:
        """edges (N, O, I, F) between the nodes before (N, I, F) and after (N, O, F) them."""
        to_before, to_after = (self.target, self.source) if backward else (self.source, self.target)
        nodes = to_before(before).unsqueeze(1) + to_after(after).unsqueeze(2)
        updated: Tensor = self.out(F.silu(self.edge(edges).add_(nodes)))
        return updated


class NGGNNEncoder(Encoder):
    """PNA, num_layers deep, with the output nodes as result: twice Linear, ReLU -> hidden_dim features.

    With a Linear to 10 classes behind it, 2-32-32-1 INRs and 64 probes it has the published 348,746 parameters
    (331,466 without probes). They fit INRs of any width.

    Messages go along real edges, in both directions, each direction with its own features. Between layers LayerNorm of each
    node, SiLU, dropout; the published code normalises by mean and spread over the batch. Messages
    that would reach the output nodes too late are not computed. Invariant to permutations of the neurons of each hidden layer.

    `num_probes` learned coordinates are run through every INR (see neural_graph.Probes); 0 for none, published 64.
    Raises UsageError for options out of range, too few layers for messages of the first weights to reach the outputs, and INRs
    of other inputs, outputs or layers.
    """

    name = "ng_gnn"

    def __init__(
        self,
        spec: SirenSpec,
        *,
        hidden_dim: int = 64,
        num_layers: int = 4,
        num_probes: int = 0,
        dropout: float = 0.2,
    ) -> None:
        super().__init__(spec, hidden_dim=hidden_dim, num_layers=num_layers, num_probes=num_probes, dropout=dropout)
        check_reach(self.name, num_layers, spec.num_hidden + 1, spec)
        self.features = hidden_dim
        self.reads = "weights and probes" if num_probes else "weights"
        self.nodes = NodeEmbedding(spec, hidden_dim, 3.0, num_probes)
        self.edges = EdgeEmbedding(hidden_dim, 3.0, directions=2)
        self.convolutions = nn.ModuleList(Convolution(hidden_dim) for _ in range(num_layers))
        self.norms = nn.ModuleList(nn.LayerNorm(hidden_dim) for _ in range(num_layers - 1))
        self.edge_updates = nn.ModuleList(EdgeUpdate(hidden_dim) for _ in range(num_layers - 1))
        self.dropout = nn.Dropout(dropout)
        self.readout = nn.Sequential(
            nn.Linear(spec.out_dim * hidden_dim, hidden_dim), nn.ReLU(), nn.Linear(hidden_dim, hidden_dim), nn.ReLU()
        )

    def forward(self, inrs: INRBatch, original: INRBatch | None = None) -> Tensor:
        """(N, features) of N INRs, any width; `original` are those that the probes are run through."""
        nodes, _, _ = self.message_passing(inrs, inrs if original is None else original)
        features: Tensor = self.readout(nodes[-1].flatten(1))
        return features

    def message_passing(
        self, inrs: INRBatch, original: INRBatch, everywhere: bool = False
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Messages at last of the nodes, and the features of the edges in both directions; but for `everywhere`, only what
        the output nodes depend on is up to date."""
        check_kind(self.name, self.spec, inrs)
        nodes = self.nodes(inrs, original)
        forward, backward = ([self.edges(W, direction) for W in inrs.weights] for direction in range(2))
        final = len(self.convolutions) - 1

        def needed(depth: int) -> int:
            return 0 if everywhere else first_needed(depth, final + 1, len(forward))

        for depth, convolution in enumerate(self.convolutions):
            rows = range(needed(depth), len(nodes))
            messages = convolution(nodes, forward, backward, rows)
            if depth == final:
                break
            norm, update = self.norms[depth], self.edge_updates[depth]
            nodes[rows.start :] = [self.dropout(F.silu(norm(x))) for x in messages]
            following = needed(depth + 1)
            for block in range(max(0, following - 1), len(forward)):
                forward[block] = update(forward[block], nodes[block], nodes[block + 1], backward=False)
                if block >= following:
                    backward[block] = update(backward[block], nodes[block], nodes[block + 1], backward=True)
        return messages, forward, backward
