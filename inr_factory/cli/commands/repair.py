"""`repair` and `merge`: make a damaged set whole, and one set of several parts."""

from pathlib import Path
from typing import Annotated

import typer

from inr_factory.cli import terminal
from inr_factory.cli.progress_bars import FitProgress, ShardProgress
from inr_factory.cli.shared_options import DataRoot, Json, Workers
from inr_factory.errors import IntegrityError, PartialError, UsageError
from inr_factory.reporting.number_format import format_count
from inr_factory.storage.locations import parse_location


def folder_here(text: str) -> Path:
    """A set on this machine; UsageError for a URL: what lies in a store is not changed in place."""
    where = parse_location(text)
    if not isinstance(where, Path):
        raise UsageError(f"repair and merge work on folders, got {text}; copy the set here, mend it, and copy it back")
    return where


def folders_here(texts: list[str]) -> list[Path]:
    return [folder_here(text) for text in texts]


def repair(
    dataset: Annotated[
        Path,
        typer.Argument(
            help="folder of the data set", show_default=False, metavar="DATASET", parser=str, callback=folder_here
        ),
    ],
    recipe: Annotated[
        str | None, typer.Option(help="how it was made, where manifest and origin are lost", show_default=False)
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="key=value of that recipe; repeatable", show_default=False)
    ] = None,
    data_root: DataRoot = None,
    refit: Annotated[
        bool, typer.Option("--fit/--no-fit", help="fit what is missing, where the source is found")
    ] = True,
    workers: Workers = None,
    backend: Annotated[str, typer.Option(help="local, or ray")] = "local",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    as_json: Json = False,
) -> None:
    """Mend what `verify` names: rebuild the record, set bad shards aside, fit them again. Exit code 75 while some are missing."""
    from inr_factory.generation.execution.run_settings import Settings
    from inr_factory.generation.maintenance.repair import SET_ASIDE, repair_set
    from inr_factory.generation.recipe import load_recipe

    if backend not in ("ray", "local"):
        raise UsageError(f"--backend must be ray or local, got {backend!r}")
    if settings and recipe is None:
        raise UsageError("--set changes the recipe that --recipe names; give both")
    resolved = load_recipe(recipe, settings or []) if recipe is not None else None
    how = Settings(data_root, backend, workers, None, device)  # type: ignore[arg-type]
    with FitProgress(f"repair {dataset.name}") as progress:
        done = repair_set(dataset, resolved, how, refit, progress)
    if as_json:
        terminal.print_json({
            "faults": [vars(fault) for fault in done.faults], "set_aside": list(done.aside),
            "recorded_shards": done.recorded, "made_shards": done.made, "missing_shards": done.missing,
            "shards": len(done.manifest.shards), "obstacle": done.obstacle,
        })  # fmt: skip
    elif not (done.faults or done.recorded or done.made or done.missing):
        terminal.print_result(f"nothing to repair: all {len(done.manifest.shards):,} shards of {dataset} are whole")
    else:
        terminal.print_result(
            f"{dataset}: {format_count(len(done.aside), 'file')} set aside in {dataset / SET_ASIDE}, "
            f"{format_count(done.recorded, 'shard')} recorded anew, {done.made} fitted again"
        )
    for fault in done.faults:
        terminal.log_error(f"fault: {fault.reason}")
    if done.missing:
        why = done.obstacle or "fitting was not asked for"
        raise PartialError(f"{format_count(done.missing, 'shard')} of {dataset} are still missing: {why}")


def merge(
    parts: Annotated[
        list[Path],
        typer.Argument(
            help="folders of the parts", show_default=False, metavar="DATASET...", parser=str, callback=folders_here
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            help="folder of the whole; may be one of the parts",
            show_default=False,
            parser=str,
            callback=folder_here,
            metavar="DIR",
        ),
    ],
    copy: Annotated[bool, typer.Option("--copy", help="copy shards; else they are hard links where possible")] = False,
    as_json: Json = False,
) -> None:
    """Bring sets of one recipe that were made apart into one: parts of an array job, or different views. Goes on where it was cut short."""
    from inr_factory.generation.maintenance.merge import merge_sets

    with ShardProgress("merge", 0) as progress:
        done = merge_sets(parts, out, copy, progress)
    if as_json:
        terminal.print_json({
            "out": str(out), "taken_shards": done.taken, "there_before": done.there, "missing_shards": done.missing,
            "differing": list(done.differing), "faults": [vars(fault) for fault in done.faults],
        })  # fmt: skip
    elif not done.taken and not done.missing and not done.faults:
        terminal.print_result(f"nothing to do: {out} has all {len(done.manifest.shards):,} shards")
    else:
        terminal.print_result(f"{out}: {format_count(done.taken, 'shard')} brought in, {done.there:,} were there")
    if done.differing:
        first = ", ".join(done.differing[:3])
        terminal.log_error(
            f"parts differ in {len(done.differing)} shards ({first}); those of the first part named were taken"
        )
    for fault in done.faults:
        terminal.log_error(f"fault: {fault.reason}")
    if done.faults:
        raise IntegrityError(f"{format_count(len(done.faults), 'fault')}; what is whole has been merged")
    if done.missing:
        raise PartialError(f"{done.missing} shards are in none of the parts; fit them, or name the part that has them")
