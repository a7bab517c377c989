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

FINER_BIAS = 20.0  # first_bias_scale of its code for images
AT_ONCE = 64  # INRs whose bits are drawn before they become numbers: they stay in the cache


@lru_cache(maxsize=64)
def initialization_bounds(spec: SirenSpec) -> Tensor:
    """Return the bound of each parameter, (D,): parameters are drawn uniformly from ± their bound. A shared tensor.

    - siren (Sitzmann et al. 2020): W_0 1/in, later weights sqrt(6/in)/omega_0, biases 1/sqrt(in).
    - dwsnets (the public corpora of Navon et al. 2023): weights of every sine layer sqrt(6/in)/omega_0, their
      biases 0; the last layer as torch.nn.Linear.
    - linear: every layer as torch.nn.Linear, 1/sqrt(in) for weights and biases.
    - finer (Liu et al. 2024): as siren, with biases of the first layer from ±20.

    Those of the first layer are for its own omega_0, and are stored times `first_factor`.
    """
    bounds = []
    last = spec.num_hidden
    for layer, (outputs, inputs) in enumerate(spec.layer_shapes):
        default = inputs**-0.5
        sine = (6 / inputs) ** 0.5 / (spec.omega_0 if layer or spec.first_omega_0 is None else spec.first_omega_0)
        if spec.start in ("siren", "finer"):
            weight, bias = (1 / inputs if layer == 0 else sine), default
            if layer == 0 and spec.start == "finer":
                bias = FINER_BIAS
        elif spec.start == "dwsnets" and layer < last:
            weight, bias = sine, 0.0
        else:
            weight, bias = default, default
        factor = spec.first_factor if layer == 0 else 1.0
        weight, bias = weight * factor, bias * factor
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


def initialize_flat(
    spec: SirenSpec, seeds: Sequence[int] | NDArray[np.int64], device: torch.device | str = "cpu"
) -> Tensor:
    """The weights of `initialize` as one tensor (N, D), drawn on the device; the same bits on each."""
    device = torch.device(device)
    # Bits u of 32 give the uniform number (u >> 8) 2^-23 - 1 = ((u - 2^31) >> 8) 2^-23, exact in float32.
    steps = (initialization_bounds(spec) * 2.0**-23).to(device, non_blocking=True)
    if device.type != "cpu":
        return draw_on_device(torch.from_numpy(np.array(seeds, dtype=np.int64)).to(device, non_blocking=True), steps)
    flat = np.empty((len(seeds), len(steps)), dtype=np.float32)
    raw = np.empty((min(AT_ONCE, len(seeds)), (len(steps) + 1) // 2), dtype="<u8")
    generator = np.random.Philox(key=0)  # given the keys in turn: to make one takes four times as long as to draw
    state = generator.state
    for begin in range(0, len(seeds), AT_ONCE):
        rows = flat[begin : begin + AT_ONCE]
        for row, seed in zip(raw, seeds[begin : begin + AT_ONCE], strict=False):
            state["state"]["key"][0] = seed
            generator.state = state
            row[:] = generator.random_raw(row.size)
        raw ^= np.uint64(0x80000000_80000000)
        rows[:] = (raw.view("<i4") >> 8)[: len(rows), : len(steps)]
        rows *= steps.numpy()
    return torch.from_numpy(flat)


def draw_on_device(seeds: Tensor, steps: Tensor) -> Tensor:
    """(N, D) numbers from the bits of seeds (N,), each a multiple of its step (D,); seeds and steps on one device."""
    words = philox(seeds, (len(steps) + 7) // 8)[:, : len(steps)]
    return ((words ^ -(2**31)) >> 8).float() * steps


def philox(seeds: Tensor, blocks: int) -> Tensor:
    """Philox4x64-10 keyed by seeds (N,) int64: the bits of numpy's generator as words of 32, (N, 8 * blocks) int32.

    By operations on int64, which wrap as those on unsigned numbers do, on any device. A CPU takes a hundred times as
    long as numpy.
    """
    half = 2**32 - 1
    products = [(0xD2E7470EE14C6C93, 0x9E3779B97F4A7C15), (0xCA5A826395121157, 0xBB67AE8584CAA73B)]
    numbers = torch.tensor([(_signed(factor), factor & half, factor >> 32, _signed(grow)) for factor, grow in products])
    factor, low, high, grow = numbers.T[..., None, None].to(seeds.device, non_blocking=True)  # each (2, 1, 1)
    keys = torch.stack([seeds, torch.zeros_like(seeds)])[..., None]
    counter = torch.arange(1, blocks + 1, device=seeds.device).expand(len(seeds), blocks)
    # The four words of a block: the first and third, and the second and fourth, (2, N, blocks) each.
    even, odd = torch.stack([counter, torch.zeros_like(counter)]), torch.zeros_like(counter)
    for _ in range(10):
        even_low, even_high = even & half, (even >> 32) & half
        middle = even_high * low + ((even_low * low >> 32) & half)
        carry = ((even_low * high + (middle & half)) >> 32) & half
        upper = even_high * high + ((middle >> 32) & half) + carry  # the high 64 bits of even * factor
        even, odd = upper.flip(0) ^ odd ^ keys, (even * factor).flip(0)
        keys = keys + grow
    return torch.stack([even, odd], dim=-1).permute(1, 2, 0, 3).flatten(1).view(torch.int32)


def _signed(number: int) -> int:
    """The int64 of the same bits as an unsigned number."""
    return number - 2**64 if number >= 2**63 else number
