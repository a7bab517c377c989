"""Import plan: which rows make which shard, and what the set consists of."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from inr_factory.errors import IntegrityError
from inr_factory.inr.stable_hash import fingerprint
from inr_factory.interop.format import ForeignRow, natural_sort_key
from inr_factory.storage.manifest import SPLITS, SplitRecord

ShardKey = tuple[str, int, int]


@dataclass(frozen=True)
class ImportPlan:
    """The rows of each shard (split, view, block), none where a view lacks its objects; objects by split; views."""

    shards: Mapping[ShardKey, tuple[ForeignRow, ...]]
    splits: Mapping[str, SplitRecord]
    views: int

    @property
    def rows(self) -> list[ForeignRow]:
        return [row for shard in self.shards.values() for row in shard]


def plan_import(rows: Sequence[ForeignRow], shard_objects: int) -> ImportPlan:
    """A shard is one view of `shard_objects` objects of a split, in the natural order of their names.

    IntegrityError for an INR that is there twice, an object in two splits or of two labels, or views with gaps.
    """
    split_of: dict[str, str] = {}
    by_key: dict[tuple[str, int], ForeignRow] = {}
    labels: dict[str, int] = {}
    for row in rows:
        if split_of.setdefault(row.object_id, row.split) != row.split:
            raise IntegrityError(f"object {row.object_id} is in split {row.split} and {split_of[row.object_id]}")
        twin = by_key.setdefault((row.object_id, row.view), row)
        if twin is not row:
            raise IntegrityError(f"{row.path} and {twin.path} are both view {row.view} of {row.object_id}")
        if row.label is not None and labels.setdefault(row.object_id, row.label) != row.label:
            raise IntegrityError(f"{row.path} says label {row.label}, another view of it {labels[row.object_id]}")
    views = sorted({row.view for row in rows})
    if views != list(range(len(views))):
        raise IntegrityError(f"views {', '.join(map(str, views[:10]))} have gaps; complete the download")
    names: dict[str, list[str]] = defaultdict(list)
    for object_id, split in split_of.items():
        names[split].append(object_id)
    shards: dict[ShardKey, tuple[ForeignRow, ...]] = {}
    splits: dict[str, SplitRecord] = {}
    for split in SPLITS:
        ordered = sorted(names.get(split, []), key=natural_sort_key)
        blocks = [ordered[at : at + shard_objects] for at in range(0, len(ordered), shard_objects)]
        if blocks:
            splits[split] = SplitRecord(objects=len(ordered), blocks=len(blocks))
        for view in views:
            for block, objects in enumerate(blocks):
                keys = ((object_id, view) for object_id in objects)
                shards[split, view, block] = tuple(by_key[key] for key in keys if key in by_key)
    order = sorted(shards, key=lambda key: (key[1], SPLITS.index(key[0]), key[2]))
    return ImportPlan({key: shards[key] for key in order}, splits, len(views))


def fingerprint_of(root: Path, rows: Sequence[ForeignRow], facts: Mapping[str, object]) -> str:
    """16 hex digits over facts and the rows with the sizes of their files; no content is read."""
    sizes = {path: (root / path).stat().st_size for path in dict.fromkeys(row.path for row in rows)}
    lines = ([r.object_id, r.split, r.view, r.label, r.path, r.row, sizes[r.path]] for r in rows)
    return fingerprint(json.dumps(facts, sort_keys=True), *map(json.dumps, lines))
