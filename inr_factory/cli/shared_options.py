"""Options that several verbs take."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from inr_factory.errors import UsageError, did_you_mean
from inr_factory.storage.locations import Location, parse_location

# Callbacks convert arguments, since typer's parsers lose the exit codes of errors. They import what they need.


def parse_location_option(text: str | None) -> Location | None:
    """The folder or remote location that an option names."""
    return None if text is None else parse_location(text)


def locate_dataset(context: typer.Context, text: str) -> Location | None:
    """The folder or remote location of a data set; nothing while a shell completes a line, which takes no time then."""
    if context.resilient_parsing:
        return None
    from inr_factory.storage.fetch_dataset import dataset_location

    _refuse_recipe(text)
    return dataset_location(text)


def fetch_dataset_option(context: typer.Context, text: str | None) -> Path | None:
    """The folder of a data set; of a remote set, a complete copy. Nothing while a shell completes a line."""
    if text is None or context.resilient_parsing:
        return None
    from inr_factory.storage.fetch_dataset import fetch_dataset

    _refuse_recipe(text)
    return fetch_dataset(text)


def _refuse_recipe(text: str) -> None:
    """Raise UsageError for the name of a built-in recipe where a data set is expected, unless it is a folder's, too."""
    if os.sep in text or os.path.lexists(text):
        return
    from inr_factory.generation.recipe import builtin_recipes

    if text in builtin_recipes():
        folder = f"inrs{os.sep}{text}"
        made = os.path.isdir(folder)
        remedy = f"its set is {folder}" if made else f"inr-factory fit {text} makes its set, {folder}"
        raise UsageError(f"no data set in {text}, which is a recipe; {remedy}")


DatasetFolder = Annotated[
    Path,
    typer.Argument(
        help="folder or URL of the data set",
        show_default=False,
        metavar="DATASET",
        parser=str,
        callback=fetch_dataset_option,
    ),
]
DatasetLocation = Annotated[
    Any,
    typer.Argument(
        help="folder or URL of the data set", show_default=False, metavar="DATASET", parser=str, callback=locate_dataset
    ),
]
Json = Annotated[bool, typer.Option("--json", help="print the result as JSON")]
DataRoot = Annotated[
    Any,
    typer.Option(
        help="folder or URL of the source's files; else where the set had them, else $INR_FACTORY_DATA, else ./data",
        show_default=False,
        parser=str,
        callback=parse_location_option,
        metavar="LOCATION",
    ),
]
Workers = Annotated[int | None, typer.Option(help="number of workers; else one per GPU or core", show_default=False)]


def read_config(context: typer.Context, path: Path | None) -> Path | None:
    """Set the defaults of a verb's options from a YAML file: names without dashes, lists for repeatable options.

    Raises UsageError for a file that is not a mapping, and for options that the verb does not have.
    """
    from inr_factory.storage.yaml_files import load_yaml

    if path is None:
        return None
    fields = load_yaml(path, f"--config {path}")
    if not isinstance(fields, dict):
        raise UsageError(f"--config {path} must be a mapping of options to values, got {type(fields).__name__}")
    names = {parameter.name for parameter in context.command.params if parameter.name}
    known = names - {"dataset", "config_file", "quiet", "debug"}
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
