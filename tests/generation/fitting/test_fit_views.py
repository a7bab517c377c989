"""Fitting: each INR depends on its key, its signal and the settings, and on nothing else."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from inr_factory.errors import UsageError
from inr_factory.generation.fit_config import FitConfig
from inr_factory.generation.fitting import fit_views as fit_views_module
from inr_factory.generation.fitting.fit_table import FitTable
from inr_factory.generation.fitting.fit_views import COLUMNS, fit_views
from inr_factory.generation.fitting.slots import shuffle_points
from inr_factory.generation.fitting.tally import Tally
from inr_factory.generation.signal_stack import SignalStack
from inr_factory.generation.signals import Signal
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.initialization import initialize
from inr_factory.inr.metrics import psnr_of_mse
from inr_factory.inr.pixel_grid import pixel_grid
from inr_factory.inr.spec import SirenSpec
from inr_factory.storage.manifest import ViewKey

SPEC = SirenSpec(2, 1, hidden_dim=8, output_bias=0.5)
QUICK = FitConfig(learning_rate=3e-3, steps=60, target_psnr=25.0, floor_psnr=5.0, lanes=4)


@pytest.fixture
def quick(engine):
    return QUICK.model_copy(update={"engine": engine})


def waves(count, side=6, channels=1):
    """Smooth images with values in [0, 1], all different."""
    x, y = pixel_grid(side, side).unbind(dim=1)
    angle = torch.arange(count)[:, None, None] * 0.7 + torch.arange(channels)[None, None, :]
    images = 0.5 + 0.4 * torch.sin(2 * (x * torch.cos(angle[..., 0]) + y * torch.sin(angle[..., 0])))[..., None]
    images = images.expand(-1, -1, channels) * torch.linspace(1, 0.6, channels)
    return [Signal(pixel_grid(side, side), image.contiguous()) for image in images]


def keys(count, view=0):
    return [ViewKey(f"object {number}", view) for number in range(count)]


@pytest.mark.parametrize(
    "spec",
    [
        SirenSpec(2, 1, hidden_dim=8, output_bias=0.5),
        SirenSpec(2, 3, hidden_dim=8, num_hidden=3, omega_0=7.0),
        SirenSpec(2, 1, hidden_dim=8, activation="relu", start="linear"),
        SirenSpec(2, 1, hidden_dim=8, omega_0=7.0, first_omega_0=21.0),
        SirenSpec(2, 1, hidden_dim=8, num_hidden=1, omega_0=7.0, first_omega_0=2.0),
    ],
    ids=str,
)
def test_every_engine_makes_the_steps_of_a_plain_pytorch_loop(spec, engine):
    signals = waves(3, channels=spec.out_dim)
    config = FitConfig(engine=engine, learning_rate=2e-3, steps=20, target_psnr=None, floor_psnr=-99)

    fitted = fit_views(spec, keys(3), signals, config, run_seed=5)

    # The first layer learns by its own omega_0, as sin(first_omega_0 (W x + b)).
    first = (spec.in_dim + 1) * spec.hidden_dim
    factor = torch.where(
        torch.arange(spec.num_parameters) < first, (spec.first_omega_0 or spec.omega_0) / spec.omega_0, 1
    )
    for at, (key, signal) in enumerate(zip(keys(3), signals, strict=True)):
        parameter = nn.Parameter(initialize(spec, [key.seed(5)]).flatten() / factor)
        optimizer = torch.optim.Adam([parameter], lr=2e-3)
        for _ in range(20):
            optimizer.zero_grad()
            values = INRBatch.from_flat(spec, parameter * factor)(signal.coords)[0]
            (values - signal.targets).square().mean().backward()
            optimizer.step()
        # Rounding grows along 20 steps; a wrong beta or bias correction is off by far more.
        ended = (parameter * factor).detach()[0]
        torch.testing.assert_close(fitted.inrs.flatten()[at], ended, atol=2e-4, rtol=1e-3)
    assert fitted.steps.tolist() == [20, 20, 20]


@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4, 5, 6], [6, 2, 5, 0], [3, 1], [4]])
def test_an_inr_is_bit_identical_whatever_is_fitted_beside_it(order, quick):
    together = fit_views(SPEC, keys(7), waves(7), quick, run_seed=0)
    signals = waves(7)

    apart = fit_views(SPEC, [keys(7)[i] for i in order], [signals[i] for i in order], quick, run_seed=0)

    assert torch.equal(apart.inrs.flatten(), together.inrs.flatten()[order])
    assert apart.steps.tolist() == together.steps[order].tolist()


@pytest.mark.parametrize("num_slots", [2, 3, 32])
def test_the_number_of_slots_changes_nothing(num_slots, quick):
    few = fit_views(SPEC, keys(5), waves(5), quick, run_seed=0)
    other = fit_views(SPEC, keys(5), waves(5), quick.model_copy(update={"lanes": num_slots}), run_seed=0)
    assert torch.equal(few.inrs.flatten(), other.inrs.flatten())


def test_views_objects_and_run_seeds_start_apart(quick):
    def weights(key, run_seed):
        return fit_views(SPEC, [key], waves(1), quick, run_seed).inrs.flatten()

    first = weights(ViewKey("a", 0), 0)
    assert torch.equal(first, weights(ViewKey("a", 0), 0))
    for other in (weights(ViewKey("a", 1), 0), weights(ViewKey("b", 0), 0), weights(ViewKey("a", 0), 1)):
        assert not torch.equal(first, other)


def test_each_inr_stops_by_itself_at_the_target_and_no_earlier(quick):
    fitted = fit_views(SPEC, keys(6), waves(6), quick, run_seed=0)

    reached = fitted.status == 0
    assert reached.sum() > 0
    assert len(set(fitted.steps.tolist())) > 1, "all stopped together"
    assert (fitted.psnr[reached] >= quick.target_psnr).all()
    assert (fitted.steps[~reached] == quick.steps).all()
    shorter = quick.model_copy(update={"steps": int(fitted.steps[reached].max()) - 1})
    again = fit_views(SPEC, keys(6), waves(6), shorter, run_seed=0)
    assert (again.status == 1).sum() > (~reached).sum(), "the step before was good enough already"


def test_psnr_and_loss_are_those_of_the_stored_weights(quick):
    signals = waves(5)
    fitted = fit_views(SPEC, keys(5), signals, quick, run_seed=0)

    values = fitted.inrs(signals[0].coords)
    mse = (values - torch.stack([signal.targets for signal in signals])).square().mean(dim=(1, 2))

    np.testing.assert_allclose(fitted.loss, mse.numpy(), rtol=1e-4)
    np.testing.assert_allclose(fitted.psnr, psnr_of_mse(mse).numpy(), atol=1e-3)


def test_the_peak_of_a_signal_shifts_its_psnr_and_so_its_stop(quick):
    plain, loud = waves(1)[0], waves(1)[0]
    loud = Signal(loud.coords, loud.targets, peak=10.0)

    fitted = fit_views(SPEC, [ViewKey("a", 0)] * 2, [plain, loud], quick, run_seed=0)

    assert fitted.steps[1] < fitted.steps[0]
    assert fitted.psnr[1] == pytest.approx(10 * np.log10(100 / fitted.loss[1]), abs=1e-3)


def test_sizes_may_differ_between_signals_and_change_nothing_for_the_others(quick):
    mixed = [waves(4, side=6)[0], waves(4, side=5)[1], waves(4, side=6)[2], waves(4, side=5)[3]]

    together = fit_views(SPEC, keys(4), mixed, quick, run_seed=0)

    for at in range(4):
        alone = fit_views(SPEC, [keys(4)[at]], [mixed[at]], quick, run_seed=0)
        assert torch.equal(alone.inrs.flatten()[0], together.inrs.flatten()[at])
    assert [key.object_id for key in together.keys] == [f"object {i}" for i in range(4)]


def test_objects_may_have_points_of_their_own(quick):
    generator = torch.Generator().manual_seed(0)
    clouds = [2 * torch.rand(30, 2, generator=generator) - 1 for _ in range(3)]
    signals = [Signal(cloud, cloud.square().mean(dim=1, keepdim=True)) for cloud in clouds]

    fitted = fit_views(SPEC, keys(3), signals, quick, run_seed=0)

    for at, signal in enumerate(signals):
        mse = (fitted.inrs.select(slice(at, at + 1))(signal.coords)[0] - signal.targets).square().mean()
        assert fitted.loss[at] == pytest.approx(float(mse), rel=1e-4)
    assert fitted.psnr.min() > 20


def test_a_fit_below_the_floor_is_repeated_from_other_initial_values_and_then_fails(quick):
    noise = torch.rand(400, 1, generator=torch.Generator().manual_seed(0))
    signals = [*waves(2, side=20), Signal(pixel_grid(20, 20), noise)]
    config = quick.model_copy(update={"floor_psnr": 20.0})

    fitted = fit_views(SPEC, keys(3), signals, config, run_seed=0)

    (failure,) = fitted.failures
    assert failure.object_id == "object 2"
    assert "below 20 dB in each of 3 attempts" in failure.reason
    assert failure.psnr is not None
    assert failure.psnr < 20
    assert [key.object_id for key in fitted.keys] == ["object 0", "object 1"]
    beside_good = fit_views(SPEC, keys(2), signals[:2], config, run_seed=0)
    assert torch.equal(beside_good.inrs.flatten(), fitted.inrs.flatten()), "the failure touched its neighbours"


def test_the_seed_stored_is_that_of_the_attempt_that_was_good(quick):
    once = quick.model_copy(update={"target_psnr": None, "attempts": 10})
    median = float(np.median(fit_views(SPEC, keys(8), waves(8), once, run_seed=0).psnr))
    config = once.model_copy(update={"floor_psnr": median})

    fitted = fit_views(SPEC, keys(8), waves(8), config, run_seed=0)

    first = {key: key.seed(0) for key in keys(8)}
    again = [(key, seed) for key, seed in zip(fitted.keys, fitted.seeds.tolist(), strict=True) if seed != first[key]]
    assert again, "no fit needed a second attempt: the test shows nothing"
    for key, seed in again:
        assert seed in {key.seed(0, attempt) for attempt in range(1, 10)}


@pytest.mark.parametrize("spoil", [float("nan"), float("inf")])
def test_a_fit_that_diverges_is_given_up_and_its_neighbours_stay_as_they_are(spoil, monkeypatch, quick):
    signals = waves(4)
    healthy = fit_views(SPEC, keys(4), signals, quick, run_seed=0)
    spoilt = Signal(signals[1].coords, signals[1].targets.clone())
    spoilt.targets[3] = spoil  # past the check that Signal makes, as an engine of its own might see it

    fitted = fit_views(SPEC, keys(4), [signals[0], spoilt, *signals[2:]], quick, run_seed=0)

    (failure,) = fitted.failures
    assert "diverged in each of 3 attempts" in failure.reason
    assert failure.psnr is None
    assert torch.equal(fitted.inrs.flatten(), healthy.inrs.flatten()[[0, 2, 3]])


def test_a_learning_rate_that_diverges_is_the_reason_of_the_failure(quick):
    config = quick.model_copy(update={"learning_rate": 1e30, "attempts": 1})
    fitted = fit_views(SPEC, keys(2), waves(2), config, run_seed=0)
    assert len(fitted.failures) == 2
    assert len(fitted.inrs) == 0
    assert "in its only attempt" in fitted.failures[0].reason


@pytest.mark.parametrize("batch_points", [None, 10])
def test_a_stack_of_signals_is_fitted_as_its_signals_are(batch_points, quick):
    config = quick.model_copy(update={"batch_points": batch_points, "floor_psnr": 24.0, "attempts": 2})
    pixels = (torch.stack([signal.targets for signal in waves(6)]) * 255).to(torch.uint8)
    stack = SignalStack(pixel_grid(6, 6), pixels, white=255)

    fitted = fit_views(SPEC, keys(6), stack, config, run_seed=0)

    listed = fit_views(SPEC, keys(6), list(stack), config, run_seed=0)
    assert fitted.keys == listed.keys
    assert fitted.failures == listed.failures
    assert torch.equal(fitted.flat, listed.flat)
    for column in COLUMNS:
        assert getattr(fitted, column).tolist() == getattr(listed, column).tolist()
    with pytest.raises(UsageError, match="maps 2 to 1 values"):
        fit_views(SirenSpec(2, 3), keys(6), stack, config, run_seed=0)
    with pytest.raises(UsageError, match="5 keys and 6 signals"):
        fit_views(SPEC, keys(5), stack, config, run_seed=0)


def test_a_constant_image_is_fitted(quick):
    flat = Signal(pixel_grid(4, 4), torch.full((16, 1), 0.5))
    fitted = fit_views(SPEC, keys(1), [flat], quick, run_seed=0)
    assert fitted.status.tolist() == [0]


def test_one_point_is_fitted(quick):
    dot = Signal(pixel_grid(1, 1), torch.tensor([[0.3]]))
    fitted = fit_views(SPEC, keys(1), [dot], quick, run_seed=0)
    assert fitted.psnr[0] >= 25


def test_no_signal_gives_an_empty_batch(quick):
    fitted = fit_views(SPEC, [], [], quick, run_seed=0)
    assert len(fitted.inrs) == 0
    assert fitted.psnr.shape == (0,)


def test_progress_counts_every_inr_once_and_every_step(quick):
    seen: list[Tally] = []
    fitted = fit_views(SPEC, keys(6), waves(6), quick, run_seed=0, on_progress=seen.append)

    assert all(a.done <= b.done and a.steps <= b.steps for a, b in pairwise(seen))
    assert seen[-1].done == seen[-1].good == 6
    assert seen[-1].steps == fitted.steps.sum()
    assert seen[-1].psnr_sum == pytest.approx(float(fitted.psnr.sum()), rel=1e-5)


def test_signals_of_other_dimensions_are_refused_by_name(quick):
    with pytest.raises(UsageError, match=r"object 1 maps 2 to 3 values"):
        fit_views(SPEC, keys(2), [waves(1)[0], waves(1, channels=3)[0]], quick, run_seed=0)


def cloud(field, count=120, seed=0):
    """A ball in a field of its own, at random points; its truth is not needed here."""
    coords = 2 * torch.rand(count, 3, generator=torch.Generator().manual_seed(seed)) - 1
    distance = coords.norm(dim=1, keepdim=True) - 0.6
    targets = {"sdf": distance, "udf": distance.abs(), "occupancy": (distance < 0).float()}[field]
    return Signal(coords, targets, field=field)


def test_steps_use_every_point_once_per_epoch_in_an_order_that_depends_on_the_seed_only():
    signal = cloud("sdf")
    mixed = shuffle_points(signal, 5)
    assert sorted(mixed.targets.flatten().tolist()) == sorted(signal.targets.flatten().tolist())
    assert not torch.equal(mixed.targets, signal.targets)
    assert torch.equal(mixed.coords.norm(dim=1, keepdim=True) - 0.6, mixed.targets), "points lost their targets"
    assert torch.equal(shuffle_points(signal, 5).targets, mixed.targets)
    assert not torch.equal(shuffle_points(signal, 6).targets, mixed.targets)


@pytest.mark.parametrize("field", ["sdf", "occupancy"])
def test_steps_on_some_points_are_those_of_a_plain_loop_over_the_same_batches(field):
    spec, signal, key = SirenSpec(3, 1, hidden_dim=8, omega_0=7.0), cloud(field), ViewKey("ball", 0)
    config = FitConfig(learning_rate=2e-3, steps=13, target_psnr=None, floor_psnr=-99, batch_points=50)

    fitted = fit_views(spec, [key], [signal], config, run_seed=5)

    mixed = shuffle_points(signal, key.seed(5))
    parameter = nn.Parameter(initialize(spec, [key.seed(5)]).flatten())
    optimizer = torch.optim.Adam([parameter], lr=2e-3)
    for step in range(13):
        some = (torch.arange(50) + 50 * step) % 120
        values = INRBatch.from_flat(spec, parameter)(mixed.coords[some])[0]
        optimizer.zero_grad()
        if field == "occupancy":
            nn.functional.binary_cross_entropy_with_logits(values, mixed.targets[some]).backward()
        else:
            (values - mixed.targets[some]).square().mean().backward()
        optimizer.step()
    torch.testing.assert_close(fitted.inrs.flatten()[0], parameter.detach()[0], atol=2e-4, rtol=1e-3)
    values = fitted.inrs(signal.coords)[0]
    error = ((torch.sigmoid(values) if field == "occupancy" else values) - signal.targets).square().mean()
    assert fitted.loss[0] == pytest.approx(float(error), rel=1e-3), "the loss is not that of all points"


def test_with_points_in_turn_the_target_is_tested_once_around():
    spec, config = (
        SirenSpec(3, 1, hidden_dim=8, omega_0=7.0),
        FitConfig(learning_rate=3e-3, steps=400, target_psnr=20.0, floor_psnr=0, batch_points=50),
    )
    fitted = fit_views(spec, keys(4), [cloud("sdf", seed=n) for n in range(4)], config, run_seed=0)
    assert (fitted.status == 0).any()
    assert all(steps % 3 == 0 for steps in fitted.steps[fitted.status == 0])
    assert (fitted.psnr[fitted.status == 0] >= 20).all()


@pytest.mark.parametrize("engine", ["reference", "auto"])
def test_a_target_may_be_an_error_in_the_unit_of_the_distances(engine):
    spec, signals = SirenSpec(3, 1, hidden_dim=8, omega_0=7.0), [cloud("sdf", seed=n) for n in range(3)]
    config = FitConfig(engine=engine, learning_rate=5e-3, steps=900, target_error=0.05, target_psnr=None, floor_psnr=0)
    fitted = fit_views(spec, keys(3), signals, config, run_seed=0)
    reached = fitted.status == 0
    assert reached.any()
    assert (np.sqrt(fitted.loss[reached]) <= 0.05 * (1 + 1e-6)).all()
    assert (np.sqrt(fitted.loss[reached]) > 0.04).all(), "it went on after the target"


def test_the_engine_that_fits_nothing_gives_the_start_values():
    tallies = []
    config = QUICK.model_copy(update={"engine": "none"})

    fitted = fit_views(SPEC, keys(3), waves(3), config, run_seed=5, on_progress=tallies.append)

    assert fitted.keys == tuple(keys(3))
    assert torch.equal(fitted.inrs.flatten(), initialize(SPEC, [key.seed(5) for key in keys(3)]).flatten())
    assert fitted.steps.tolist() == [0, 0, 0]
    assert tallies == [Tally(3, 3)]


def test_fits_in_several_threads_keep_the_precision_until_the_last_has_ended():
    tf32, before = QUICK.model_copy(update={"tf32": True}), torch.get_float32_matmul_precision()
    first, second = fit_views_module._matmul_precision(tf32), fit_views_module._matmul_precision(tf32)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert torch.get_float32_matmul_precision() == "high"
    second.__exit__(None, None, None)
    assert torch.get_float32_matmul_precision() == before != "high"


def test_a_shared_start_is_one_draw_of_a_view_for_all_objects_and_attempts_differ():
    config = QUICK.model_copy(update={"engine": "none", "starts": "shared"})
    first, second = (fit_views(SPEC, keys(3, view), waves(3), config, 0) for view in (0, 1))

    assert torch.equal(first.flat, first.flat[:1].expand_as(first.flat))
    assert not torch.equal(first.flat, second.flat), "views of one draw are no views"
    own = fit_views(SPEC, keys(3), waves(3), config.model_copy(update={"starts": "independent"}), 0)
    assert len(set(own.seeds.tolist()) | set(first.seeds.tolist())) == 4
    assert torch.equal(first.inrs.flatten(), initialize(SPEC, first.seeds.tolist()).flatten())
    hard = QUICK.model_copy(
        update={"starts": "shared", "target_psnr": 90.0, "floor_psnr": 80.0, "attempts": 2, "steps": 2}
    )
    table = FitTable(SPEC, keys(3), np.ones(3), hard, 0)
    before = table.seeds.copy()
    again = table.stop(np.array([0, 1]), torch.zeros(2, SPEC.num_parameters), [0.5, 0.5], [2, 2])
    assert again.tolist() == [0, 1]
    assert table.seeds[0] == table.seeds[1] != before[0] == table.seeds[2]


@pytest.mark.parametrize("starts", ["independent", "shared"])
def test_inrs_of_one_start_differ_by_their_signals_and_by_an_order_of_their_own(starts, quick):
    """Two objects with one signal become one INR where they share all randomness."""
    signals = [waves(1)[0]] * 2

    def differ(**options):
        fitted = fit_views(
            SPEC, keys(2), signals, quick.model_copy(update={"target_psnr": None, "batch_points": 9, **options}), 0
        )
        return not torch.equal(fitted.flat[0], fitted.flat[1])

    assert differ(starts=starts, order="own")
    assert differ(starts=starts, order="shared") == (starts == "independent")


def test_every_engine_starts_alike_from_a_shared_draw(engine):
    if engine == "reference":
        pytest.skip("is what the others are compared with")
    config = QUICK.model_copy(update={"starts": "shared", "target_psnr": None, "steps": 10, "floor_psnr": -99})
    fitted, expected = (
        fit_views(SPEC, keys(3), waves(3), config.model_copy(update={"engine": name}), 0)
        for name in (engine, "reference")
    )
    assert fitted.seeds.tolist() == expected.seeds.tolist()
    torch.testing.assert_close(fitted.flat, expected.flat, atol=1e-4, rtol=1e-3)
