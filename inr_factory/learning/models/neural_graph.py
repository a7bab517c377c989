"""Neural graphs: an INR as nodes and edges, and the first features of both (Kofinas et al., ICLR 2024).

Every neuron is a node, inputs (layer 0) and outputs (layer L) as well; every weight is an edge. Block l of the edges
are the weights from layer l to layer l + 1, laid out as they are in an INR, (N, O, I). Tensors of nodes are lists by
layer, those of edges lists by block, so that nothing is computed for pairs of neurons that no weight joins.

Shape letters: N INRs, L layers of weights, V neurons of a layer, O and I neurons after and before a block, F features,
M probes.
"""

import math

import torch
from torch import Tensor, nn

from inr_factory.errors import UsageError
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.spec import SirenSpec

NUM_FREQUENCIES = 128


def check_reach(name: str, num_layers: int, least: int, spec: SirenSpec) -> None:
    """Raise UsageError where messages of some weights would never arrive at the output nodes, which hold the result."""
    if num_layers < least:
        raise UsageError(
            f"{name} needs num_layers of at least {least} for messages of all weights of {spec} to arrive, got "
            f"{num_layers}"
        )


class Fourier(nn.Module):
    """Gaussian Fourier features [cos(2 pi B x), sin(2 pi B x)], B fixed and normal with spread sigma.

    Tancik et al., NeurIPS 2020. (...,) -> (..., 2 * NUM_FREQUENCIES).
    """

    frequencies: Tensor
    features = 2 * NUM_FREQUENCIES

    def __init__(self, sigma: float) -> None:
        super().__init__()
        self.register_buffer("frequencies", sigma * torch.randn(NUM_FREQUENCIES))

    def forward(self, x: Tensor) -> Tensor:
        angles = self.angles(x)
        return torch.cat([angles.cos(), angles.sin()], dim=-1)

    def angles(self, x: Tensor) -> Tensor:
        return x.unsqueeze(-1) * (2 * math.pi * self.frequencies)


class Positions(nn.Module):
    """One learned vector for each input and each output, and one for the neurons of each hidden layer.

    Called without arguments: one a layer, (encoded_dim, F), (1, F) for hidden layers, (out_dim, F).
    """

    def __init__(self, spec: SirenSpec, features: int) -> None:
        super().__init__()
        self.sizes = [spec.encoded_dim, *[1] * spec.num_hidden, spec.out_dim]
        self.vectors = nn.Parameter(torch.randn(sum(self.sizes), features))

    def forward(self) -> tuple[Tensor, ...]:
        return torch.split(self.vectors, self.sizes)


class Probes(nn.Module):
    """M learned coordinates, run through every INR: each neuron's M activations, by Linear and LayerNorm of its layer.

    INRs, as they were fitted -> (N, V, F) a layer, inputs and outputs as well.
    """

    def __init__(self, spec: SirenSpec, num_probes: int, features: int) -> None:
        super().__init__()
        self.coords = nn.Parameter(2 * torch.rand(num_probes, spec.in_dim) - 1)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Linear(num_probes, features), nn.LayerNorm(features)) for _ in range(spec.num_hidden + 2)
        )

    def forward(self, inrs: INRBatch) -> list[Tensor]:
        activations = inrs.activations(self.coords)
        return [layer(values.mT) for layer, values in zip(self.layers, activations, strict=True)]


class NodeEmbedding(nn.Module):
    """First features of the nodes, (N, V, F) a layer: bias (0 for inputs), position, and probes where there are any."""

    def __init__(self, spec: SirenSpec, features: int, sigma: float, num_probes: int) -> None:
        super().__init__()
        self.fourier = Fourier(sigma)
        self.bias = nn.Linear(Fourier.features, features)
        self.mix = nn.Linear(features, features)
        self.positions = Positions(spec, features)
        self.probes = Probes(spec, num_probes, features) if num_probes else None

    def forward(self, inrs: INRBatch, original: INRBatch) -> list[Tensor]:
        biases = [inrs.biases[0].new_zeros(len(inrs), inrs.spec.encoded_dim), *inrs.biases]
        nodes = [self.bias(self.fourier(b)) for b in biases]
        if self.probes is not None:
            nodes = [x + probed for x, probed in zip(nodes, self.probes(original), strict=True)]
        return [self.mix(x) + position for x, position in zip(nodes, self.positions(), strict=True)]


class EdgeEmbedding(nn.Module):
    """First features of edges, values (N, O, I) -> (N, O, I, F)."""

    def __init__(self, features: int, sigma: float, directions: int = 1) -> None:
        super().__init__()
        self.fourier = nn.ModuleList(Fourier(sigma) for _ in range(directions))
        self.weight = nn.Linear(Fourier.features, features)
        self.mix = nn.Linear(features, features)

    def forward(self, weight: Tensor, direction: int = 0) -> Tensor:
        edges: Tensor = self.mix(self.weight(self.fourier[direction](weight)))
        return edges


def first_needed(layer: int, num_layers: int, num_blocks: int) -> int:
    """The first layer of nodes whose messages reach the output nodes, L = num_blocks, after this layer of message passing.

    A message goes one edge per layer; messages that would arrive too late are not computed.
    """
    return max(0, num_blocks - (num_layers - 1 - layer))
