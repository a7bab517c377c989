"""Forward pass of INRs: what one hidden layer and the last layer compute, for one INR or a batch.

Shape letters: N INRs, P points, I inputs and O outputs of a layer.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from inr_factory.inr.spec import SirenSpec


def hidden_layer(spec: SirenSpec, hidden: Tensor, W: Tensor, b: Tensor) -> Tensor:
    """Compute sin(omega_0 (W x + b)), or max(0, W x + b) where the activation is relu.

    Args:
        spec: gives activation and omega_0.
        hidden: inputs (P, I) of one INR or (N, P, I) of a batch.
        W: weights (O, I) or (N, O, I).
        b: biases (O,) or (N, O).

    Returns:
        A new tensor, (P, O) or (N, P, O).
    """
    linear = _linear(hidden, W, b)
    if spec.activation != "sine":
        return torch.relu(linear)
    # In place, since nobody else has seen this tensor. The gradient of a sine needs its input.
    return torch.sin(linear.mul_(spec.omega_0)) if torch.is_grad_enabled() else linear.mul_(spec.omega_0).sin_()


def last_layer(spec: SirenSpec, hidden: Tensor, W: Tensor, b: Tensor) -> Tensor:
    """Compute W x + b + output_bias, with the shapes of `hidden_layer`."""
    return _linear(hidden, W, b) + spec.output_bias


def _linear(hidden: Tensor, W: Tensor, b: Tensor) -> Tensor:
    return F.linear(hidden, W, b) if W.dim() == 2 else torch.baddbmm(b[:, None, :], hidden, W.mT)
