"""Mixup: what the kinds of MixUp cost beside the gather of the batch they work on."""

from typing import get_args, get_type_hints

import torch
from torch import Generator

from inr_factory.benchmarks.fixtures import SPEC, fit_digits, scratch_folder, set_bytes, write_random_set
from inr_factory.benchmarks.harness import Benchmark, Contender, Plan, measure, one_thread, repeat
from inr_factory.benchmarks.load import Batches
from inr_factory.learning.alignment.mixup import MixUp
from inr_factory.learning.data.dataset import INRDataset


def benchmark_mixup(plan: Plan) -> tuple[Benchmark]:
    """Each kind of MixUp of a batch of fitted INRs; the yardstick is the gather from memory-mapped shards."""
    with scratch_folder(set_bytes(plan.rows)) as folder:
        write_random_set(folder / "set", plan.rows, plan.say)
        dataset = INRDataset(folder / "set", check=False)
        with one_thread():
            inrs = fit_digits(plan.batch_size, plan.say)
        size = len(inrs)
        targets = torch.nn.functional.one_hot(torch.arange(size) % 10, 10).float()
        generator = Generator().manual_seed(0)

        def mixing(mixup: MixUp) -> Contender:
            return Contender(f"match={mixup.match}", repeat(lambda: mixup(inrs, targets, generator)), size)

        kinds = [MixUp(match=match) for match in get_args(get_type_hints(MixUp)["match"])]
        gather = Contender("gather", Batches(plan.rows, plan.batch_size).each(dataset.gather), plan.batch_size)
        measured = measure([gather, *map(mixing, kinds)], plan)
    setting = f"batches of {size} INRs {SPEC}, fitted to digits; gather out of {plan.rows:,} on disk"
    return (Benchmark("mixup", "gather", setting, measured),)
