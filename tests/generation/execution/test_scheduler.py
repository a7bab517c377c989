"""Crew: no shard is forgotten, none waits for a worker that is gone, and slow ones are overtaken."""

import random

from inr_factory.generation.execution.scheduler import STRAGGLER_SECONDS, Crew
from inr_factory.generation.execution.shard_plan import ShardTask


def tasks(count):
    return [ShardTask("train", 0, block) for block in range(count)]


def test_shards_go_out_in_their_order_and_only_when_asked_for():
    asked = []
    crew = Crew((asked.append(task) or task for task in tasks(3)), 3)
    assert [crew.give(name, 0).block for name in "ab"] == [0, 1]
    assert len(asked) == 2
    assert crew.left == 3
    assert crew.done("b", 1) == (tasks(2)[1], True)
    assert crew.left == 2
    assert crew.give("b", 1).block == 2
    assert (crew.left, list(crew.idle)) == (2, [])


def test_the_shard_of_a_worker_that_dies_goes_to_the_next():
    crew = Crew(tasks(3), 3)
    crew.give("a", 0)
    assert crew.lose("a").block == 0
    assert crew.lose("a") is None
    assert crew.give("b", 1).block == 0
    assert crew.left == 3


def test_the_shard_of_a_worker_that_dies_wakes_an_idle_one():
    crew = Crew(tasks(1), 1)
    crew.give("a", 0)
    assert crew.give("b", 0) is None
    assert crew.wake(0) == []
    crew.lose("a")
    assert crew.wake(1) == [("b", tasks(1)[0])]
    assert crew.done("b", 2) == (tasks(1)[0], True)
    assert crew.left == 0


def test_tasks_that_another_run_made_do_not_keep_it_waiting():
    crew = Crew(tasks(2), total=10)
    crew.give("a", 0), crew.give("b", 0)
    crew.done("a", 1)
    assert crew.left == 9
    assert crew.give("a", 1) is None
    assert crew.left == 1


def late(seconds):
    """Two of three shards took a tenth of `seconds`; the third is at work for `seconds`."""
    crew = Crew(tasks(3), 3)
    for name in "abc":
        crew.give(name, 0)
    for name in "ab":
        crew.done(name, seconds / 10)
        crew.give(name, seconds / 10)
    return crew


def test_a_shard_that_takes_too_long_is_given_to_one_idle_worker_and_the_first_result_counts():
    crew, now = late(100), 100
    assert crew.wake(now) == [("a", tasks(3)[2])]
    assert crew.wake(now) == [], "two are enough"
    assert crew.leads("c")
    assert not crew.leads("a")
    assert crew.done("a", now + 10) == (tasks(3)[2], True)
    assert crew.left == 0
    assert crew.done("c", now + 20) == (tasks(3)[2], False)


def test_a_shard_that_takes_little_longer_than_others_is_left_alone():
    assert late(100).wake(15) == []
    short = STRAGGLER_SECONDS / 2
    assert late(short).wake(short) == []


def test_when_one_of_two_at_a_shard_dies_the_other_goes_on_and_leads():
    crew = late(100)
    crew.wake(100)
    assert crew.lose("c") == tasks(3)[2]
    assert crew.leads("a")
    assert crew.give("d", 101) is None
    assert crew.wake(101) == []
    assert crew.done("a", 110) == (tasks(3)[2], True)


def test_every_shard_is_made_once_whatever_dies_or_dawdles():
    for seed in range(50):
        rng = random.Random(seed)
        crew, free, busy, made, now = Crew(tasks(40), 40), [0, 1, 2, 3], [], [], 0.0
        born = 4
        while crew.left:
            now += rng.random() * 10
            busy += [worker for worker, _ in crew.wake(now)]
            for worker in free:
                if crew.give(worker, now) is not None:
                    busy.append(worker)
            free = []
            if not busy:
                continue
            worker = busy.pop(rng.randrange(len(busy)))
            if rng.random() < 0.3:
                crew.lose(worker)
                free.append(born)
                born += 1
            else:
                task, first = crew.done(worker, now)
                made += [task] if first else []
                free.append(worker)
        assert sorted(task.block for task in made) == list(range(40)), seed
