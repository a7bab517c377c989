"""PyG: INRs as graphs of torch_geometric, which only this module imports (extra `pyg`).

Shape letters: V nodes (neurons, inputs too), E edges (weights).
"""

import warnings
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch

from inr_factory.errors import needs_extra
from inr_factory.inr.batch import INRBatch


def to_pyg(inrs: INRBatch, labels: Sequence[int] | None = None) -> list[Any]:
    """One torch_geometric `Data` an INR: nodes are neurons, the inputs first (those of the first layer, after any
    encoding); edges go from a neuron to the next layer.

    x (V, 1) biases, 0 for inputs; edge_index (2, E); edge_attr (E, 1) weights; layer (V,) each node's layer, 0 for
    inputs; y (1,) the label, where labels are given. A batch of them is a Batch as any other. Raises MissingExtraError
    where torch_geometric is not installed.
    """
    with warnings.catch_warnings():
        # torch_geometric 2.8 calls torch.jit.script as it is imported, which torch 2.13 warns of.
        warnings.filterwarnings("ignore", "`torch.jit.script", DeprecationWarning)
        with needs_extra("pyg"):
            from torch_geometric.data import Data
    dims = [inrs.spec.encoded_dim, *(outputs for outputs, _ in inrs.spec.layer_shapes)]
    begins = torch.tensor([0, *dims]).cumsum(0).tolist()
    edges = [
        torch.cartesian_prod(torch.arange(middle, end), torch.arange(begin, middle)).flip(1).T
        for (begin, middle), (_, end) in pairwise(pairwise(begins))
    ]
    edge_index = torch.cat(edges, dim=1)
    layer = torch.repeat_interleave(torch.arange(len(dims)), torch.tensor(dims))
    biases = torch.cat([torch.zeros(len(inrs), dims[0]), *(b.cpu() for b in inrs.biases)], dim=1)
    weights = torch.cat([W.cpu().flatten(1) for W in inrs.weights], dim=1)
    graphs = []
    for row in range(len(inrs)):
        graph = Data(
            x=biases[row, :, None].clone(), edge_index=edge_index, edge_attr=weights[row, :, None].clone(), layer=layer
        )
        if labels is not None:
            graph.y = torch.tensor([int(labels[row])])
        graphs.append(graph)
    return graphs
