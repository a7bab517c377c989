"""Canonical form: of all INRs that differ by symmetries of neurons, the one that stands for them."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from inr_factory.inr.batch import INRBatch
from inr_factory.inr.spec import SirenSpec
from inr_factory.learning.transforms import neuron_ops
from inr_factory.learning.transforms.call_arguments import require_batch
from inr_factory.learning.transforms.random_transform import RandomTransform
from inr_factory.learning.transforms.symmetries import outgoing_signs

# Share of a half period by which the interval of the biases lies below [-pi/2, pi/2): a neuron exactly at the
# edge, a pure cosine, then comes out on the same side whatever its rounding.
EDGE = 1e-4


def canonicalize(inrs: INRBatch) -> INRBatch:
    """Fix what the symmetries of every hidden neuron leave open, layer by layer from the first; the functions stay.

    Neurons of sine INRs keep their order. Fixed are

    - sign: the entries of a neuron's row of W sum to more than 0 (where they sum to 0: its first entry that is
      not 0 is positive). Independent of the order of the neurons.
    - phase: omega_0 b lies in one half period, [-pi/2, pi/2) less 0.01 % of it.
    - a neuron whose row of W is all 0 is a constant; sign and phase bring its omega_0 b into [0, pi/2]. One that is
      constantly 0 (omega_0 b within rounding of whole half turns) has the bias and the outgoing weights 0.

    Weights change by their signs alone. Biases are rounded once to float32, so that INRs which differ by
    signs and up to a few half turns agree to 1e-6 afterwards, unless a bias lies within rounding of an edge.
    A canonical form is returned bit for bit.

    INRs of other activations have the neurons of each layer sorted by the sum of their rows, those of equal sums by their
    biases; equal neurons keep their order. Before that, tanh and FINER INRs have the sign fixed as sines have it,
    Gaussians that of W_l and b_l alone; the bias of a neuron whose row is all 0 is at least 0. ReLU INRs have each
    neuron's W_l and b_l divided by their joint norm, which multiplies the outgoing weights.

    Args:
        inrs: N INRs.

    Returns:
        N new INRs.

    Raises:
        UsageError: For anything but an INRBatch.
    """
    require_batch(inrs, "canonicalize")
    inrs = _without_zeros(inrs)
    if inrs.spec.activation != "sine":
        return _sorted_form(inrs)
    if neuron_ops.supports(inrs):
        return neuron_ops.canonical_form(inrs, EDGE)
    period = math.pi / inrs.spec.omega_0
    weights, biases = list(inrs.weights), list(inrs.biases)
    for layer in range(inrs.spec.num_hidden):
        sign = _row_signs(weights[layer])
        bias, half_turns = _wrap(biases[layer] * sign, period, EDGE)
        if not bool(sign.all()):
            constant = sign == 0
            folded, folded_turns = _wrap(biases[layer], period, 0.0)
            sign = torch.where(constant, torch.where(folded < 0, -1, 1).to(sign.dtype), sign)
            bias = torch.where(constant, folded.abs(), bias)
            half_turns = torch.where(constant, folded_turns, half_turns)
        turn = sign * neuron_ops.alternating_sign(half_turns).to(sign.dtype)
        if layer == 0:
            weights[0] = weights[0] * sign[:, :, None]
        else:
            weights[layer].mul_(sign[:, :, None])  # a new tensor since the layer before
        biases[layer] = bias
        weights[layer + 1] = weights[layer + 1] * turn[:, None, :]
    return INRBatch(inrs.spec, tuple(weights), tuple(biases))


@dataclass(frozen=True)
class NeuronSigns:
    """Signs and phases that bring INRs of an odd activation to neurons of fixed ones, in their order.

    `incoming` and `outgoing`, (N, H) of each hidden layer, are what the weights before and after its neurons are
    multiplied by, 1 or -1; `shift` is what is added to its biases afterwards.
    """

    incoming: list[Tensor]
    outgoing: list[Tensor]
    shift: list[Tensor]

    def apply(self, inrs: INRBatch) -> INRBatch:
        weights, biases = self.turn(list(inrs.weights), list(inrs.biases))
        shifted = [b + shift for b, shift in zip(biases, self.shift, strict=False)]
        return INRBatch(inrs.spec, tuple(weights), (*shifted, biases[-1]))

    def turn(self, weights: list[Tensor], biases: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Changes of weights and biases, to those of the fixed neurons or back."""
        weights, biases = list(weights), list(biases)
        for layer, (sign, turn) in enumerate(zip(self.incoming, self.outgoing, strict=True)):
            weights[layer] = weights[layer] * sign[:, :, None]
            biases[layer] = biases[layer] * sign
            weights[layer + 1] = weights[layer + 1] * turn[:, None, :]
        return weights, biases


def neuron_signs(inrs: INRBatch) -> NeuronSigns:
    """Signs and phases of the neurons of INRs with an odd activation, fixed as `canonicalize` fixes them."""
    signs = NeuronSigns([], [], [])
    into: Tensor | None = None  # what the weights of this layer are multiplied by for the neurons before it
    for W, b in zip(inrs.weights[:-1], inrs.biases[:-1], strict=True):
        sign = _row_signs(W if into is None else W * into[:, None, :])
        sign = torch.where(sign == 0, 1, sign)
        into, bias = sign, b * sign
        if inrs.spec.activation == "sine":
            wrapped, half_turns = _wrap(bias, math.pi / inrs.spec.omega_0, EDGE)
            into, shift = sign * neuron_ops.alternating_sign(half_turns).to(sign.dtype), wrapped - bias
        else:
            shift = torch.zeros_like(bias)
        for values, value in zip((signs.incoming, signs.outgoing, signs.shift), (sign, into, shift), strict=True):
            values.append(value)
    return signs


