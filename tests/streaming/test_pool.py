import os
import time

import pytest

from inr_factory.errors import FactoryError, ResourceError
from inr_factory.streaming import pool as pools
from inr_factory.streaming.pool import Claim, Demand, Pool


@pytest.fixture
def pool(tmp_path):
    made = Pool(tmp_path, tmp_path)
    made.create()
    return made


def test_a_demand_is_read_as_it_was_published(pool):
    assert pool.demand() is None
    demand = Demand(3, (0, 1, 4), ((1, 0), (2, 7)))
    pool.publish(demand)
    assert pool.demand() == demand


def test_one_fitter_has_a_shard_and_none_where_it_is_there(pool):
    claim = pool.claim((1, 0))
    assert claim is not None
    assert pool.claim((1, 0)) is None
    claim.release()
    assert pool.claim((1, 0)) is not None
    pool.path((2, 0)).touch()
    assert pool.claim((2, 0)) is None
    assert [shard for _, shard in pool.fresh_shards()] == [(2, 0)]


def test_the_claim_of_a_dead_fitter_is_taken_over(pool, monkeypatch):
    claim = pool.claim((1, 0))
    claim.path.write_text(claim.owner.replace(str(os.getpid()), "999999999"))
    assert pool.claim((1, 0)) is not None


def test_the_claim_of_a_silent_machine_is_taken_over_and_one_with_signs_of_life_is_not(pool, monkeypatch):
    claim = pool.claim((1, 0))
    claim.path.write_text("another-machine 1")
    assert pool.claim((1, 0)) is None
    old = time.time() - 2 * pools.STALE_SECONDS
    os.utime(claim.path, (old, old))
    Claim(claim.path).beat()
    assert pool.claim((1, 0)) is None
    os.utime(claim.path, (old, old))
    assert pool.claim((1, 0)) is not None


def test_what_a_fitter_fails_of_is_raised_by_the_trainer(pool):
    pool.raise_failure()
    pool.fail(ResourceError("the disk is full"))
    with pytest.raises(ResourceError, match="fresh views cannot be fitted: the disk is full"):
        pool.raise_failure()
    pool.fail(ZeroDivisionError("by zero"))
    with pytest.raises(FactoryError, match="by zero") as caught:
        pool.raise_failure()
    assert type(caught.value) is FactoryError
    pool.create()
    pool.raise_failure()
