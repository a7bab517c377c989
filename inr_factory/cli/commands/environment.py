"""`recipes`, `doctor`, `cache` and `version`: the built-in recipes, and the state of this machine and this program."""

from pathlib import Path
from typing import Annotated

import typer

from inr_factory.cli import terminal
from inr_factory.cli.shared_options import Json
from inr_factory.inr.version import __version__


def recipes(
    name: Annotated[str | None, typer.Argument(help="print this one in full", show_default=False)] = None,
    as_json: Json = False,
) -> None:
    """List the built-in recipes, or print one with all its defaults, ready to edit."""
    from inr_factory.generation.recipe import all_settings, load_recipe, summarize_recipes
    from inr_factory.storage.yaml_files import dump_yaml

    if name is not None:
        fields = all_settings(load_recipe(name))
        terminal.print_json(fields) if as_json else terminal.print_result(dump_yaml(fields).rstrip())
        return
    rows = [(recipe.name, str(recipe.views), recipe.about) for recipe in summarize_recipes()]
    if as_json:
        terminal.print_json([dict(zip(("name", "views", "about"), row, strict=True)) for row in rows])
    else:
        terminal.print_table(["recipe", "views", "about"], rows)


def doctor(
    out: Annotated[Path, typer.Option(help="where data sets will be written")] = Path(),
    as_json: Json = False,
) -> None:
    """Check versions, cores, GPU, Ray and disk, with a remedy for each fault. Exit code 5 if something does not work."""
    from inr_factory.cli.environment_check import check_environment

    report = check_environment(out)
    if as_json:
        terminal.print_json([vars(f) | {"remedy": None if f.good else f.remedy} for f in report.findings])
    else:
        marks = {True: "ok", False: "FAULT", None: "note"}
        rows = [(marks[f.good], f.what, f.found if f.good else f"{f.found}; {f.remedy}") for f in report.findings]
        terminal.print_table(["", "what", "found"], rows)
    if not report.ready:
        raise typer.Exit(5)


def cache(
    name: Annotated[
        str | None, typer.Argument(help="one entry, by its name or as OWNER/NAME; else all", show_default=False)
    ] = None,
    older_than: Annotated[
        float | None,
        typer.Option(help="only what nothing used for this number of days", metavar="DAYS", show_default=False),
    ] = None,
    prune: Annotated[bool, typer.Option("--prune", help="remove it")] = False,
    as_json: Json = False,
) -> None:
    """List copies of remote sets and sources, and samples of shapes, that this machine keeps, or remove them by --prune.

    All of it can be fetched or computed again. $INR_FACTORY_CACHE names the folder.
    """
    from inr_factory.reporting.number_format import format_bytes
    from inr_factory.storage.cache_contents import cache as report_cache

    report = report_cache(name, older_than=older_than, prune=prune)
    size = format_bytes(sum(entry.bytes for entry in report.entries))
    if as_json:
        entries = [vars(entry) | {"days": round(entry.days, 3)} for entry in report.entries]
        terminal.print_json({"folder": str(report.folder), "removed": report.removed, "entries": entries})
    elif report.entries and not report.removed:
        rows = [
            (e.name, e.what, (e.commit or "-")[:12], e.files, format_bytes(e.bytes), f"{e.days:.1f}")
            for e in report.entries
        ]
        terminal.print_table(["name", "what", "commit", "files", "size", "days unused"], rows)
        terminal.print_result(f"{size} in {report.folder}")
    else:
        terminal.print_result(f"{size} removed from {report.folder}" if prune else f"nothing in {report.folder}")


def version(as_json: Json = False) -> None:
    """Print the version, as --version does."""
    terminal.print_json({"version": __version__}) if as_json else terminal.print_result(f"inr-factory {__version__}")
