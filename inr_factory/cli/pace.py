"""Pace: the rate of a count that grows, in bursts or one by one, and the time until it is complete."""

import itertools

FIRST_SECONDS = 10.0  # no time left is said before
MOST_POINTS = 256


class Pace:
    """Follows a count by the times at which it grew.

    Between two of these times the rate is right even where many workers, or a GPU, finish their work in bursts. Only the
    latter half of the run counts, so that a slow start is forgotten. A count that stands still for longer than it did
    before slows the rate.

    Args:
        from_start: whether the first count is that of work which begins at that moment. If not, as for a run that
            another process began, the time until the first growth tells nothing.
    """

    def __init__(self, from_start: bool = True) -> None:
        self.from_start = from_start
        self.points: list[tuple[float, float]] = []  # (time, count) at the beginning and whenever the count grew

    def add(self, now: float, done: float) -> None:
        """The count at a time. It may also fall, as when a worker dies."""
        while self.points and self.points[-1][1] > done:
            self.points.pop()
        if not self.points or done > self.points[-1][1]:
            if not self.from_start and len(self.points) == 1:
                self.points.clear()
                self.from_start = True
            self.points.append((now, done))
        if len(self.points) > MOST_POINTS:
            del self.points[2:-1:2]

    def rate(self, now: float) -> float | None:
        """Growth per second; None before the count grew, and where it did not for half of the run."""
        if not self.points:
            return None
        begin = self.points[0][0]
        half = max(FIRST_SECONDS, (now - begin) / 2)
        at = max(index for index, (time, _) in enumerate(self.points) if time <= max(begin, now - half))
        (since, before), (last, done) = self.points[at], self.points[-1]
        times = [time for time, _ in self.points[at:]]
        longest = max((after - time for time, after in itertools.pairwise(times)), default=0.0)
        spent = max(last, now - longest) - since
        return (done - before) / spent if done > before and spent > 0 else None

    def seconds_left(self, now: float, total: float) -> float | None:
        """Seconds until the count is `total`; None in the first ten seconds, and where there is no rate."""
        rate = self.rate(now)
        if rate is None or now - self.points[0][0] < FIRST_SECONDS:
            return None
        return max(0.0, total - self.points[-1][1]) / rate
