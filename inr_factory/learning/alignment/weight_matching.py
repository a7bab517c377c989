"""Alignment: bring the hidden neurons of one INR to those of another. The only module that imports scipy, but for benchmarks.

Weight matching of git re-basin (Ainsworth et al., ICLR 2023), for many pairs of INRs at once and, for sine
INRs, over signs and phases too. Only exact symmetries are applied, so no function ever changes.

Shape letters: N pairs of INRs, H hidden neurons of a layer, L hidden layers, I inputs and O outputs of a layer.
In matrices (N, H, H) rows are the neurons of the fixed INR and columns those of the moving one.
"""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from inr_factory.errors import UsageError
from inr_factory.inr.batch import INRBatch
from inr_factory.learning.alignment import linear_assignment as assignments
from inr_factory.learning.transforms import neuron_ops as moves
from inr_factory.learning.transforms.symmetries import (
    parity,
    permute_neurons,
    require_sine,
    scale_neurons,
    shift_phases,
)

Match = Literal["permutation", "signed", "phase"]

# Entries of one gain matrix (N, H, H) that are worked on at a time, 4 MB of float32: what stays in a CPU's cache.
CHUNK_ENTRIES = 2**20


@dataclass(frozen=True)
class Aligned:
    """The moving INRs after alignment, and the moves that took them there, each (N, L, H).

    Neuron j of a layer is the one that was at permutations[..., j], times signs[..., j] (1 or -1), with
    half_turns[..., j] * pi / omega_0 added to its bias afterwards; `rewire` applies these moves.
    """

    inrs: INRBatch
    permutations: Tensor
    signs: Tensor
    half_turns: Tensor


