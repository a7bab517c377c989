"""Norm pools: batch norm, ReLU and pools of the spaces of DWS that have rows and columns, as one function.

In torch; for float32 on the CPU by norm_pools.c where it was compiled: with DeepSets these small operations took half of a
training step in torch. Shape letters: F features, N INRs, d rows, e columns.
"""

import ctypes
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from inr_factory.inr.compiled_library import load_library
from inr_factory.learning.models.set_attention import in_shares

SOURCE = Path(__file__).with_name("norm_pools.c")
LIBRARY = SOURCE.with_name("_norm_pools.so")


def norm_pools(x: Tensor, norm: nn.BatchNorm1d | None) -> tuple[Tensor, Tensor, Tensor]:
    """relu(norm(x)) and its largest values of each row and of each column.

    Args:
        x: (F, N, d, e).
        norm: Batch normalisation of the F features, over INRs, rows and columns alike; its running statistics move
            in training. None: x as it is.

    Returns:
        (F, N, d, e), (F, N, d), (F, N, e).
    """
    if x.dtype != torch.float32 or x.device.type != "cpu" or torch.compiler.is_compiling() or _library() is None:
        return pools_in_torch(x, norm)
    training, eps = norm is not None and norm.training, 0.0 if norm is None else norm.eps
    if norm is None:
        zeros, ones = x.new_zeros(len(x)), x.new_ones(len(x))
        gain, shift, moments = ones, zeros, torch.stack([zeros, ones])
    else:
        assert norm.running_mean is not None
        assert norm.running_var is not None
        gain, shift, moments = norm.weight, norm.bias, torch.stack([norm.running_mean, norm.running_var])
    y, rows, columns, moments = NormPools.apply(x, gain, shift, moments, training, eps)  # type: ignore[no-untyped-call]
    if norm is not None and training:
        _move_statistics(norm, moments, x[0].numel())
    return y, rows, columns


def _move_statistics(norm: nn.BatchNorm1d, moments: Tensor, count: int) -> None:
    """As nn.BatchNorm1d does after a batch of `count` values a feature."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert norm.num_batches_tracked is not None
    assert norm.momentum is not None
    norm.running_mean.lerp_(moments[0], norm.momentum)
    norm.running_var.lerp_(moments[1] * (count / max(1, count - 1)), norm.momentum)
    norm.num_batches_tracked += 1


def pools_in_torch(x: Tensor, norm: nn.BatchNorm1d | None) -> tuple[Tensor, Tensor, Tensor]:
    """What `norm_pools` computes, on any device and for any type."""
    y = F.relu(normed(x, norm))
    return y, y.max(3).values, y.max(2).values


def normed(x: Tensor, norm: nn.BatchNorm1d | None) -> Tensor:
    """x (folded * F, ...) after batch normalisation of its F features over all else, or as it is."""
    if norm is None:
        return x
    values: Tensor = norm(x.reshape(-1, norm.num_features, x[0].numel()))
    return values.view(x.shape)


class _Shape(ctypes.Structure):
    """`shape` of norm_pools.c."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("features", "inrs", "rows", "columns", "training")),
        ("eps", ctypes.c_double),
    )


class NormPools(Function):
    """`norm_pools` by norm_pools.c. It also gives the moments (2, F), mean and variance, by which x was normalised."""

    @staticmethod
    def forward(
        x: Tensor, gain: Tensor, shift: Tensor, moments: Tensor, training: bool, eps: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        x, moments = x.contiguous(), moments.clone()
        y, rows, columns = torch.empty_like(x), x.new_empty(x.shape[:3]), x.new_empty(*x.shape[:2], x.shape[3])
        _run("forward", training, eps, x, gain, shift, moments, y, rows, columns)
        return y, rows, columns, moments

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        x, gain, _, _, ctx.training, ctx.eps = inputs
        ctx.save_for_backward(x, gain, output[3], *output[:3])
        ctx.mark_non_differentiable(output[3])

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        x, gain, moments, *outputs = ctx.saved_tensors
        x = x.contiguous()
        to_x, to_gain, to_shift = torch.empty_like(x), torch.empty_like(gain), torch.empty_like(gain)
        dense = [slope.contiguous() for slope in slopes[:3]]
        left = x.new_empty(len(x), x.shape[3])
        _run("backward", ctx.training, ctx.eps, x, gain, moments, *outputs, *dense, to_x, to_gain, to_shift, left)
        return to_x, to_gain, to_shift, None, None, None


def _run(name: str, training: bool, eps: float, x: Tensor, *others: Tensor) -> None:
    """A function of norm_pools.c for all features, shared out among as many threads as torch uses."""
    function = getattr(_library(), f"norm_pools_{name}")
    shape = _Shape(*x.shape, training, eps)
    pointers = [tensor.data_ptr() for tensor in (x, *others)]
    in_shares(len(x), lambda begin, end: function(ctypes.addressof(shape), *pointers, begin, end))


@lru_cache(maxsize=1)
def _library() -> ctypes.CDLL | None:
    library = load_library(SOURCE, LIBRARY, "built_from")
    if isinstance(library, str):
        return None
    for name, num_tensors in (("forward", 7), ("backward", 13)):
        function = getattr(library, f"norm_pools_{name}")
        function.restype = None
        function.argtypes = [*[ctypes.c_void_p] * (1 + num_tensors), *[ctypes.c_int64] * 2]
    return library
