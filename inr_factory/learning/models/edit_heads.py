"""Edit heads: turn what an encoder knows of each neuron and weight into a change of every weight and bias.

A head permutes its changes as the neurons of the INRs are permuted. That of `parity` also negates them with the neurons,
so that the change belongs to the function and not to how its weights are written.

Shape letters: N INRs, O outputs and I inputs of a layer, F features, C context.
"""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from inr_factory.errors import UsageError
from inr_factory.inr.batch import INRBatch
from inr_factory.learning.models.dws import DWSEncoder, DWSLayer
from inr_factory.learning.models.encoder import Encoder
from inr_factory.learning.models.ng_gnn import NGGNNEncoder
from inr_factory.learning.models.parity import Neurons, ParityEncoder

Changes = tuple[list[Tensor], list[Tensor]]
"""Changes of the weights (N, O, I) and of the biases (N, O) of each layer."""


class EditHead(nn.Module):
    """Maps INRs to changes: forward(encoder, normalized INRs, the same INRs as fitted, memory) -> Changes.

    An edit takes `steps` heads of its own, each of which changes what the one before has made. `memory` is a list that
    they share; it is empty at first. With `exact_signs`, signs and phases of neurons are followed without a canonical form.
    """

    steps: ClassVar[int] = 1
    exact_signs: ClassVar[bool] = False

    def forward(self, encoder: Encoder, inrs: INRBatch, original: INRBatch, memory: list[Tensor]) -> Changes:
        raise NotImplementedError


class DWSHead(EditHead):
    """A last equivariant layer with one feature for each weight and bias, as Navon et al. (2023) edit INRs."""

    def __init__(self, encoder: DWSEncoder) -> None:
        super().__init__()
        self.layer = DWSLayer(
            encoder.spaces, encoder.options["hidden_dim"], 1, encoder.make_set, by_axis=encoder.spec.widths is not None
        )

    def forward(self, encoder: Encoder, inrs: INRBatch, original: INRBatch, memory: list[Tensor]) -> Changes:
        assert isinstance(encoder, DWSEncoder)
        spaces = self.layer(encoder.active_spaces(inrs))
        last = inrs.spec.num_hidden
        weights, biases = spaces[0::2], spaces[1::2]
        for layer in range(last + 1):
            if layer == 0:
                weights[layer], biases[layer] = weights[layer].permute(1, 2, 0), biases[layer][0]
            elif layer == last:
                weights[layer], biases[layer] = weights[layer].transpose(0, 1), biases[layer].mT
            else:
                weights[layer], biases[layer] = weights[layer][0], biases[layer][0]
        return weights, biases


class GraphHead(EditHead):
    """Two-layer perceptrons on the features of both directions of an edge and of its ends, and on those of a node."""

    def __init__(self, encoder: NGGNNEncoder) -> None:
        super().__init__()
        dim = encoder.options["hidden_dim"]
        self.edges = nn.ModuleList(nn.Linear(dim, dim) for _ in range(4))
        self.edge = nn.Linear(dim, 1)
        self.node = nn.Sequential(nn.Linear(dim, dim), nn.SiLU(), nn.Linear(dim, 1))

    def forward(self, encoder: Encoder, inrs: INRBatch, original: INRBatch, memory: list[Tensor]) -> Changes:
        assert isinstance(encoder, NGGNNEncoder)
        nodes, forward, backward = encoder.message_passing(inrs, original, everywhere=True)
        weights = []
        for block, (ahead, back) in enumerate(zip(forward, backward, strict=True)):
            before, after = nodes[block].unsqueeze(1), nodes[block + 1].unsqueeze(2)
            parts = [linear(x) for linear, x in zip(self.edges, (ahead, back, before, after), strict=True)]
            weights.append(self.edge(F.silu(parts[0] + parts[1] + parts[2] + parts[3])).squeeze(-1))
        return weights, [self.node(x).squeeze(-1) for x in nodes[1:]]


