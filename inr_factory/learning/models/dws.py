"""DWS: the encoder that is equivariant to permutations of hidden neurons (Navon et al., ICML 2023).

Every weight and bias of the INR is a *space*. The neurons of a hidden layer are an axis of the spaces that touch
them: the hidden layers are the axes 1 .. L-1. Inputs and outputs are never permuted, so they
are folded into the features. With that, the linear equivariant maps between two spaces depend on their axes alone:

- no axis in common: pool all of the source, Linear, the same for every entry of the target;
- one axis in common: pool the source's other axis, a set layer along the common one, broadcast along the other;
- both (an interior weight to itself): the mean of four Linears, on the entry, its row's, column's and total pool.

Maps of equal widths, along layers of equal widths, run as one stack, and each pooled tensor is computed once a layer.

Features come first in all tensors, see set_layers.py. Shape letters: N INRs, d hidden neurons, F features.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby, pairwise, product
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from inr_factory.errors import UsageError
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.spec import SirenSpec
from inr_factory.learning.models.encoder import Encoder, check_batch_norm, check_kind
from inr_factory.learning.models.norm_pools import norm_pools, normed
from inr_factory.learning.models.set_layers import AttentionStack, DeepSetsStack, LinearStack, add_entries, max_pool

SetLayer = Literal["attention", "deepsets"]


@dataclass(frozen=True)
class Space:
    """One weight or bias: `axes` are its hidden layers (rows before columns), `folded` its inputs or outputs."""

    axes: tuple[int, ...]
    folded: int


def spaces_of(in_dim: int, out_dim: int, num_hidden: int) -> tuple[Space, ...]:
    """The spaces W_0, b_0, W_1, b_1, ... in the order in which `_to_spaces` gives their tensors."""
    spaces = []
    for layer in range(num_hidden + 1):
        rows = (layer + 1,) if layer < num_hidden else ()
        columns = (layer,) if layer > 0 else ()
        outputs = out_dim if layer == num_hidden else 1
        spaces += [Space(rows + columns, outputs * (in_dim if layer == 0 else 1)), Space(rows, outputs)]
    return tuple(spaces)


SpaceAxis = tuple[int, int | None]
"""(space, axis): values along one axis of a space, (F, N, d), or of its pool where axis is None, (F, N)."""


@dataclass(frozen=True)
class SpaceMap:
    """A map from space `source` to space `target`, along `axis`, or from pool to all entries where it is None."""

    source: int
    target: int
    axis: int | None


class Stacks(nn.Module):
    """Any number of maps, grouped by their widths, and `by_axis` where axes differ in length; each group is one module
    `make(num_maps, inputs, outputs)`."""

    def __init__(
        self,
        maps: Iterable[SpaceMap],
        widths: Callable[[SpaceMap], tuple[int, int]],
        make: Callable[..., nn.Module],
        by_axis: bool = False,
    ) -> None:
        super().__init__()
        ordered = sorted(maps, key=lambda m: (widths(m), m.target, m.axis or 0, m.source))
        if by_axis:
            ordered.sort(key=lambda m: (widths(m), m.axis or 0))
        groups = groupby(ordered, key=lambda m: (widths(m), m.axis if by_axis else None))
        self.groups = [list(group) for _, group in groups]
        self.stacks = nn.ModuleList(make(len(group), *widths(group[0])) for group in self.groups)

    def forward(self, sources: Mapping[SpaceAxis, Tensor]) -> list[tuple[SpaceAxis, Tensor]]:
        """The maps' results for their targets; a target may be in the list more than once."""
        results: list[tuple[SpaceAxis, Tensor]] = []
        for group, stack in zip(self.groups, self.stacks, strict=True):
            mapped = stack(torch.stack([sources[m.source, m.axis] for m in group]))
            targets = [(target, len(list(same))) for target, same in groupby(group, key=lambda m: (m.target, m.axis))]
            parts = mapped.split([length for _, length in targets])
            results += [(target, part.sum(0)) for (target, _), part in zip(targets, parts, strict=True)]
        return results


