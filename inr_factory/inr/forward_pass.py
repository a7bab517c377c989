"""Forward pass of INRs: what one hidden layer and the last layer compute, for one INR or a batch.

Shape letters: N INRs, P points, I inputs and O outputs of a layer.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from inr_factory.inr.spec import SirenSpec


def encode(spec: SirenSpec, coords: Tensor) -> Tensor:
    """The positional encoding of coords (..., I) -> (..., E), what the first layer gets; coords where there is none.

    The coordinates, if the spec has them, then sines and cosines of all coordinates times each frequency in turn, as in
    the code of NeRF (Mildenhall et al., ECCV 2020).
    """
    if not spec.frequencies:
        return coords
    parts = [coords] if spec.coordinates else []
    for power in range(spec.frequencies):
        angles = coords * (spec.first_frequency * 2**power)
        parts += [angles.sin(), angles.cos()]
    return torch.cat(parts, dim=-1)


def layer_outputs(
    spec: SirenSpec, encoded: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor]
) -> Iterator[Tensor]:
    """Yield encoded coords (P, E) or (N, P, E) and the output of every layer; the last outputs are the values."""
    yield (hidden := encoded)
    for W, b in zip(weights[:-1], biases[:-1], strict=True):
        hidden = hidden_layer(spec, hidden, W, b)
        yield hidden
    yield last_layer(spec, hidden, weights[-1], biases[-1])


def hidden_layer(spec: SirenSpec, hidden: Tensor, W: Tensor, b: Tensor) -> Tensor:
    """Compute a hidden layer: sin(omega_0 (W x + b)), or the function that `SirenSpec` has for another activation.

    Args:
        spec: gives activation and omega_0.
        hidden: inputs (P, I) of one INR or (N, P, I) of a batch.
        W: weights (O, I) or (N, O, I).
        b: biases (O,) or (N, O).

    Returns:
        A new tensor, (P, O) or (N, P, O).
    """
    return activate(spec, _linear(hidden, W, b))


def activate(spec: SirenSpec, linear: Tensor) -> Tensor:
    """The activation of a hidden layer of z = W x + b, a tensor that nobody needs afterwards."""
    if spec.activation == "relu":
        return torch.relu(linear)
    if spec.activation == "tanh":
        return torch.tanh(linear)
    if spec.activation == "gauss":
        return torch.exp((linear * spec.omega_0).square() * -0.5)
    if spec.activation == "finer":
        return torch.sin(linear * (linear.abs() + 1) * spec.omega_0)
    # In place, since nobody else has seen this tensor. The gradient of a sine needs its input.
    return torch.sin(linear.mul_(spec.omega_0)) if torch.is_grad_enabled() else linear.mul_(spec.omega_0).sin_()


def last_layer(spec: SirenSpec, hidden: Tensor, W: Tensor, b: Tensor) -> Tensor:
    """Compute W x + b + output_bias, with the shapes of `hidden_layer`."""
    return _linear(hidden, W, b) + spec.output_bias


def _linear(hidden: Tensor, W: Tensor, b: Tensor) -> Tensor:
    return F.linear(hidden, W, b) if W.dim() == 2 else torch.baddbmm(b[:, None, :], hidden, W.mT)
