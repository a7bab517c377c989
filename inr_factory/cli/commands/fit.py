"""`fit`: make a data set, or what is missing of one."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from inr_factory.cli import terminal
from inr_factory.cli.progress_bars import FitProgress
from inr_factory.cli.shared_options import (
    DataRoot,
    Json,
    Workers,
    log_edited_files,
    log_quarantine,
    median_psnr,
    open_place,
)
from inr_factory.errors import PartialError, UsageError
from inr_factory.reporting.number_format import format_count, format_duration, format_rate
from inr_factory.storage.locations import Location

if TYPE_CHECKING:
    from inr_factory.generation.execution.run_settings import FitReport, Settings
    from inr_factory.generation.recipe import Recipe

QUARANTINED = 3


def fit(
    recipe: Annotated[
        str, typer.Argument(help="a built-in recipe (inr-factory recipes) or a YAML file", show_default=False)
    ],
    views: Annotated[int | None, typer.Option(help="independent fits of each object", show_default=False)] = None,
    out: Annotated[
        Any,
        typer.Option(
            help="folder or URL of the set; else inrs/RECIPE",
            show_default=False,
            parser=str,
            callback=open_place,
            metavar="PLACE",
        ),
    ] = None,
    data_root: DataRoot = None,
    limit: Annotated[
        int | None, typer.Option(help="only so many objects, each split its share", show_default=False)
    ] = None,
    seed: Annotated[int | None, typer.Option(help="seed of the start values", show_default=False)] = None,
    workers: Workers = None,
    backend: Annotated[str, typer.Option(help="ray, or local: no Ray")] = "ray",
    address: Annotated[
        str | None, typer.Option(help="a running Ray cluster; else $RAY_ADDRESS", show_default=False)
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    shard: Annotated[str, typer.Option(help="i/n: every n-th shard from the i-th on, for array jobs")] = "0/1",
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="key=value of the recipe; repeatable", show_default=False)
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what would be made, how large and how long")] = False,
    as_json: Json = False,
) -> None:
    """Make a data set, or what is missing of one: run it again after an interruption, or with more --views."""
    from inr_factory.generation.execution.run_settings import Settings, finished
    from inr_factory.generation.recipe import load_recipe

    given = {"views": views, "limit": limit, "seed": seed}
    overrides = [f"{key}={value}" for key, value in given.items() if value is not None]
    resolved = load_recipe(recipe, [*(settings or []), *overrides])
    out = out or Path("inrs") / resolved.name
    if backend not in ("ray", "local"):
        raise UsageError(f"--backend must be ray or local, got {backend!r}")
    how = Settings(data_root, backend, workers, address, device, _part(shard))  # type: ignore[arg-type]
    if dry_run:
        _estimate(resolved, out, how, as_json)
        return
    report = finished(resolved, out) or _make(resolved, out, how)
    manifest = report.manifest
    log_edited_files(report.card)
    quarantined = [row for row in manifest.quarantine if row.view < resolved.views]
    asked = [entry for entry in manifest.shards if entry.view < resolved.views]
    share = len(quarantined) / max(1, len(quarantined) + sum(entry.rows for entry in asked))
    if as_json:
        terminal.print_json({
            "out": str(out), "made_shards": report.made, "adopted_shards": report.adopted, "missing_shards": report.missing,
            "made_inrs": report.inrs, "seconds": round(report.seconds, 3), "inrs": sum(entry.rows for entry in asked),
            "median_psnr": median_psnr(asked), "quarantined": len(quarantined),
        })  # fmt: skip
    elif not report.made and not report.adopted and not report.missing:
        terminal.print_result(
            f"nothing to do: {out} has all {len(asked):,} shards of {format_count(resolved.views, 'view')}"
        )
    else:
        kept = f", {report.adopted} found whole and recorded" if report.adopted else ""
        rate = f", {format_rate(report.inrs, report.seconds)}" if report.inrs else ""
        took = format_duration(report.seconds)
        terminal.print_result(
            f"{out}: made {report.inrs:,} INRs in {format_count(report.made, 'shard')}{kept} in {took}{rate}"
        )
        terminal.print_result(f"median of the shards {median_psnr(asked)} dB; {len(quarantined)} in quarantine")
    log_quarantine(quarantined)
    if report.missing and how.part[1] > 1:
        terminal.log_info(f"{report.missing} shards are other parts' work")
    elif report.missing:
        raise PartialError(f"{report.missing} shards are still missing; run the same command again")
    if share > resolved.quarantine_threshold:
        limit_share = resolved.quarantine_threshold
        terminal.log_error(f"{share:.1%} of the INRs are in quarantine, above quarantine_threshold {limit_share:.1%}")
        raise typer.Exit(QUARANTINED)


def _make(recipe: "Recipe", out: Location, how: "Settings") -> "FitReport":
    from inr_factory.generation.execution.fit_dataset import (
        fit_set,  # torch takes seconds to import, which a finished set does not need
    )

    with FitProgress(recipe.name) as progress:
        return fit_set(recipe, out, how, progress)


def _estimate(recipe: "Recipe", out: Location, how: "Settings", as_json: bool) -> None:
    from inr_factory.generation.execution.fit_dataset import estimate

    found = estimate(recipe, out, how)
    if as_json:
        terminal.print_json(asdict(found))
        return
    rows = [(f"objects, {split}", f"{count:,}") for split, count in found.objects.items()]
    rows += [
        ("views", f"{recipe.views:,}"),
        ("INRs to fit", f"{found.inrs:,}"),
        ("shards to write", f"{found.shards:,}"),
    ]
    free = [("free disk", f"{found.free / 1e9:,.1f} GB")] if found.free is not None else []
    rows += [("on disk", f"about {found.bytes / 1e6:,.1f} MB"), *free]
    rows += [("workers", f"{found.workers}")]
    if found.seconds is not None and found.inrs_per_second is not None:
        how_long = f"about {format_duration(found.seconds)} at {format_rate(found.inrs_per_second, 1)}"
        rows += [("time", f"{how_long}, by a probe of {found.probed} INRs")]
    terminal.print_table(["", ""], rows, title=f"fit {recipe.name} into {out} would make")


def _part(text: str) -> tuple[int, int]:
    number, slash, parts = text.partition("/")
    if not (slash and number.isdecimal() and parts.isdecimal()):
        raise UsageError(f"--shard takes i/n, for example 0/4 to 3/4, got {text!r}")
    return int(number), int(parts)
