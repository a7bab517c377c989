"""Alignment: brings the hidden neurons of one INR to those of another.

Weight matching of git re-basin (Ainsworth et al., ICLR 2023), for many pairs of INRs at once and, as far as their
activation has these symmetries, over signs, phases or scales too. Only exact symmetries are applied, so no function
ever changes.

Shape letters: N pairs of INRs, H hidden neurons of a layer, L hidden layers, I inputs and O outputs of a layer.
In matrices (N, H, H) rows are the neurons of the fixed INR and columns those of the moving one.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from inr_factory.errors import UsageError
from inr_factory.inr.arguments import check_whole
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.spec import SirenSpec
from inr_factory.learning.alignment import linear_assignment
from inr_factory.learning.transforms import neuron_ops
from inr_factory.learning.transforms.call_arguments import require_pairs
from inr_factory.learning.transforms.canonical import unit_factors
from inr_factory.learning.transforms.random_transform import replace_rows
from inr_factory.learning.transforms.symmetries import ACTIVATIONS, outgoing_signs, require_symmetry

Match = Literal["permutation", "signed", "phase", "scale"]
SYMMETRIES: Mapping[Match, str] = {"signed": "signs", "phase": "phases", "scale": "scales"}
"""What a match has besides the order of neurons: one of ACTIVATIONS."""

# Entries of one gain matrix (N, H, H) that are worked on at a time, 4 MB of float32: what stays in a CPU's cache.
CHUNK_ENTRIES = 2**20


@dataclass(frozen=True)
class NeuronMatching:
    """The symmetry that brings INRs to their references, each tensor (N, L, H).

    Neuron j of a layer is the one that was at permutations[..., j], times factors[..., j] (1 or -1, positive for match
    "scale"), with half_turns[..., j] * pi / omega_0 added to its bias afterwards. Where widths differ, H is the largest,
    and the entries beyond a layer's width change nothing.
    """

    permutations: Tensor
    factors: Tensor
    half_turns: Tensor

    def apply(self, inrs: INRBatch) -> INRBatch:
        """The INRs (N) with this symmetry applied; their functions stay."""
        order, factor, turns = (part.transpose(0, 1) for part in (self.permutations, self.factors, self.half_turns))
        outgoing, shift = neuron_ops.half_turns(inrs, turns)
        divided = None if inrs.spec.activation == "gauss" else outgoing / factor
        return neuron_ops.change_neurons(inrs, order, factor, divided, shift)


def align(inrs: INRBatch, reference: INRBatch, match: Match = "permutation", max_sweeps: int = 50) -> INRBatch:
    """Bring the hidden neurons of each INR to those of its reference; the functions stay.

    Args:
        inrs: N INRs, which are aligned.
        reference: N INRs of the same spec, or one for all.
        match: "permutation" reorders the neurons of every hidden layer (the published method); "signed" also
            negates them (all but ReLU INRs); "phase" also shifts their phases by half turns (sine INRs); "scale" gives
            them the norms of the reference's neurons after matching them at norm 1 (ReLU INRs).
        max_sweeps: How many passes over the layers at most.

    Returns:
        N INRs. One that would come out further from its reference than it went in stays as it is. The result of a
        pair does not depend on the others, except for rounding.

    Raises:
        UsageError: For INRs of different specs, counts that do not pair up, weights that are not finite, or a
            match that the activation does not have.
    """
    return match_neurons(inrs, reference, match, max_sweeps).apply(inrs)


def match_neurons(
    inrs: INRBatch, reference: INRBatch, match: Match = "permutation", max_sweeps: int = 50
) -> NeuronMatching:
    """The symmetry that `align` applies, with the same arguments and errors.

    Coordinate descent on the squared distance of all parameters: with the other layers held, one layer's best
    operations are a linear assignment, solved exactly. A first pass goes forward and matches each layer by what comes
    into its neurons, since later layers are not yet in order; then layers whose neighbours changed are matched
    again, last to first and back, until none improves or max_sweeps passes are done.
    """
    _check(inrs, reference, match)
    check_whole(0, max_sweeps=max_sweeps)
    count, size = len(inrs), max(1, CHUNK_ENTRIES // inrs.spec.hidden_dim**2)
    parts = [_identity(inrs.select(slice(0)))]
    for start in range(0, count, size):
        part = inrs.select(slice(start, start + size))
        partner = (
            reference.select(slice(start, start + size)) if len(reference) == count else _repeat(reference, len(part))
        )
        parts.append((_match_scales if match == "scale" else _match)(part, partner, match, max_sweeps))
    return NeuronMatching(*(torch.cat(pieces) for pieces in zip(*parts, strict=True)))


def relative_distance(inrs: INRBatch, fixed: INRBatch) -> Tensor:
    """Measure how far INRs are from their references in weight space.

    Args:
        inrs: N INRs.
        fixed: N INRs of the same spec, or one for all.

    Returns:
        (N,): the distance of all parameters over the norm of the reference's. INRs that were initialised
        independently are about sqrt(2) apart.
    """
    target = fixed.flatten()
    distance: Tensor = torch.linalg.vector_norm(inrs.flatten() - target, dim=1)
    norm: Tensor = torch.linalg.vector_norm(target, dim=1)
    return distance / norm


def solve_assignments(gain_NHH: Tensor) -> Tensor:
    """(N, H): for each row the column given to it, so that the N assignments have the largest total gain.

    Solved on the CPU, also for gains on a GPU (512 of 32x32 are 2 MB to move): by linear_assignment.c, in about a third
    of the time of scipy, which solves them one by one where the C code was not compiled.
    """
    if linear_assignment.supports(gain_NHH):
        return linear_assignment.solve(gain_NHH).to(gain_NHH.device)
    columns = [linear_sum_assignment(matrix, maximize=True)[1] for matrix in gain_NHH.double().cpu().numpy()]
    return torch.from_numpy(np.stack(columns)).to(gain_NHH.device)


Operations = tuple[Tensor, Tensor, Tensor]


def finest_match(spec: SirenSpec) -> Match:
    """The match over all symmetries that INRs of a spec have; of ReLU over permutations, as runs of before have it."""
    return "phase" if spec.activation == "sine" else "signed" if "signed" in matches(spec) else "permutation"


def matches(spec: SirenSpec) -> tuple[Match, ...]:
    """The matches that INRs of a spec have, the coarsest first."""
    return "permutation", *(match for match, has in SYMMETRIES.items() if spec.activation in ACTIVATIONS[has])


def check_match(match: str, inrs: INRBatch) -> None:
    """Raise UsageError for an unknown match, or one that the INRs' activation does not have."""
    if not isinstance(match, str) or match not in get_args(Match):
        raise UsageError(f"match must be one of {', '.join(get_args(Match))}, got {match!r}")
    for name, symmetry in SYMMETRIES.items():
        if name == match:
            require_symmetry(symmetry, f"match {match}", inrs.spec)


