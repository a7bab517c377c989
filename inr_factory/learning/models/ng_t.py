"""NG-T: the relational transformer over an INR's neural graph (Diao and Loynd, ICLR 2023; Kofinas et al., ICLR 2024).

Shape letters: N INRs, R nodes that attend (rows), J nodes attended to, O and I neurons after and before a block of
edges, V neurons of a layer, F node features, C edge features, H heads, E features of a head, D = H * E.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from inr_factory.errors import UsageError
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.spec import SirenSpec
from inr_factory.learning.models.encoder import Encoder, check_kind
from inr_factory.learning.models.neural_graph import (
    EdgeEmbedding,
    NodeEmbedding,
    check_reach,
)
from inr_factory.learning.models.pair_attention import pair_logits, pair_values


class Attention(nn.Module):
    """q_ij = q_i + Q e_ij, k_ij = k_j + K e_ij, v_ij = v_j * A e_ij + B e_ij; softmax over j of q_ij . k_ij / sqrt(D).

    `node` holds the maps to q, k, v, `edge` Q, K, B, A. A pair without an edge has the feature `blank` (C,), the same
    for all, so that its query, key and value belong to its nodes alone.
    """

    def __init__(self, node_dim: int, edge_dim: int, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.scale = dim**-0.5
        self.node = linear(node_dim, 3 * dim, bias=False)
        self.edge = linear(edge_dim, 4 * dim, bias=False)
        self.out = linear(dim, node_dim)

    def forward(
        self,
        nodes: Sequence[Tensor],
        forward: Sequence[Tensor],
        backward: Sequence[Tensor] | None,
        blank: Tensor,
        rows: Sequence[int],
    ) -> list[Tensor]:
        """The messages to the nodes of the layers `rows`, (N, R, F) each.

        Block l is forward[l] (N, I, O, C), features of the edges for the neurons before it, and backward[l]
        (N, O, I, C) for those after it, for which it is blank where backward is None.
        """
        last = len(nodes) - 1
        parts = [self.node(x).chunk(3, dim=-1) for x in nodes]
        Q, K, B, A = self.edge.weight.chunk(4)
        blank_query, blank_key, blank_shift, blank_scale = F.linear(blank, self.edge.weight).chunk(4)
        queries = [self._heads(q + blank_query) for q, _, _ in parts]
        keys = [self._heads(k + blank_key) for _, k, _ in parts]
        values = [self._heads(v * blank_scale + blank_shift) for _, _, v in parts]

        messages = []
        for row in rows:
            edges = [(row - 1, backward[row - 1])] if row > 0 and backward is not None else []
            edges += [(row + 1, forward[row])] if row < last else []
            logits = [pair_logits(e, parts[row][0], parts[at][1], Q, K, self.num_heads) for at, e in edges]
            others = [row - 1] if row > 0 and backward is None else []
            if row == last:
                others += [*range(last - 1), last]
            else:
                logits.append((queries[row] * keys[row]).sum(-1).mT.unsqueeze(2))  # to itself, (N, R, 1, H)
            if others:
                key, value = (torch.cat([by_layer[at] for at in others], dim=2) for by_layer in (keys, values))
                logits.append((queries[row] @ key.mT).permute(0, 2, 3, 1))
            joint = (self.scale * torch.cat(logits, dim=2)).softmax(dim=2)
            attention = list(joint.split([part.shape[2] for part in logits], dim=2))

            total = torch.zeros_like(parts[row][2])
            for (at, e), a in zip(edges, attention, strict=False):
                shift = torch.einsum("nrhc,hec->nrhe", a.mT @ e, B.view(self.num_heads, -1, B.shape[1]))
                total = total + pair_values(e, a, parts[at][2], A) + shift.flatten(2)
            if others:
                total = total + self._join(attention[-1].permute(0, 3, 1, 2) @ value)
            if row < last:
                total = total + self._join(attention[len(edges)].squeeze(2).mT.unsqueeze(-1) * values[row])
            messages.append(self.out(total))
        return messages

    def _heads(self, x: Tensor) -> Tensor:
        """(N, V, D) -> (N, H, V, E)."""
        return x.view(*x.shape[:2], self.num_heads, -1).transpose(1, 2)

    def _join(self, x: Tensor) -> Tensor:
        """(N, H, V, E) -> (N, V, D)."""
        return x.transpose(1, 2).flatten(2)


class NodeUpdate(nn.Module):
    """LN(x + dropout(Lin messages)), then LN(x + MLP x)."""

    def __init__(self, dim: int, dropout: float) -> None:
        super().__init__()
        self.mix = linear(dim, dim)
        self.drop = nn.Dropout(dropout)
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(2))
        self.mlp = feed_forward(dim, 2 * dim, dropout)

    def forward(self, x: Tensor, messages: Tensor) -> Tensor:
        x = self.norms[0](x + self.drop(self.mix(messages)))
        updated: Tensor = self.norms[1](x + self.mlp(x))
        return updated


class EdgeUpdate(nn.Module):
    """LN(e + MLP([e_ij, e_ji] + Lin x_i + Lin x_j)), then LN(e + MLP e).

    `pair` is the Linear of [e_ij, e_ji]; it is taken in two halves.
    """

    def __init__(self, node_dim: int, dim: int, dropout: float) -> None:
        super().__init__()
        self.pair = linear(2 * dim, 2 * dim)
        self.row = linear(node_dim, 2 * dim)
        self.column = linear(node_dim, 2 * dim)
        self.join = nn.Sequential(nn.GELU(), linear(2 * dim, dim), nn.Dropout(dropout))
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(2))
        self.mlp = feed_forward(dim, 2 * dim, dropout)

    def forward(self, edges: Tensor, reverse: Tensor, row: Tensor, column: Tensor) -> Tensor:
        """edges (N, R, J, C), reverse (N, J, R, C), row (N, R, F), column (N, J, F) -> (N, R, J, C)."""
        first, second = self.pair.weight.chunk(2, dim=1)
        nodes = self.row(row).unsqueeze(2) + self.column(column).unsqueeze(1)
        hidden = F.linear(edges, first, self.pair.bias).add_(F.linear(reverse, second).transpose(1, 2)).add_(nodes)
        e = self.norms[0](edges + self.join(hidden))
        updated: Tensor = self.norms[1](e + self.mlp(e))
        return updated


class NGTransformerEncoder(Encoder):
    """Relational transformer, num_layers deep, with the output nodes as result: Linear, ReLU -> 2 * hidden_dim features.

    With a Linear to 10 classes behind it, 2-32-32-1 INRs and no probes it has the published 376,586 parameters; 64
    probes add 17,280. They fit INRs of any width.

    **Who attends to whom.** A neuron attends to the neurons of the layers before and after it, along real edges in
    both directions, and to itself; an output neuron, which holds the result, to every neuron. Only real edges have features
    that are updated (each direction separately; against its direction a weight starts as `blank`, the feature of weight
    0, as published). A neuron with itself, and an output with neurons it has no edge to, keeps `blank`. The
    published code attends and updates over all pairs, with or without an edge: 67 * 67 = 4,489 for 2-32-32-1, where
    there are 1,120 edges in two directions here. What no longer reaches the output nodes is left out: the last
    layer computes them alone. Invariant to permutations of the neurons of each hidden layer.

    `num_probes` learned coordinates are run through every INR (see neural_graph.Probes); 0 for none, published 64.
    Raises UsageError for options out of range, less than 2 layers, and INRs of other inputs, outputs or layers.
    """

    name = "ng_t"

    def __init__(
        self,
        spec: SirenSpec,
        *,
        hidden_dim: int = 64,
        edge_dim: int = 32,
        num_layers: int = 4,
        num_heads: int = 8,
        num_probes: int = 0,
        dropout: float = 0.2,
    ) -> None:
        super().__init__(
            spec,
            hidden_dim=hidden_dim,
            edge_dim=edge_dim,
            num_layers=num_layers,
            num_heads=num_heads,
            num_probes=num_probes,
            dropout=dropout,
        )
        check_reach(self.name, num_layers, 2, spec)
        if 2 * hidden_dim % num_heads:
            raise UsageError(f"num_heads of ng_t must divide 2 * hidden_dim, {2 * hidden_dim}, got {num_heads}")
        self.features = 2 * hidden_dim
        self.reads = "weights and probes" if num_probes else "weights"
        self.nodes = NodeEmbedding(spec, hidden_dim, 1.0, num_probes)
        self.edges = EdgeEmbedding(edge_dim, 1.0)
        self.attentions = nn.ModuleList(
            Attention(hidden_dim, edge_dim, 2 * hidden_dim, num_heads) for _ in range(num_layers)
        )
        self.node_updates = nn.ModuleList(NodeUpdate(hidden_dim, dropout) for _ in range(num_layers))
        self.edge_updates = nn.ModuleList(EdgeUpdate(hidden_dim, edge_dim, dropout) for _ in range(num_layers - 1))
        self.readout = nn.Sequential(nn.Linear(spec.out_dim * hidden_dim, self.features), nn.ReLU())

    def forward(self, inrs: INRBatch, original: INRBatch | None = None) -> Tensor:
        """(N, features) of N INRs, any width; `original` are those that the probes are run through."""
        check_kind(self.name, self.spec, inrs)
        nodes = self.nodes(inrs, inrs if original is None else original)
        forward = [self.edges(W.mT) for W in inrs.weights]
        backward: list[Tensor] | None = None
        blank = self.edges(inrs.weights[0].new_zeros(()))
        final = len(self.attentions) - 1
        for depth, (attention, update) in enumerate(zip(self.attentions, self.node_updates, strict=True)):
            rows = range(len(nodes)) if depth < final else [len(nodes) - 1]
            messages = attention(nodes, forward, backward, blank, rows)
            nodes = [update(nodes[row], message) for row, message in zip(rows, messages, strict=True)]
            if depth == final:
                break
            reverse = [
                blank.expand(e.transpose(1, 2).shape) if backward is None else backward[at]
                for at, e in enumerate(forward)
            ]
            forward, backward = self._update_edges(depth, nodes, forward, reverse, only_outputs=depth == final - 1)
        features: Tensor = self.readout(nodes[-1].flatten(1))
        return features

    def _update_edges(
        self, depth: int, nodes: Sequence[Tensor], forward: list[Tensor], backward: list[Tensor], only_outputs: bool
    ) -> tuple[list[Tensor], list[Tensor]]:
        """New features of all edges, or where `only_outputs` of those alone that lead to the output nodes."""
        update = self.edge_updates[depth]
        last = len(forward) - 1
        blocks = range(last if only_outputs else 0, last + 1)
        new_backward = {at: update(backward[at], forward[at], nodes[at + 1], nodes[at]) for at in blocks}
        if only_outputs:
            return forward, [*backward[:last], new_backward[last]]
        new_forward = [update(forward[at], backward[at], nodes[at], nodes[at + 1]) for at in blocks]
        return new_forward, list(new_backward.values())


def linear(inputs: int, outputs: int, bias: bool = True) -> nn.Linear:
    """Xavier-uniform, bias 0, as published."""
    layer = nn.Linear(inputs, outputs, bias)
    nn.init.xavier_uniform_(layer.weight)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


def feed_forward(dim: int, hidden_dim: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(linear(dim, hidden_dim, bias=False), nn.GELU(), linear(hidden_dim, dim), nn.Dropout(dropout))
