"""Worker events: what is forwarded of a fit, and how often."""

from inr_factory.generation.execution import worker_events as module
from inr_factory.generation.execution.worker_events import Throttle
from inr_factory.generation.fitting.tally import Tally


def test_inrs_are_forwarded_five_times_a_second_and_steps_alone_every_two_seconds(monkeypatch):
    now, sent = 100.0, []
    monkeypatch.setattr(module, "monotonic", lambda: now)
    throttle = Throttle(lambda tally: sent.append((now, tally)))
    for tick in range(60):  # three seconds of steps, then INRs with every step
        now = 100.0 + tick / 10
        throttle(Tally(done=max(0, tick - 30), steps=tick))
    assert [round(time, 1) for time, tally in sent if not tally.done] == [100.1, 102.1]
    with_inrs = [time for time, tally in sent if tally.done]
    assert with_inrs[0] < 103.2
    assert 13 <= len(with_inrs) <= 16


def test_a_tally_that_has_not_changed_is_not_forwarded():
    sent = []
    throttle = Throttle(sent.append, interval=0.0, steps_interval=0.0)
    for steps in (1, 1, 2, 2):
        throttle(Tally(steps=steps))
    assert sent == [Tally(steps=1), Tally(steps=2)]
