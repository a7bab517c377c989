"""Scheduler: no shard is forgotten, none waits for a worker that is gone, and slow ones are overtaken."""

import random

import pytest

from inr_factory.generation.execution.scheduler import STRAGGLER_SECONDS, Scheduler
from inr_factory.generation.execution.shard_plan import ShardTask


def tasks(count):
    return [ShardTask("train", 0, block) for block in range(count)]


def test_shards_go_out_in_their_order_and_only_when_asked_for():
    asked = []
    scheduler = Scheduler((asked.append(task) or task for task in tasks(3)), 3)
    assert [scheduler.assign(name, 0).block for name in "ab"] == [0, 1]
    assert len(asked) == 2
    assert scheduler.remaining == 3
    assert scheduler.done("b", tasks(2)[1], 1)
    assert scheduler.remaining == 2
    assert scheduler.assign("b", 1).block == 2
    assert (scheduler.remaining, list(scheduler.idle)) == (2, [])


def test_the_shard_of_a_worker_that_dies_goes_to_the_next():
    scheduler = Scheduler(tasks(3), 3)
    scheduler.assign("a", 0)
    assert scheduler.worker_died("a") == tasks(1)
    assert scheduler.worker_died("a") == []
    assert scheduler.assign("b", 1).block == 0
    assert scheduler.remaining == 3


def test_the_shard_of_a_worker_that_dies_wakes_an_idle_one():
    scheduler = Scheduler(tasks(1), 1)
    scheduler.assign("a", 0)
    assert scheduler.assign("b", 0) is None
    assert scheduler.next_assignments(0) == []
    scheduler.worker_died("a")
    assert scheduler.next_assignments(1) == [("b", tasks(1)[0])]
    assert scheduler.done("b", tasks(1)[0], 2)
    assert scheduler.remaining == 0


def test_tasks_that_another_run_made_do_not_keep_it_waiting():
    scheduler = Scheduler(tasks(2), total=10)
    scheduler.assign("a", 0), scheduler.assign("b", 0)
    scheduler.done("a", tasks(1)[0], 1)
    assert scheduler.remaining == 9
    assert scheduler.assign("a", 1) is None
    assert scheduler.remaining == 1


def late(seconds):
    """Two of three shards took a tenth of `seconds`; the third has been running for `seconds`."""
    scheduler = Scheduler(tasks(3), 3)
    given = {name: scheduler.assign(name, 0) for name in "abc"}
    for name in "ab":
        scheduler.done(name, given[name], seconds / 10)
        scheduler.assign(name, seconds / 10)
    return scheduler


def test_a_shard_that_takes_too_long_is_given_to_one_idle_worker_and_the_first_result_counts():
    scheduler, now, slow = late(100), 100, tasks(3)[2]
    assert scheduler.next_assignments(now) == [("a", slow)]
    assert scheduler.next_assignments(now) == [], "two are enough"
    assert scheduler.is_primary("c", slow)
    assert not scheduler.is_primary("a", slow)
    assert scheduler.done("a", slow, now + 10)
    assert scheduler.remaining == 0
    assert not scheduler.done("c", slow, now + 20)


def test_a_shard_that_takes_little_longer_than_others_is_left_alone():
    assert late(100).next_assignments(15) == []
    short = STRAGGLER_SECONDS / 2
    assert late(short).next_assignments(short) == []


def test_when_one_of_two_at_a_shard_dies_the_other_goes_on_and_leads():
    scheduler, slow = late(100), tasks(3)[2]
    scheduler.next_assignments(100)
    assert scheduler.worker_died("c") == [slow]
    assert scheduler.is_primary("a", slow)
    assert scheduler.assign("d", 101) is None
    assert scheduler.next_assignments(101) == []
    assert scheduler.done("a", slow, 110)


def started(window, total, *names):
    """A scheduler whose workers have each completed a shard, and the next blocks that each gets."""
    scheduler = Scheduler(tasks(total), total, window)
    for name in names:
        scheduler.assign(name, 0)
    for block, name in enumerate(names):
        scheduler.done(name, tasks(total)[block], 1)
    return scheduler, {name: blocks(scheduler, name) for name in names}


def blocks(scheduler, name):
    """The blocks that a worker gets until it is full."""
    return [task.block for task in iter(lambda: scheduler.assign(name, 2), None)]


def test_a_worker_makes_several_shards_at_once_after_its_first():
    scheduler = Scheduler(tasks(9), 9, window=3)
    assert blocks(scheduler, "a") == [0]
    scheduler.done("a", tasks(1)[0], 1)
    assert blocks(scheduler, "a") == [1, 2, 3]
    scheduler.done("a", tasks(3)[2], 2)
    assert blocks(scheduler, "a") == [4]
    assert scheduler.remaining == 7
    assert blocks(Scheduler(tasks(9), 9), "a") == [0]


def test_the_last_shards_go_to_workers_without_any():
    _, given = started(3, 8, "a", "b", "c")
    assert given == {"a": [3, 4, 5], "b": [6], "c": [7]}


def test_shards_that_were_lost_together_run_alone_before_others():
    scheduler, given = started(3, 20, "a")
    assert given["a"] == [1, 2, 3]
    assert [task.block for task in scheduler.worker_died("a")] == [1, 2, 3]
    for block in (1, 2, 3):
        assert blocks(scheduler, "b") == [block]
        scheduler.done("b", tasks(20)[block], 3)
    assert blocks(scheduler, "b") == [4, 5, 6]


def test_a_busy_worker_takes_no_shard_that_was_lost():
    scheduler, given = started(2, 20, "a", "b")
    lost = [task.block for task in scheduler.worker_died("a")]
    assert lost == given["a"] == [2, 3]
    scheduler.done("b", tasks(20)[given["b"][0]], 3)
    assert blocks(scheduler, "b") == [6]
    for block in (given["b"][1], 6):
        scheduler.done("b", tasks(20)[block], 4)
    assert blocks(scheduler, "b") == [2]


@pytest.mark.parametrize("window", [1, 3])
def test_every_shard_is_made_once_whatever_dies_or_dawdles(window):
    for seed in range(50):
        rng = random.Random(seed)
        scheduler, free, busy, made, now = Scheduler(tasks(40), 40, window), [0, 1, 2, 3], [], [], 0.0
        born = 4
        while scheduler.remaining:
            now += rng.random() * 10
            busy += scheduler.next_assignments(now)
            for worker in free:
                busy += [(worker, task) for task in iter(lambda: scheduler.assign(worker, now), None)]  # noqa: B023
            free = []
            if not busy:
                continue
            worker, task = busy.pop(rng.randrange(len(busy)))
            if rng.random() < 0.3:
                scheduler.worker_died(worker)
                busy = [pair for pair in busy if pair[0] != worker]
                free.append(born)
                born += 1
            else:
                made += [task] if scheduler.done(worker, task, now) else []
                free.append(worker)
        assert sorted(task.block for task in made) == list(range(40)), seed
