"""Dense graph: the relational transformer over all pairs of neurons, written as published code writes it.

The baseline of NG-T's speed, and of its mathematics in the tests. Shape letters: N INRs, V nodes, C edge features.
"""

from itertools import accumulate, pairwise
from typing import cast

import torch
from torch import Tensor

from inr_factory.inr.batch import INRBatch
from inr_factory.learning.models.ng_t import Attention, EdgeUpdate, NGTransformerEncoder


def dense_ng_t(encoder: NGTransformerEncoder, inrs: INRBatch, original: INRBatch | None = None) -> Tensor:
    """(N, features): the same function of the same parameters, by V x V tensors (Kofinas et al. 2024).

    A mask keeps attention to the pairs that the encoder attends to (its docstring says which), and the features of
    pairs without an edge as they are; the published code has neither mask.
    """
    nodes = torch.cat(encoder.nodes(inrs, inrs if original is None else original), dim=1)
    widths = [inrs.spec.in_dim, *[outputs for outputs, _ in inrs.spec.layer_shapes]]
    slices = [slice(begin, end) for begin, end in pairwise(accumulate(widths, initial=0))]
    size = sum(widths)
    weights = nodes.new_zeros(len(inrs), size, size)
    edge = torch.zeros(size, size, dtype=torch.bool, device=nodes.device)
    for (before, after), W in zip(pairwise(slices), inrs.weights, strict=True):
        weights[:, before, after] = W.mT
        edge[before, after] = edge[after, before] = True
    attended = edge | torch.eye(size, dtype=torch.bool, device=nodes.device)
    attended[slices[-1]] = True
    pairs = encoder.edges(weights)
    final = len(encoder.attentions) - 1
    for depth, (attention, update) in enumerate(zip(encoder.attentions, encoder.node_updates, strict=True)):
        nodes = update(nodes, _attend(cast(Attention, attention), nodes, pairs, attended))
        if depth < final:
            updated = _update_pairs(cast(EdgeUpdate, encoder.edge_updates[depth]), nodes, pairs)
            pairs = torch.where(edge[:, :, None], updated, pairs)
    features: Tensor = encoder.readout(nodes[:, slices[-1]].flatten(1))
    return features


def _attend(attention: Attention, nodes: Tensor, pairs: Tensor, attended: Tensor) -> Tensor:
    heads = attention.num_heads
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in attention.node(nodes).chunk(3, dim=-1))
    Q, K, B, A = (x.unflatten(-1, (heads, -1)).permute(0, 3, 1, 2, 4) for x in attention.edge(pairs).chunk(4, dim=-1))
    query, key, value = q.unsqueeze(-2) + Q, k.unsqueeze(-3) + K, v.unsqueeze(-3) * A + B
    logits = attention.scale * torch.einsum("bhijd,bhijd->bhij", query, key)
    shares = logits.masked_fill(~attended, -torch.inf).softmax(dim=-1)
    messages: Tensor = attention.out(torch.einsum("bhij,bhijd->bhid", shares, value).transpose(1, 2).flatten(2))
    return messages


def _update_pairs(update: EdgeUpdate, nodes: Tensor, pairs: Tensor) -> Tensor:
    row, column = update.row(nodes).unsqueeze(-2), update.column(nodes).unsqueeze(-3)
    hidden = update.pair(torch.cat([pairs, pairs.transpose(1, 2)], dim=-1)) + row + column
    pairs = update.norms[0](pairs + update.join(hidden))
    updated: Tensor = update.norms[1](pairs + update.mlp(pairs))
    return updated
