"""Batch plans: every row where it belongs, the same on every machine, and no row on two ranks."""

import subprocess
import sys
from collections import Counter
from typing import Any

import numpy as np
import pytest

from inr_factory.errors import UsageError
from inr_factory.learning.data.batch_sampler import BatchSampler

OBJECTS = np.array([0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1, 2, 4])  # view by view; object 3 has two views, the rest three


def rows(plan: BatchSampler, epoch: int = 0, position: int = 0) -> list[list[int]]:
    return [batch.tolist() for batch in plan.batches(epoch, position)]


def flat(batches: list[list[int]]) -> list[int]:
    return [row for batch in batches for row in batch]


def by_object(**settings: Any) -> BatchSampler:
    return BatchSampler(num_rows=len(OBJECTS), objects_N=OBJECTS, **settings)


def test_an_epoch_is_every_row_once_in_an_order_of_its_own() -> None:
    plan = BatchSampler(num_rows=23, batch_size=5, drop_last=False)

    epochs = [rows(plan, epoch) for epoch in range(3)]

    for batches in epochs:
        assert [len(batch) for batch in batches] == [5, 5, 5, 5, 3]
        assert sorted(flat(batches)) == list(range(23))
    assert len({tuple(flat(batches)) for batches in epochs}) == 3
    assert rows(plan, 1) == epochs[1], "the same epoch must be the same again"
    assert rows(BatchSampler(num_rows=23, batch_size=5, drop_last=False, seed=1)) != epochs[0]


def test_every_row_is_as_likely_at_every_place() -> None:
    plan = BatchSampler(num_rows=4, batch_size=4)

    orders = Counter(tuple(flat(rows(plan, epoch))) for epoch in range(2400))

    assert len(orders) == 24
    assert max(orders.values()) < 1.5 * min(orders.values())


def test_unshuffled_batches_are_the_rows_in_order() -> None:
    plan = BatchSampler(num_rows=7, batch_size=3, shuffle=False)

    assert rows(plan, 0) == rows(plan, 5) == [[0, 1, 2], [3, 4, 5], [6]]
    assert rows(BatchSampler(num_rows=7, batch_size=3, shuffle=False, drop_last=True)) == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize("drop_last", [True, False])
def test_batches_from_a_position_on_are_the_tail_of_the_epoch(drop_last: bool) -> None:
    for settings in ({}, {"views_per_object": 2}, {"views_per_object": 2, "grouped": True}, {"world_size": 2}):
        plan = by_object(batch_size=2, drop_last=drop_last, **settings)
        whole = rows(plan, 2)
        assert len(whole) == len(plan) > 1
        for position in range(len(plan) + 1):
            assert rows(plan, 2, position) == whole[position:]


@pytest.mark.parametrize("drop_last", [True, False])
@pytest.mark.parametrize(("world_size", "num_objects"), [(2, 7), (3, 5)])
def test_ranks_are_disjoint_and_together_the_epoch(world_size: int, num_objects: int, drop_last: bool) -> None:
    objects = np.tile(np.arange(num_objects), 3)
    settings = [{}, {"views_per_object": 2}, {"views_per_object": 2, "grouped": True}, {"shuffle": False}]
    for chosen in settings:
        ranks = [
            BatchSampler(
                num_rows=len(objects),
                objects_N=objects,
                batch_size=4,
                drop_last=drop_last,
                rank=rank,
                world_size=world_size,
                **chosen,
            )
            for rank in range(world_size)
        ]
        batches = [rows(plan, 1) for plan in ranks]
        assert {len(part) for part in batches} == {len(ranks[0])} != {0}
        seen = flat([flat(part) for part in batches])
        assert len(set(seen)) == len(seen), "a row is on two ranks"
        order = ranks[0].order(1).reshape(-1).tolist()
        if drop_last:
            assert set(seen) == set(order[: len(seen)])
            assert len(order) - len(seen) < 4 * world_size
        else:
            assert sorted(seen) == sorted(order)
        assert all(batch for part in batches for batch in part)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_each_object_gives_k_views_an_epoch_drawn_afresh(k: int) -> None:
    plan = by_object(batch_size=4, drop_last=False, views_per_object=k)
    assert len(by_object(batch_size=1, views_per_object=k)) == sum(len(batch) for batch in rows(plan))

    drawn = set()
    for epoch in range(40):
        chosen = flat(rows(plan, epoch))
        assert len(set(chosen)) == len(chosen)
        assert Counter(OBJECTS[chosen].tolist()) == {n: min(k, 2 if n == 3 else 3) for n in range(5)}
        drawn.add(frozenset(chosen))
    assert set().union(*drawn) == set(range(len(OBJECTS))), "some view is never drawn"
    assert len(drawn) == 1 if k == 3 else len(drawn) > 20


def test_views_are_drawn_evenly() -> None:
    plan = by_object(batch_size=4, drop_last=False, views_per_object=1)

    counts = Counter(row for epoch in range(900) for row in flat(rows(plan, epoch)))

    assert all(counts[row] / 900 == pytest.approx(1 / 2 if OBJECTS[row] == 3 else 1 / 3, abs=0.06) for row in counts)