def _check(moving: INRBatch, fixed: INRBatch, match: str) -> None:
    require_pairs("align", moving, fixed)
    check_match(match, moving)
    for inrs in (moving, fixed):
        if not all(bool(tensor.sum().isfinite()) for tensor in (*inrs.weights, *inrs.biases)):
            raise UsageError("INRs with weights that are NaN or infinite cannot be aligned; leave them out")


def _identity(inrs: INRBatch) -> Operations:
    """permutations, factors and half_turns that change nothing."""
    shape = (len(inrs), inrs.spec.num_hidden, inrs.spec.hidden_dim)
    permutations = torch.arange(shape[2], device=inrs.device).repeat(*shape[:2], 1)
    signs = torch.ones(shape, device=inrs.device, dtype=inrs.dtype)
    return permutations, signs, torch.zeros_like(signs)


@torch.no_grad()
def _match(moving: INRBatch, fixed: INRBatch, match: Match, max_sweeps: int) -> Operations:
    """The operations, see `NeuronMatching`, that bring N INRs near N others."""
    num_layers = moving.spec.num_hidden
    permutations, signs, half_turns = _identity(moving)
    current = moving

    def improve(layer: int, rows: Tensor, forward: bool) -> Tensor:
        """Match one layer of the pairs at rows; those of them that changed."""
        nonlocal current
        before, target = _pick(current, rows), _pick(fixed, rows)
        permutation = solve_assignments(_gain(before, target, layer, match, forward))
        after = neuron_ops.change_layer(before, layer, permutation)
        sign, turns = _best_turns(after, target, layer, match, forward)
        after = _turn(after, layer, sign, turns, match)
        if not forward:
            nearer = _distance(after, target, layer) < _distance(before, target, layer) * (1 - 1e-6)
            rows, permutation, sign, turns = rows[nearer], permutation[nearer], sign[nearer], turns[nearer]
            after = _pick(after, nearer.nonzero()[:, 0])
        at = (rows, layer, slice(permutation.shape[1]))
        permutations[at] = permutations[at].gather(1, permutation)
        signs[at] = signs[at].gather(1, permutation) * sign
        half_turns[at] = half_turns[at].gather(1, permutation) * sign + turns
        current = replace_rows(current, rows, after)
        return rows

    everyone = torch.arange(len(moving), device=moving.device)
    for layer in range(num_layers):
        improve(layer, everyone, forward=layer < num_layers - 1)
    stale = torch.ones(len(moving), num_layers, dtype=torch.bool, device=moving.device)
    stale[:, -1] = False
    for sweep in range(max_sweeps):
        if not bool(stale.any()):
            break
        for layer in range(num_layers) if sweep % 2 else reversed(range(num_layers)):
            rows = stale[:, layer].nonzero()[:, 0]
            if len(rows):
                changed = improve(layer, rows, forward=False)
                stale[rows, layer] = False
                stale[changed, max(layer - 1, 0)] |= layer > 0
                stale[changed, min(layer + 1, num_layers - 1)] |= layer < num_layers - 1
    nearer = (relative_distance(current, fixed) < relative_distance(moving, fixed))[:, None, None]
    stay = _identity(moving)
    return (
        torch.where(nearer, permutations, stay[0]),
        torch.where(nearer, signs, stay[1]),
        torch.where(nearer, half_turns, stay[2]),
    )


