"""Pace: times left of simulated runs, which begin slowly, in bursts, with several workers, retries and deaths."""

import heapq
import random

import pytest

from inr_factory.cli.pace import FIRST_SECONDS, Pace


def simulate(durations, workers, start=0.0, lag=0.0, burst=1):
    """(time, INRs done) when `workers` make INRs of these durations; the first step of the first is at `start`."""
    free = [(start + lag * worker, worker) for worker in range(workers)]
    ends = []
    for begin in range(0, len(durations), burst):
        time, worker = heapq.heappop(free)
        time += sum(durations[begin : begin + burst])
        ends.append((time, len(durations[begin : begin + burst])))
        heapq.heappush(free, (time, worker))
    done, points = 0, [(start, 0)]
    for time, count in sorted(ends):
        done += count
        points.append((time, done))
    return points


def shown(points, total, pace=None, every=1.0):
    """(time, seconds left that are said, seconds that are really left), at every report and every second between."""
    pace, end = pace or Pace(), points[-1][0]
    said, waiting, now = [], list(points), points[0][0]
    done = 0
    while now <= end:
        while waiting and waiting[0][0] <= now:
            time, done = waiting.pop(0)
            pace.add(time, done)
        pace.add(now, done)
        said.append((now, pace.seconds_left(now, total), end - now))
        now += every
    return said


draw = random.Random(0)
RUNS = {
    "one worker, a thousand quick fits": simulate([draw.uniform(0.05, 0.15) for _ in range(1000)], 1, start=9.0),
    "four workers that start one after the other": simulate(
        [draw.uniform(0.1, 0.5) for _ in range(1000)], 4, 20.0, 1.5
    ),
    "a GPU that finishes 500 at once": simulate([0.01] * 20_000, 1, burst=500),
    "two workers with fits of a quarter of a minute": simulate([draw.uniform(12, 18) for _ in range(60)], 2),
    "one fit in twenty is made three times": simulate(
        [0.1 * (3 if draw.random() < 0.05 else 1) for _ in range(1500)], 2
    ),
}


@pytest.mark.parametrize("name", RUNS)
def test_the_time_left_is_right_within_a_factor_of_two_and_not_said_in_the_first_ten_seconds(name):
    points = RUNS[name]
    begin, end, total = points[0][0], points[-1][0], points[-1][1]
    assert end - begin > 5 * FIRST_SECONDS
    for now, left, true in shown(points, total):
        if now < begin + FIRST_SECONDS:
            assert left is None
        elif left is not None and true > 0.1 * (end - begin):
            assert true / 2 < left < 2 * true, f"{left:.0f} s at {now:.0f} s, {true:.0f} s are left"
    assert sum(left is not None for _, left, _ in shown(points, total)) > 0.6 * (end - begin)


def test_a_slow_start_is_forgotten():
    """Twenty seconds of reading inside the first fit, then fifty a second."""
    points = [(0.0, 0), *[(20.0 + number / 50, number) for number in range(1, 6000)]]
    at = {now: (left, true) for now, left, true in shown(points, 5999)}
    assert at[45.0][0] == pytest.approx(at[45.0][1], rel=0.1)


def test_a_resumed_training_run_counts_from_where_it_resumes():
    pace = Pace()
    for second in range(31):
        pace.add(100.0 + second, 50 + second / 10)  # epochs
    assert pace.seconds_left(130.0, 100) == pytest.approx(470, rel=0.01)


def test_a_count_that_falls_does_not_confuse_it():
    """A worker died, its shard begins again."""
    points = [(t / 10, t) for t in range(300)] + [(30 + t / 10, 200 + t) for t in range(801)]
    for now, left, true in shown(points, 1000):
        if now > 40 and true > 10:
            assert true / 2 < left < 2 * true


def test_a_run_that_stands_still_tells_longer_times_and_then_none():
    pace = Pace()
    for second in range(101):
        pace.add(float(second), second)
    at = [pace.seconds_left(float(now), 200) for now in (100, 130, 180, 300)]
    assert at[0] == pytest.approx(100)
    assert at[0] < at[1] < at[2]
    assert at[3] is None


def test_a_run_seen_from_its_middle_tells_nothing_before_the_count_grew_twice():
    pace = Pace(from_start=False)
    pace.add(0.0, 1000)
    pace.add(11.0, 1050)  # just then a shard was complete: it did not take 11 seconds
    assert pace.seconds_left(11.0, 2000) is None
    pace.add(111.0, 1100)
    assert pace.seconds_left(111.0, 2000) == pytest.approx(1800)
    assert pace.rate(111.0) == pytest.approx(0.5)


def test_many_reports_take_little_memory():
    pace = Pace()
    for number in range(10_000):
        pace.add(number / 100, number)
    assert len(pace.points) <= 257
    assert pace.seconds_left(99.99, 20_000) == pytest.approx(100, rel=0.02)
