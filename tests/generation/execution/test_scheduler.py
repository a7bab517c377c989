"""Scheduler: no shard is forgotten, none waits for a worker that is gone, and slow ones are overtaken."""

import random

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
    assert scheduler.done("b", 1) == (tasks(2)[1], True)
    assert scheduler.remaining == 2
    assert scheduler.assign("b", 1).block == 2
    assert (scheduler.remaining, list(scheduler.idle)) == (2, [])


def test_the_shard_of_a_worker_that_dies_goes_to_the_next():
    scheduler = Scheduler(tasks(3), 3)
    scheduler.assign("a", 0)
    assert scheduler.worker_died("a").block == 0
    assert scheduler.worker_died("a") is None
    assert scheduler.assign("b", 1).block == 0
    assert scheduler.remaining == 3


def test_the_shard_of_a_worker_that_dies_wakes_an_idle_one():
    scheduler = Scheduler(tasks(1), 1)
    scheduler.assign("a", 0)
    assert scheduler.assign("b", 0) is None
    assert scheduler.next_assignments(0) == []
    scheduler.worker_died("a")
    assert scheduler.next_assignments(1) == [("b", tasks(1)[0])]
    assert scheduler.done("b", 2) == (tasks(1)[0], True)
    assert scheduler.remaining == 0


def test_tasks_that_another_run_made_do_not_keep_it_waiting():
    scheduler = Scheduler(tasks(2), total=10)
    scheduler.assign("a", 0), scheduler.assign("b", 0)
    scheduler.done("a", 1)
    assert scheduler.remaining == 9
    assert scheduler.assign("a", 1) is None
    assert scheduler.remaining == 1


def late(seconds):
    """Two of three shards took a tenth of `seconds`; the third has been running for `seconds`."""
    scheduler = Scheduler(tasks(3), 3)
    for name in "abc":
        scheduler.assign(name, 0)
    for name in "ab":
        scheduler.done(name, seconds / 10)
        scheduler.assign(name, seconds / 10)
    return scheduler


def test_a_shard_that_takes_too_long_is_given_to_one_idle_worker_and_the_first_result_counts():
    scheduler, now = late(100), 100
    assert scheduler.next_assignments(now) == [("a", tasks(3)[2])]
    assert scheduler.next_assignments(now) == [], "two are enough"
    assert scheduler.is_primary("c")
    assert not scheduler.is_primary("a")
    assert scheduler.done("a", now + 10) == (tasks(3)[2], True)
    assert scheduler.remaining == 0
    assert scheduler.done("c", now + 20) == (tasks(3)[2], False)


def test_a_shard_that_takes_little_longer_than_others_is_left_alone():
    assert late(100).next_assignments(15) == []
    short = STRAGGLER_SECONDS / 2
    assert late(short).next_assignments(short) == []


def test_when_one_of_two_at_a_shard_dies_the_other_goes_on_and_leads():
    scheduler = late(100)
    scheduler.next_assignments(100)
    assert scheduler.worker_died("c") == tasks(3)[2]
    assert scheduler.is_primary("a")
    assert scheduler.assign("d", 101) is None
    assert scheduler.next_assignments(101) == []
    assert scheduler.done("a", 110) == (tasks(3)[2], True)


def test_every_shard_is_made_once_whatever_dies_or_dawdles():
    for seed in range(50):
        rng = random.Random(seed)
        scheduler, free, busy, made, now = Scheduler(tasks(40), 40), [0, 1, 2, 3], [], [], 0.0
        born = 4
        while scheduler.remaining:
            now += rng.random() * 10
            busy += [worker for worker, _ in scheduler.next_assignments(now)]
            for worker in free:
                if scheduler.assign(worker, now) is not None:
                    busy.append(worker)
            free = []
            if not busy:
                continue
            worker = busy.pop(rng.randrange(len(busy)))
            if rng.random() < 0.3:
                scheduler.worker_died(worker)
                free.append(born)
                born += 1
            else:
                task, first = scheduler.done(worker, now)
                made += [task] if first else []
                free.append(worker)
        assert sorted(task.block for task in made) == list(range(40)), seed