@torch.no_grad()
def _match_scales(moving: INRBatch, fixed: INRBatch, match: Match, max_sweeps: int) -> Operations:
    """As `_match`, for ReLU INRs: matched with all neurons at norm 1, then brought to the norms of the fixed INRs."""
    (unit_moving, up), (unit_fixed, down) = _unit_neurons(moving), _unit_neurons(fixed)
    permutations, _, half_turns = _match(unit_moving, unit_fixed, "permutation", max_sweeps)
    factors = up.gather(2, permutations) / down
    aligned = NeuronMatching(permutations, factors, half_turns).apply(moving)
    nearer = (relative_distance(aligned, fixed) < relative_distance(moving, fixed))[:, None, None]
    stay = _identity(moving)
    return torch.where(nearer, permutations, stay[0]), torch.where(nearer, factors, stay[1]), half_turns


def _unit_neurons(inrs: INRBatch) -> tuple[INRBatch, Tensor]:
    """ReLU INRs with each neuron's weights and bias scaled to norm 1, and the factors (N, L, H)."""
    factors = _identity(inrs)[1]
    for layer, width in enumerate(inrs.spec.hidden_dims):
        factors[:, layer, :width] = factor = unit_factors(inrs, layer)
        inrs = neuron_ops.change_layer(inrs, layer, incoming_NH=factor, outgoing_NH=1 / factor)
    return inrs, factors


def _gain(moving: INRBatch, fixed: INRBatch, layer: int, match: Match, forward: bool) -> Tensor:
    """(N, H, H): what it gains to put a neuron of moving where one of fixed is, by its best sign and half turns.

    The gain is minus half of the squared distance of all that touches the neuron, less what is the same for
    every assignment: a product of weights, and for biases that are shifted the square itself. forward leaves out
    the outgoing weights.
    """
    incoming = torch.bmm(fixed.weights[layer], moving.weights[layer].mT)
    outgoing = torch.bmm(fixed.weights[layer + 1].mT, moving.weights[layer + 1]) * (not forward)
    fixed_bias, moving_bias = fixed.biases[layer][:, :, None], moving.biases[layer][:, None, :]
    if match != "phase":
        if match == "signed" and not moving.spec.is_odd:
            return incoming.addcmul_(fixed_bias, moving_bias).abs_().add_(outgoing)
        product = incoming.add_(outgoing).addcmul_(fixed_bias, moving_bias)
        return product.abs_() if match == "signed" else product
    period = math.pi / moving.spec.omega_0
    half_square = period**2 / 2
    best = None
    for sign in (1, -1):
        # gap: distance of the biases after the best even number of half turns, in half turns, 0 to 1; after the
        # best odd number it is 1 - gap, and the outgoing weights change their sign. The larger of the two gains,
        # even: sign * outgoing - half_square * gap², odd: -sign * outgoing - half_square * (1 - gap)², is with
        # gap = 1/2 + 2 h, less half_square / 4: |outgoing - sign * half_square * 2 h| - half_square * 4 h².
        h = torch.sub(fixed_bias / (2 * period), moving_bias / (2 * period), alpha=sign)
        h.sub_(h.round()).abs_().sub_(0.25)
        larger = torch.add(outgoing, h, alpha=-sign * half_square * 2).abs_()
        gain = larger.addcmul_(h, h, value=-4 * half_square).add_(incoming, alpha=sign)
        best = gain if best is None else torch.maximum(best, gain)
    assert best is not None
    return best


