"""Set attention: self-attention within many short sequences, as DWS needs it.

In torch; for float32 on the CPU by set_attention.c where it was compiled: torch's attention is made for long sequences,
and took two thirds of a training step of DWS with eight heads. Shape letters: M maps, F features, N INRs, d neurons of
one, H heads, E features of a head.
"""

import ctypes
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from inr_factory.inr.compiled_library import load_library

SOURCE = Path(__file__).with_name("set_attention.c")
LIBRARY = SOURCE.with_name("_set_attention.so")


def set_attention(qkv: Tensor, num_heads: int) -> Tensor:
    """Q + softmax(Q K^T / sqrt(F)) V of each map, INR and head.

    Args:
        qkv: (M, 3 F, N, d), the features of queries, of keys and of values; each head has F / H adjacent ones.
        num_heads: H.

    Returns:
        (M, F, N, d).
    """
    plain = qkv.dtype == torch.float32 and qkv.device.type == "cpu"
    if plain and not torch.compiler.is_compiling() and _functions() is not None:
        attended: Tensor = SetAttention.apply(qkv, num_heads)[0]  # type: ignore[no-untyped-call]
        return attended
    return attention_in_torch(qkv, num_heads)


def attention_in_torch(qkv: Tensor, num_heads: int) -> Tensor:
    """What `set_attention` computes, on any device and for any type."""
    num_maps, features, count, neurons = qkv.shape
    heads = (num_maps, 3, num_heads, features // 3 // num_heads, count, neurons)
    query, key, value = qkv.reshape(heads).permute(1, 0, 4, 2, 5, 3).flatten(1, 2)  # (M * N, H, d, E) each
    attended = query + F.scaled_dot_product_attention(query, key, value, scale=(features // 3) ** -0.5)
    by_map: Tensor = attended.reshape(num_maps, count, *attended.shape[1:])
    return by_map.permute(0, 2, 4, 1, 3).reshape(num_maps, -1, count, neurons)


class _Shape(ctypes.Structure):
    """`shape` of set_attention.c."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("features", "heads", "inrs", "neurons")),
        ("scale", ctypes.c_double),
    )


class SetAttention(Function):
    """`set_attention` by set_attention.c. It gives A and, for its backward pass, the softmax's largest scores and sums."""

    @staticmethod
    def forward(qkv: Tensor, num_heads: int) -> tuple[Tensor, Tensor]:
        num_maps, features, count, neurons = qkv.shape
        qkv = qkv.contiguous()
        attended = qkv.new_empty(num_maps, features // 3, count, neurons)
        stats = qkv.new_empty(num_maps * num_heads * count, 2, neurons)
        _run("forward", num_heads, qkv, attended, stats)
        return attended, stats

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, int], output: tuple[Tensor, Tensor]) -> None:
        qkv, ctx.num_heads = inputs
        ctx.save_for_backward(qkv, *output)
        ctx.mark_non_differentiable(output[1])

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, slope: Tensor, _: Tensor) -> tuple[Tensor, None]:
        qkv, attended, stats = ctx.saved_tensors
        gradient = torch.empty_like(qkv, memory_format=torch.contiguous_format)
        _run("backward", ctx.num_heads, qkv.contiguous(), attended, stats, slope.contiguous(), gradient)
        return gradient, None


def _run(name: str, num_heads: int, qkv: Tensor, *others: Tensor) -> None:
    """A function of set_attention.c for all sequences, shared out among as many threads as torch uses."""
    functions = _functions()
    assert functions is not None
    num_maps, features, count, neurons = qkv.shape
    shape = _Shape(features // 3, num_heads, count, neurons, (features // 3) ** -0.5)
    pointers = [tensor.data_ptr() for tensor in (qkv, *others)]

    def share(begin: int, end: int) -> int:
        failed: int = functions[name](ctypes.addressof(shape), *pointers, begin, end)
        return failed

    if any(in_shares(num_maps * num_heads * count, share)):
        raise MemoryError(f"no memory for the attention of {count} INRs")


def in_shares(total: int, work: Callable[[int, int], Any]) -> list[Any]:
    """work(begin, end) for equal shares of range(total), one a thread of torch."""
    threads = torch.get_num_threads()
    edges = [total * part // threads for part in range(threads + 1)]
    shares = map if threads == 1 else _pool(threads).map
    return list(shares(work, edges[:-1], edges[1:]))


@lru_cache(maxsize=1)
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads)


@lru_cache(maxsize=1)
def _functions() -> dict[str, Callable[..., int]] | None:
    """Those of set_attention.c for the widest vectors that this machine has."""
    library = load_library(SOURCE, LIBRARY, "built_from")
    if isinstance(library, str):
        return None
    functions: dict[str, Callable[..., int]] = {}
    for name, num_tensors in (("forward", 3), ("backward", 5)):
        kind = ctypes.CFUNCTYPE(ctypes.c_int, *[ctypes.c_void_p] * (1 + num_tensors), *[ctypes.c_int64] * 2)
        best = getattr(library, f"best_{name}")
        best.restype = ctypes.c_void_p
        functions[name] = kind(best())
    return functions
