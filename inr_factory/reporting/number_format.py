"""Numbers as people read them: rates, durations, counts."""


def format_count(count: int, noun: str) -> str:
    """A count and its noun: 1 shard, 1,200 shards, 10 classes."""
    return f"{count:,} {noun}" + ("" if count == 1 else "es" if noun.endswith("s") else "s")


def format_explained(share: float) -> str:
    """A share of a signal's variance: 99.2 % explained; 0 where a constant is better, NaN for a constant signal."""
    return "constant signal" if share != share else f"{100 * max(share, 0):.1f} % explained"


def format_rate(inrs: float, seconds: float) -> str:
    """A rate, with decimals where it is small: 1,250 INRs/s, 0.36 INRs/s."""
    rate = inrs / max(seconds, 1e-9)
    return f"{rate:,.0f} INRs/s" if rate >= 20 else f"{rate:.2g} INRs/s"


def format_bytes(count: float) -> str:
    """A size: 812 kB, 1.2 MB, 3,400.0 GB."""
    unit, factor = ("GB", 1e9) if count >= 1e9 else ("MB", 1e6) if count >= 1e6 else ("kB", 1e3)
    return f"{count / factor:,.0f} kB" if unit == "kB" else f"{count / factor:,.1f} {unit}"


def format_duration(seconds: float) -> str:
    """A duration: 0.4 s, 40 s, 12 min, 3.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