def _best_turns(moving: INRBatch, fixed: INRBatch, layer: int, match: Match, forward: bool) -> tuple[Tensor, Tensor]:
    """(N, H) sign and half turns of each neuron of moving that bring it nearest to the one of fixed at its position."""
    fixed_bias, moving_bias = fixed.biases[layer], moving.biases[layer]
    if match == "permutation":
        return torch.ones_like(moving_bias), torch.zeros_like(moving_bias)
    incoming = (fixed.weights[layer] * moving.weights[layer]).sum(dim=2)
    outgoing = (fixed.weights[layer + 1] * moving.weights[layer + 1]).sum(dim=1) * (not forward and moving.spec.is_odd)
    if match == "signed":
        return torch.where(incoming + outgoing + fixed_bias * moving_bias < 0, -1, 1).to(
            moving_bias.dtype
        ), torch.zeros_like(moving_bias)
    period = math.pi / moving.spec.omega_0
    best, best_sign, best_turns = (
        torch.full_like(moving_bias, -math.inf),
        torch.ones_like(moving_bias),
        torch.zeros_like(moving_bias),
    )
    for sign, odd in ((1, 0), (1, 1), (-1, 0), (-1, 1)):
        gap = (fixed_bias - sign * moving_bias) / period
        turns = 2 * ((gap - odd) / 2).round() + odd
        gain = sign * incoming + sign * (1 - 2 * odd) * outgoing - (period * (gap - turns)).square() / 2
        larger = gain > best
        best = torch.where(larger, gain, best)
        best_sign = torch.where(larger, sign, best_sign)
        best_turns = torch.where(larger, turns, best_turns)
    return best_sign, best_turns


def _turn(inrs: INRBatch, layer: int, sign_NH: Tensor, half_turns_NH: Tensor, match: Match) -> INRBatch:
    """The neurons of one layer with sign and half turns applied, as far as the match has them."""
    if match == "permutation":
        return inrs
    if match == "signed":
        outgoing_NH = outgoing_signs(inrs.spec, sign_NH)
        return neuron_ops.change_layer(inrs, layer, incoming_NH=sign_NH, outgoing_NH=outgoing_NH)
    outgoing, shift = neuron_ops.half_turns(inrs, half_turns_NH)
    return neuron_ops.change_layer(inrs, layer, incoming_NH=sign_NH, outgoing_NH=sign_NH * outgoing, shift_NH=shift)


def _distance(inrs: INRBatch, fixed: INRBatch, layer: int) -> Tensor:
    """(N,) squared distance over all that touches the neurons of one hidden layer."""
    pairs = [(inrs.weights[at], fixed.weights[at]) for at in (layer, layer + 1)] + [
        (inrs.biases[layer], fixed.biases[layer])
    ]
    return torch.stack([torch.linalg.vector_norm((a - b).flatten(1), dim=1) for a, b in pairs]).square().sum(dim=0)


def _pick(inrs: INRBatch, rows: Tensor) -> INRBatch:
    """The INRs at rows, which are in order; the batch itself if that is all of them."""
    return inrs if len(rows) == len(inrs) else inrs.select(rows)


def _repeat(inrs: INRBatch, count: int) -> INRBatch:
    """One INR count times, without copies."""
    weights = tuple(tensor.expand(count, -1, -1) for tensor in inrs.weights)
    return INRBatch(inrs.spec, weights, tuple(tensor.expand(count, -1) for tensor in inrs.biases))
