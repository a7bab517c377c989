"""Shard contents: what the objects of shards were read from, by a digest in each row, and where shards disagree.

A set must not hold two contents of one object. A file can be replaced by another of the same name and size, so that
neither names nor fingerprints show it.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np

from inr_factory.errors import IntegrityError
from inr_factory.storage.manifest import SPLITS, ShardEntry
from inr_factory.storage.shards import ShardReader

CONTENT = "content"  # the column


class ContentConflict(NamedTuple):
    """An object of which the shard `path` of a set in `folder` has another content than the file `earlier`."""

    folder: Path
    path: str
    object_id: str
    earlier: Path

    def __str__(self) -> str:
        return f"{self.path} was fitted to another content of {self.object_id} than {self.earlier.name}"


def shard_contents(path: Path, fingerprint: str | None = None, column: str = CONTENT) -> dict[str, float]:
    """The digest of each object in a shard, by name, or what another column has.

    Empty for a shard without the column, for a file that is no shard, and for one of another fingerprint.
    """
    try:
        shard = ShardReader.unchecked(path)
        if column not in shard.column_names or fingerprint not in (None, shard.attributes.get("fingerprint")):
            return {}
        return dict(zip(shard.object_ids, shard.column(column).tolist(), strict=True))
    except IntegrityError:
        return {}


def different_objects(known: Mapping[str, float], contents: Mapping[str, float]) -> list[str]:
    """The objects of both whose digests differ. NaN is an unknown digest, which differs from none."""
    return [name for name, content in contents.items() if abs(known.get(name, np.nan) - content) > 0]


def content_conflicts(shards: Iterable[tuple[Path, ShardEntry]]) -> Iterator[ContentConflict]:
    """Yield the first object of each shard that contradicts an earlier one, for shards given by folder and entry.

    The shards of one block are compared with each other, in the order of their views.
    """

    def block_of(shard: tuple[Path, ShardEntry]) -> tuple[int, int]:
        return SPLITS.index(shard[1].split), shard[1].block

    for _, views in groupby(sorted(shards, key=lambda shard: (*block_of(shard), shard[1].view)), key=block_of):
        known: dict[str, float] = {}
        origin: dict[str, Path] = {}
        for root, entry in views:
            contents = shard_contents(root / entry.path)
            if different := different_objects(known, contents):
                yield ContentConflict(root, entry.path, different[0], origin[different[0]])
                continue
            for name in contents.keys() - known.keys():
                known[name], origin[name] = contents[name], root / entry.path
