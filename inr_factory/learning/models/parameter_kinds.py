"""Kinds of parameters: which of a model's parameters are kernels, gains, biases and learned vectors."""

from typing import Literal

from torch import nn

ParameterKind = Literal["kernel", "gain", "bias", "vector"]
"""A kernel multiplies features, in one matrix or in a stack of them; a gain is the factor of a norm. A vector is any other
parameter: positions of neurons, points at which INRs are evaluated, and mixes of such points."""


def parameter_kinds(model: nn.Module) -> dict[str, ParameterKind]:
    """The kind of each parameter of a model, by its name in `named_parameters`.

    The name decides, as in the trees of parameters of Flax, and not the number of dimensions: a stack of biases has
    three, and positions of neurons have two.
    """
    kinds: dict[str, ParameterKind] = {}
    for name, parameter in model.named_parameters():
        last = name.rpartition(".")[2]
        if last == "weight":
            kinds[name] = "kernel" if parameter.dim() > 1 else "gain"
        else:
            kinds[name] = "bias" if last == "bias" else "vector"
    return kinds
