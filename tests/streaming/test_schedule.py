from collections import Counter
from itertools import pairwise

import pytest

from inr_factory.streaming.schedule import FreshSchedule


@pytest.mark.parametrize("stored", [1, 3])
@pytest.mark.parametrize("blocks", [(0,), (0, 2, 5), tuple(range(10))])
@pytest.mark.parametrize(("reuse", "pool"), [(1, 1), (2, 2), (4, 1), (4, 4), (6, 3)])
def test_each_fresh_inr_is_shown_as_often_as_reuse_says_once_the_pool_is_full(stored, blocks, reuse, pool):
    schedule, uses = FreshSchedule(stored, blocks, pool, reuse), Counter()
    last = (pool + 4) * reuse
    for epoch in range(last):
        shown = schedule.shown(epoch)
        assert [block for _, block in shown] == list(blocks)
        uses.update(shown)
        for view, block in shown:
            assert not schedule.is_done((view, block), epoch)
            assert (view - stored) * len(blocks) + blocks.index(block) < schedule.come(epoch)  # it has come
    done = [shard for shard in uses if shard[0] >= max(stored, pool) and schedule.is_done(shard, last)]
    assert done
    assert {uses[shard] for shard in done} == {reuse}
    assert all(uses[shard] >= reuse for shard in uses if shard[0] >= stored and schedule.is_done(shard, last))


def test_the_first_epoch_shows_stored_views():
    assert FreshSchedule(3, (0, 1), 1, 1).shown(0) == [(2, 0), (2, 1)]


def test_with_reuse_one_no_view_is_shown_twice():
    schedule = FreshSchedule(1, (0, 1), 1, 1)
    assert [schedule.shown(epoch)[1] for epoch in range(4)] == [(0, 1), (1, 1), (2, 1), (3, 1)]


def test_others_are_shown_between_two_uses_of_an_inr():
    schedule = FreshSchedule(1, (0,), 4, 4)
    shown = [schedule.shown(epoch)[0] for epoch in range(20, 60)]
    assert all(one != other for one, other in pairwise(shown))


def test_what_is_needed_comes_first_and_is_bounded():
    schedule = FreshSchedule(1, (0, 1), 1, 1)
    assert schedule.needed(0, 2) == [(1, 0), (1, 1), (2, 0), (2, 1), (3, 0)]
    assert schedule.needed(3, 1)[:2] == [(3, 0), (3, 1)]


def test_where_nobody_knows_how_many_will_come_those_of_the_epochs_ahead_are_needed():
    schedule = FreshSchedule(1, (0, 1), 4, arrived=(0, 1))
    assert schedule.shown(1) == [(1, 0), (0, 1)]
    assert schedule.needed(1, 2) == [(1, 0), (1, 1), (2, 0), (2, 1), (3, 0)]
    assert FreshSchedule(1, (0, 1), 4).come(5) == 0
    assert schedule.come(7) == 1
