"""Align: MixUp of aligned INRs, for a batch at once and in the published way, pair by pair.

Shape letters: H hidden neurons of a layer.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence

import torch
from scipy.optimize import linear_sum_assignment
from torch import Generator, Tensor

from inr_factory.benchmarks.fixtures import SPEC, fit_digits
from inr_factory.benchmarks.harness import BenchmarkSettings, BenchmarkTable, Candidate, measure, repeat
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.spec import SirenSpec
from inr_factory.inr.threads import one_thread
from inr_factory.learning.alignment.mixup import MixUp
from inr_factory.learning.alignment.weight_matching import Match, align, matches, relative_distance

StateDict = Mapping[str, Tensor]
AFTER = "distance after"
# Pairs of one step of the slow way.
PAIRS = 16


def benchmark_align(settings: BenchmarkSettings) -> tuple[BenchmarkTable]:
    """Aligned MixUp of a batch of fitted INRs, one process and thread each; the baseline is the published way.

    The distances compare the quality of the matches on pairs of different objects, as MixUp has them.
    """
    with one_thread():
        inrs = fit_digits(settings.batch_size, settings.on_step)
    size = len(inrs)
    partner = torch.randperm(size, generator=Generator().manual_seed(0))
    partners = inrs.select(partner)
    states, partner_states = state_dicts(inrs), state_dicts(partners)
    targets = torch.nn.functional.one_hot(torch.arange(size) % 10, 10).float()
    generator = Generator().manual_seed(0)

    few = min(PAIRS, size)

    def each_pair() -> Iterator[object]:
        for at in itertools.cycle(range(0, size - few + 1, few)):
            yield [mix_pair(a, b) for a, b in zip(states[at : at + few], partner_states[at : at + few], strict=True)]

    def batched(match: Match) -> Candidate:
        mixup = MixUp(match=match)
        after = relative_distance(align(partners, inrs, match), inrs).mean()
        return Candidate(
            f"match={match}", repeat(lambda: mixup(inrs, targets, generator)), size, facts={AFTER: float(after)}
        )

    with one_thread(), torch.random.fork_rng(devices=[]):
        aligned = stack([permuted(b, match_pair(a, b)) for a, b in zip(states, partner_states, strict=True)], inrs.spec)
        after = {AFTER: float(relative_distance(aligned, inrs).mean())}
        pairs = Candidate("published way, pair by pair", each_pair, few, facts=after)
        measured = measure([pairs, *map(batched, matches(SPEC))], settings)
    setting = f"{size} INRs {SPEC}, fitted to digits; relative distance before {float(relative_distance(partners, inrs).mean()):.2f}"
    return (BenchmarkTable("align", pairs.name, setting, measured),)


def state_dicts(inrs: INRBatch) -> list[dict[str, Tensor]]:
    """Each INR as a state dict seq.{layer}.{weight,bias}, copies."""
    return [
        {f"seq.{layer}.{kind}": tensors[layer][at].clone() for layer in range(len(inrs.weights))
         for kind, tensors in (("weight", inrs.weights), ("bias", inrs.biases))}
        for at in range(len(inrs))
    ]  # fmt: skip


def stack(states: Sequence[StateDict], spec: SirenSpec) -> INRBatch:
    return INRBatch.from_flat(spec, torch.stack([torch.cat([t.flatten() for t in state.values()]) for state in states]))


def mix_pair(state: StateDict, partner: StateDict) -> dict[str, Tensor]:
    """One item of a published aligned MixUp: match, permute, average."""
    aligned = permuted(partner, match_pair(state, partner))
    lam = torch.rand(1).item()
    return {name: lam * state[name] + (1 - lam) * aligned[name] for name in state}


def match_pair(state: StateDict, partner: StateDict, max_sweeps: int = 100) -> dict[int, Tensor]:
    """Weight matching as published (git re-basin; Shamsian et al. 2024): the order (H,) of each hidden layer.

    Coordinate descent over hidden layers in random order: the gain matrix of a layer sums the products of the
    rows, biases and columns that touch it, the others as they stand; until a sweep improves nothing.
    """
    orders = {layer: torch.arange(len(state[f"seq.{layer}.bias"])) for layer in range(len(state) // 2 - 1)}
    for _ in range(max_sweeps):
        progress = False
        for number in torch.randperm(len(orders)):
            layer = int(number)
            hidden = len(orders[layer])
            gain_HH = torch.zeros(hidden, hidden)
            for name, axis in _touching(layer):
                rows = torch.moveaxis(state[name], axis, 0).reshape(hidden, -1)
                columns = torch.moveaxis(_permute(name, partner[name], orders, axis), axis, 0).reshape(hidden, -1)
                gain_HH += rows @ columns.T
            _, order = linear_sum_assignment(gain_HH.numpy(), maximize=True)
            before = torch.einsum("ij,ij->i", gain_HH, torch.eye(hidden)[orders[layer]]).sum()
            after = torch.einsum("ij,ij->i", gain_HH, torch.eye(hidden)[order]).sum()
            progress = progress or bool(after > before + 1e-12)
            orders[layer] = torch.from_numpy(order)
        if not progress:
            break
    return orders


def permuted(state: StateDict, orders: Mapping[int, Tensor]) -> dict[str, Tensor]:
    """A state dict with its hidden neurons in these orders."""
    return {name: _permute(name, tensor, orders) for name, tensor in state.items()}


def _touching(layer: int) -> list[tuple[str, int]]:
    """Names of the tensors that the neurons of a hidden layer touch, and the axis on which they lie."""
    return [(f"seq.{layer}.weight", 0), (f"seq.{layer}.bias", 0), (f"seq.{layer + 1}.weight", 1)]


def _permute(name: str, tensor: Tensor, orders: Mapping[int, Tensor], except_axis: int | None = None) -> Tensor:
    """A tensor of a state dict with all its axes but one permuted."""
    layer = int(name.split(".")[1])
    for axis, owner in ((0, layer), (1, layer - 1)):
        if axis < tensor.dim() and owner in orders and axis != except_axis:
            tensor = torch.index_select(tensor, axis, orders[owner])
    return tensor
