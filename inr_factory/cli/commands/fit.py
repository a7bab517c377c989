"""`fit`: make a data set, or what is missing of one."""

import math
from pathlib import Path
from typing import Annotated, Any

import typer

from inr_factory.cli import terminal
from inr_factory.cli.progress_bars import FitProgress
from inr_factory.cli.shared_messages import log_edited_files, log_quarantine, print_remarks, remarks_json
from inr_factory.cli.shared_options import (
    DataRoot,
    Json,
    Workers,
    parse_location_option,
)
from inr_factory.errors import PartialError
from inr_factory.reporting.number_format import format_count, format_duration, format_rate

QUARANTINED = 3


def fit(
    recipe: Annotated[
        str,
        typer.Argument(
            help="a built-in recipe (inr-factory recipes), a YAML file, or a set to continue", show_default=False
        ),
    ],
    views: Annotated[int | None, typer.Option(help="independent fits of each object", show_default=False)] = None,
    out: Annotated[
        Any,
        typer.Option(
            help="folder or URL of the set; else inrs/RECIPE",
            show_default=False,
            parser=str,
            callback=parse_location_option,
            metavar="LOCATION",
        ),
    ] = None,
    data_root: DataRoot = None,
    limit: Annotated[
        int | None,
        typer.Option(
            help="at most this number of objects, shared among the splits; a set can grow", show_default=False
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="seed of the initial weights", show_default=False)] = None,
    workers: Workers = None,
    backend: Annotated[str, typer.Option(help="auto, ray, or local: no Ray")] = "auto",
    address: Annotated[
        str | None, typer.Option(help="a running Ray cluster; else $RAY_ADDRESS", show_default=False)
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N")] = "auto",
    shard: Annotated[str, typer.Option(help="i/n: every n-th shard from the i-th on, for array jobs")] = "0/1",
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="key=value of the recipe; repeatable", show_default=False)
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="print what would be made, how large and how long")
    ] = False,
    as_json: Json = False,
) -> None:
    """Make a data set, or what is missing of one. Run it again after an interruption, with more --views or a larger --limit."""
    arguments: dict[str, Any] = {
        "views": views, "limit": limit, "seed": seed, "workers": workers, "backend": backend, "address": address,
        "device": device, "shard": shard, "data_root": data_root, "settings": settings or (),
    }  # fmt: skip
    if dry_run:
        _print_estimate(recipe, out, arguments, as_json)
        return
    from inr_factory.generation.execution.fit_dataset import fit_dataset
    from inr_factory.storage.manifest import median_psnr

    with FitProgress(Path(recipe).stem) as progress:
        report = fit_dataset(recipe, out, **arguments, on_progress=progress)
    log_edited_files(report.card)
    for note in report.notes[progress.notes_logged :]:
        terminal.log_info(note)
    entries, quarantined, views = report.entries, report.quarantined, report.recipe.views
    if as_json:
        terminal.print_json({
            "out": str(report.out), "made_shards": report.made, "adopted_shards": report.recovered,
            "missing_shards": report.missing, "made_inrs": report.inrs, "seconds": round(report.seconds, 3),
            "inrs": sum(entry.rows for entry in entries), "median_psnr": median_psnr(entries),
            "quarantined": len(quarantined), "made_by": report.made_by, "notes": report.notes,
            "passed_over": report.manifest.passed_over and report.manifest.passed_over.model_dump(),
            "remarks": remarks_json(report.remarks),
        })  # fmt: skip
    elif not report.made and not report.recovered and not report.missing:
        terminal.print_result(
            f"nothing to do: {report.out} has all {format_count(len(entries), 'shard')} of {format_count(views, 'view')}"
        )
    else:
        recovered = f", recorded {report.recovered} unrecorded ones" if report.recovered else ""
        rate = f", {format_rate(report.inrs, report.seconds)}" if report.inrs else ""
        made = f"made {report.inrs:,} INRs in {format_count(report.made, 'shard')}"
        terminal.print_result(f"{report.out}: {made}{recovered} in {format_duration(report.seconds)}{rate}")
        median, config = median_psnr(entries), report.recipe.fit
        quality = "no INR was kept" if median is None else f"median of the shards {median} dB"
        if median is not None and config.target_error is None and median < (config.target_psnr or -math.inf):
            quality += f", below fit.target_psnr {config.target_psnr:g}"
        terminal.print_result(f"{quality}; {len(quarantined)} in quarantine")
        if report.made_by:  # a worker on another machine may have taken a slower engine; its warning is not seen here
            terminal.print_result(f"fitted by {', '.join(f'{engine} ({n:,})' for engine, n in report.made_by.items())}")
    if not as_json:
        print_remarks(report.remarks)
    log_quarantine(quarantined)
    if report.missing and not shard.endswith("/1"):
        terminal.log_info(f"of other parts: {format_count(report.missing, 'shard')}")
    elif report.missing:
        raise PartialError(f"still missing: {format_count(report.missing, 'shard')}; run the same command again")
    if report.quarantine_excess:
        terminal.log_error(report.quarantine_excess)
        raise typer.Exit(QUARANTINED)


def _print_estimate(recipe: str, out: Any, arguments: dict[str, Any], as_json: bool) -> None:
    from inr_factory.generation.execution.estimate import estimate

    report = estimate(recipe, out, **arguments)
    for note in report.notes:
        terminal.log_info(note)
    if as_json:
        fields = {name: value for name, value in vars(report).items() if name not in ("recipe", "out")}
        passed_over = report.passed_over and report.passed_over.model_dump()
        terminal.print_json({**fields, "passed_over": passed_over, "remarks": remarks_json(report.remarks)})
        return
    rows = [(f"objects, {split}", f"{count:,}") for split, count in report.objects.items()]
    rows += [
        ("views", f"{report.recipe.views:,}"),
        ("INRs to fit", f"{report.inrs:,}"),
        ("shards to write", f"{report.shards:,}"),
        ("on disk", f"about {report.bytes / 1e6:,.1f} MB"),
    ]
    rows += [("free disk", f"{report.free / 1e9:,.1f} GB")] if report.free is not None else []
    rows += [("workers", f"{report.workers}")]
    if report.seconds is not None and report.inrs_per_second is not None:
        rate = format_rate(report.inrs_per_second, 1)
        duration = format_duration(report.seconds)
        rows += [("time", f"about {duration} at {rate}, by a probe of {report.probed} INRs, start and end included")]
    if report.core_hours is not None:
        rows += [("core-hours", f"about {report.core_hours:.2g}")]
    if report.psnr is not None:
        share = "" if report.reached is None else f"{report.reached:.0%} of the probe reach the target; "
        few = "" if report.finished == report.probed else f", by {format_count(report.finished, 'INR')}"
        rows += [("quality", f"{share}median {report.psnr:.1f} dB{few}")]
    terminal.print_table(["", ""], rows, title=f"fit {report.recipe.name} into {report.out} would make")
    if report.advice is not None:
        terminal.log_info(f"fits of the probe fail: {report.advice}")
    print_remarks(report.remarks, f"of {report.probed} objects probed")
