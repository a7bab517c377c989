"""Moves: hidden neurons of many INRs reordered, scaled and shifted in one pass over memory, by neuron_ops.c.

For float32 INRs on the CPU that no gradient is asked of, where the C code was compiled; symmetries.py and canonical.py
have the same in torch. Shape letters: N INRs, D parameters of one, L hidden layers, H neurons of each.
"""

import ctypes
import math
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from inr_factory.inr.batch import INRBatch
from inr_factory.inr.compiled_library import load_library

SOURCE = Path(__file__).with_name("neuron_ops.c")
LIBRARY = SOURCE.with_name("_neuron_ops.so")
MAX_HIDDEN_DIM = 1024


class _Shape(ctypes.Structure):
    """`shape` of neuron_ops.c."""

    _fields_ = tuple((name, ctypes.c_int64) for name in ("count", "in_dim", "out_dim", "hidden", "layers", "stride"))


def usable(inrs: INRBatch) -> bool:
    """Whether this room can move these."""
    tensors = (*inrs.weights, *inrs.biases)
    plain = all(x.dtype == torch.float32 and x.device.type == "cpu" and not x.requires_grad for x in tensors)
    return plain and inrs.spec.hidden_dim <= MAX_HIDDEN_DIM and _library() is not None


def move_neurons(
    inrs: INRBatch,
    order_LNH: Tensor | None = None,
    incoming_LNH: Tensor | None = None,
    outgoing_LNH: Tensor | None = None,
    shift_LNH: Tensor | None = None,
) -> INRBatch:
    """Neuron i of each hidden layer becomes the one that was at order[i], its row of weights and its bias times
    incoming[i], its bias plus shift[i], its column of weights in the next layer times outgoing[i]."""
    library, flat, rows, shape = _prepare(inrs)
    given = (incoming_LNH, outgoing_LNH, shift_LNH)
    factors = [None if part is None else part.to(torch.float32).contiguous() for part in given]
    orders = None if order_LNH is None else order_LNH.contiguous()
    addresses = [None if part is None else part.data_ptr() for part in (orders, *factors)]
    library.move_neurons(ctypes.byref(shape), rows.data_ptr(), flat.data_ptr(), *addresses)
    return INRBatch.from_flat(inrs.spec, flat)


def canonical_form(inrs: INRBatch, edge: float) -> INRBatch:
    """See canonical.py."""
    library, flat, rows, shape = _prepare(inrs)
    library.canonical_form(
        ctypes.byref(shape), rows.data_ptr(), flat.data_ptr(), math.pi / inrs.spec.omega_0, edge
    )  # fmt: skip
    return INRBatch.from_flat(inrs.spec, flat)


def _prepare(inrs: INRBatch) -> tuple[ctypes.CDLL, Tensor, Tensor, _Shape]:
    """The library, new memory (N, D), where the INRs are, and what neuron_ops.c must know of them."""
    library, spec = _library(), inrs.spec
    assert library is not None
    rows = flat_view(inrs)
    flat = torch.empty(len(inrs), spec.num_parameters)
    stride = rows.stride(0) if len(inrs) > 1 else spec.num_parameters
    shape = _Shape(len(inrs), spec.in_dim, spec.out_dim, spec.hidden_dim, spec.num_hidden, stride)
    return library, flat, rows, shape


def flat_view(inrs: INRBatch) -> Tensor:
    """(N, D): a view where the tensors lie side by side, as those of a data set do, else a copy."""
    first, at = inrs.weights[0], 0
    step = first.stride(0) if len(inrs) > 1 else inrs.spec.num_parameters
    for part in (part for pair in zip(inrs.weights, inrs.biases, strict=True) for part in pair):
        dense = part[:1].is_contiguous() and (len(inrs) < 2 or part.stride(0) == step)
        if not dense or part.data_ptr() != first.data_ptr() + at * first.element_size():
            return inrs.flatten()
        at += part[:1].numel()
    return first.as_strided((len(inrs), inrs.spec.num_parameters), (step, 1))


@lru_cache(maxsize=1)
def _library() -> ctypes.CDLL | None:
    found = load_library(SOURCE, LIBRARY, "built_from")
    if isinstance(found, str):
        return None
    found.move_neurons.argtypes = [ctypes.POINTER(_Shape), *[ctypes.c_void_p] * 6]
    found.move_neurons.restype = None
    found.canonical_form.argtypes = [ctypes.POINTER(_Shape), *[ctypes.c_void_p] * 2, *[ctypes.c_double] * 2]
    found.canonical_form.restype = None
    return found
