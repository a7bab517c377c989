"""Shard plan: which objects are in which split, block and shard; a function of recipe and source alone.

Every worker computes the same plan, so that only the key of a shard has to be sent to it.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from inr_factory.errors import UsageError
from inr_factory.generation.recipe import RECIPE_VERSION, Limit, Recipe, SplitConfig
from inr_factory.generation.signals import Item, Source
from inr_factory.inr.stable_hash import stable_digest
from inr_factory.storage.manifest import SPLITS, SplitRecord, shard_path

MIN_VALIDATION = 200  # the standard error of an accuracy of 80 % is 3 points there


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

    The objects of each limit that a set has had are in blocks of their own: a set that grows keeps its blocks.

    Raises UsageError for a source without objects, and for a limit that holds less than an earlier one.
    """
    ranked = ranked_splits(source.items, recipe.splits, recipe.version)
    size = recipe.shard_objects
    blocks: dict[str, list[tuple[int, ...]]] = {split: [] for split in ranked}
    counts = dict.fromkeys(ranked, 0)
    for limit in recipe.limits:
        grown = limited_counts({split: len(indices) for split, indices in ranked.items()}, limit, counts)
        for split, indices in ranked.items():
            added = sorted(indices[counts[split] : grown[split]])
            blocks[split] += [tuple(added[start : start + size]) for start in range(0, len(added), size)]
        counts = grown
    return ShardPlan({split: tuple(parts) for split, parts in blocks.items() if parts})


def ranked_splits(items: Sequence[Item], config: SplitConfig, version: int = RECIPE_VERSION) -> dict[str, list[int]]:
    """Indices of the items of each split, in the order in which a limit takes them.

    An object's name decides whether it goes to val or test and, from version 2 of the recipe on, its rank in its class:
    a split, and what a limit leaves of it, has the classes in the proportions of the collection.
    """
    if len(items) == 0:
        raise UsageError("the source has no objects; check --data-root")
    rank = _by_hash if version == 1 else _by_class
    splits: dict[str, list[int]] = {split: [] for split in SPLITS}
    for index, item in enumerate(items):
        splits[item.split or "train"].append(index)
    for split, size in (("test", config.test), ("val", config.val)):
        if not splits[split]:
            ranked = rank(items, splits["train"])
            count = size if isinstance(size, int) else round(size * len(items)) if ranked else 0
            if count >= len(ranked) and count > 0:
                raise UsageError(f"splits.{split} takes {count} of {len(ranked)} objects; leave some for train")
            splits[split], splits["train"] = ranked[:count], ranked[count:]
    return {split: rank(items, indices) for split, indices in splits.items()}


def limited_counts(sizes: Mapping[str, int], limit: int | Limit | None, counts: Mapping[str, int]) -> dict[str, int]:
    """How many objects of each split a limit takes, at least `counts`. One number is shared in proportion to the sizes.

    Raises UsageError where a limit holds less than `counts`.
    """
    if isinstance(limit, Limit):
        most = limit.model_dump()
        grown = {split: size if most[split] is None else min(size, most[split]) for split, size in sizes.items()}
    elif limit is not None and limit < sum(sizes.values()):
        grown = _share(sizes, limit)
        if sum(counts.values()) <= limit:  # shares may shrink by one while a limit grows
            grown = {split: max(count, counts[split]) for split, count in grown.items()}
            while sum(grown.values()) > limit:
                grown[max(grown, key=lambda split: grown[split] - counts[split])] -= 1
    else:
        grown = dict(sizes)
    for split, count in grown.items():
        if count < counts[split]:
            raise UsageError(
                f"the limit {limit} takes {count:,} objects of {split}, the set has {counts[split]:,}, and a set keeps its "
                "objects; choose a larger limit, or another --out"
            )
    return grown


def small_split_notes(plan: ShardPlan, recipe: Recipe) -> tuple[str, ...]:
    """A line for a validation split in which each object is a large part of the accuracy."""
    count = sum(map(len, plan.blocks.get("val", ())))
    if count >= MIN_VALIDATION or recipe.splits.val == 0 or "train" not in plan.blocks:
        return ()
    share = f": one object is {100 / count:.1f} points of accuracy" if count else ""
    larger = "--set splits.val" if recipe.limit is None else "a larger --limit or --set splits.val"
    return (f"objects in val: {count}, fewer than {MIN_VALIDATION}{share}; {larger} gives more",)


def _by_hash(items: Sequence[Item], indices: Iterable[int]) -> list[int]:
    """Indices in the order of a stable hash of the objects' names."""

    def rank(index: int) -> bytes:
        return stable_digest(items[index].object_id, person=b"inr-split")

    return sorted(indices, key=rank)


def _by_class(items: Sequence[Item], indices: Iterable[int]) -> list[int]:
    """Indices in an order whose every beginning has the classes in proportion: by the share of its class that precedes
    an object, then by the hash."""
    ranked = _by_hash(items, indices)
    sizes = Counter(items[index].label for index in ranked)
    seen: Counter[int] = Counter()
    shares = []
    for index in ranked:
        label = items[index].label
        shares.append((seen[label] + 0.5) / sizes[label])
        seen[label] += 1
    order = sorted(range(len(ranked)), key=shares.__getitem__)  # stable: the hash decides between equal shares
    return [ranked[place] for place in order]


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
