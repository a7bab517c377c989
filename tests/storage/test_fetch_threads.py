"""Fetch threads: every item once, the first error ends all, and so does an interruption."""

import threading
import time

import pytest

from inr_factory.storage import fetch_threads
from inr_factory.storage.fetch_threads import in_threads


def run(function, items, workers, stop=None):
    results = {}
    in_threads(function, items, workers, stop or threading.Event(), results.__setitem__)
    return results


def test_every_item_has_its_result_and_several_run_at_a_time():
    both = threading.Barrier(2, timeout=10)

    def square(item):
        both.wait()  # a single thread would wait in vain
        return item * item

    assert run(square, range(6), 2) == {item: item * item for item in range(6)}


def test_no_items_need_no_thread():
    assert run(lambda item: item, [], 8) == {}


def test_the_first_error_is_raised_and_later_items_are_left():
    seen, stop = [], threading.Event()

    def fail(item):
        seen.append(item)
        if item == 2:
            raise ValueError("two")

    with pytest.raises(ValueError, match="two"):
        run(fail, range(100), 1, stop)
    assert stop.is_set()
    assert seen == [0, 1, 2]


def test_what_is_completed_while_another_fails_counts():
    both, results = threading.Barrier(2, timeout=10), {}

    def act(item):
        both.wait()
        if item == 0:
            raise ValueError("zero")
        time.sleep(0.05)
        return item

    with pytest.raises(ValueError, match="zero"):
        in_threads(act, range(2), 2, threading.Event(), results.__setitem__)
    assert results == {1: 1}


def test_threads_that_hang_do_not_hold_up_the_end(monkeypatch):
    monkeypatch.setattr(fetch_threads, "GRACE_SECONDS", 0.05)
    release = threading.Event()

    def hang(item):
        if item == 0:
            raise ValueError("zero")
        release.wait(10)

    begin = time.monotonic()
    with pytest.raises(ValueError, match="zero"):
        run(hang, range(4), 4)
    assert time.monotonic() - begin < 5
    release.set()
