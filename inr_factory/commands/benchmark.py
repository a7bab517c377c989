"""`benchmark`: how fast this program is here, side by side with the obvious rivals."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from inr_factory import terminal
from inr_factory.commands.options import Json
from inr_factory.errors import UsageError, did_you_mean


def benchmark(
    what: Annotated[str, typer.Argument(help="load, augment, align or mixup", show_default=False)],
    rows: Annotated[int, typer.Option(help="INRs of the set on disk")] = 60_000,
    batch_size: Annotated[int, typer.Option(help="INRs of a batch")] = 512,
    seconds: Annotated[float, typer.Option(help="how long each contender is measured")] = 2.0,
    picture: Annotated[Path | None, typer.Option(help="draw the result into this PNG", show_default=False)] = None,
    as_json: Json = False,
) -> None:
    """Measure loading, augmentation, alignment or MixUp beside the ways in use elsewhere, in one run."""
    from inr_factory.benchmarks import BENCHMARKS
    from inr_factory.benchmarks.measure import Plan

    if what not in BENCHMARKS:
        raise UsageError(f"unknown benchmark {what!r}; {did_you_mean(what, BENCHMARKS)}")
    result = BENCHMARKS[what](Plan(rows, batch_size, seconds, terminal.say))
    if picture is not None:
        from inr_factory.report import draw_bars

        heading = f"benchmark {what}: {result.setting}"
        draw_bars({row.name: row.inrs_per_second for row in result.contenders}, picture, heading, "INRs per second")
        terminal.say(f"picture in {picture}")
    if as_json:
        terminal.tell_json(asdict(result))
        return
    terminal.tell(f"{result.setting}\n{', '.join(f'{name} {fact}' for name, fact in result.machine.items())}\n")
    facts = list(result.contenders[0].facts)
    table = [
        (row.name, f"{row.inrs_per_second:,.0f}", _short(row.ratio), f"{_short(row.ratio_low)}-{_short(row.ratio_high)}",
         _short(row.cost), *[f"{row.facts[name]:.3f}" for name in facts])
        for row in result.contenders
    ]  # fmt: skip
    terminal.tell_table(["", "INRs/s", "rate", "quartiles", "time", *facts], table)
    terminal.tell(f"\nrate and time: as many times those of {result.yardstick!r}, medians of rounds taken in turns")


def _short(number: float) -> str:
    """Three digits that count."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"
