"""Options that several verbs take, and what several say."""

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Annotated

import typer

from inr_factory.manifest import Quarantined, ShardEntry

Folder = Annotated[Path, typer.Argument(help="folder of the data set", show_default=False, metavar="DATASET")]
Json = Annotated[bool, typer.Option("--json", help="print the result as JSON")]
DataRoot = Annotated[
    Path | None,
    typer.Option(help="where the source's files are; else $INR_FACTORY_DATA, else ./data", show_default=False),
]
Workers = Annotated[int | None, typer.Option(help="how many; else one a GPU or core", show_default=False)]


def median_psnr(entries: Sequence[ShardEntry]) -> float | None:
    """Median of the shards' median PSNRs, in dB."""
    medians = [entry.psnr.median for entry in entries if entry.psnr]
    return round(median(medians), 2) if medians else None


def plural(count: int, noun: str) -> str:
    return noun if count == 1 else f"{noun}s"


def say_quarantine(say: Callable[[str], None], rows: Sequence[Quarantined], most: int = 5) -> None:
    for row in rows[:most]:
        say(f"quarantine: {row.object_id}, view {row.view}: {row.reason}")
    if len(rows) > most:
        say(f"and {len(rows) - most} more (inr-factory status DATASET --quarantine)")
