"""Activations with their derivatives, in place, for the batched engine."""

import numpy as np
import torch
from torch import Tensor

from inr_factory.inr.spec import SirenSpec

LEAST_EXPONENT = -40.0  # of a Gaussian, 4e-18: numbers near the smallest float take a CPU ten times as long


def apply_activation(spec: SirenSpec, products: Tensor, values: Tensor, derivatives: bool) -> None:
    """Values of the activation of a hidden layer, and, if wanted, its derivatives in place of the products.

    Args:
        spec: Gives activation and omega_0.
        products: W x + b, times omega_0 where the activation has one, which is changed. The derivatives are those by
            these products.
        values: Where the values go, of the same shape; `products` itself for ReLU, which has no derivatives here.
        derivatives: Whether they are wanted.
    """
    if spec.activation == "relu":
        values.relu_()
    elif spec.activation == "tanh":
        torch.tanh(products, out=values)
        if derivatives:
            torch.mul(values, values, out=products)
            products.neg_().add_(1)
    elif spec.activation == "gauss":
        torch.mul(products, products, out=values)
        values.mul_(-0.5).clamp_(min=LEAST_EXPONENT).exp_()
        if derivatives:
            products.mul_(values).neg_()
    else:
        slopes = None
        if spec.activation == "finer":  # the angle u (|u| / omega_0 + 1) of the product u
            slopes = torch.abs(products).div_(spec.omega_0)
            products.mul_(slopes + 1)
        _sine(products, values, cosines=derivatives)
        if slopes is not None and derivatives:
            products.mul_(slopes.mul_(2).add_(1))


def _sine(angles: Tensor, sines: Tensor, cosines: bool) -> None:
    """Sines of angles and, if wanted, their cosines in place of the angles. On a CPU numpy takes half of torch's time."""
    if angles.device.type == "cpu":
        np.sin(angles.numpy(), out=sines.numpy())
        if cosines:
            np.cos(angles.numpy(), out=angles.numpy())
        return
    torch.sin(angles, out=sines)
    if cosines:
        angles.cos_()
