"""Benchmarks: what this program costs beside the obvious rivals, side by side in one run.

The rivals are written as published code writes them, which is why h5py and scipy are imported here, too.
"""

from collections.abc import Callable, Mapping, Sequence

from inr_factory.benchmarks.align import benchmark_align
from inr_factory.benchmarks.augment import benchmark_augment
from inr_factory.benchmarks.encoders import benchmark_encoders
from inr_factory.benchmarks.fit import benchmark_fit
from inr_factory.benchmarks.harness import BenchmarkSettings, BenchmarkTable
from inr_factory.benchmarks.load import benchmark_load
from inr_factory.benchmarks.mixup import benchmark_mixup
from inr_factory.benchmarks.pipeline import benchmark_pipeline

BENCHMARKS: Mapping[str, Callable[[BenchmarkSettings], Sequence[BenchmarkTable]]] = {
    "fit": benchmark_fit,
    "pipeline": benchmark_pipeline,
    "load": benchmark_load,
    "augment": benchmark_augment,
    "align": benchmark_align,
    "mixup": benchmark_mixup,
    "read": benchmark_encoders,
}
