"""Pair attention: the two sums of relational attention over pairs of nodes that have features.

The backward passes are written by hand, one head at a time, so that tensors with D features for each pair are neither
stored nor larger than a cache. Allocating them takes most of the time of the dense form, and autograd would store them:
a training step of ng_t is 7.0 times as fast as the dense form on one thread (`inr-factory benchmark read`).

Shape letters: N INRs, R nodes that attend (rows), J nodes attended to, C features of a pair, H heads, E features of
a head, D = H * E.
"""

from functools import reduce
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def pair_logits(
    pairs: Tensor, query: Tensor, key: Tensor, edge_query: Tensor, edge_key: Tensor, num_heads: int
) -> Tensor:
    """(q_i + Q e_ij) . (k_j + K e_ij) by heads, (N, R, J, H): pairs (N, R, J, C), query (N, R, D), key (N, J, D), Q
    and K (D, C)."""
    tensors = _of_one_type(pairs, query, key, edge_query, edge_key)
    logits: Tensor = _Logits.apply(*tensors, num_heads)  # type: ignore[no-untyped-call]
    return logits


def pair_values(pairs: Tensor, attention: Tensor, value: Tensor, edge_value: Tensor) -> Tensor:
    """Sum over j of a_ij (v_j * A e_ij) by heads, (N, R, D): pairs (N, R, J, C), attention (N, R, J, H), value
    (N, J, D), A (D, C)."""
    values: Tensor = _Values.apply(*_of_one_type(pairs, attention, value, edge_value))  # type: ignore[no-untyped-call]
    return values


def _of_one_type(*tensors: Tensor) -> list[Tensor]:
    """The tensors in their widest type; under autocast they have several, and the backward passes mix them."""
    dtype = reduce(torch.promote_types, (tensor.dtype for tensor in tensors))
    return [tensor.to(dtype) for tensor in tensors]


class _Logits(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, pairs: Tensor, query: Tensor, key: Tensor, edge_query: Tensor, edge_key: Tensor, num_heads: int
    ) -> Tensor:
        ctx.save_for_backward(pairs, query, key, edge_query, edge_key)
        ctx.num_heads = num_heads
        logits = pairs.new_empty(*pairs.shape[:3], num_heads)
        for head, columns in enumerate(_heads(query, num_heads)):
            left, right = _project(pairs, edge_query[columns]), _project(pairs, edge_key[columns])
            left.add_(query[:, :, None, columns]).mul_(right.add_(key[:, None, :, columns]))
            logits[..., head] = left.sum(-1)
        return logits

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        pairs, query, key, edge_query, edge_key = ctx.saved_tensors
        rows = pairs.reshape(-1, pairs.shape[-1])
        grad_rows = torch.zeros_like(rows)
        grads = [torch.empty_like(x) for x in (query, key, edge_query, edge_key)]
        for head, columns in enumerate(_heads(query, ctx.num_heads)):
            to_key = _project(pairs, edge_query[columns]).add_(query[:, :, None, columns]).mul_(grad[..., head, None])
            to_query = _project(pairs, edge_key[columns]).add_(key[:, None, :, columns]).mul_(grad[..., head, None])
            grads[0][..., columns], grads[1][..., columns] = to_query.sum(2), to_key.sum(1)
            for projected, weight, out in ((to_query, edge_query, grads[2]), (to_key, edge_key, grads[3])):
                flat = projected.flatten(0, 2)
                grad_rows.addmm_(flat, weight[columns])
                torch.mm(flat.T, rows, out=out[columns])
        return grad_rows.view(pairs.shape), *grads, None


class _Values(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, pairs: Tensor, attention: Tensor, value: Tensor, edge_value: Tensor) -> Tensor:
        ctx.save_for_backward(pairs, attention, value, edge_value)
        values = pairs.new_empty(*pairs.shape[:2], value.shape[-1])
        for head, columns in enumerate(_heads(value, attention.shape[-1])):
            projected = (
                _project(pairs, edge_value[columns]).mul_(value[:, None, :, columns]).mul_(attention[..., head, None])
            )
            values[..., columns] = projected.sum(2)
        return values

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        pairs, attention, value, edge_value = ctx.saved_tensors
        rows = pairs.reshape(-1, pairs.shape[-1])
        grad_rows = torch.zeros_like(rows)
        grads = [torch.empty_like(x) for x in (attention, value, edge_value)]
        for head, columns in enumerate(_heads(value, attention.shape[-1])):
            projected = _project(pairs, edge_value[columns]).mul_(grad[:, :, None, columns])
            modulated = grad[:, :, None, columns] * value[:, None, :, columns]
            share = attention[..., head, None]
            grads[0][..., head] = (projected * value[:, None, :, columns]).sum(-1)
            grads[1][..., columns] = projected.mul_(share).sum(1)
            flat = modulated.mul_(share).flatten(0, 2)
            grad_rows.addmm_(flat, edge_value[columns])
            torch.mm(flat.T, rows, out=grads[2][columns])
        return grad_rows.view(pairs.shape), *grads


def _heads(x: Tensor, num_heads: int) -> list[slice]:
    width = x.shape[-1] // num_heads
    return [slice(head * width, (head + 1) * width) for head in range(num_heads)]


def _project(pairs: Tensor, weight: Tensor) -> Tensor:
    """(N, R, J, C), (E, C) -> (N, R, J, E)."""
    return (pairs.reshape(-1, pairs.shape[-1]) @ weight.T).view(*pairs.shape[:3], -1)
