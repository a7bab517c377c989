"""Run configuration: the default schedule learns from small sets and from large ones."""

import pytest

from inr_factory.learning.training.run_config import default_schedule


@pytest.mark.parametrize("rows", [1, 2, 5, 63, 64, 84, 600, 2_874, 55_000, 275_000, 10**8])
@pytest.mark.parametrize(("model", "rate"), [("parity", 5e-3), ("probes", 2e-3), ("render", 2e-3)])
def test_the_cosine_schedule_has_enough_steps_and_not_too_many(rows: int, model: str, rate: float) -> None:
    schedule = default_schedule(model, rows)
    steps_per_epoch = max(1, rows // schedule.batch_size)
    steps = schedule.epochs * steps_per_epoch
    assert 2 <= schedule.batch_size <= 64
    assert schedule.batch_size <= max(2, rows)
    assert steps >= 600 - steps_per_epoch or schedule.epochs == 100
    assert steps <= max(20_000, steps_per_epoch) + steps_per_epoch
    assert (schedule.learning_rate, schedule.schedule) == (rate, "cosine")


def test_a_given_batch_size_changes_the_number_of_epochs_where_that_keeps_the_steps() -> None:
    assert default_schedule("parity", 2_874).epochs == default_schedule("parity", 55_000).epochs == 20
    assert default_schedule("parity", 2_874, batch_size=512)[:2] == (100, 512)
    assert default_schedule("parity", 84).epochs == 100
    assert default_schedule("parity", 1_100).epochs == 35  # 600 steps
    assert default_schedule("parity", 275_000).epochs == 5


@pytest.mark.parametrize("model", ["dws", "mlp", "ng_t"])
def test_the_schedule_of_other_models_stays(model: str) -> None:
    assert default_schedule(model, 60) == default_schedule(model, 60_000) == (100, 128, 1e-3, "constant")
    assert default_schedule(model, 60, batch_size=4).batch_size == 4


@pytest.mark.parametrize("model", ["parity", "dws"])
@pytest.mark.parametrize("rows", [60, 1_500, 55_000, 10**6])
def test_mixed_runs_take_three_times_the_epochs(model: str, rows: int) -> None:
    plain, mixed = default_schedule(model, rows), default_schedule(model, rows, mixed=True)
    assert mixed == plain._replace(epochs=3 * plain.epochs)
