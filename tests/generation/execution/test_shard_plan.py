"""Shard plan: splits belong to objects, depend on their names alone, and lie in shards in a fixed order."""

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inr_factory.errors import UsageError
from inr_factory.generation.execution.shard_plan import limited_counts, make_shard_plan, small_split_notes
from inr_factory.generation.recipe import Limit, SplitConfig, check_recipe
from inr_factory.generation.signals import Item


def items(count, split=None):
    return [Item(f"{split}/{number}", number % 3, split) for number in range(count)]


def names(objects, splits):
    return {split: {objects[index].object_id for index in indices} for split, indices in splits.items()}


class Collection:
    def __init__(self, objects):
        self.items = objects


def plan_of(objects, splits=None, limit=None, earlier=(), version=2, shard_objects=1000):
    fields = {"name": "x", "source": {"collection": "digits"}, "shard_objects": shard_objects, "version": version}
    fields |= {"splits": (splits or SplitConfig()).model_dump(), "limit": limit, "earlier_limits": earlier}
    return make_shard_plan(check_recipe(fields, origin="test"), Collection(objects))


def split_items(objects, splits, limit, version=2):
    plan = plan_of(objects, splits, limit.model_dump() if isinstance(limit, Limit) else limit, version=version)
    return {split: [index for block in blocks for index in block] for split, blocks in plan.blocks.items()}


@given(st.integers(1, 60), st.integers(0, 20), st.integers(0, 20), st.one_of(st.none(), st.integers(1, 120)))
def test_every_object_is_in_at_most_one_split_and_a_limit_is_kept(train, val, test, limit):
    objects = items(train, "train") + items(val, "val") + items(test, "test")

    splits = split_items(objects, SplitConfig(val=0, test=0), limit)

    indices = [index for part in splits.values() for index in part]
    assert len(indices) == len(set(indices)) == min(limit or 10**9, len(objects))
    assert all(part == sorted(part) for part in splits.values())
    assert all(objects[index].split == split for split, part in splits.items() for index in part)


def test_official_splits_are_kept_and_val_is_taken_from_train():
    objects = items(50, "train") + items(20, "test")
    splits = split_items(objects, SplitConfig(val=10), None)
    assert {split: len(part) for split, part in splits.items()} == {"train": 40, "val": 10, "test": 20}
    assert all(objects[index].split == "train" for index in splits["val"])


def test_without_official_splits_shares_of_all_objects_are_taken():
    splits = split_items(items(100), SplitConfig(val=0.1, test=0.2), None)
    assert {split: len(part) for split, part in splits.items()} == {"train": 70, "val": 10, "test": 20}


def test_a_split_depends_on_names_not_on_the_order_or_on_other_objects():
    objects = items(80)
    first = names(objects, split_items(objects, SplitConfig(val=8, test=16), None))
    turned = names(objects[::-1], split_items(objects[::-1], SplitConfig(val=8, test=16), None))
    assert first == turned


def test_a_larger_limit_only_adds_objects():
    objects = items(60, "train") + items(30, "test")
    small = names(objects, split_items(objects, SplitConfig(val=6), 20))
    large = names(objects, split_items(objects, SplitConfig(val=6), 50))
    assert all(small[split] <= large[split] for split in small)
    assert {split: len(part) for split, part in small.items()} == {"train": 12, "val": 1, "test": 7}


def test_a_limit_leaves_no_split_empty_if_it_can():
    splits = split_items(items(1000, "train") + items(5, "test"), SplitConfig(val=3), 12)
    assert set(splits) == {"train", "val", "test"}


def test_taking_all_objects_from_train_is_refused():
    with pytest.raises(UsageError, match=r"splits\.test takes 5 of 5 objects"):
        split_items(items(5), SplitConfig(test=5), None)


@pytest.mark.parametrize("split", ["val", "test"])
def test_from_a_collection_without_train_no_share_is_taken(split):
    recipe = check_recipe({"name": "x", "source": {"collection": "image_folder"}}, origin="test")

    plan = plan_of(items(9, split), SplitConfig(val=0.1, test=0.2))

    assert {name: sum(map(len, blocks)) for name, blocks in plan.blocks.items()} == {split: 9}
    assert small_split_notes(plan, recipe) == ()


def test_a_source_without_objects_is_refused():
    with pytest.raises(UsageError, match="no objects"):
        split_items([], SplitConfig(), None)


def test_blocks_hold_every_object_once_in_order_and_views_come_one_after_the_other():
    recipe = check_recipe({"name": "x", "source": {"collection": "digits"}, "shard_objects": 7}, origin="test")
    plan = make_shard_plan(recipe, Collection(items(50)))

    assert sum(map(plan.num_objects, plan.tasks(1))) == 50
    assert {len(block) for blocks in plan.blocks.values() for block in blocks[:-1]} <= {7}
    held = [index for blocks in plan.blocks.values() for block in blocks for index in block]
    assert sorted(held) == list(range(50))
    one, three = plan.tasks(1), plan.tasks(3)
    assert three[: len(one)] == one
    assert len({task.path for task in three}) == len(three) == 3 * len(one)


