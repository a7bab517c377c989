"""Set layers: self-attention and DeepSets over the neurons of a hidden layer, in stacks of equal widths.

Features come before INRs and neurons in all tensors: products, pools, sums and attention then run along memory.

AddEntries and LargestEntries have hand-written backward passes, which write into one tensor where autograd allocates and
adds several.

Shape letters: M maps in a stack, N INRs, d hidden neurons, I and O features in and out.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from inr_factory.learning.models.set_attention import set_attention


def max_pool(x: Tensor, dim: int) -> Tensor:
    """The largest value along dim, which is dropped."""
    return x.max(dim).values


class AddEntries(Function):
    """weight^T x + rows + columns of x (I, N, d, e), weight (I, O), rows (O, N, d), columns (O, N, e): (O, N, d, e), each
    number written twice instead of five times."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        total = rows[..., None] + columns[:, :, None]
        total.view(len(total), -1).addmm_(weight.mT, x.flatten(1))
        return total

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:2])

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, Tensor, Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        flat = slope.flatten(1)
        to_x = (weight @ flat).view(x.shape) if ctx.needs_input_grad[0] else None
        return to_x, x.flatten(1) @ flat.mT, slope.sum(3), slope.sum(2)


class LargestEntries(Function):
    """The largest values of AddEntries over d and e, (O, N). Each has its gradient from one entry, so that the backward
    pass looks at no other."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
        largest = AddEntries.forward(x, weight, rows, columns).flatten(2).max(2)
        return largest.values, largest.indices

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.save_for_backward(*inputs[:2], output[1])
        ctx.mark_non_differentiable(output[1])

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, slope: Tensor, _: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        x, weight, at = ctx.saved_tensors
        (num_inputs, count, rows, columns), outputs = x.shape, len(slope)
        at_INO = at.mT[None].expand(num_inputs, count, outputs)
        slope_INO = slope.mT[None]
        to_x = x.new_zeros(num_inputs, count, rows * columns).scatter_add_(2, at_INO, weight[:, None] * slope_INO)
        to_weight = (x.flatten(2).gather(2, at_INO) * slope_INO).sum(1)
        to_rows, to_columns = (
            x.new_zeros(outputs, count, length).scatter_(2, index[..., None], slope[..., None])
            for length, index in ((rows, at // columns), (columns, at % columns))
        )
        return to_x.view(x.shape), to_weight, to_rows, to_columns


class LinearStack(nn.Module):
    """M Linears in one stack, times scale: (M, I, ...) -> (M, O, ...).

    Each matrix starts Xavier-normal times sqrt(2 I / O), biases at U(±1e-4), as published.
    """

    def __init__(self, num_maps: int, inputs: int, outputs: int, bias: bool = True, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale
        std = (2 / (inputs + outputs)) ** 0.5 * (2 * inputs / outputs) ** 0.5
        self.weight = nn.Parameter(std * torch.randn(num_maps, inputs, outputs))
        self.bias = nn.Parameter(1e-4 * (2 * torch.rand(num_maps, 1, outputs) - 1)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.scale * self.weight, None if self.bias is None else self.scale * self.bias)

    def parts(self, index: int) -> tuple[Tensor, Tensor]:
        """Weight (I, O) and bias (O,) of one of the Linears, scaled."""
        assert self.bias is not None, "it was made without a bias"
        return self.scale * self.weight[index], self.scale * self.bias[index, 0]


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """(M, O, ...) of x (M, I, ...), weight (M, I, O) and bias (M, 1, O)."""
    mapped = torch.bmm(weight.mT, x.flatten(2)) if bias is None else torch.baddbmm(bias.mT, weight.mT, x.flatten(2))
    return mapped.view(len(x), -1, *x.shape[2:])


def add_entries(x: Tensor, weight: Tensor, rows: Tensor, columns: Tensor, largest: bool = False) -> Tensor:
    """weight^T x + rows + columns, see AddEntries; `largest` for the largest values alone."""
    if not x.dtype == weight.dtype == rows.dtype == columns.dtype:  # under autocast
        mapped = (weight.mT @ x.flatten(1)).view(-1, *x.shape[1:])
        total = mapped + rows[..., None] + columns[:, :, None]
        return max_pool(total.flatten(2), dim=2) if largest else total
    if largest:
        values: Tensor = LargestEntries.apply(x, weight, rows, columns)[0]  # type: ignore[no-untyped-call]
        return values
    entries: Tensor = AddEntries.apply(x, weight, rows, columns)  # type: ignore[no-untyped-call]
    return entries


class AttentionStack(nn.Module):
    """M set layers by self-attention: (M, I, N, d) -> (M, O, N, d).

    S(X) = A + relu(Lin A) with A = Q + softmax(Q K^T / sqrt(O)) V (Lee et al., ICML 2019, without norms). With
    more than one head the softmax is per head, still divided by sqrt(O), as Navon et al. have it.
    """

    def __init__(self, num_maps: int, inputs: int, outputs: int, num_heads: int = 1) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query, self.key, self.value = (LinearStack(num_maps, inputs, outputs) for _ in range(3))
        self.output = LinearStack(num_maps, outputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        parts = (self.query, self.key, self.value)
        weight = torch.cat([part.weight for part in parts], dim=2)
        bias = torch.cat([part.bias for part in parts if part.bias is not None], dim=2)
        attended = set_attention(linear(x, weight, bias), self.num_heads)
        mapped: Tensor = attended + F.relu(self.output(attended))
        return mapped


class DeepSetsStack(nn.Module):
    """M set layers y_j = G x_j + g - A pool(x) (Zaheer et al., NeurIPS 2017): (M, I, N, d) -> (M, O, N, d)."""

    def __init__(self, num_maps: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.each = LinearStack(num_maps, inputs, outputs)
        self.pooled = LinearStack(num_maps, inputs, outputs, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        each: Tensor = self.each(x) - self.pooled(max_pool(x, dim=3)).unsqueeze(3)
        return each
