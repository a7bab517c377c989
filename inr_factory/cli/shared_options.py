"""Options that several verbs take, and messages that several print."""

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated, Any

import typer

from inr_factory.cli import terminal
from inr_factory.errors import FactoryError, UsageError, did_you_mean
from inr_factory.storage.locations import Location, parse_location

if TYPE_CHECKING:
    from inr_factory.generation.signals import Source
    from inr_factory.storage.dataset_card import Card
    from inr_factory.storage.manifest import Manifest, Quarantined, ShardEntry


def open_place(text: str | None) -> Location | None:
    """The place that an option names; a callback, since the errors of parsers lose their exit code."""
    return None if text is None else parse_location(text)


def locate_set(text: str) -> Location:
    """The folder or remote location of a set."""
    from inr_factory.storage.fetch_dataset import dataset_location

    return dataset_location(text)


def fetch_set(text: str) -> Path:
    """The folder of a set; of one in a store, a copy of all of it."""
    from inr_factory.storage.fetch_dataset import fetch_dataset

    return fetch_dataset(text)


def fetch_set_if_any(text: str | None) -> Path | None:
    return None if text is None else fetch_set(text)


Folder = Annotated[
    Path,
    typer.Argument(
        help="folder or URL of the data set", show_default=False, metavar="DATASET", parser=str, callback=fetch_set
    ),
]
SetPlace = Annotated[
    Any,
    typer.Argument(
        help="folder or URL of the data set", show_default=False, metavar="DATASET", parser=str, callback=locate_set
    ),
]
Json = Annotated[bool, typer.Option("--json", help="print the result as JSON")]
DataRoot = Annotated[
    Any,
    typer.Option(
        help="folder or URL of the source's files; else $INR_FACTORY_DATA, else ./data",
        show_default=False,
        parser=str,
        callback=open_place,
        metavar="PLACE",
    ),
]
Workers = Annotated[int | None, typer.Option(help="how many; else one a GPU or core", show_default=False)]


def read_config(context: typer.Context, path: Path | None) -> Path | None:
    """Take the options that are not on the command line from a YAML file: their names without dashes, lists for those
    that can be repeated. UsageError for a file that is no such mapping or an option that the verb does not have."""
    from inr_factory.storage.yaml_files import load_yaml

    if path is None:
        return None
    fields = load_yaml(path, f"--config {path}")
    if not isinstance(fields, dict):
        raise UsageError(f"--config {path} must be a mapping of options to values, got {type(fields).__name__}")
    known = {parameter.name for parameter in context.command.params if parameter.name} - {
        "dataset",
        "config_file",
        "quiet",
        "debug",
    }
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


def source_if_any(
    manifest: "Manifest", dataset: Path, data_root: Location | None, check: bool = True
) -> "tuple[Source | None, str | None]":
    """What the set was fitted to, or why it is not at hand; with `check` other data of the same names are refused."""
    from inr_factory.generation.execution.worker import check_source
    from inr_factory.generation.recipe import check_recipe
    from inr_factory.generation.sources.registry import open_source  # torch

    try:
        source = open_source(check_recipe(manifest.recipe, origin=f"of {dataset}").source, data_root)
        if check:
            check_source(source, manifest.source.fingerprint, dataset)
    except FactoryError as error:
        return None, str(error)
    return source, None


def median_psnr(entries: "Sequence[ShardEntry]") -> float | None:
    """Median of the shards' median PSNRs, in dB."""
    medians = [entry.psnr.median for entry in entries if entry.psnr]
    return round(median(medians), 2) if medians else None


def log_edited_files(card: "Card") -> None:
    """Name the files of a dataset card that the user has edited."""
    from inr_factory.storage.dataset_card import BESIDE

    for name in card.edited:
        terminal.log_info(f"{name} was edited and stays as it is; the new version is in {BESIDE[name]}")


def log_quarantine(rows: "Sequence[Quarantined]", most: int = 5) -> None:
    """Name the INRs in quarantine and why, `most` of them."""
    for row in rows[:most]:
        terminal.log_error(f"quarantine: {row.object_id}, view {row.view}: {row.reason}")
    if len(rows) > most:
        terminal.log_error(f"and {len(rows) - most} more (inr-factory status DATASET --quarantine)")
