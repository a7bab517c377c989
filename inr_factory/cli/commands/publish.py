"""`card` and `push`: describe a set for others, and put it where they find it."""

from typing import Annotated

import typer

from inr_factory.cli import terminal
from inr_factory.cli.progress_bars import ShardProgress
from inr_factory.cli.shared_options import Folder, Json, SetPlace, log_edited_files
from inr_factory.reporting.number_format import format_count


def card(dataset: SetPlace, as_json: Json = False) -> None:
    """Write README.md and croissant.json of a set, as a whole `fit` does. One that you edited stays; ours lies beside it."""
    from inr_factory.storage.dataset_card import BESIDE, CROISSANT, README, keep_card
    from inr_factory.storage.manifest_file import load_manifest

    done = keep_card(dataset, load_manifest(dataset))
    log_edited_files(done)
    if as_json:
        terminal.print_json({
            "written": [str(dataset / name) for name in done.written], "edited": [str(dataset / name) for name in done.edited],
        })  # fmt: skip
    elif done.written:
        terminal.print_result(f"written: {', '.join(str(dataset / name) for name in done.written)}")
    else:
        names = [name if (dataset / name).is_file() else BESIDE[name] for name in (README, CROISSANT)]
        terminal.print_result(f"nothing to do: {' and '.join(names)} of {dataset} are of its present record")


def push(
    dataset: Folder,
    repo: Annotated[str, typer.Argument(help="OWNER/NAME of the data set on the hub", show_default=False)],
    private: Annotated[bool, typer.Option("--private", help="where the repository is made, make it private")] = False,
    revision: Annotated[
        str | None, typer.Option(help="branch to put it into, made if it is not there", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Put a whole set on the Hugging Face Hub: shards, record, card, and report and preview if they are there.

    Checked first (exit code 4 where it is not whole). What the repository has already is not sent again.
    """
    from inr_factory.interop.hugging_face_hub import push_folder
    from inr_factory.storage.manifest_file import load_manifest

    manifest = load_manifest(dataset)
    with ShardProgress("checksums", len(manifest.shards)) as progress:
        done = push_folder(dataset, manifest, repo, private, revision, progress, terminal.log_info)
    if as_json:
        terminal.print_json({"url": done.url, "sent_shards": done.sent, "there_before": done.there})
    else:
        terminal.print_result(f"{done.url}: {format_count(done.sent, 'shard')} sent, {done.there:,} were there")
