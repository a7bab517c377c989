"""`card`, `push` and `pull`: describe a set or a run for others, upload it, and download those of others."""

from pathlib import Path
from typing import Annotated

import typer

from inr_factory.cli import terminal
from inr_factory.cli.progress_bars import ByteProgress, ShardProgress
from inr_factory.cli.shared_messages import log_edited_files
from inr_factory.cli.shared_options import DatasetFolder, DatasetLocation, Json
from inr_factory.cli.training_options import FirstViews
from inr_factory.errors import UsageError
from inr_factory.reporting.number_format import format_bytes, format_count


def card(dataset: DatasetLocation, as_json: Json = False) -> None:
    """Write README.md and croissant.json of a set, as a complete `fit` does, or README.md of a run. A file that you edited stays; the new version is written next to it."""
    if _is_run(dataset):
        from inr_factory.learning.training.run_card import write_run_card

        path = str(write_run_card(dataset))
        return terminal.print_json({"written": [path]}) if as_json else terminal.print_result(f"written: {path}")
    from inr_factory.storage.dataset_card import ALTERNATE_NAMES, CROISSANT, README, write_card

    done = write_card(dataset)
    log_edited_files(done)
    if as_json:
        terminal.print_json({
            "written": [str(dataset / name) for name in done.written], "edited": [str(dataset / name) for name in done.edited],
        })  # fmt: skip
    elif done.written:
        terminal.print_result(f"written: {', '.join(str(dataset / name) for name in done.written)}")
    else:
        names = [name if (dataset / name).is_file() else ALTERNATE_NAMES[name] for name in (README, CROISSANT)]
        terminal.print_result(f"nothing to do: {' and '.join(names)} of {dataset} are of its present record")


def push(
    dataset: DatasetFolder,
    repo: Annotated[str, typer.Argument(help="OWNER/NAME of the data set on the hub", show_default=False)],
    private: Annotated[bool, typer.Option("--private", help="if the repository is created, make it private")] = False,
    revision: Annotated[
        str | None, typer.Option(help="branch to upload to, created if it does not exist", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Upload a complete set to the Hugging Face Hub: shards, record, card, and report and preview if they exist.

    The set is checked first (exit code 4 if it is incomplete). Shards that the repository has are not sent again. The
    folder of a run becomes a model: its best checkpoint, the record of its epochs, and a card.
    The folder of an export to Parquet becomes a data set whose rows the hub shows.
    """
    if _is_run(dataset):
        from inr_factory.interop.hub_runs import push_run

        url = push_run(dataset, repo, private=private, revision=revision)
        return terminal.print_json({"url": url}) if as_json else terminal.print_result(f"{url}: the run was sent")
    if _is_export(dataset):
        from inr_factory.interop.hub_exports import push_export

        url = push_export(dataset, repo, private=private, revision=revision, on_step=terminal.log_info)
        return terminal.print_json({"url": url}) if as_json else terminal.print_result(f"{url}: the export was sent")
    from inr_factory.interop.hugging_face_hub import push_dataset
    from inr_factory.storage.manifest_file import load_manifest

    with ShardProgress("checksums", len(load_manifest(dataset).shards)) as progress:
        report = push_dataset(
            dataset, repo, private=private, revision=revision, on_shard=progress, on_step=terminal.log_info
        )
    if as_json:
        terminal.print_json({"url": report.url, "sent_shards": report.sent, "there_before": report.already_there})
    else:
        sent = format_count(report.sent, "shard")
        terminal.print_result(f"{report.url}: {sent} sent, {report.already_there:,} were there")


def pull(
    repo: Annotated[str, typer.Argument(help="OWNER/NAME of the data set on the hub", show_default=False)],
    out: Annotated[
        Path | None,
        typer.Option(help="folder for the set; else the cache, where hf://OWNER/NAME finds it", show_default=False),
    ] = None,
    split: Annotated[str | None, typer.Option(help="train, val or test; else all", show_default=False)] = None,
    views: FirstViews = None,
    revision: Annotated[
        str | None,
        typer.Option(help="branch, tag or commit; else the commit that was pulled before", show_default=False),
    ] = None,
    run: Annotated[bool, typer.Option("--run", help="a run that was pushed, in place of a set")] = False,
    as_json: Json = False,
) -> None:
    """Download a set, or a split and the first views of it, from the Hugging Face Hub, or with --run a trained run.

    Each shard is checked before it appears, and fetched once more if its bytes are wrong (exit code 4 if they stay so). The
    same command resumes. More views extend what is there, from the same commit.
    """
    if run:
        if split is not None or views is not None:
            raise UsageError("--split and --views are of sets; a run has none, so leave them out")
        return _pull_run(repo, out, revision, as_json)
    from inr_factory.interop.pull_dataset import pull_dataset

    with ByteProgress(f"pull {repo}") as progress:
        report = pull_dataset(
            repo, out=out, split=split, views=views, revision=revision, on_progress=progress, on_step=terminal.log_info
        )
    if as_json:
        terminal.print_json({
            "dataset": report.url, "folder": str(report.folder), "commit": report.commit,
            "fetched_shards": report.fetched, "there_before": report.already_there, "bytes": report.bytes,
            "fetched_again": list(report.fetched_again),
        })  # fmt: skip
        return
    fetched = f"{format_count(report.fetched, 'shard')} fetched ({format_bytes(report.bytes)})"
    terminal.print_result(f"{report.url}: {fetched}, {report.already_there:,} were there, commit {report.commit[:12]}")


def _pull_run(repo: str, out: Path | None, revision: str | None, as_json: bool) -> None:
    from inr_factory.interop.hub_runs import pull_run
    from inr_factory.storage.pull_record import load_pull_record

    folder = pull_run(repo, out=out, revision=revision, on_step=terminal.log_info).folder
    record = load_pull_record(folder)
    assert record is not None, "a pull has a record"
    if as_json:
        return terminal.print_json({"run": str(folder), "commit": record.commit})
    terminal.print_result(f"{folder}: the run of {repo}, commit {record.commit[:12]}")


def _is_export(folder: Path) -> bool:
    """Whether a folder is that of an export."""
    from inr_factory.interop.sidecar import SIDECAR

    return (folder / SIDECAR).is_file()


def _is_run(folder: object) -> bool:
    """Whether a folder is that of a run, and no data set."""
    from inr_factory.learning.training.run_config import BEST
    from inr_factory.storage.manifest import MANIFEST

    return isinstance(folder, Path) and (folder / BEST).is_file() and not (folder / MANIFEST).exists()
