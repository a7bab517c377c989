"""Shard files: whether they are as recorded, and local copies of those in stores. Opens none of them."""

import contextlib
import hashlib
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from inr_factory.errors import IntegrityError
from inr_factory.inr.regular_files import check_regular, is_replaced, open_regular
from inr_factory.storage.atomic_files import staging_folder
from inr_factory.storage.fetch_threads import in_threads
from inr_factory.storage.locations import Location, copy_folder, fetch_file
from inr_factory.storage.manifest import ShardEntry, check_inside, file_size


def fetch_shards(root: Location, entries: Iterable[ShardEntry]) -> Path:
    """Make sure that shards are on this machine.

    Args:
        root: the set.
        entries: its shards that are needed.

    Returns:
        A folder that holds these shards: root itself, or for a remote set its local copy, to which missing shards are
        fetched.

    Raises:
        IntegrityError: for a shard of a remote set that is missing, or not as recorded.
    """
    if isinstance(root, Path):
        return root
    folder = copy_folder(root)

    def fetch(entry: ShardEntry, staging: Path) -> None:
        try:
            fetch_file(root / entry.path, staging / entry.path)
        except FileNotFoundError:
            raise IntegrityError(f"{entry.path} is recorded but missing; inr-factory fit makes it again") from None

    collect_shards(folder, list(entries), fetch)
    with contextlib.suppress(OSError):  # when it was used last, for `inr-factory cache`
        os.utime(folder)
    return folder


def collect_shards(
    folder: Path,
    entries: Sequence[ShardEntry],
    fetch: Callable[[ShardEntry, Path], None],
    *,
    workers: int = 1,
    stop: threading.Event | None = None,
    on_shard: Callable[[ShardEntry, bool], None] = lambda *_: None,
    on_damaged: Callable[[ShardEntry], None] = lambda _: None,
) -> None:
    """Make sure that a folder holds shards as recorded. A shard appears in it only when its bytes are right.

    Args:
        folder: where they are needed.
        entries: the shards.
        fetch: writes a shard under a folder that it is given. What it raises ends all.
        workers: how many shards to fetch at a time.
        stop: set when the first error or an interruption ends all.
        on_shard: called with each shard that is right, and whether it was fetched.
        on_damaged: called, from any thread, with a shard that came with wrong bytes and is fetched once more.

    Raises:
        IntegrityError: for a shard that comes with wrong bytes twice.
    """

    def collect(entry: ShardEntry) -> bool:
        check_inside(folder, folder / entry.path)
        if _is_right(folder, entry):
            return False
        fetch(entry, staging)
        if not _is_right(staging, entry):
            on_damaged(entry)
            (staging / entry.path).unlink(missing_ok=True)
            fetch(entry, staging)
            if not _is_right(staging, entry):
                raise IntegrityError(
                    f"{entry.path}, fetched twice, is not what was recorded (size or sha256 differs); it is damaged where "
                    "it lies, and has to be made or pushed again"
                )
        (folder / entry.path).parent.mkdir(parents=True, exist_ok=True)
        os.replace(staging / entry.path, folder / entry.path)
        return True

    with staging_folder(folder) as staging:
        in_threads(collect, entries, workers, stop or threading.Event(), on_shard)


def _is_right(root: Path, entry: ShardEntry) -> bool:
    try:
        check_shard_file(root, entry, content=True)
    except IntegrityError:
        return False
    return True


def check_shard_file(root: Path, entry: ShardEntry, content: bool) -> None:
    """Compare the size of a shard, and with `content` its sha256, with its entry.

    Raises IntegrityError that says how they differ.
    """
    path = root / entry.path
    check_inside(root, path)
    if is_replaced(path):
        check_regular(path)
    size = file_size(path)
    if size is None:
        raise IntegrityError(f"{entry.path} is recorded but missing; inr-factory fit makes it again")
    if size != entry.bytes:
        raise IntegrityError(
            f"{entry.path} has {size:,} bytes, the manifest says {entry.bytes:,}; inr-factory fit makes it again"
        )
    if content:
        with open_regular(path) as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != entry.sha256:
            raise IntegrityError(
                f"{path} is not what was recorded (sha256 differs); inr-factory repair {root} fits it again"
            )