class DWSLayer(nn.Module):
    """All linear equivariant maps between all spaces, summed and divided by 2L (Navon et al. 2023, section 4).

    Takes and gives one tensor a space: (folded * F, N), (folded * F, N, d) or (F, N, d, d), where F is `inputs`
    and then `outputs`. No parameter depends on d.
    """

    def __init__(
        self,
        spaces: tuple[Space, ...],
        inputs: int,
        outputs: int,
        make_set: Callable[..., nn.Module],
        by_axis: bool = False,
    ) -> None:
        super().__init__()
        self.spaces = spaces
        self.scale = 1 / len(spaces)

        def widths(m: SpaceMap) -> tuple[int, int]:
            return inputs * spaces[m.source].folded, outputs * spaces[m.target].folded

        along, apart, inside = [], [], []
        for (s, source), (t, target) in product(enumerate(spaces), enumerate(spaces)):
            common = set(source.axes) & set(target.axes)
            if len(common) == 2:
                inside += [SpaceMap(s, t, axis) for axis in (*source.axes, None)]
            elif common:
                along.append(SpaceMap(s, t, common.pop()))
            else:
                apart.append(SpaceMap(s, t, None))
        quarter = partial(LinearStack, scale=1 / 4)
        self.set_maps = Stacks(along, widths, make_set, by_axis)
        self.pool_maps = Stacks(apart, widths, LinearStack)
        self.row_maps = Stacks([m for m in inside if m.axis is not None], widths, quarter, by_axis)
        self.total_maps = Stacks([m for m in inside if m.axis is None], widths, quarter)
        self.entry_maps = nn.ModuleDict(
            {str(m.target): LinearStack(1, inputs, outputs, scale=self.scale / 4) for m in inside if m.axis is None}
        )

    def forward(
        self,
        tensors: Sequence[Tensor],
        reduced: Sequence[Mapping[int | None, Tensor]] | None = None,
        pooled: bool = False,
    ) -> list[Tensor]:
        """`reduced` are the tensors' `_reductions`, where they are known; `pooled` gives each result's largest values
        alone, (folded * F, N)."""
        if reduced is None:
            reduced = [_reductions(space, x) for space, x in zip(self.spaces, tensors, strict=True)]
        sources = {(index, axis): values for index, by_axis in enumerate(reduced) for axis, values in by_axis.items()}
        sums: dict[SpaceAxis, Tensor] = {}
        for maps in (self.set_maps, self.pool_maps, self.row_maps, self.total_maps):
            for target, values in maps(sources):
                sums[target] = sums[target] + values if target in sums else values

        results = []
        for index, (space, x) in enumerate(zip(self.spaces, tensors, strict=True)):
            total = self.scale * sums[index, None]
            along = [self.scale * sums[index, axis] for axis in space.axes]
            if not along:
                results.append(total)
            elif len(along) == 1:
                results.append(max_pool(along[0], dim=2) + total if pooled else along[0] + total[..., None])
            else:
                entries = self.entry_maps[str(index)]
                assert isinstance(entries, LinearStack)
                weight, bias = entries.parts(0)
                rows = along[0] + (total + bias[:, None])[..., None]
                results.append(add_entries(x, weight, rows, along[1], largest=pooled))
        return results


class SpaceNorm(nn.Module):
    """Batch normalisations with one mean and one spread a space and feature, over INRs and all entries alike.

    A module of its own for the names in checkpoints: norms.LAYER.norms.SPACE.
    """

    def __init__(self, spaces: tuple[Space, ...], features: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.BatchNorm1d(features) for _ in spaces)


