"""Augment: the cost of transforms, compared with the gather of their batch and with the per-item way."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor
from torch.utils.data import DataLoader, Dataset

from inr_factory.benchmarks.fixtures import SPEC, scratch_folder, set_bytes, write_random_set
from inr_factory.benchmarks.harness import BenchmarkSettings, BenchmarkTable, Candidate, measure, repeat
from inr_factory.benchmarks.load import PREFETCH, Batches, endless
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.spec import SirenSpec
from inr_factory.learning.data.dataset import INRDataset
from inr_factory.learning.data.loader import INRLoader
from inr_factory.learning.transforms.compose import TRANSFORMS, parse_transform

# Transforms that ask for other INRs than 2-32-32-1 sines.
SPECS: Mapping[str, SirenSpec] = {
    "scale_relu": replace(SPEC, activation="relu"),
    "rotate3d": replace(SPEC, in_dim=3),
    "mix_channels": replace(SPEC, out_dim=3),
}
CHAIN = "permute+flip+translate"
MAX_SHIFT = 0.25

LayerTensors = tuple[tuple[Tensor, ...], tuple[Tensor, ...]]


def benchmark_augment(settings: BenchmarkSettings) -> tuple[BenchmarkTable]:
    """Each transform of a batch on the CPU; the baseline is the gather of the batch from memory-mapped shards."""
    with scratch_folder(set_bytes(settings.rows)) as folder:
        write_random_set(folder / "set", settings.rows, settings.on_step)
        dataset = INRDataset(folder / "set", check=False)
        table, _ = dataset.gather(np.arange(settings.rows))
        size = settings.batch_size
        loader = INRLoader(dataset, size, transform=parse_transform(CHAIN))
        candidates = [
            Candidate("gather", Batches(settings.rows, size).each(dataset.gather), size),
            *[_transform(name, size) for name in TRANSFORMS],
            Candidate("gather+chain, batched", endless(loader), size),
            Candidate("chain an item, 0 workers", endless(per_item_loader(table, size, 0)), size),
            Candidate("chain an item, 2 workers", endless(per_item_loader(table, size, 2)), size, 2 * PREFETCH + 1),
        ]
        measured = measure(candidates, settings)
    setting = f"batches of {settings.batch_size} INRs {SPEC}, out of {settings.rows:,} on disk; chain: {CHAIN}"
    return (BenchmarkTable("augment", "gather", setting, measured),)


def _transform(name: str, batch_size: int) -> Candidate:
    spec = SPECS.get(name, SPEC)
    generator = Generator().manual_seed(0)
    flat = 0.1 * torch.randn(batch_size, spec.num_parameters, generator=generator)
    inrs, transform = INRBatch.from_flat(spec, flat), parse_transform(name)
    return Candidate(name, repeat(lambda: transform(inrs, generator)), batch_size)


class PerItem(Dataset[LayerTensors]):
    """Permutation, sign flips and translation inside __getitem__, as published code has them.

    The INRs are already in memory, which favours this way over published code.
    """

    def __init__(self, table_ND: Tensor, spec: SirenSpec = SPEC) -> None:
        inrs = INRBatch.from_flat(spec, table_ND)
        self.items = [
            ([W[at] for W in inrs.weights], [b[at] for b in inrs.biases]) for at in range(len(inrs))
        ]  # fmt: skip

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, at: int) -> LayerTensors:
        weights, biases = self.items[at]
        weights, biases = permute_item(weights, biases, [torch.randperm(len(bias)) for bias in biases[:-1]])
        signs = [1 - 2 * (torch.rand_like(bias) < 0.5).float() for bias in biases[:-1]]
        weights, biases = flip_item(weights, biases, signs)
        offset = torch.empty(weights[0].shape[1]).uniform_(-MAX_SHIFT, MAX_SHIFT)
        biases[0] = biases[0] + weights[0] @ offset
        return tuple(weights), tuple(biases)


def permute_item(
    weights: list[Tensor], biases: list[Tensor], orders: list[Tensor]
) -> tuple[list[Tensor], list[Tensor]]:
    """The neurons of one INR in new orders, one a hidden layer."""
    weights, biases = list(weights), list(biases)
    for layer, order in enumerate(orders):
        weights[layer], biases[layer] = weights[layer][order], biases[layer][order]
        weights[layer + 1] = weights[layer + 1][:, order]
    return weights, biases


def flip_item(weights: list[Tensor], biases: list[Tensor], signs: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """The neurons of one INR times their signs, layer by layer."""
    weights, biases = list(weights), list(biases)
    for layer, sign in enumerate(signs):
        weights[layer], biases[layer] = sign[:, None] * weights[layer], sign * biases[layer]
        weights[layer + 1] = weights[layer + 1] * sign
    return weights, biases


def per_item_loader(table_ND: Tensor, batch_size: int, num_workers: int) -> DataLoader[Any]:
    return DataLoader(
        PerItem(table_ND), batch_size, shuffle=True, drop_last=True, num_workers=num_workers, generator=Generator(),
        prefetch_factor=PREFETCH if num_workers else None,
    )  # fmt: skip
