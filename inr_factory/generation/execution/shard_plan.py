"""Shard plan: which objects are in which split, block and shard; a function of recipe and source alone.

Every worker computes the same plan, so that only the key of a shard has to be sent to it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from inr_factory.errors import UsageError
from inr_factory.generation.recipe import Limit, Recipe, SplitConfig
from inr_factory.generation.signals import Item, Source
from inr_factory.inr.stable_hash import stable_digest
from inr_factory.storage.manifest import SPLITS, SplitRecord, shard_path


@dataclass(frozen=True)
class ShardTask:
    """One shard to make: one view of one block of objects of one split."""

    split: str
    view: int
    block: int

    @property
    def path(self) -> str:
        return shard_path(self.split, self.view, self.block)


@dataclass(frozen=True)
class ShardPlan:
    """For each split its blocks: the ascending indices of their objects among the source's items."""

    blocks: Mapping[str, tuple[tuple[int, ...], ...]]

    def num_objects(self, task: ShardTask) -> int:
        return len(self.blocks[task.split][task.block])

    @property
    def splits(self) -> dict[str, SplitRecord]:
        return {
            split: SplitRecord(objects=sum(map(len, blocks)), blocks=len(blocks))
            for split, blocks in self.blocks.items()
        }

    def tasks(self, views: int) -> list[ShardTask]:
        """Every shard of the first `views` views, view by view."""
        return [
            ShardTask(split, view, block)
            for view in range(views)
            for split, blocks in self.blocks.items()
            for block in range(len(blocks))
        ]


def make_shard_plan(recipe: Recipe, source: Source) -> ShardPlan:
    """Splits as the source has them; what it lacks of val and test is taken from train by a stable hash.

    Raises UsageError for a source without objects.
    """
    splits = split_items(source.items, recipe.splits, recipe.limit)
    size = recipe.shard_objects
    blocks = {
        split: tuple(tuple(indices[start : start + size]) for start in range(0, len(indices), size))
        for split, indices in splits.items()
    }
    return ShardPlan(blocks)


def split_items(items: Sequence[Item], config: SplitConfig, limit: int | Limit | None) -> dict[str, list[int]]:
    """Indices of the items of each split, rising; empty splits are left out.

    An object's name alone decides whether it goes to val or test, not the order or `limit`. A limit that is one
    number is shared among the splits in proportion.
    """
    if not items:
        raise UsageError("the source has no objects; check --data-root")
    splits: dict[str, list[int]] = {split: [] for split in SPLITS}
    for index, item in enumerate(items):
        splits[item.split or "train"].append(index)
    for split, size in (("test", config.test), ("val", config.val)):
        if not splits[split]:
            ranked = _by_hash(items, splits["train"])
            count = size if isinstance(size, int) else round(size * len(items))
            if count >= len(ranked) and count > 0:
                raise UsageError(f"splits.{split} takes {count} of {len(ranked)} objects; leave some for train")
            splits[split], splits["train"] = ranked[:count], ranked[count:]
    counts = {split: len(indices) for split, indices in splits.items()}
    if isinstance(limit, Limit):
        most = limit.model_dump()
        counts = {split: count if most[split] is None else min(count, most[split]) for split, count in counts.items()}
    elif limit is not None and limit < len(items):
        counts = _share(counts, limit)
    return {
        split: sorted(_by_hash(items, indices)[: counts[split]]) for split, indices in splits.items() if counts[split]
    }


def _by_hash(items: Sequence[Item], indices: Iterable[int]) -> list[int]:
    """Indices in the order of a stable hash of the objects' names."""

    def rank(index: int) -> bytes:
        return stable_digest(items[index].object_id, person=b"inr-split")

    return sorted(indices, key=rank)


def _share(counts: Mapping[str, int], limit: int) -> dict[str, int]:
    """`limit` divided in proportion to counts, by largest remainders; no split that has objects gets none if it can."""
    total = sum(counts.values())
    exact = {split: limit * count / total for split, count in counts.items()}
    shares = {split: int(share) for split, share in exact.items()}
    for split in sorted(counts, key=lambda split: shares[split] - exact[split])[: limit - sum(shares.values())]:
        shares[split] += 1
    for split, count in counts.items():
        largest = max(shares, key=lambda name: shares[name])
        if count and not shares[split] and shares[largest] > 1:
            shares[split], shares[largest] = 1, shares[largest] - 1
    return shares