def is_default(spec: SirenSpec) -> bool:
    """Whether readers bring such INRs to canonical form by default. Those of ReLU never did, and runs of before resume."""
    return spec.activation != "relu"


def unit_factors(inrs: INRBatch, layer: int) -> Tensor:
    """(N, H): 1 / the joint norm of W and b of each neuron of a layer; 1 where that is 0, or 1 but for rounding."""
    weight, bias = inrs.weights[layer].double(), inrs.biases[layer].double()
    norm = torch.hypot(torch.linalg.vector_norm(weight, dim=2), bias)
    rounding = 4 * torch.finfo(inrs.dtype).eps * weight.shape[2] ** 0.5
    return torch.where((norm == 0) | ((norm - 1).abs() <= rounding), 1, 1 / norm).to(inrs.dtype)


def _sorted_form(inrs: INRBatch) -> INRBatch:
    """The canonical form of INRs that are not sines."""
    for layer in range(inrs.spec.num_hidden):
        outgoing: Tensor | None
        if inrs.spec.activation == "relu":
            incoming = unit_factors(inrs, layer)
            outgoing = 1 / incoming
        else:
            sign, bias = _row_signs(inrs.weights[layer]), inrs.biases[layer]
            incoming = torch.where(sign == 0, torch.where(bias < 0, -1, 1).to(sign.dtype), sign)
            outgoing = outgoing_signs(inrs.spec, incoming)
        inrs = neuron_ops.change_layer(inrs, layer, None, incoming, outgoing)
        order = inrs.biases[layer].argsort(dim=1)
        sums = inrs.weights[layer].double().sum(dim=2).gather(1, order)
        inrs = neuron_ops.change_layer(inrs, layer, order.gather(1, sums.argsort(dim=1, stable=True)))
    return inrs


def _without_zeros(inrs: INRBatch) -> INRBatch:
    """The INRs with 0 for the bias and the outgoing weights of neurons that are constantly 0, from the first layer on."""
    weights, biases = list(inrs.weights), list(inrs.biases)
    rounding = min(4 * torch.finfo(inrs.dtype).eps, 1e-6)
    for layer in range(inrs.spec.num_hidden):
        n, h = (weights[layer][:, :, 0] == 0).nonzero(as_tuple=True)
        if len(n):
            turns = biases[layer][n, h].double() * (inrs.spec.omega_0 / math.pi)
            if inrs.spec.activation == "sine":
                zero = (turns - turns.round()).abs() <= rounding
            else:
                zero = turns <= 0 if inrs.spec.activation == "relu" else (turns == 0) & inrs.spec.is_odd
            zero &= ~weights[layer][n, h].any(dim=1)
            n, h = n[zero], h[zero]
        if len(n):
            biases[layer], weights[layer + 1] = biases[layer].clone(), weights[layer + 1].clone()
            biases[layer][n, h] = 0
            weights[layer + 1][n, :, h] = 0
    return INRBatch(inrs.spec, tuple(weights), tuple(biases))


def _row_signs(weight_NHI: Tensor) -> Tensor:
    """(N, H): the sign of each row's sum as float64 has it, 0 for rows of zeros."""
    count, hidden, inputs = weight_NHI.shape
    rows = weight_NHI.reshape(-1, inputs)  # in one piece, which is read twice as fast
    # Over few entries Tensor.sum takes many times as long as a product.
    sums = rows @ rows.new_ones(inputs)
    if not len(sums):
        return sums.view(count, hidden)
    # However float32 adds them up, it is off by less than this (Higham 2002, section 4.2).
    error = inputs**2 * torch.finfo(sums.dtype).eps * torch.stack(torch.aminmax(rows)).abs().max()
    sign = sums.sign()
    doubtful = (sums.abs() <= error).nonzero()[:, 0]
    if len(doubtful):
        doubtful_rows = rows[doubtful]
        exact = doubtful_rows.double().sum(dim=1).sign().to(sign.dtype)
        first = (doubtful_rows != 0).to(torch.uint8).argmax(dim=1, keepdim=True)
        sign[doubtful] = torch.where(exact == 0, doubtful_rows.gather(1, first)[:, 0].sign(), exact)
    return sign.view(count, hidden)


def _wrap(bias_NH: Tensor, period: float, edge: float) -> tuple[Tensor, Tensor]:
    """Bias less k periods, in [-1/2 - edge, 1/2 - edge) of a period, and k, the float64 whole number."""
    low, high = (-0.5 - edge) * period, (0.5 - edge) * period
    exact = bias_NH.double()
    k = (exact / period).add_(0.5 + edge).floor_()
    wrapped = torch.sub(exact, k, alpha=period).to(bias_NH.dtype)
    # Rounding may land just outside, where the next call would wrap once more.
    inside = 4 * period * torch.finfo(bias_NH.dtype).eps
    return wrapped.clamp(low + inside, high - inside), k


@dataclass(frozen=True)
class Canonicalize(RandomTransform):
    """Bring INRs to their canonical form, as `canonicalize` does. It draws nothing."""

    name: ClassVar[str] = "canonical"

    def apply(self, inrs: INRBatch, generator: Generator) -> INRBatch:
        return canonicalize(inrs)
