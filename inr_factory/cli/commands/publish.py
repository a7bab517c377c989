"""`card`, `push` and `pull`: describe a set for others, upload it, and download those of others."""

from pathlib import Path
from typing import Annotated

import typer

from inr_factory.cli import terminal
from inr_factory.cli.progress_bars import ByteProgress, ShardProgress
from inr_factory.cli.shared_messages import log_edited_files
from inr_factory.cli.shared_options import DatasetFolder, DatasetLocation, Json
from inr_factory.cli.training_options import FirstViews
from inr_factory.reporting.number_format import format_bytes, format_count


def card(dataset: DatasetLocation, as_json: Json = False) -> None:
    """Write README.md and croissant.json of a set, as a complete `fit` does. A file that you edited stays; the new version is written next to it."""
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

    The set is checked first (exit code 4 if it is incomplete). Shards that the repository has are not sent again.
    """
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
    as_json: Json = False,
) -> None:
    """Download a set, or a split and the first views of it, from the Hugging Face Hub.

    Each shard is checked before it appears, and fetched once more if its bytes are wrong (exit code 4 if they stay so). The
    same command resumes. More views extend what is there, from the same commit.
    """
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