class DWSEncoder(Encoder):
    """DWS(1 -> h), then num_hidden times [batch norm (optional), ReLU, dropout, DWS(h -> h)], ReLU, dropout, max pool.

    With a Linear to 10 classes behind it, 2-32-32-1 INRs and batch normalisation it has the published 77,354
    parameters (hidden_dim 16, num_hidden 2) or 552,650 (32, 4). They fit INRs of any width. `set_layer` is
    "attention" (published) or "deepsets"; published runs had num_heads 8 in all but the last layer, at six times
    the cost of the attention.

    Invariant to permutations of the neurons of each hidden layer. Raises UsageError for options out of range, and
    for INRs of other inputs, outputs or number of layers.
    """

    name = "dws"

    def __init__(
        self,
        spec: SirenSpec,
        *,
        hidden_dim: int = 16,
        num_hidden: int = 2,
        set_layer: SetLayer = "attention",
        num_heads: int = 1,
        batch_norm: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(
            spec,
            hidden_dim=hidden_dim,
            num_hidden=num_hidden,
            set_layer=set_layer,
            num_heads=num_heads,
            batch_norm=batch_norm,
            dropout=dropout,
        )
        if set_layer not in get_args(SetLayer):
            raise UsageError(f"set_layer of dws must be {' or '.join(get_args(SetLayer))}, got {set_layer!r}")
        if hidden_dim % num_heads:
            raise UsageError(f"num_heads of dws must divide hidden_dim {hidden_dim}, got {num_heads}")
        self.spaces = spaces_of(spec.encoded_dim, spec.out_dim, spec.num_hidden)
        self.features = hidden_dim * sum(space.folded for space in self.spaces)
        self.make_set = partial(AttentionStack, num_heads=num_heads) if set_layer == "attention" else DeepSetsStack
        widths = [1, *[hidden_dim] * (num_hidden + 1)]
        self.layers = nn.ModuleList(
            DWSLayer(self.spaces, inputs, outputs, self.make_set, by_axis=spec.widths is not None)
            for inputs, outputs in pairwise(widths)
        )
        self.norms = nn.ModuleList(SpaceNorm(self.spaces, hidden_dim) for _ in range(num_hidden if batch_norm else 0))
        self.dropout = nn.Dropout(dropout)

    def forward(self, inrs: INRBatch, original: INRBatch | None = None) -> Tensor:
        """(N, features) of N INRs, any width."""
        pools = self._last_layer(inrs, pooled=True)
        return torch.cat([self.dropout(F.relu(pool)) for pool in pools]).mT

    def active_spaces(self, inrs: INRBatch) -> list[Tensor]:
        """The tensors of the spaces after the last layer and ReLU, see DWSLayer."""
        return [self.dropout(F.relu(x)) for x in self._last_layer(inrs, pooled=False)]

    def _last_layer(self, inrs: INRBatch, pooled: bool) -> list[Tensor]:
        check_kind(self.name, self.spec, inrs)
        if inrs.spec.widths and not self.spec.widths:
            raise UsageError(f"this dws encoder takes INRs {self.spec}, of one width for all layers; got {inrs.spec}")
        if self.training and len(self.norms):
            check_batch_norm(self.name, inrs)
        last = len(self.layers) - 1
        tensors: list[Tensor] = self.layers[0](_to_spaces(inrs), pooled=pooled and last == 0)
        for index, layer in enumerate(self.layers[1:]):
            norms: Iterable[Any] = self.norms[index].norms if len(self.norms) else [None] * len(tensors)  # type: ignore[assignment]
            active = list(map(self._activated, self.spaces, tensors, norms))
            tensors = layer(
                [x for x, _ in active], [reduced for _, reduced in active], pooled=pooled and index + 1 == last
            )
        return tensors

    def _activated(
        self, space: Space, x: Tensor, norm: nn.BatchNorm1d | None
    ) -> tuple[Tensor, dict[int | None, Tensor]]:
        """x after norm, ReLU and dropout, and its reductions."""
        if len(space.axes) == 2 and not (self.training and self.dropout.p > 0):
            x, rows, columns = norm_pools(x, norm)
            return x, {space.axes[0]: rows, space.axes[1]: columns, None: max_pool(rows, dim=2)}
        x = self.dropout(F.relu(normed(x, norm)))
        return x, _reductions(space, x)


def _to_spaces(inrs: INRBatch) -> list[Tensor]:
    """The tensors of the spaces with one feature each, inputs and outputs folded, rows before columns."""
    last = inrs.spec.num_hidden
    tensors = []
    for layer, (W, b) in enumerate(zip(inrs.weights, inrs.biases, strict=True)):
        if layer == 0:
            tensors += [W.permute(2, 0, 1), b[None]]  # (encoded_dim, N, d), (1, N, d)
        elif layer == last:
            tensors += [W.transpose(0, 1), b.mT]  # (out_dim, N, d), (out_dim, N)
        else:
            tensors += [W[None], b[None]]  # (1, N, d, d), (1, N, d)
    return tensors


def _reductions(space: Space, x: Tensor) -> dict[int | None, Tensor]:
    """x reduced to each of its axes, (F, N, d), and to its pool, (F, N), under None."""
    if not space.axes:
        return {None: x}
    if len(space.axes) == 1:
        return {space.axes[0]: x, None: max_pool(x, dim=2)}
    rows, columns = max_pool(x, dim=3), max_pool(x, dim=2)
    return {space.axes[0]: rows, space.axes[1]: columns, None: max_pool(rows, dim=2)}
