"""Set layers: self-attention and DeepSets over the neurons of a hidden layer, in stacks of equal widths.

ReluPools and AddEntries have hand-written backward passes: each writes the sum of several gradients into one tensor,
where autograd allocates and adds one per term, which took a third of a training step of DWS.

Shape letters: M maps in a stack, N INRs, d hidden neurons, I and O features in and out, H heads, E features of a head.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


def max_pool(x: Tensor, dim: int) -> Tensor:
    """The largest value along dim, which is dropped."""
    return x.max(dim).values


class ReluPools(Function):
    """relu(x) of x (N, d, e, F), with its largest values over e, (N, d, F), and over d, (N, e, F).

    Equal to F.relu and two max_pools in values and gradients, but the three gradients are added in one tensor.
    """

    @staticmethod
    def forward(x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        y = F.relu(x)
        rows, at_row = y.max(2)
        columns, at_column = y.max(1)
        return y, rows, columns, at_row, at_column

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: tuple[Tensor, ...]) -> None:
        ctx.save_for_backward(*output)
        ctx.mark_non_differentiable(*output[3:])

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *slopes: Tensor) -> Tensor:
        y, rows, columns, at_row, at_column = ctx.saved_tensors
        slope: Tensor = torch.ops.aten.threshold_backward(slopes[0], y, 0)
        slope.scatter_add_(2, at_row.unsqueeze(2), (slopes[1] * (rows > 0)).unsqueeze(2))
        slope.scatter_add_(1, at_column.unsqueeze(1), (slopes[2] * (columns > 0)).unsqueeze(1))
        return slope


class AddEntries(Function):
    """x @ weight + rows + columns of x (N, d, e, I), weight (I, O), rows (N, d, O), columns (N, e, O): (N, d, e, O), each
    number written twice instead of five times."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        total = rows[:, :, None] + columns[:, None]
        total.view(-1, total.shape[-1]).addmm_(x.flatten(0, -2), weight)
        return total

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:2])

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, Tensor, Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        flat = slope.reshape(-1, slope.shape[-1])
        to_x = (flat @ weight.mT).view(x.shape) if ctx.needs_input_grad[0] else None
        return to_x, x.flatten(0, -2).mT @ flat, slope.sum(2), slope.sum(1)


class LinearStack(nn.Module):
    """M Linears in one stack, times scale: (M, ..., I) -> (M, ..., O).

    Each matrix starts Xavier-normal times sqrt(2 I / O), biases at U(±1e-4), as published.
    """

    def __init__(self, num_maps: int, inputs: int, outputs: int, bias: bool = True, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale
        std = (2 / (inputs + outputs)) ** 0.5 * (2 * inputs / outputs) ** 0.5
        self.weight = nn.Parameter(std * torch.randn(num_maps, inputs, outputs))
        self.bias = nn.Parameter(1e-4 * (2 * torch.rand(num_maps, 1, outputs) - 1)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        rows, weight = x.flatten(1, -2), self.scale * self.weight  # the parameters are small, the rows are not
        mapped = torch.bmm(rows, weight) if self.bias is None else torch.baddbmm(self.scale * self.bias, rows, weight)
        return mapped.view(*x.shape[:-1], -1)

    def parts(self, index: int) -> tuple[Tensor, Tensor]:
        """Weight (I, O) and bias (O,) of one of the Linears, scaled."""
        assert self.bias is not None, "it was made without a bias"
        return self.scale * self.weight[index], self.scale * self.bias[index, 0]


def add_entries(x: Tensor, weight: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """x @ weight + rows + columns, see AddEntries."""
    if not x.dtype == weight.dtype == rows.dtype == columns.dtype:  # under autocast
        return x @ weight + rows[:, :, None] + columns[:, None]
    total: Tensor = AddEntries.apply(x, weight, rows, columns)  # type: ignore[no-untyped-call]
    return total


class AttentionStack(nn.Module):
    """M set layers by self-attention: (M, N, d, I) -> (M, N, d, O).

    S(X) = A + relu(Lin A) with A = Q + softmax(Q K^T / sqrt(O)) V (Lee et al., ICML 2019, without norms). With
    more than one head the softmax is per head, still divided by sqrt(O), as Navon et al. have it.
    """

    def __init__(self, num_maps: int, inputs: int, outputs: int, num_heads: int = 1) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.outputs = outputs
        self.query, self.key, self.value = (LinearStack(num_maps, inputs, outputs) for _ in range(3))
        self.output = LinearStack(num_maps, outputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        heads = (-1, x.shape[2], self.num_heads, self.outputs // self.num_heads)
        parts = (self.query, self.key, self.value)
        query, key, value = (part(x).view(heads).transpose(1, 2) for part in parts)  # (M * N, H, d, E) each
        attended = query + F.scaled_dot_product_attention(query, key, value, scale=self.outputs**-0.5)
        attended = attended.transpose(1, 2).reshape(*x.shape[:3], self.outputs)
        mapped: Tensor = attended + F.relu(self.output(attended))
        return mapped


class DeepSetsStack(nn.Module):
    """M set layers y_j = G x_j + g - A pool(x) (Zaheer et al., NeurIPS 2017): (M, N, d, I) -> (M, N, d, O)."""

    def __init__(self, num_maps: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.each = LinearStack(num_maps, inputs, outputs)
        self.pooled = LinearStack(num_maps, inputs, outputs, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        each: Tensor = self.each(x) - self.pooled(max_pool(x, dim=2)).unsqueeze(2)
        return each
