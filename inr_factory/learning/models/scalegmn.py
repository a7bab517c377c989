"""ScaleGMN: a graph encoder that signs of neurons do not change (Kalogeropoulos et al., NeurIPS 2024).

For INRs of odd activations, as the sine. Negating a hidden neuron of such an INR with its weights and bias leaves the
function. Here a hidden node's features are odd: negated with their neuron; those of an edge are negated with either end;
those of inputs and outputs stay.
New features are products of odd and even maps, and the readout is even.

Shape letters: N INRs, V neurons of a layer, O and I neurons after and before a block of edges, F features.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from inr_factory.errors import UsageError
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.spec import SirenSpec
from inr_factory.learning.models.encoder import Encoder, check_kind
from inr_factory.learning.models.neural_graph import NUM_FREQUENCIES, Fourier, Positions


class Even(nn.Module):
    """f(-x) = f(x): Lin(SiLU(Lin x) + SiLU(Lin -x)), the paper's symmetrisation."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.inner = nn.Linear(inputs, outputs)
        self.out = nn.Linear(outputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        part = F.linear(x, self.inner.weight)
        even: Tensor = self.out(F.silu(self.inner.bias + part) + F.silu(self.inner.bias - part))
        return even


class Odd(nn.Module):
    """f(-x) = -f(x): (G x) * Even(x)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs, bias=False)
        self.gate = Even(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        odd: Tensor = self.linear(x) * self.gate(x)
        return odd


class OddFourier(nn.Module):
    """Lin sin(2 pi B x), without bias: odd features of numbers, (...,) -> (..., F)."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.fourier = Fourier(sigma=1.0)
        self.linear = nn.Linear(NUM_FREQUENCIES, features, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.linear(self.fourier.angles(x).sin())
        return features


class Messages(nn.Module):
    """Sum over the edges of a neuron of (V x_j) * (E e_ij), from before and from after: odd in neuron i alone."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.edge, self.before, self.after = (nn.Linear(dim, dim, bias=False) for _ in range(3))

    def forward(self, nodes: Sequence[Tensor], edges: Sequence[Tensor]) -> list[Tensor]:
        """(N, V, 2 F) a layer."""
        from_before, from_after = [torch.zeros_like(nodes[0])], []
        for (before, after), e in zip(pairwise(nodes), edges, strict=True):
            mapped = self.edge(e)
            from_before.append((mapped * self.before(before).unsqueeze(1)).sum(2))
            from_after.append((mapped * self.after(after).unsqueeze(2)).sum(1))
        from_after.append(torch.zeros_like(nodes[-1]))
        return [torch.cat(both, dim=-1) for both in zip(from_before, from_after, strict=True)]


class NodeUpdate(nn.Module):
    """LN(x + dropout(f[x, messages])), f odd and LN without bias at hidden nodes, an MLP at inputs and outputs."""

    def __init__(self, dim: int, dropout: float) -> None:
        super().__init__()
        self.hidden, self.hidden_norm = Odd(3 * dim, dim), nn.LayerNorm(dim, bias=False)
        self.end = nn.Sequential(nn.Linear(3 * dim, dim), nn.SiLU(), nn.Linear(dim, dim))
        self.end_norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, messages: Tensor, end: bool) -> Tensor:
        update, norm = (self.end, self.end_norm) if end else (self.hidden, self.hidden_norm)
        updated: Tensor = norm(x + self.dropout(update(torch.cat([x, messages], dim=-1))))
        return updated


class EdgeUpdate(nn.Module):
    """LN(e + (W e) * Lin SiLU(even x_i + even x_j)), LN without bias: odd in both ends, as e is."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, dim, bias=False)
        self.before, self.after = Even(dim, dim), Even(dim, dim)
        self.gate = nn.Sequential(nn.SiLU(), nn.Linear(dim, dim))
        self.norm = nn.LayerNorm(dim, bias=False)

    def forward(self, e: Tensor, before: Tensor, after: Tensor) -> Tensor:
        gate = self.gate(self.before(before).unsqueeze(1) + self.after(after).unsqueeze(2))
        updated: Tensor = self.norm(torch.addcmul(e, self.linear(e), gate))
        return updated


class ScaleGMNEncoder(Encoder):
    """Equivariant messages in both directions, num_layers deep; the mean of even features of each hidden layer, and
    inputs and outputs one by one, Linear, ReLU -> 2 * hidden_dim features.

    After the bidirectional ScaleGMN for signs, in fewer parameters: its MLP on each message is left out (messages meet
    in a sum, the update of edges has the gate), Fourier features replace linear ones, and the readout takes all nodes.
    Invariant to permutations and signs of the neurons of each hidden layer; phases are left to the canonical form. The
    weights it is given are scaled but not centred, since a mean would break the signs.

    Raises UsageError for options out of range, INRs of an activation that is not odd, and INRs of other inputs, outputs
    or layers.
    """

    name = "scalegmn"
    centred = False

    def __init__(self, spec: SirenSpec, *, hidden_dim: int = 64, num_layers: int = 4, dropout: float = 0.2) -> None:
        super().__init__(spec, hidden_dim=hidden_dim, num_layers=num_layers, dropout=dropout)
        if not spec.is_odd:
            raise UsageError(
                f"scalegmn supports sine, tanh and finer INRs, whose activations are odd, got {spec}; take ng_gnn, ng_t or dws"
            )
        self.features = 2 * hidden_dim
        self.positions = Positions(spec, hidden_dim)
        self.bias = OddFourier(hidden_dim)
        self.output_bias = nn.Sequential(Fourier(sigma=1.0), nn.Linear(Fourier.features, hidden_dim))
        self.weight = OddFourier(hidden_dim)
        self.blocks = nn.Parameter(torch.randn(spec.num_hidden + 1, hidden_dim))
        self.messages = nn.ModuleList(Messages(hidden_dim) for _ in range(num_layers))
        self.node_updates = nn.ModuleList(NodeUpdate(hidden_dim, dropout) for _ in range(num_layers))
        self.edge_updates = nn.ModuleList(EdgeUpdate(hidden_dim) for _ in range(num_layers - 1))
        self.even = Even(hidden_dim, hidden_dim)
        width = (spec.encoded_dim + spec.num_hidden + spec.out_dim) * hidden_dim
        self.readout = nn.Sequential(nn.Linear(width, self.features), nn.ReLU())

    def forward(self, inrs: INRBatch, original: INRBatch | None = None) -> Tensor:
        """(N, features) of N INRs, any width."""
        check_kind(self.name, self.spec, inrs)
        inputs, *hidden, outputs = self.positions()
        nodes = [
            inputs.expand(len(inrs), *inputs.shape),
            *[self.bias(b) * scale for b, scale in zip(inrs.biases[:-1], hidden, strict=True)],
            self.output_bias(inrs.biases[-1]) + outputs,
        ]
        edges = [self.weight(W) * scale for W, scale in zip(inrs.weights, self.blocks, strict=True)]
        last = len(edges)
        for depth, (layer, update) in enumerate(zip(self.messages, self.node_updates, strict=True)):
            received = layer(nodes, edges)
            nodes = [
                update(x, messages, end=row in (0, last))
                for row, (x, messages) in enumerate(zip(nodes, received, strict=True))
            ]
            if depth < len(self.edge_updates):
                ends = pairwise(nodes)
                edges = [self.edge_updates[depth](e, *pair) for e, pair in zip(edges, ends, strict=True)]
        pooled = [self.even(x).mean(1) for x in nodes[1:-1]]
        features: Tensor = self.readout(torch.cat([nodes[0].flatten(1), *pooled, nodes[-1].flatten(1)], dim=1))
        return features