class ParityHead(EditHead):
    """Sends features back from the outputs to the inputs along transposed weights, and multiplies those of both ends.

    A neuron has features of three kinds besides even ones, after what they are negated with: its weights and bias
    ("incoming"), its outgoing weights ("outgoing"), or both. A cosine of its phase turns one of the first two into the
    other. The change of a weight is a product of an incoming feature of the neuron after it and an outgoing one of the
    neuron before it, as a gradient is, plus the weight times a product of even features.

    Where odd features are values at learned points, the first pass is a forward pass of the INR at these points, and this
    one can be its backpropagation of errors that are predicted from all values: a step towards the edited function. The
    steps remember what the outputs received of the unedited INRs.
    """

    steps = 3
    exact_signs = True

    def __init__(self, encoder: ParityEncoder) -> None:
        super().__init__()
        spec, dim = encoder.spec, encoder.options["hidden_dim"]
        received, sent = 2 * (encoder.features + 2 * dim * spec.out_dim), 2 * dim * spec.out_dim
        self.outputs = nn.Sequential(
            nn.Linear(received, 4 * dim), nn.LayerNorm(4 * dim), nn.GELU(), nn.Linear(4 * dim, sent)
        )
        self.past = nn.Linear(received, sent)
        self.inputs = nn.Parameter(torch.randn(2, spec.encoded_dim, dim))
        self.layers = nn.ModuleList(_BackwardNeurons(dim, encoder.features) for _ in range(spec.num_hidden))
        self.pairs = nn.ModuleList(nn.Linear(dim, dim, bias=False) for _ in range(spec.num_hidden + 1))
        self.gates = nn.ModuleList(nn.Linear(dim, dim, bias=False) for _ in range(spec.num_hidden + 1))
        self.biases = nn.ModuleList(
            nn.Linear(dim, 1, bias=layer == spec.num_hidden) for layer in range(spec.num_hidden + 1)
        )

    def forward(self, encoder: Encoder, inrs: INRBatch, original: INRBatch, memory: list[Tensor]) -> Changes:
        assert isinstance(encoder, ParityEncoder)
        neurons = encoder.neurons(inrs, original)
        context = encoder.readout(neurons[-1], inrs, original)
        count, spec, last = len(inrs), inrs.spec, inrs.spec.num_hidden
        weights = original.weights
        values = torch.cat([weights[-1] @ neurons[-1].odd, _rms(weights[-1].square() @ neurons[-1].even)], dim=-1)
        received = torch.cat([context, values.flatten(1)], dim=1)
        memory.extend([received] * (not memory))
        received = torch.cat([received, memory[0]], dim=1)
        sent = self.outputs(received) + self.past(received)
        incoming, even = sent.unflatten(1, (spec.out_dim, -1)).chunk(2, dim=-1)
        ends = [(incoming, even)]
        for layer in range(last - 1, -1, -1):
            back, back_even = weights[layer + 1].mT @ incoming, _rms(weights[layer + 1].square().mT @ even)
            incoming, even = self.layers[layer](neurons[layer], back, back_even, context, spec.activation == "sine")
            ends.insert(0, (incoming, even))
        first, first_even = (x.expand(count, -1, -1) for x in self.inputs)
        outgoing = [(first, first_even), *[(layer.odd, layer.even) for layer in neurons]]
        changes: Changes = ([], [])
        for layer, ((incoming, even), (odd, other)) in enumerate(zip(ends, outgoing, strict=True)):
            products = self.pairs[layer](incoming) @ odd.mT
            factors = self.gates[layer](even) @ other.mT
            changes[0].append((products + inrs.weights[layer] * factors) / odd.shape[-1] ** 0.5)
            changes[1].append(self.biases[layer](incoming).squeeze(-1))
        return changes


class _BackwardNeurons(nn.Module):
    """A layer of the way back: features of the neurons, messages (N, H, F) of the layer after it, outgoing and even, and
    the context (N, C) -> incoming and even features (N, H, F)."""

    def __init__(self, dim: int, context: int) -> None:
        super().__init__()
        self.odd = nn.Linear(3 * dim + 1, dim, bias=False)
        self.even = nn.Linear(4 * dim + 1, dim)
        self.context = nn.Linear(context, dim)
        self.mlp = nn.Sequential(nn.LayerNorm(dim), nn.GELU(), nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, 2 * dim))

    def forward(
        self, neurons: Neurons, back: Tensor, back_even: Tensor, context: Tensor, sine: bool
    ) -> tuple[Tensor, Tensor]:
        odd, even, phase, linear = neurons
        cosine, both = (phase.cos(), (2 * phase).sin()) if sine else (torch.ones_like(phase), phase)
        # The slope of a neuron at the points that its odd features stand for.
        slope = linear.cos() if sine else torch.ones_like(back)
        incoming = self.odd(torch.cat([cosine * odd, cosine * back, slope * back, both], dim=-1))
        level = self.even(torch.cat([even, back_even, odd * back, _rms(odd.square()), cosine.square()], dim=-1))
        level = level + self.context(context).unsqueeze(1)
        plus, minus = self.mlp(torch.stack([level + incoming, level - incoming]))
        return incoming + (plus - minus).chunk(2, dim=-1)[0], (plus + minus).chunk(2, dim=-1)[1]


def _rms(x: Tensor) -> Tensor:
    """x (N, H, F), each INR scaled to root mean square 1."""
    return x / x.square().mean(dim=(1, 2), keepdim=True).sqrt().clamp_min(1e-12)


HEADS: Mapping[str, type[DWSHead] | type[GraphHead] | type[ParityHead]] = {
    "parity": ParityHead,
    "dws": DWSHead,
    "ng_gnn": GraphHead,
}


def head_class(name: str) -> type[DWSHead] | type[GraphHead] | type[ParityHead]:
    """The head of the encoder of a name. Raises UsageError where there is none."""
    if name not in HEADS:
        raise UsageError(f"edit takes --model {', '.join(HEADS)}, got {name!r}, which gives no change of weights")
    return HEADS[name]


def build_heads(encoder: Encoder) -> nn.ModuleList:
    """The heads of the steps of an edit. Raises UsageError where an encoder has none."""
    kind = head_class(encoder.name)
    return nn.ModuleList(kind(encoder) for _ in range(kind.steps))  # type: ignore[arg-type]
