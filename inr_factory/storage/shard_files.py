"""Shard files: whether they are as recorded, and local copies of those in stores. Opens none of them."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from inr_factory.errors import IntegrityError
from inr_factory.inr.regular_files import check_regular, is_replaced, open_regular
from inr_factory.storage.locations import Location, RemoteLocation, copy_folder, fetch_file
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
    for entry in entries:
        try:
            check_shard_file(folder, entry, content=True)
        except IntegrityError:
            fetch_shard(root, entry, folder)
            check_shard_file(folder, entry, content=True)
    return folder


def fetch_shard(root: RemoteLocation, entry: ShardEntry, folder: Path) -> None:
    """Copy a shard into a folder, unchecked. Raises IntegrityError where the set lacks it."""
    try:
        fetch_file(root / entry.path, folder / entry.path)
    except FileNotFoundError:
        raise IntegrityError(f"{entry.path} is recorded but missing; inr-factory fit makes it again") from None


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
            raise IntegrityError(f"{entry.path} is not what was recorded (sha256 differs); remove it and fit again")
