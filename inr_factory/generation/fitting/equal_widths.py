"""INRs whose layers differ in width, for the fused engines, whose layers are all as wide.

The further neurons have weights and biases of 0. A sine of 0 is 0, so that they add nothing, all their gradients are 0
and Adam leaves them as they are: the fit of the other neurons is that of the narrower INR.

Shape letters: D parameters of an INR, D' of the wider one.
"""

from dataclasses import replace
from functools import lru_cache

import torch
from torch import Tensor

from inr_factory.inr.spec import SirenSpec


@lru_cache(maxsize=64)
def widened(spec: SirenSpec) -> tuple[SirenSpec, Tensor | None]:
    """The spec with all layers as wide as the widest, and the places (D,) of its parameters among those, None if equal."""
    if spec.widths is None:
        return spec, None
    wide = replace(spec, widths=None)
    places, begin = [], 0
    for (outputs, inputs), (more_outputs, more_inputs) in zip(spec.layer_shapes, wide.layer_shapes, strict=True):
        weights = torch.arange(more_outputs * more_inputs).view(more_outputs, more_inputs)[:outputs, :inputs]
        places += [begin + weights.flatten(), begin + more_outputs * more_inputs + torch.arange(outputs)]
        begin += more_outputs * (more_inputs + 1)
    return wide, torch.cat(places)


def widen(flat: Tensor, spec: SirenSpec) -> Tensor:
    """Parameters (..., D), or rates of them, as (..., D'), with zeros; `flat` itself where the widths are equal."""
    wide, places = widened(spec)
    if places is None:
        return flat
    result = flat.new_zeros(*flat.shape[:-1], wide.num_parameters)
    result[..., places.to(flat.device)] = flat
    return result


def narrow(flat: Tensor, spec: SirenSpec) -> Tensor:
    """The inverse of `widen`."""
    places = widened(spec)[1]
    return flat if places is None else flat[..., places.to(flat.device)]
