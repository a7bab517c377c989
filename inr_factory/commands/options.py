"""Options that several verbs take, and what several say."""

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Annotated

import typer

from inr_factory.errors import UsageError, did_you_mean
from inr_factory.manifest import Quarantined, ShardEntry
from inr_factory.recipe import load_yaml

Folder = Annotated[Path, typer.Argument(help="folder of the data set", show_default=False, metavar="DATASET")]
Json = Annotated[bool, typer.Option("--json", help="print the result as JSON")]
DataRoot = Annotated[
    Path | None,
    typer.Option(help="where the source's files are; else $INR_FACTORY_DATA, else ./data", show_default=False),
]
Workers = Annotated[int | None, typer.Option(help="how many; else one a GPU or core", show_default=False)]


def read_config(context: typer.Context, path: Path | None) -> Path | None:
    """Take the options that are not on the command line from a YAML file: their names without dashes, lists for those
    that can be repeated. UsageError for a file that is no such mapping or an option that the verb does not have."""
    if path is None:
        return None
    fields = load_yaml(path, f"--config {path}")
    if not isinstance(fields, dict):
        raise UsageError(f"--config {path} must be a mapping of options to values, got {type(fields).__name__}")
    known = {parameter.name for parameter in context.command.params if parameter.name} - {"dataset", "config_file"}
    options = {str(key).replace("-", "_"): value for key, value in fields.items()}
    for name in options:
        if name not in known:
            raise UsageError(f"--config {path}: no option {name!r}; {did_you_mean(name, known)}")
    context.default_map = options
    return path


Config = Annotated[
    Path | None,
    typer.Option("--config", help="YAML file of options", is_eager=True, callback=read_config, show_default=False),
]


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