def test_a_limit_a_split_takes_the_objects_that_a_larger_one_would_take_first():
    objects = items(60, "train") + items(30, "test")
    few = names(objects, split_items(objects, SplitConfig(val=20), Limit(train=7, val=3)))
    more = names(objects, split_items(objects, SplitConfig(val=20), Limit(train=9, val=200, test=0)))
    assert {split: len(part) for split, part in few.items()} == {"train": 7, "val": 3, "test": 30}
    assert {split: len(part) for split, part in more.items()} == {"train": 9, "val": 20}
    assert few["train"] < more["train"]
    assert few["val"] < more["val"]


@pytest.mark.parametrize("version", [1, 2])
def test_a_set_that_grows_keeps_its_blocks(version):
    """faults.md section 4: --limit 1000, then --limit 2000 into the same set."""
    objects = items(400)
    small = plan_of(objects, limit=100, version=version, shard_objects=30)
    large = plan_of(objects, limit=300, earlier=[100], version=version, shard_objects=30)
    whole = plan_of(objects, limit=None, earlier=[100, 300], version=version, shard_objects=30)
    for plan, grown in ((small, large), (large, whole)):
        assert all(grown.blocks[split][: len(blocks)] == blocks for split, blocks in plan.blocks.items())
    held = {split: {index for block in blocks for index in block} for split, blocks in large.blocks.items()}
    at_once = plan_of(objects, limit=300, version=version)
    assert held == {split: {index for block in blocks for index in block} for split, blocks in at_once.blocks.items()}
    assert sum(map(len, held.values())) == 300
    assert sorted(index for blocks in whole.blocks.values() for block in blocks for index in block) == list(range(400))


@given(st.integers(1, 40), st.integers(0, 20), st.integers(0, 20), st.integers(1, 40), st.integers(0, 40))
def test_every_larger_limit_can_follow(train, val, test, limit, more):
    """Shares by largest remainders can shrink while a limit grows; objects stay all the same."""
    sizes = {"train": train, "val": val, "test": test}
    before = limited_counts(sizes, limit, dict.fromkeys(sizes, 0))
    after = limited_counts(sizes, limit + more, before)
    assert all(after[split] >= count for split, count in before.items())
    assert sum(after.values()) == min(limit + more, sum(sizes.values()))


def test_a_limit_that_holds_less_of_a_split_is_refused_with_the_reason():
    with pytest.raises(UsageError, match=r"takes 3 objects of val, the set has 7, and a set keeps its objects"):
        plan_of(items(100), limit={"val": 3}, earlier=[{"val": 7}])
    with pytest.raises(UsageError, match="a set keeps its objects"):
        plan_of(items(100), limit=30, earlier=[{"train": 40}])


def test_small_splits_have_every_class_in_its_proportion():
    """faults.md section 4: 22 validation objects."""
    objects = [Item(f"{number:04d}", number % 10, None) for number in range(3000)]
    for limit in (None, 300):
        splits = split_items(objects, SplitConfig(val=220, test=0.2), limit)
        for part in splits.values():
            counts = Counter(objects[index].label for index in part)
            assert max(counts.values()) - min(counts[label] for label in range(10)) <= 1
    rare = [Item(f"{number:04d}", int(number % 50 == 0), None) for number in range(1000)]
    assert Counter(rare[index].label for index in split_items(rare, SplitConfig(val=100), None)["val"]) == {0: 98, 1: 2}
    by_name_alone = split_items(objects, SplitConfig(val=220), None, version=1)["val"]
    assert len({Counter(objects[index].label for index in by_name_alone)[label] for label in range(10)}) > 2


def test_the_split_of_an_object_does_not_change_with_the_limit():
    objects = items(700)
    splits = [names(objects, split_items(objects, SplitConfig(val=60), limit)) for limit in (50, 200, 333, None)]
    for smaller, larger in pairwise(splits):
        assert all(part <= larger[split] for split, part in smaller.items())


def test_a_small_validation_split_is_named():
    recipe = check_recipe({"name": "x", "source": {"collection": "digits"}}, origin="test")
    (note,) = small_split_notes(plan_of(items(220)), recipe)
    assert note.startswith("objects in val: 22, fewer than 200: one object is 4.5 points of accuracy")
    assert small_split_notes(plan_of(items(2000)), recipe) == ()
    none = check_recipe(recipe.model_dump() | {"splits": {"val": 0}}, origin="test")
    assert small_split_notes(plan_of(items(220), SplitConfig(val=0)), none) == ()
