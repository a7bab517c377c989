"""Mixup: the cost of each kind of MixUp, compared with the gather of its batch."""

import torch
from torch import Generator

from inr_factory.benchmarks.fixtures import SPEC, fit_digits, scratch_folder, set_bytes, write_random_set
from inr_factory.benchmarks.harness import BenchmarkSettings, BenchmarkTable, Candidate, measure, repeat
from inr_factory.benchmarks.load import Batches
from inr_factory.inr.threads import one_thread
from inr_factory.learning.alignment.mixup import MixUp, parse_mixup
from inr_factory.learning.alignment.weight_matching import matches
from inr_factory.learning.data.dataset import INRDataset


def benchmark_mixup(settings: BenchmarkSettings) -> tuple[BenchmarkTable]:
    """Each kind of MixUp of a batch of fitted INRs; the baseline is the gather from memory-mapped shards."""
    with scratch_folder(set_bytes(settings.rows)) as folder:
        write_random_set(folder / "set", settings.rows, settings.on_step)
        dataset = INRDataset(folder / "set", check=False)
        with one_thread():
            inrs = fit_digits(settings.batch_size, settings.on_step)
        size = len(inrs)
        targets = torch.nn.functional.one_hot(torch.arange(size) % 10, 10).float()
        generator = Generator().manual_seed(0)

        def mixing(mixup: MixUp) -> Candidate:
            return Candidate(f"match={mixup.match}", repeat(lambda: mixup(inrs, targets, generator)), size)

        kinds = [parse_mixup(f"mixup:match={match}") for match in ("auto", "none", "permute", *matches(SPEC))]
        gather = Candidate(
            "gather", Batches(settings.rows, settings.batch_size).each(dataset.gather), settings.batch_size
        )
        measured = measure([gather, *map(mixing, kinds)], settings)
    setting = f"batches of {size} INRs {SPEC}, fitted to digits; gather out of {settings.rows:,} on disk"
    return (BenchmarkTable("mixup", "gather", setting, measured),)
