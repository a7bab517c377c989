"""Neuron operations: hidden neurons of many INRs reordered, scaled and shifted.

In torch for all INRs; for float32 INRs on the CPU that need no gradient, in one pass over memory by neuron_ops.c where
it was compiled. Shape letters: N INRs, D parameters of one, L hidden layers, H neurons of each, I inputs and O outputs
of a layer.
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


def change_neurons(
    inrs: INRBatch,
    order_LNH: Tensor | None = None,
    incoming_LNH: Tensor | None = None,
    outgoing_LNH: Tensor | None = None,
    shift_LNH: Tensor | None = None,
) -> INRBatch:
    """Change the neurons of all hidden layers, each as `change_layer` does.

    Where widths differ, H is the largest, and a layer takes as many of the first entries as it has neurons.
    """
    operations = (order_LNH, incoming_LNH, outgoing_LNH, shift_LNH)
    if supports(inrs):
        return _change_neurons_in_c(inrs, *operations)
    for layer, width in reversed([*enumerate(inrs.spec.hidden_dims)]):  # incoming factors come first, as in C
        inrs = change_layer(inrs, layer, *(None if part is None else part[layer, :, :width] for part in operations))
    return inrs


def change_layer(
    inrs: INRBatch,
    layer: int,
    order_NH: Tensor | None = None,
    incoming_NH: Tensor | None = None,
    outgoing_NH: Tensor | None = None,
    shift_NH: Tensor | None = None,
) -> INRBatch:
    """Neuron i of one hidden layer becomes the one that was at order[i], its row of weights and its bias times
    incoming[i], its bias plus shift[i], its column of weights in the next layer times outgoing[i]."""
    weight, bias, onward = inrs.weights[layer], inrs.biases[layer], inrs.weights[layer + 1]
    if order_NH is not None:
        weight, bias = _pick_rows(weight, order_NH), bias.gather(1, order_NH)
        onward = onward.gather(2, order_NH[:, None, :].expand_as(onward))
    if incoming_NH is not None:
        weight, bias = weight * incoming_NH[:, :, None], bias * incoming_NH
    if outgoing_NH is not None:
        onward = onward * outgoing_NH[:, None, :]
    if shift_NH is not None:
        bias = bias + shift_NH
    weights = (*inrs.weights[:layer], weight, onward, *inrs.weights[layer + 2 :])
    return INRBatch(inrs.spec, weights, (*inrs.biases[:layer], bias, *inrs.biases[layer + 1 :]))


def half_turns(inrs: INRBatch, count: Tensor) -> tuple[Tensor, Tensor]:
    """(outgoing, shift) that move the phases of neurons by `count` half turns, a tensor of whole numbers.

    Exact for sine INRs: sin(z + k pi) = (-1)^k sin(z), with k pi / omega_0 added to the bias; in float32 the biases are
    rounded, about 1e-7 for each half turn.
    """
    return alternating_sign(count), count * (math.pi / inrs.spec.omega_0)


def alternating_sign(count: Tensor) -> Tensor:
    """(-1)^k for whole numbers k of either sign, which are floats. Tensor.remainder takes twice as long."""
    return 1 - 2 * (count - 2 * (count / 2).floor())


def _pick_rows(weight_NOI: Tensor, rows_NO: Tensor) -> Tensor:
    count, outputs, inputs = weight_NOI.shape
    if inputs == 2 and weight_NOI.dtype in (torch.float32, torch.float64):
        # Rows of two numbers are gathered twice as fast as complex numbers, which need even strides of their own.
        pairs = torch.view_as_complex(weight_NOI.clone(memory_format=torch.contiguous_format))
        return torch.view_as_real(pairs.gather(1, rows_NO))
    start_N1 = torch.arange(0, count * outputs, outputs, device=weight_NOI.device)[:, None]
    return weight_NOI.reshape(-1, inputs).index_select(0, (rows_NO + start_N1).flatten()).view(count, outputs, inputs)


class _Shape(ctypes.Structure):
    """`shape` of neuron_ops.c."""

    _fields_ = tuple((name, ctypes.c_int64) for name in ("count", "in_dim", "out_dim", "hidden", "layers", "stride"))


def supports(inrs: INRBatch) -> bool:
    """Whether neuron_ops.c can change these INRs, whose layers it takes to be of one width."""
    tensors = (*inrs.weights, *inrs.biases)
    plain = all(x.dtype == torch.float32 and x.device.type == "cpu" and not x.requires_grad for x in tensors)
    small = inrs.spec.widths is None and inrs.spec.hidden_dim <= MAX_HIDDEN_DIM
    return plain and small and _library() is not None


def _change_neurons_in_c(inrs: INRBatch, order_LNH: Tensor | None, *factors: Tensor | None) -> INRBatch:
    library, flat, rows, shape = _prepare(inrs)
    given = [None if part is None else part.to(torch.float32).contiguous() for part in factors]
    orders = None if order_LNH is None else order_LNH.contiguous()
    addresses = [None if part is None else part.data_ptr() for part in (orders, *given)]
    library.change_neurons(ctypes.byref(shape), rows.data_ptr(), flat.data_ptr(), *addresses)
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
    shape = _Shape(len(inrs), spec.encoded_dim, spec.out_dim, spec.hidden_dim, spec.num_hidden, stride)
    return library, flat, rows, shape


def flat_view(inrs: INRBatch) -> Tensor:
    """(N, D): a view where the tensors are adjacent in memory, as those of a data set are; otherwise a copy."""
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
    library = load_library(SOURCE, LIBRARY, "built_from")
    if isinstance(library, str):
        return None
    library.change_neurons.argtypes = [ctypes.POINTER(_Shape), *[ctypes.c_void_p] * 6]
    library.change_neurons.restype = None
    library.canonical_form.argtypes = [ctypes.POINTER(_Shape), *[ctypes.c_void_p] * 2, *[ctypes.c_double] * 2]
    library.canonical_form.restype = None
    return library
