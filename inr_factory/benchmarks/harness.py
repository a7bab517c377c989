"""Harness: the rates of several candidates, interleaved, so that noise of the machine affects all alike."""

import itertools
import os
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter

import torch

from inr_factory.errors import UsageError
from inr_factory.inr.cpu import num_cores
from inr_factory.inr.threads import one_thread

ROUNDS = 9


@dataclass(frozen=True)
class BenchmarkSettings:
    """Rows of the set, INRs of a batch, seconds for each candidate, a callback for lines of progress, the folder of
    images, None for built-in ones, and models that `read` compares, none for all.

    Raises UsageError for numbers that make no batch.
    """

    rows: int = 60_000
    batch_size: int = 512
    seconds: float = 2.0
    on_step: Callable[[str], None] = lambda _: None
    data_root: Path | None = None
    models: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.batch_size < 2:
            raise UsageError(f"--batch-size must be at least 2, got {self.batch_size}")
        if self.rows < self.batch_size:
            raise UsageError(f"--rows must be at least the {self.batch_size} of one batch, got {self.rows}")
        if not 0 < self.seconds <= 3600:
            raise UsageError(f"--seconds must be above 0 and at most 3600, got {self.seconds:g}")


@dataclass(frozen=True)
class Candidate:
    """One way to do the work: every step of the iterator that `start` returns handles `units` units.

    Each round starts it and closes it, so that its processes do not run in the time of others. The first `warm_up`
    steps of a round are not timed. `facts` are further numbers and words to be shown.
    Work of this process on a CPU alone can take `clock` time.process_time, which other jobs of the machine do not change.
    """

    name: str
    start: Callable[[], Iterator[object]]
    units: int
    warm_up: int = 1
    facts: Mapping[str, float | str] = field(default_factory=dict)
    clock: Callable[[], float] = perf_counter


@dataclass(frozen=True)
class Measurement:
    """Units per second, median of the rounds; `ratio` is the median over rounds of this rate divided by the baseline's,
    ratio_low and ratio_high its quartiles."""

    name: str
    per_second: float
    ratio: float
    ratio_low: float
    ratio_high: float
    facts: Mapping[str, float | str]

    @property
    def cost(self) -> float:
        """Time, as a multiple of the baseline's."""
        return 1 / self.ratio


@dataclass(frozen=True)
class BenchmarkTable:
    """A table of one run; `setting` describes INRs and batches, `unit` is what is counted."""

    name: str
    baseline: str
    setting: str
    candidates: tuple[Measurement, ...]
    unit: str = "INRs"


def repeat(step: Callable[[], object]) -> Callable[[], Iterator[object]]:
    """The `start` of a candidate whose steps are calls of a function."""
    return lambda: (step() for _ in itertools.count())


def measure(candidates: Sequence[Candidate], settings: BenchmarkSettings) -> tuple[Measurement, ...]:
    """The rates of all candidates, interleaved as A, B, C, A, B, C, ..., on one thread; the first is the baseline."""
    rates: dict[str, list[float]] = {candidate.name: [] for candidate in candidates}
    assert len(rates) == len(candidates), "two candidates have one name"
    expected = max(settings.seconds * len(candidates), ROUNDS)
    settings.on_step(f"measuring {len(candidates)} candidates in {ROUNDS} rounds, at least {expected:.0f} s")
    # Published code draws from torch's global generator; it is restored.
    with one_thread(), torch.random.fork_rng(devices=[]):
        for number in range(ROUNDS):
            for candidate in candidates:
                rates[candidate.name].append(_rate(candidate, settings.seconds / ROUNDS))
            settings.on_step(f"round {number + 1} of {ROUNDS} done")
    baseline = rates[candidates[0].name]
    return tuple(summarize(each.name, rates[each.name], baseline, each.facts) for each in candidates)


def _rate(candidate: Candidate, seconds: float) -> float:
    """Units per second, over at least `seconds` and one step."""
    steps = iter(candidate.start())
    try:
        for _ in range(candidate.warm_up):
            next(steps)
        done, started = 0, candidate.clock()
        while (passed := candidate.clock() - started) < seconds or not done:
            next(steps)
            done += candidate.units
        return done / passed
    finally:
        close = getattr(steps, "close", None)
        if close is not None:
            close()


def summarize(
    name: str, rates: Sequence[float], baseline: Sequence[float], facts: Mapping[str, float | str]
) -> Measurement:
    """Rates (R,) of a candidate, and those of the baseline in the same rounds, at least two."""
    ratios = [rate / base for rate, base in zip(rates, baseline, strict=True)]
    low, middle, high = quantiles(ratios, n=4, method="inclusive")
    return Measurement(name, median(rates), middle, low, high, facts)


def describe_machine() -> dict[str, str]:
    return {
        "cpu": _cpu_name(),
        "cores": f"{num_cores()} usable of {os.cpu_count()}",
        "load": f"{os.getloadavg()[0]:.1f} before the run",
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
