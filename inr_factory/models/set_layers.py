"""Set layers: self-attention and DeepSets over the neurons of a hidden layer, many side by side.

Shape letters: M maps in a stack, N INRs, d hidden neurons, I and O features in and out, H heads, E features of a head.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def max_pool(x: Tensor, dim: int) -> Tensor:
    """The largest value along dim, which is dropped."""
    return x.max(dim).values


class LinearStack(nn.Module):
    """M Linears side by side, times scale: (M, ..., I) -> (M, ..., O).

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
