"""Cache contents: what the cache of this machine holds, its sizes and ages, and its removal."""

import math
import os
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from inr_factory.errors import IntegrityError, UsageError, did_you_mean, shorten
from inr_factory.inr.arguments import check_flags
from inr_factory.storage.locations import cache_folder
from inr_factory.storage.manifest import MANIFEST
from inr_factory.storage.pull_record import load_pull_record

COPY = re.compile(r".+-[0-9a-f]{16}")  # as `copy_folder` names them; nothing else is listed or removed
SAMPLES = "shapes"
DAY = 86_400.0
FEW = 5  # entries that a message names


@dataclass(frozen=True)
class CacheEntry:
    """A part of the cache that can be removed by itself.

    Attributes:
        name: of its folder in the cache.
        what: OWNER/NAME of a set that was pulled, else "data set", "source files" or "samples of shapes".
        commit: the commit of a set that was pulled, else None.
        files: how many files it has.
        bytes: their size.
        days: since it was used last.
    """

    name: str
    what: str
    commit: str | None
    files: int
    bytes: int
    days: float


@dataclass(frozen=True)
class CacheReport:
    """The cache's folder, its entries that were asked for, and whether they were removed."""

    folder: Path
    entries: tuple[CacheEntry, ...]
    removed: bool


def cache(name: str | None = None, *, older_than: float | None = None, prune: bool = False) -> CacheReport:
    """List copies of remote sets and sources, sets that were opened by name, and samples of shapes, or remove them.

    All of it can be fetched or computed again. The folder is $INR_FACTORY_CACHE, else ~/.cache/inr_factory.

    Args:
        name: One entry, by the name of its folder or as OWNER/NAME; None for all.
        older_than: Only entries that nothing used for this number of days.
        prune: Remove these entries.

    Returns:
        The entries, the largest first.

    Raises:
        UsageError: For a name that the cache does not have, or a number of days below 0.
    """
    check_flags(prune=prune)
    if older_than is not None and not (_is_number(older_than) and older_than >= 0):
        raise UsageError(f"older_than must be a number of days from 0, got {shorten(older_than)}")
    folder = cache_folder()
    entries = list(_entries(folder))
    if name is not None:
        short = name.removeprefix("hf://").removeprefix("datasets/") if isinstance(name, str) else ""
        known = {each for entry in entries for each in ((entry.name, entry.what) if entry.commit else (entry.name,))}
        if short not in known:
            few = 0 < len(known) <= FEW
            hint = did_you_mean(short[:100], known) if few else f"inr-factory cache lists its {len(known)} entries"
            raise UsageError(f"the cache {folder} has no {shorten(name)}; {hint}")
        entries = [entry for entry in entries if short in (entry.name, entry.what)]
    entries = [entry for entry in entries if older_than is None or entry.days > older_than]
    for entry in entries if prune else ():
        shutil.rmtree(folder / entry.name)
    return CacheReport(folder, tuple(sorted(entries, key=lambda entry: -entry.bytes)), prune)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _entries(folder: Path) -> Iterator[CacheEntry]:
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.is_symlink() or not path.is_dir() or not (path.name == SAMPLES or COPY.fullmatch(path.name)):
            continue
        stats = [file.stat() for file in path.rglob("*") if file.is_file() and not file.is_symlink()]
        used = max([path.stat().st_mtime, *(each.st_mtime for each in stats)])
        what, commit = _describe(path)
        size = sum(each.st_size for each in stats)
        yield CacheEntry(path.name, what, commit, len(stats), size, max(0.0, (time.time() - used) / DAY))


def _describe(path: Path) -> tuple[str, str | None]:
    """What an entry is, and its commit."""
    if path.name == SAMPLES:
        return "samples of shapes", None
    try:
        record = load_pull_record(path)
    except IntegrityError:
        record = None  # it can be removed all the same
    if record is not None:
        return record.repo, record.commit
    return "data set" if os.path.exists(path / MANIFEST) or (path / "data").is_dir() else "source files", None
