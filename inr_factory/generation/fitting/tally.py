"""Tally: how far a fit is, in numbers that can be added and sent between processes. Needs no torch."""

from collections.abc import Callable
from typing import NamedTuple


class Tally(NamedTuple):
    """How far a fit is: INRs done, those of them that are good with the sum of their PSNRs in dB, and INR-steps."""

    done: int = 0
    good: int = 0
    psnr_sum: float = 0.0
    steps: int = 0

    def plus(self, other: "Tally", sign: int = 1) -> "Tally":
        done, good = self.done + sign * other.done, self.good + sign * other.good
        return Tally(done, good, self.psnr_sum + sign * other.psnr_sum, self.steps + sign * other.steps)

    def minus(self, other: "Tally") -> "Tally":
        return self.plus(other, -1)


OnProgress = Callable[[Tally], None]
"""Called with the tally so far after every step of an engine."""