def align(moving: INRBatch, fixed: INRBatch, match: Match = "permutation", max_sweeps: int = 50) -> Aligned:
    """Move each of N INRs as near as it comes to its partner: fixed has N INRs, or one, a template for all.

    - match "permutation" reorders the neurons of every hidden layer (the published method);
    - "signed" also negates them (sine INRs), "phase" also shifts their phases by half turns.

    Coordinate descent on the squared distance of all parameters: with the other layers held, one layer's best
    moves are a linear assignment, solved exactly. A first pass goes forward and matches each layer by what comes
    into its neurons, since later layers are not yet in order; then layers whose neighbours moved are matched
    again, last to first and back, until none improves or max_sweeps passes are done. An INR that would come out
    further off than it went in stays as it is. The result for a pair does not depend on the others, but for
    rounding. Raises UsageError for INRs of different specs, counts that do not pair up or weights not finite.
    """
    _check(moving, fixed, match)
    count, size = len(moving), max(1, CHUNK_ENTRIES // moving.spec.hidden_dim**2)
    moves = [_stay(moving.select(slice(0)))]
    for start in range(0, count, size):
        part = moving.select(slice(start, start + size))
        partner = fixed.select(slice(start, start + size)) if len(fixed) == count else _repeat(fixed, len(part))
        moves.append(_match(part, partner, match, max_sweeps))
    permutations, signs, half_turns = (torch.cat(parts) for parts in zip(*moves, strict=True))
    return Aligned(rewire(moving, permutations, signs, half_turns), permutations, signs, half_turns)


def rewire(inrs: INRBatch, permutations_NLH: Tensor, signs_NLH: Tensor, half_turns_NLH: Tensor) -> INRBatch:
    """Apply the moves of an alignment, see `Aligned`."""
    if moves.usable(inrs):
        order, sign, turns = (part.transpose(0, 1) for part in (permutations_NLH, signs_NLH, half_turns_NLH))
        shift, outgoing = turns * (math.pi / inrs.spec.omega_0), sign * parity(turns)
        return moves.move_neurons(inrs, order, sign, outgoing, shift)
    signed, turned = bool((signs_NLH < 0).any()), bool(half_turns_NLH.any())
    for layer in range(inrs.spec.num_hidden):
        inrs = permute_neurons(inrs, layer, permutations_NLH[:, layer])
        if signed:
            inrs = scale_neurons(inrs, layer, signs_NLH[:, layer], signs_NLH[:, layer])
        if turned:
            inrs = shift_phases(inrs, layer, half_turns_NLH[:, layer])
    return inrs


def relative_distance(inrs: INRBatch, fixed: INRBatch) -> Tensor:
    """(N,): the distance of all parameters of each INR from its partner's, over the norm of the partner's.

    Independently started INRs lie about sqrt(2) apart.
    """
    target = fixed.flatten()
    distance: Tensor = torch.linalg.vector_norm(inrs.flatten() - target, dim=1)
    norm: Tensor = torch.linalg.vector_norm(target, dim=1)
    return distance / norm


def solve_assignments(gain_NHH: Tensor) -> Tensor:
    """(N, H): for each row the column given to it, so that the N assignments have the largest total gain.

    Solved on the CPU, also for gains on a GPU (512 of 32x32 are 2 MB to move), by linear_assignment.c, at half the time of
    what follows where that was not compiled: scipy one by one, after eight Sinkhorn iterations for all at once whose
    prices are taken off rows and columns. That leaves every optimum where it is but saves most of scipy's search.
    """
    if assignments.usable(gain_NHH):
        return assignments.solve(gain_NHH).to(gain_NHH.device)
    cost = gain_NHH.amax(dim=2, keepdim=True) - gain_NHH
    cost -= cost.amin(dim=1, keepdim=True)
    temperature = (0.1 * cost.mean(dim=(1, 2), keepdim=True)).clamp(min=1e-30)
    kernel = (cost / -temperature).exp_().add_(1e-30)
    columns = torch.ones_like(cost[:, :1])
    for _ in range(8):
        rows = torch.bmm(columns, kernel.mT).reciprocal_()
        columns = torch.bmm(rows, kernel).reciprocal_()
    reduced = cost.double()
    reduced -= (temperature * rows.log()).mT
    reduced -= temperature * columns.log()
    reduced -= reduced.amin(dim=2, keepdim=True)
    reduced -= reduced.amin(dim=1, keepdim=True)
    found = [linear_sum_assignment(matrix)[1] for matrix in reduced.cpu().numpy()]
    return torch.from_numpy(np.stack(found)).to(gain_NHH.device)


Moves = tuple[Tensor, Tensor, Tensor]


def _check(moving: INRBatch, fixed: INRBatch, match: str) -> None:
    if match not in get_args(Match):
        raise UsageError(f"match must be one of {', '.join(get_args(Match))}, got {match!r}")
    if moving.spec != fixed.spec:
        raise UsageError(f"only INRs of one spec can be aligned, got {moving.spec} and {fixed.spec}")
    if len(fixed) not in (1, len(moving)):
        raise UsageError(f"{len(moving)} INRs need {len(moving)} partners or one template, got {len(fixed)}")
    if match != "permutation":
        require_sine(f"match {match}", moving)
    for inrs in (moving, fixed):
        if not all(bool(tensor.sum().isfinite()) for tensor in (*inrs.weights, *inrs.biases)):
            raise UsageError("INRs with weights that are NaN or infinite cannot be aligned; leave them out")


def _stay(inrs: INRBatch) -> Moves:
    """permutations, signs and half_turns that change nothing."""
    shape = (len(inrs), inrs.spec.num_hidden, inrs.spec.hidden_dim)
    permutations = torch.arange(shape[2], device=inrs.device).repeat(*shape[:2], 1)
    signs = torch.ones(shape, device=inrs.device, dtype=inrs.dtype)
    return permutations, signs, torch.zeros_like(signs)


@torch.no_grad()
def _match(moving: INRBatch, fixed: INRBatch, match: Match, max_sweeps: int) -> Moves:
    """The moves, see `Aligned`, that bring N INRs near N others."""
    num_layers = moving.spec.num_hidden
    permutations, signs, half_turns = _stay(moving)
    current = moving

    def improve(layer: int, rows: Tensor, forward: bool) -> Tensor:
        """Match one layer of the pairs at rows; those of them that moved."""
        nonlocal current
        here, there = _pick(current, rows), _pick(fixed, rows)
        permutation = solve_assignments(_gain(here, there, layer, match, forward))
        moved_to = permute_neurons(here, layer, permutation)
        sign, turns = _best_turns(moved_to, there, layer, match, forward)
        moved_to = _turn(moved_to, layer, sign, turns, match)
        if not forward:
            nearer = _distance(moved_to, there, layer) < _distance(here, there, layer) * (1 - 1e-6)
            rows, permutation, sign, turns = rows[nearer], permutation[nearer], sign[nearer], turns[nearer]
            moved_to = _pick(moved_to, nearer.nonzero()[:, 0])
        permutations[rows, layer] = permutations[rows, layer].gather(1, permutation)
        signs[rows, layer] = signs[rows, layer].gather(1, permutation) * sign
        half_turns[rows, layer] = half_turns[rows, layer].gather(1, permutation) * sign + turns
        current = _put(current, rows, moved_to)
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
                moved = improve(layer, rows, forward=False)
                stale[rows, layer] = False
                stale[moved, max(layer - 1, 0)] |= layer > 0
                stale[moved, min(layer + 1, num_layers - 1)] |= layer < num_layers - 1
    nearer = (relative_distance(current, fixed) < relative_distance(moving, fixed))[:, None, None]
    stay = _stay(moving)
    return (
        torch.where(nearer, permutations, stay[0]),
        torch.where(nearer, signs, stay[1]),
        torch.where(nearer, half_turns, stay[2]),
    )


def _gain(moving: INRBatch, fixed: INRBatch, layer: int, match: Match, forward: bool) -> Tensor:
    """(N, H, H): what it gains to put a neuron of moving where one of fixed is, by its best sign and half turns.

    The gain is minus half of the squared distance of all that touches the neuron, less what is the same for
    every assignment: a product of weights, and for biases that are shifted the square itself. forward leaves out
    the outgoing weights.
    """
    incoming = torch.bmm(fixed.weights[layer], moving.weights[layer].mT)
    outgoing = torch.bmm(fixed.weights[layer + 1].mT, moving.weights[layer + 1]) * (not forward)
    theirs, ours = fixed.biases[layer][:, :, None], moving.biases[layer][:, None, :]
    if match != "phase":
        product = incoming.add_(outgoing).addcmul_(theirs, ours)
        return product.abs_() if match == "signed" else product
    period = math.pi / moving.spec.omega_0
    half_square = period**2 / 2
    best = None
    for sign in (1, -1):
        # gap: distance of the biases after the best even number of half turns, in half turns, 0 to 1; after the
        # best odd number it is 1 - gap, and the outgoing weights change their sign. The larger of the two gains,
        # even: sign * outgoing - half_square * gap², odd: -sign * outgoing - half_square * (1 - gap)², is with
        # gap = 1/2 + 2 h, less half_square / 4: |outgoing - sign * half_square * 2 h| - half_square * 4 h².
        h = torch.sub(theirs / (2 * period), ours / (2 * period), alpha=sign)
        h.sub_(h.round()).abs_().sub_(0.25)
        larger = torch.add(outgoing, h, alpha=-sign * half_square * 2).abs_()
        gain = larger.addcmul_(h, h, value=-4 * half_square).add_(incoming, alpha=sign)
        best = gain if best is None else torch.maximum(best, gain)
    assert best is not None
    return best


def _best_turns(moving: INRBatch, fixed: INRBatch, layer: int, match: Match, forward: bool) -> tuple[Tensor, Tensor]:
    """(N, H) sign and half turns of each neuron of moving that bring it nearest to the one of fixed at its place."""
    theirs, ours = fixed.biases[layer], moving.biases[layer]
    if match == "permutation":
        return torch.ones_like(ours), torch.zeros_like(ours)
    incoming = (fixed.weights[layer] * moving.weights[layer]).sum(dim=2)
    outgoing = (fixed.weights[layer + 1] * moving.weights[layer + 1]).sum(dim=1) * (not forward)
    if match == "signed":
        return torch.where(incoming + outgoing + theirs * ours < 0, -1, 1).to(ours.dtype), torch.zeros_like(ours)
    period = math.pi / moving.spec.omega_0
    best, best_sign, best_turns = torch.full_like(ours, -math.inf), torch.ones_like(ours), torch.zeros_like(ours)
    for sign, odd in ((1, 0), (1, 1), (-1, 0), (-1, 1)):
        gap = (theirs - sign * ours) / period
        turns = 2 * ((gap - odd) / 2).round() + odd
        gain = sign * incoming + sign * (1 - 2 * odd) * outgoing - (period * (gap - turns)).square() / 2
        larger = gain > best
        best = torch.where(larger, gain, best)
        best_sign = torch.where(larger, sign, best_sign)
        best_turns = torch.where(larger, turns, best_turns)
    return best_sign, best_turns


def _turn(inrs: INRBatch, layer: int, sign_NH: Tensor, half_turns_NH: Tensor, match: Match) -> INRBatch:
    """The neurons of one layer with sign and half turns applied, as far as the match has them."""
    if match != "permutation":
        inrs = scale_neurons(inrs, layer, sign_NH, sign_NH)
    return shift_phases(inrs, layer, half_turns_NH) if match == "phase" else inrs


def _distance(inrs: INRBatch, fixed: INRBatch, layer: int) -> Tensor:
    """(N,) squared distance over all that touches the neurons of one hidden layer."""
    pairs = [(inrs.weights[at], fixed.weights[at]) for at in (layer, layer + 1)] + [
        (inrs.biases[layer], fixed.biases[layer])
    ]
    return (
        torch.stack([torch.linalg.vector_norm((ours - theirs).flatten(1), dim=1) for ours, theirs in pairs])
        .square()
        .sum(dim=0)
    )


def _pick(inrs: INRBatch, rows: Tensor) -> INRBatch:
    """The INRs at rows, which are in order; the batch itself if that is all of them."""
    return inrs if len(rows) == len(inrs) else inrs.select(rows)


def _put(inrs: INRBatch, rows: Tensor, changed: INRBatch) -> INRBatch:
    """The INRs with those at rows replaced."""
    if len(rows) == len(inrs):
        return changed
    weights = tuple(old.index_copy(0, rows, new) for old, new in zip(inrs.weights, changed.weights, strict=True))
    biases = tuple(old.index_copy(0, rows, new) for old, new in zip(inrs.biases, changed.biases, strict=True))
    return INRBatch(inrs.spec, weights, biases)


def _repeat(inrs: INRBatch, count: int) -> INRBatch:
    """One INR count times, without copies."""
    weights = tuple(tensor.expand(count, -1, -1) for tensor in inrs.weights)
    return INRBatch(inrs.spec, weights, tuple(tensor.expand(count, -1) for tensor in inrs.biases))