@pytest.mark.parametrize("k", [2, 3])
def test_grouped_views_of_an_object_stand_together(k: int) -> None:
    plan = by_object(batch_size=2 * k, drop_last=False, views_per_object=k, grouped=True)

    orders = set()
    for epoch in range(10):
        groups = [group for batch in plan.batches(epoch) for group in batch.reshape(-1, k).tolist()]
        owners = [set(OBJECTS[group].tolist()) for group in groups]
        assert all(len(owner) == 1 for owner in owners)
        assert all(len(set(group)) == k for group in groups)
        assert sorted(owner.pop() for owner in owners) == ([0, 1, 2, 3, 4] if k == 2 else [0, 1, 2, 4])
        orders.add(tuple(flat(groups)))
    assert len(orders) == 10
    assert plan.num_left_out == (0 if k == 2 else 1)
    assert [len(batch) for batch in rows(plan)] == ([4, 4, 2] if k == 2 else [6, 6])


def test_without_grouping_views_of_an_object_are_apart() -> None:
    plan = BatchSampler(
        num_rows=200, batch_size=20, objects_N=np.repeat(np.arange(100), 2), views_per_object=2, drop_last=False
    )

    owners = np.repeat(np.arange(100), 2)[flat(rows(plan))].reshape(-1, 2)

    assert (owners[:, 0] == owners[:, 1]).mean() < 0.1


def test_a_batch_larger_than_the_epoch_is_made_smaller() -> None:
    assert [len(batch) for batch in rows(BatchSampler(num_rows=7, batch_size=64))] == [7]
    assert BatchSampler(num_rows=7, batch_size=64).rows_per_batch == 7
    assert [len(rows(BatchSampler(num_rows=7, batch_size=64, rank=1, world_size=2))[0])] == [3]
    assert [len(b) for b in rows(by_object(batch_size=64, views_per_object=2, grouped=True))] == [10]
    assert len(BatchSampler(num_rows=7, batch_size=7)) == 1
    assert BatchSampler(num_rows=7, batch_size=4).rows_per_batch == 4


def test_seeds_of_batches_differ_and_stay() -> None:
    def seeds(**settings: Any) -> list[int]:
        plan = BatchSampler(num_rows=9, batch_size=3, **settings)
        return [plan.batch_seed(epoch, position) for epoch in range(12) for position in range(12)]

    runs = [seeds(), seeds(seed=1), seeds(rank=1, world_size=2)]
    assert len({seed for run in runs for seed in run}) == 3 * 144
    assert seeds() == runs[0]
    assert all(0 <= seed < 2**63 for seed in runs[0])


def test_orders_and_seeds_are_the_same_in_every_process() -> None:
    show = (
        "from inr_factory.learning.data.batch_sampler import BatchSampler; plan = BatchSampler(num_rows=9, batch_size=9, seed=5);"
        "print(plan.order(3).tolist(), plan.batch_seed(3, 2))"
    )
    plan = BatchSampler(num_rows=9, batch_size=9, seed=5)

    observed = subprocess.run([sys.executable, "-c", show], capture_output=True, text=True, check=True).stdout

    assert observed.strip() == f"{plan.order(3).tolist()} {plan.batch_seed(3, 2)}"
    # Written down: a change of these numbers makes runs that were stopped go on with other batches.
    assert plan.order(3).tolist() == [2, 5, 3, 4, 8, 6, 1, 7, 0]
    assert plan.batch_seed(3, 2) == 5193016389786611723


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"batch_size": 0}, "batch_size must be a whole number from 1 to 2,147,483,647, got 0"),
    ({"batch_size": 10**20}, "batch_size must be a whole number from 1"),
    ({"world_size": 0}, "world_size must be a whole number from 1"),
    ({"rank": 2, "world_size": 2}, "rank must be 0 to 1 in a world of 2, got 2"),
    ({"rank": -1}, "rank must be 0 to 0"),
    ({"grouped": True}, "grouped batches need views_per_object"),
    ({"views_per_object": 4}, "views_per_object must be 1 to 3, .* got 4"),
    ({"views_per_object": 0}, "views_per_object must be 1 to 3"),
    ({"views_per_object": 2, "shuffle": False}, "leave shuffle on"),
    ({"views_per_object": 3, "grouped": True}, "batch_size must be a multiple of views_per_object 3, got 4"),
    ({"world_size": 15}, "14 rows do not give each of 15 ranks"),
    ({"world_size": 3, "drop_last": False}, "14 rows do not give each of 3 ranks a part of every step"),
    ({"views_per_object": 2, "grouped": True, "world_size": 6}, "5 groups do not give each of 6 ranks"),
]


@pytest.mark.parametrize(
    ("settings", "message"), WRONG, ids=lambda value: str(value) if isinstance(value, dict) else ""
)
def test_impossible_plans_are_refused_in_one_line(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        by_object(**{"batch_size": 4, **settings})
    assert "\n" not in str(caught.value)
