"""MLP layers: the weights and biases of one MLP, read from a state dict of any module, and many of them as a batch.

Shape letters: N INRs, I inputs and O outputs of a layer.
"""

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from inr_factory.inr.batch import INRBatch
from inr_factory.inr.spec import MAX_DIM, SirenSpec

# Names of layers without a number, as modules of published code have them.
FIRST_NAMES = ("first_layer", "first", "input_layer")
LAST_NAMES = ("last_layer", "last", "final_layer", "final", "final_linear", "output_layer", "head")
_FIRST, _LAST = (-1.0,), (math.inf,)


class Layers(NamedTuple):
    """The numbers of one INR: weights (O, I) and biases (O,), float32, from the first layer to the last."""

    weights: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]

    @property
    def dims(self) -> tuple[int, ...]:
        """2, 32, 32, 1."""
        return (self.weights[0].shape[1], *(W.shape[0] for W in self.weights))


def layers_of(state: Any) -> Layers:
    """The layers of a state dict of an MLP, whatever its module is called. ValueError where it is something else.

    Layers are taken in the order of the numbers in their names, so that `layers.10.0.weight` follows
    `layers.9.0.weight`. A name without a number is that of the first or last layer (FIRST_NAMES, LAST_NAMES), as
    `last_layer.weight` of siren-pytorch or `last_layer.linear.weight` of COIN. Values that are no tensors (a label) are
    ignored. The state dict may be the only one within another dict, as in {"state_dict": ..., "epoch": 3}.
    """
    if not isinstance(state, Mapping):
        raise ValueError(f"it holds a {type(state).__name__}, expected a state dict")
    tensors = {str(name): value for name, value in state.items() if isinstance(value, Tensor) and value.dim() > 0}
    inner = [value for value in state.values() if isinstance(value, Mapping) and _has_tensors(value)]
    if not tensors and len(inner) == 1:
        return layers_of(inner[0])
    layers: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        stem, _, kind = name.rpartition(".")
        if kind not in ("weight", "bias") or _place(stem) is None:
            raise ValueError(f"it has a tensor {name[:80]!r}, expected LAYER.weight and LAYER.bias alone")
        layers.setdefault(stem, {})[kind] = tensor
    if not layers:
        raise ValueError(
            "it has no weights and biases" + (f", but {len(inner)} state dicts; save one" if inner else "")
        )
    stems = sorted(layers, key=_place)  # type: ignore[arg-type]  # no stem without a place is kept
    for earlier, stem in itertools.pairwise(stems):
        if _place(earlier) == _place(stem) and _place(stem) in (_FIRST, _LAST):
            raise ValueError(f"it has {earlier} and {stem}, of which one at most can be there")
    for stem in stems:
        if set(layers[stem]) != {"weight", "bias"}:
            raise ValueError(f"layer {stem} has no {'bias' if 'weight' in layers[stem] else 'weight'}")
    return check_layers([layers[stem]["weight"] for stem in stems], [layers[stem]["bias"] for stem in stems])


def _has_tensors(value: Mapping[Any, Any]) -> bool:
    return any(isinstance(each, Tensor) and each.dim() > 0 for each in value.values())


def _place(stem: str) -> tuple[float, ...] | None:
    """What sorts a layer by its name: its numbers, or before or after all of them; None where nothing says it."""
    numbers = tuple(float(number) for number in re.findall(r"\d+", stem))
    ends = {**dict.fromkeys(FIRST_NAMES, _FIRST), **dict.fromkeys(LAST_NAMES, _LAST)}
    return numbers or next((ends[name] for name in reversed(stem.split(".")) if name in ends), None)


def check_layers(weights: Sequence[Tensor], biases: Sequence[Tensor]) -> Layers:
    """These tensors as layers of one MLP, float32. ValueError where they do not follow on each other, are not finite
    or of a type that float32 cannot hold."""
    inputs = None
    for layer, (W, b) in enumerate(zip(weights, biases, strict=True)):
        if W.dim() != 2 or b.shape != W.shape[:1] or inputs not in (None, W.shape[1]):
            raise ValueError(
                f"layer {layer} has weights {tuple(W.shape)} and biases {tuple(b.shape)}"
                + (f" after {inputs} neurons" if inputs else "")
            )
        inputs = W.shape[0]
        for tensor in (W, b):
            if tensor.dtype not in (torch.float32, torch.float16, torch.bfloat16):
                raise ValueError(f"layer {layer} is {tensor.dtype}, expected float32; convert it first")
            if not bool(torch.isfinite(tensor).all()):
                raise ValueError(f"layer {layer} has values that are NaN or infinite")
    return Layers(tuple(W.float().contiguous() for W in weights), tuple(b.float().contiguous() for b in biases))


def spec_of(dims: Sequence[int], omega_0: float, output_bias: float, start: str) -> SirenSpec:
    """The spec of an MLP of these dims. ValueError where it has no hidden layer, or too wide ones."""
    if len(dims) < 3 or max(dims) > MAX_DIM:
        raise ValueError(
            f"it is {'-'.join(map(str, dims))}, expected one or more hidden layers of at most {MAX_DIM} neurons"
        )
    widths = tuple(dims[1:-1])
    return SirenSpec(dims[0], dims[-1], omega_0=omega_0, output_bias=output_bias, start=start, widths=widths)  # type: ignore[arg-type]


def stack_layers(spec: SirenSpec, layers: Sequence[Layers]) -> INRBatch:
    """Layers of N INRs of one spec as a batch."""
    if not layers:
        return INRBatch.from_flat(spec, torch.empty(0, spec.num_parameters))
    columns = zip(*(one.weights for one in layers), strict=True), zip(*(one.biases for one in layers), strict=True)
    weights, biases = (tuple(torch.stack(column) for column in side) for side in columns)
    return INRBatch(spec, weights, biases)
