"""`repair` and `merge`: restore a damaged set, and make one set of several parts."""

from pathlib import Path
from typing import Annotated

import typer

from inr_factory.cli import terminal
from inr_factory.cli.progress_bars import FitProgress, ShardProgress
from inr_factory.cli.shared_options import DataRoot, Json, Workers
from inr_factory.errors import IntegrityError, PartialError
from inr_factory.reporting.number_format import format_count


def repair(
    dataset: Annotated[str, typer.Argument(help="folder of the data set", show_default=False, metavar="DATASET")],
    recipe: Annotated[
        str | None, typer.Option(help="its recipe, if manifest.json and origin.json are lost", show_default=False)
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="key=value of that recipe; repeatable", show_default=False)
    ] = None,
    data_root: DataRoot = None,
    refit: Annotated[
        bool, typer.Option("--fit/--no-fit", help="fit what is missing, if the source is available")
    ] = True,
    retry_quarantine: Annotated[
        bool, typer.Option("--retry-quarantine", help="read and fit again what could not be read")
    ] = False,
    workers: Workers = None,
    backend: Annotated[str, typer.Option(help="local, or ray")] = "local",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    as_json: Json = False,
) -> None:
    """Repair what `verify` names: rebuild the record, set bad shards aside, fit them again. Exit code 75 while some are missing."""
    from inr_factory.generation.maintenance.repair import SET_ASIDE, repair_dataset

    with FitProgress(f"repair {Path(dataset).name}") as progress:
        report = repair_dataset(
            dataset, recipe=recipe, settings=settings or (), data_root=data_root, fit=refit, workers=workers,
            backend=backend, device=device, retry_quarantine=retry_quarantine, on_progress=progress,
        )  # fmt: skip
    if as_json:
        terminal.print_json({
            "faults": [vars(fault) for fault in report.faults], "set_aside": list(report.aside),
            "recorded_shards": report.recorded, "made_shards": report.made, "missing_shards": report.missing,
            "shards": len(report.manifest.shards), "obstacle": report.obstacle,
            "recovered_inrs": report.recovered,
        })  # fmt: skip
    elif not (report.faults or report.recorded or report.made or report.missing or report.recovered):
        terminal.print_result(
            f"nothing to repair: all {format_count(len(report.manifest.shards), 'shard')} of {dataset} are valid"
        )
    else:
        terminal.print_result(
            f"{dataset}: {format_count(len(report.aside), 'file')} set aside in {Path(dataset) / SET_ASIDE}, "
            f"{format_count(report.recorded, 'shard')} recorded, {report.made} fitted again"
        )
    if retry_quarantine and not as_json:
        left = len(report.manifest.quarantine)
        terminal.print_result(f"{format_count(report.recovered, 'INR')} left the quarantine, {left:,} stay in it")
    for fault in report.faults:
        terminal.log_error(f"fault: {fault.reason}")
    if report.missing:
        why = report.obstacle or "fitting was not requested"
        raise PartialError(f"{format_count(report.missing, 'shard')} of {dataset} are still missing: {why}")


def merge(
    parts: Annotated[list[str], typer.Argument(help="folders of the parts", show_default=False, metavar="DATASET...")],
    out: Annotated[
        str, typer.Option(help="folder of the merged set; may be one of the parts", show_default=False, metavar="DIR")
    ],
    copy: Annotated[bool, typer.Option("--copy", help="copy shards; else they are hard links where possible")] = False,
    as_json: Json = False,
) -> None:
    """Merge sets of one recipe that were made separately: parts of an array job, or different views. Resumes after an interruption."""
    from inr_factory.generation.maintenance.merge import merge_datasets

    with ShardProgress("merge", 0) as progress:
        report = merge_datasets(parts, out, copy=copy, on_shard=progress)
    if as_json:
        terminal.print_json({
            "out": str(out), "taken_shards": report.taken, "there_before": report.present, "missing_shards": report.missing,
            "differing": list(report.differing), "faults": [vars(fault) for fault in report.faults],
        })  # fmt: skip
    elif not report.taken and not report.missing and not report.faults:
        terminal.print_result(f"nothing to do: {out} has all {format_count(len(report.manifest.shards), 'shard')}")
    else:
        terminal.print_result(f"{out}: {format_count(report.taken, 'shard')} merged, {report.present:,} were present")
    if report.differing:
        first = ", ".join(report.differing[:3])
        terminal.log_error(
            f"parts differ in {format_count(len(report.differing), 'shard')} ({first}); those of the first part named were taken"
        )
    for fault in report.faults:
        terminal.log_error(f"fault: {fault.reason}")
    if report.faults:
        raise IntegrityError(f"{format_count(len(report.faults), 'fault')}; the valid shards have been merged")
    if report.missing:
        raise PartialError(
            f"in none of the parts: {format_count(report.missing, 'shard')}; fit them, or name the part that has them"
        )
