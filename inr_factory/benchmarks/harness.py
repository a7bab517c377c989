"""Measure: the rates of several contenders, taken in turns, so that a noisy machine is unkind to all alike."""

import itertools
import os
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter

import torch

from inr_factory.errors import UsageError
from inr_factory.generation.execution.local_pool import num_cores

ROUNDS = 9


@dataclass(frozen=True)
class Plan:
    """What a benchmark is asked: rows of the set, INRs of a batch, seconds for each contender, where progress goes,
    and where images are, if not those that are built in.

    Raises UsageError for numbers that make no batch.
    """

    rows: int = 60_000
    batch_size: int = 512
    seconds: float = 2.0
    say: Callable[[str], None] = print
    data_root: Path | None = None

    def __post_init__(self) -> None:
        if self.batch_size < 2:
            raise UsageError(f"--batch-size must be at least 2, got {self.batch_size}")
        if self.rows < self.batch_size:
            raise UsageError(f"--rows must be at least the {self.batch_size} of one batch, got {self.rows}")
        if not 0 < self.seconds <= 3600:
            raise UsageError(f"--seconds must be above 0 and at most 3600, got {self.seconds:g}")


@dataclass(frozen=True)
class Contender:
    """One way to do the work: every step of the iterator that `start` gives handles so many `units`.

    It is started anew in every round and closed after it, so that its processes do not run in others' time.
    The first `warm_up` steps of a round are not timed. `facts` are further numbers to be shown.
    """

    name: str
    start: Callable[[], Iterator[object]]
    units: int
    warm_up: int = 1
    facts: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Measured:
    """Units per second, median of the rounds; `ratio` is the median of the rounds' rate over the yardstick's rate
    in the same round, ratio_low and ratio_high their quartiles."""

    name: str
    per_second: float
    ratio: float
    ratio_low: float
    ratio_high: float
    facts: Mapping[str, float]

    @property
    def cost(self) -> float:
        """Time, in times of the yardstick."""
        return 1 / self.ratio


@dataclass(frozen=True)
class Benchmark:
    """A table of one run; `setting` says with which INRs and batches, `unit` what is counted."""

    name: str
    yardstick: str
    setting: str
    contenders: tuple[Measured, ...]
    unit: str = "INRs"


def repeat(step: Callable[[], object]) -> Callable[[], Iterator[object]]:
    """The start of a contender whose steps are calls of a function."""
    return lambda: (step() for _ in itertools.count())


def measure(contenders: Sequence[Contender], plan: Plan) -> tuple[Measured, ...]:
    """The rates of all contenders, in turns A, B, C, A, B, C, ..., on one thread; the first is the yardstick."""
    rates: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    assert len(rates) == len(contenders), "two contenders have one name"
    expected = max(plan.seconds * len(contenders), ROUNDS)
    plan.say(f"measuring {len(contenders)} contenders in {ROUNDS} rounds, at least {expected:.0f} s")
    # What draws from torch's global generator, as published code does, leaves it as it was.
    with one_thread(), torch.random.fork_rng(devices=[]):
        for number in range(ROUNDS):
            for contender in contenders:
                rates[contender.name].append(_rate(contender, plan.seconds / ROUNDS))
            plan.say(f"round {number + 1} of {ROUNDS} done")
    yardstick = rates[contenders[0].name]
    return tuple(summary(way.name, rates[way.name], yardstick, way.facts) for way in contenders)


def _rate(contender: Contender, seconds: float) -> float:
    """Units per second, over at least so many seconds and one step."""
    steps = iter(contender.start())
    try:
        for _ in range(contender.warm_up):
            next(steps)
        done, started = 0, perf_counter()
        while (passed := perf_counter() - started) < seconds or not done:
            next(steps)
            done += contender.units
        return done / passed
    finally:
        close = getattr(steps, "close", None)
        if close is not None:
            close()


def summary(name: str, rates: Sequence[float], yardstick: Sequence[float], facts: Mapping[str, float]) -> Measured:
    """Rates (R,) of a contender, and those of the yardstick in the same rounds, at least two."""
    ratios = [ours / theirs for ours, theirs in zip(rates, yardstick, strict=True)]
    low, middle, high = quantiles(ratios, n=4, method="inclusive")
    return Measured(name, median(rates), middle, low, high, facts)


@contextmanager
def one_thread() -> Iterator[None]:
    """torch on one thread, as numpy, h5py and scipy are; afterwards as it was."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


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
