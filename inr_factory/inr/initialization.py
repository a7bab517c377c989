"""Initialization: the weights at which fits of INRs start, drawn from a seed alone.

Shape letters: N INRs, D parameters of one INR.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from inr_factory.inr.batch import INRBatch
from inr_factory.inr.spec import SirenSpec


@lru_cache(maxsize=64)
def initialization_bounds(spec: SirenSpec) -> Tensor:
    """Return the bound of each parameter, (D,): parameters are drawn uniformly from ± their bound. A shared tensor.

    - siren (Sitzmann et al. 2020): W_0 1/in, later weights sqrt(6/in)/omega_0, biases 1/sqrt(in).
    - dwsnets (the public corpora of Navon et al. 2023): weights of every sine layer sqrt(6/in)/omega_0, their
      biases 0; the last layer as torch.nn.Linear.
    - linear: every layer as torch.nn.Linear, 1/sqrt(in) for weights and biases.
    """
    bounds = []
    last = spec.num_hidden
    for layer, (outputs, inputs) in enumerate(spec.layer_shapes):
        default = inputs**-0.5
        sine = (6 / inputs) ** 0.5 / spec.omega_0
        if spec.start == "siren":
            weight, bias = (1 / inputs if layer == 0 else sine), default
        elif spec.start == "dwsnets" and layer < last:
            weight, bias = sine, 0.0
        else:
            weight, bias = default, default
        bounds += [torch.full((outputs * inputs,), weight), torch.full((outputs,), bias)]
    return torch.cat(bounds)


def initialize(spec: SirenSpec, seeds: Sequence[int]) -> INRBatch:
    """Draw the initial weights of INRs.

    The counter-based generator Philox (Salmon et al., SC 2011) is keyed by the seed alone and gives raw bits, so that
    the weights are the same on every device, in every batch and in every version of numpy.

    Args:
        spec: architecture and initialization scheme.
        seeds: one for each INR, 0 <= seed < 2**63.

    Returns:
        A batch of as many INRs, float32, on the CPU.
    """
    return INRBatch.from_flat(spec, initialize_flat(spec, seeds))


def initialize_flat(spec: SirenSpec, seeds: Sequence[int] | NDArray[np.int64]) -> Tensor:
    """The weights of `initialize` as one tensor, (N, D)."""
    count = spec.num_parameters
    raw = np.empty((len(seeds), (count + 1) // 2), dtype="<u8")
    for row, seed in zip(raw, seeds, strict=True):
        row[:] = np.random.Philox(key=int(seed)).random_raw(row.size)
    uniform = (raw.view("<u4")[:, :count] >> 8).astype(np.float32) * np.float32(2.0**-23) - np.float32(1)
    return torch.from_numpy(uniform) * initialization_bounds(spec)
