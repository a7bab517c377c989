"""Run: a benchmark by its name, with a picture of its results."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from inr_factory.benchmarks.align import benchmark_align
from inr_factory.benchmarks.augment import benchmark_augment
from inr_factory.benchmarks.encoders import benchmark_encoders
from inr_factory.benchmarks.fit import benchmark_fit
from inr_factory.benchmarks.harness import BenchmarkSettings, BenchmarkTable, describe_machine
from inr_factory.benchmarks.load import benchmark_load
from inr_factory.benchmarks.mixup import benchmark_mixup
from inr_factory.benchmarks.pipeline import benchmark_pipeline
from inr_factory.errors import UsageError, did_you_mean
from inr_factory.reporting.figures import check_png

BENCHMARKS: Mapping[str, Callable[[BenchmarkSettings], Sequence[BenchmarkTable]]] = {
    "fit": benchmark_fit,
    "pipeline": benchmark_pipeline,
    "load": benchmark_load,
    "augment": benchmark_augment,
    "align": benchmark_align,
    "mixup": benchmark_mixup,
    "read": benchmark_encoders,
}


@dataclass(frozen=True)
class BenchmarkReport:
    """The tables of one benchmark, and the machine that ran it."""

    name: str
    machine: Mapping[str, str]
    tables: tuple[BenchmarkTable, ...]


def benchmark(
    what: str,
    *,
    rows: int = 60_000,
    batch_size: int = 512,
    seconds: float = 2.0,
    data_root: str | Path | None = None,
    models: Sequence[str] = (),
    picture: str | Path | None = None,
    on_step: Callable[[str], None] = lambda _: None,
) -> BenchmarkReport:
    """Measure one part of this package next to the usual ways of doing the same.

    Args:
        what: fit, pipeline, load, augment, align, mixup, or read (encoders).
        rows: INRs of the set on disk; at least one batch.
        batch_size: INRs of a batch, at least 2.
        seconds: how long each candidate is measured, at most 3600.
        data_root: folder of Fashion-MNIST for fit and pipeline; None takes digits.
        models: for read, encoders with their options, as "dws:set_layer=deepsets"; the first is the baseline. By default
            all, compared with a dense form of "ng_t".
        picture: PNG to draw the result into.
        on_step: called with a line of progress.

    Returns:
        Rates by candidate, relative to a baseline, and the machine.

    Raises:
        UsageError: for an unknown benchmark, or numbers that make no batch, or a picture that is no PNG.
        ResourceError: where the disk is too small.
    """
    if what not in BENCHMARKS:
        raise UsageError(f"unknown benchmark {what!r}; {did_you_mean(what, BENCHMARKS)}")
    check_png(picture)
    machine = describe_machine()
    root = None if data_root is None else Path(data_root)
    tables = tuple(BENCHMARKS[what](BenchmarkSettings(rows, batch_size, seconds, on_step, root, tuple(models))))
    if picture is not None:
        from inr_factory.reporting.plots import draw_bars

        bars = {
            f"{table.name} ({table.unit}/s)\n{table.setting}": {row.name: row.per_second for row in table.candidates}
            for table in tables
        }
        draw_bars(bars, Path(picture), f"inr-factory benchmark {what}")
        on_step(f"picture in {picture}")
    return BenchmarkReport(what, machine, tables)
