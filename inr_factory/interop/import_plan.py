"""Listing: the plan of an import: which members make which shard, and what the set will be called and consist of."""

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
    """The members of each shard (split, view, block), none for one whose objects this view lacks; and what is counted."""

    shards: Mapping[ShardKey, tuple[ForeignRow, ...]]
    splits: Mapping[str, SplitRecord]
    views: int

    @property
    def members(self) -> list[ForeignRow]:
        return [member for shard in self.shards.values() for member in shard]


def plan_import(members: Sequence[ForeignRow], shard_objects: int) -> ImportPlan:
    """A shard is one view of `shard_objects` objects of a split, in the natural order of their names.

    IntegrityError for an INR that is there twice, an object in two splits or of two labels, or views with gaps.
    """
    split_of: dict[str, str] = {}
    by_key: dict[tuple[str, int], ForeignRow] = {}
    labels: dict[str, int] = {}
    for member in members:
        if split_of.setdefault(member.object_id, member.split) != member.split:
            raise IntegrityError(
                f"object {member.object_id} is in split {member.split} and {split_of[member.object_id]}"
            )
        twin = by_key.setdefault((member.object_id, member.view), member)
        if twin is not member:
            raise IntegrityError(f"{member.path} and {twin.path} are both view {member.view} of {member.object_id}")
        if member.label is not None and labels.setdefault(member.object_id, member.label) != member.label:
            raise IntegrityError(
                f"{member.path} says label {member.label}, another view of it {labels[member.object_id]}"
            )
    views = sorted({member.view for member in members})
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
                there = (by_key.get((object_id, view)) for object_id in objects)
                shards[split, view, block] = tuple(member for member in there if member is not None)
    order = sorted(shards, key=lambda key: (key[1], SPLITS.index(key[0]), key[2]))
    return ImportPlan({key: shards[key] for key in order}, splits, len(views))


def fingerprint_of(root: Path, members: Sequence[ForeignRow], facts: Mapping[str, object]) -> str:
    """16 hex digits over facts, and the members with the sizes of their files; their content is not read for it."""
    sizes = {path: (root / path).stat().st_size for path in dict.fromkeys(member.path for member in members)}
    rows = ([m.object_id, m.split, m.view, m.label, m.path, m.row, sizes[m.path]] for m in members)
    return fingerprint(json.dumps(facts, sort_keys=True), *map(json.dumps, rows))
