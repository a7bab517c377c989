"""Fused engine: the reference's results, from compiled code, whatever is fitted with an INR."""

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from support.signals import cloud, smooth

from inr_factory.errors import UsageError
from inr_factory.generation.fit_config import FitConfig
from inr_factory.generation.fitting import engines, fused_cpu
from inr_factory.generation.fitting.engines import engine_name
from inr_factory.generation.fitting.fit_views import fit_views
from inr_factory.generation.fitting.fused_cpu import grid_shape, run_steps, sincospi, variants
from inr_factory.generation.fitting.initial_values import initial_weights
from inr_factory.generation.fitting.optimizers import AdamSettings, adam_settings
from inr_factory.generation.signals import Signal
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.compiled_library import COMPILE
from inr_factory.inr.pixel_grid import pixel_grid
from inr_factory.inr.spec import SirenSpec
from inr_factory.storage.manifest import ViewKey

SINE = SirenSpec(2, 1, hidden_dim=8, output_bias=0.5)
built = pytest.mark.skipif(not fused_cpu.available(), reason=f"no fused engine: {fused_cpu.obstacle(SINE)}")
# spec, signal: grey and RGB images, clouds, odd numbers of points, widths that fill vectors and that do not, one hidden
# layer, more coordinates and values than the unrolled loops take, more points than one tile.
CASES = [
    (SirenSpec(2, 1, hidden_dim=8, output_bias=0.5), smooth(pixel_grid(9, 7))),
    (SirenSpec(2, 1, hidden_dim=32, output_bias=0.5), smooth(pixel_grid(28, 28))),
    (SirenSpec(2, 1, hidden_dim=32, omega_0=7.0), smooth(cloud(101, 2))),
    (SirenSpec(2, 3, hidden_dim=33, num_hidden=3, output_bias=0.5), smooth(pixel_grid(13, 11), 3)),
    (SirenSpec(2, 3, hidden_dim=64, omega_0=15.0), smooth(pixel_grid(16, 16), 3)),
    (SirenSpec(3, 1, hidden_dim=32), smooth(cloud(333, 3))),
    (SirenSpec(3, 1, hidden_dim=64, num_hidden=3, omega_0=10.0), smooth(cloud(77, 3))),
    (SirenSpec(3, 8, hidden_dim=16, num_hidden=1), smooth(cloud(50, 3), 8)),
    (SirenSpec(1, 4, hidden_dim=40, num_hidden=4, omega_0=5.0), smooth(cloud(29, 1), 4)),
    (SirenSpec(4, 2, hidden_dim=17, num_hidden=16, omega_0=3.0), smooth(cloud(65, 4), 2)),
    (SirenSpec(7, 5, hidden_dim=9, num_hidden=2), smooth(cloud(31, 7), 5)),
    (SirenSpec(7, 5, hidden_dim=9, num_hidden=1), smooth(cloud(31, 7), 5)),
    (SirenSpec(2, 1, hidden_dim=1, num_hidden=2), smooth(cloud(3, 2))),
    (SirenSpec(2, 3, widths=(24, 8, 13), output_bias=0.5), smooth(pixel_grid(9, 7), 3)),
    (SirenSpec(1, 1, widths=(5, 40)), smooth(cloud(29, 1))),
    (SirenSpec(2, 1, hidden_dim=24, output_bias=0.5, activation="relu", start="linear"), smooth(pixel_grid(9, 7))),
    (SirenSpec(2, 3, widths=(20, 9), activation="relu", frequencies=10, start="linear"), smooth(pixel_grid(9, 7), 3)),
    (SirenSpec(3, 1, hidden_dim=16, frequencies=2, coordinates=False, first_frequency=1.0), smooth(cloud(50, 3))),
]
NAMES = [f"{spec}, {len(signal.coords)} points" for spec, signal in CASES]


def weights_of(engine, spec, signal, **settings):
    config = FitConfig(engine=engine, **{"target_psnr": None, "floor_psnr": -99, "attempts": 1, **settings})
    fitted = fit_views(spec, [ViewKey("a", 0)], [signal], config, run_seed=1)
    return fitted.inrs.flatten()[0], float(fitted.psnr[0])


def relative(fused, other):
    return float((fused - other).norm() / other.norm())


@built
@pytest.mark.parametrize(("spec", "signal"), CASES, ids=NAMES)
def test_twenty_steps_end_where_those_of_the_reference_end(spec, signal):
    start = initial_weights(spec, ViewKey("a", 0).seed(1), signal, FitConfig())
    reference, _ = weights_of("reference", spec, signal, steps=20)

    fused, _ = weights_of("fused", spec, signal, steps=20)

    assert relative(fused, reference) < 1e-4
    assert relative(fused - start, reference - start) < 1e-4, "the weights agree, the way that they went does not"


@built
@pytest.mark.parametrize("batch_points", [None, 2])
@pytest.mark.parametrize("field", ["values", "occupancy"])
@pytest.mark.parametrize(("spec", "signal"), CASES, ids=NAMES)
def test_the_gradient_is_that_of_autograd(spec, signal, field, batch_points, monkeypatch):
    """Adam hides the size of a gradient. With an epsilon of 1 and a rate of 1 its first step is -g / (|g| + 1)."""
    monkeypatch.setattr(fused_cpu, "EPSILON", 1.0)
    signal = replace(signal, field=field)
    start = initial_weights(spec, 3, signal, FitConfig())
    plan = AdamSettings((0.9, 0.999), torch.ones(1, dtype=torch.float64))
    moved, _, _ = run_steps(spec, signal, start, plan, -1, grid_shape(signal.coords), batch_points)
    step = (start - moved).double()

    exact = start.double().requires_grad_()
    some = slice(batch_points)
    values = INRBatch.from_flat(spec, exact[None])(signal.coords[some].double())[0]
    targets = signal.targets[some].double()
    if field == "occupancy":
        torch.nn.functional.binary_cross_entropy_with_logits(values, targets).backward()
    else:
        (values - targets).square().mean().backward()
    assert relative(step / (1 - step.abs()), exact.grad) < 3e-5


@built
@pytest.mark.parametrize("batch_points", [1, 16, 30, 63, 64, 200])
def test_batches_take_the_points_that_the_reference_takes(batch_points):
    spec, signal = CASES[0]
    reference, _ = weights_of("reference", spec, signal, steps=20, batch_points=batch_points)
    fused, _ = weights_of("fused", spec, signal, steps=20, batch_points=batch_points)
    complete, _ = weights_of("fused", spec, signal, steps=20)
    assert relative(fused, reference) < 1e-4
    assert torch.equal(fused, complete) == (batch_points >= 63)


@built
@pytest.mark.parametrize("target_psnr", [14.0, 18.0, 24.0])
@pytest.mark.parametrize(("optimizer", "epochs"), [("adam", 1), ("muon", 4)])
def test_batches_stop_after_an_epoch_where_the_reference_stops(target_psnr, optimizer, epochs):
    spec, signal = CASES[0]
    ends = {}
    for engine in ("reference", "fused", "batched"):
        config = FitConfig(
            engine=engine,
            learning_rate=2e-3,
            batch_points=20,
            target_psnr=target_psnr,
            floor_psnr=-99,
            optimizer=optimizer,
        )
        ends[engine] = fit_views(spec, [ViewKey("a", 0)], [signal], config, run_seed=1)
    for engine in ("fused", "batched"):
        assert ends[engine].steps.tolist() == ends["reference"].steps.tolist()
        assert ends[engine].steps[0] % (4 * epochs) == 0
        assert ends[engine].psnr[0] == pytest.approx(ends["reference"].psnr[0], abs=0.01)


@built
@pytest.mark.parametrize("batch_points", [None, 50])
@pytest.mark.parametrize("optimizer", ["adam", "sprint", "muon"])
def test_occupancies_are_fitted_by_cross_entropy_as_in_the_reference(batch_points, optimizer):
    coords = cloud(210, 3)
    signal = Signal(coords, (coords.norm(dim=1, keepdim=True) < 0.8).float(), field="occupancy")
    spec, settings = SirenSpec(3, 1, hidden_dim=24, omega_0=8.0), {"optimizer": optimizer, "batch_points": batch_points}
    reference, psnr = weights_of("reference", spec, signal, steps=20, **settings)
    fused, fused_psnr = weights_of("fused", spec, signal, steps=20, **settings)
    assert relative(fused, reference) < (1e-4 if optimizer == "adam" else 1e-3)
    assert fused_psnr == pytest.approx(psnr, abs=0.01)
    plain, _ = weights_of("fused", spec, replace(signal, field="values"), steps=20, **settings)
    assert relative(plain, reference) > 1e-3


@built
@pytest.mark.parametrize("optimizer", ["adam", "sprint", "muon"])
@pytest.mark.parametrize(("spec", "signal"), CASES[:7], ids=NAMES[:7])
def test_a_full_run_is_as_good_as_the_reference(spec, signal, optimizer):
    pace = {"steps": 60, "learning_rate": 2e-3} if optimizer == "adam" else {"steps": 40, "learning_rate": 4e-3}
    _, reference = weights_of("reference", spec, signal, optimizer=optimizer, **pace)
    _, fused = weights_of("fused", spec, signal, optimizer=optimizer, **pace)
    assert fused == pytest.approx(reference, abs=1.0 if optimizer == "muon" else 0.2)


@built
@pytest.mark.parametrize(("spec", "signal"), CASES, ids=NAMES)
def test_every_vector_width_of_this_machine_gives_the_same(spec, signal):
    config = FitConfig(steps=20)
    start = initial_weights(spec, 3, signal, config)
    ends = {
        name: run_steps(spec, signal, start, adam_settings(config), -1, grid_shape(signal.coords), variant=name)
        for name in variants()
    }
    best, best_loss, _ = ends[variants()[0]]
    for name, (flat, loss, steps) in ends.items():
        assert steps == 20
        if name == "baseline":  # on x86 it has no fused multiply-add
            assert relative(flat, best) < 1e-5
            assert loss == pytest.approx(best_loss, rel=1e-3)
        else:
            assert torch.equal(flat, best)


@built
def test_a_grid_is_fitted_as_its_points_are():
    spec, signal = CASES[1]
    config = FitConfig(steps=20)
    start, plan = initial_weights(spec, 3, signal, config), adam_settings(config)
    as_grid, _, _ = run_steps(spec, signal, start, plan, -1, (28, 28))
    as_points, _, _ = run_steps(spec, signal, start, plan, -1)
    assert not torch.equal(as_grid, as_points), "the grid was not used"
    assert relative(as_grid, as_points) < 1e-5


def test_only_product_grids_are_recognised():
    assert grid_shape(pixel_grid(5, 8)) == (5, 8)
    assert grid_shape(pixel_grid(1, 8)) == grid_shape(pixel_grid(8, 1)) == (0, 0)
    assert grid_shape(pixel_grid(5, 8)[:-1]) == (0, 0)
    assert grid_shape(pixel_grid(5, 8).flip(1)) == (0, 0)
    assert grid_shape(cloud(64, 2)) == grid_shape(cloud(64, 3)) == (0, 0)
    bent = pixel_grid(5, 8).clone()
    bent[11, 0] += 0.1
    assert grid_shape(bent) == (0, 0)


@built
@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4], [4, 2, 0], [3], [1, 1, 1]])
def test_an_inr_is_bit_identical_alone_together_and_in_any_order(order):
    signals = [smooth(pixel_grid(6, 6), shift=number) for number in range(3)]
    signals += [smooth(cloud(36, 2, number), shift=number) for number in range(2)]
    keys = [ViewKey(f"object {number}", 0) for number in range(5)]
    config = FitConfig(engine="fused", learning_rate=3e-3, steps=50, target_psnr=30, floor_psnr=-99)
    together = fit_views(SINE, keys, signals, config, run_seed=0)

    apart = fit_views(SINE, [keys[at] for at in order], [signals[at] for at in order], config, run_seed=0)

    assert torch.equal(apart.inrs.flatten(), together.inrs.flatten()[order])
    assert apart.steps.tolist() == together.steps[order].tolist()


@built
def test_threads_do_not_disturb_each_other():
    spec, signal = CASES[1]
    config = FitConfig(steps=50)
    starts = [initial_weights(spec, seed, signal, config) for seed in range(8)]

    def end(start):
        return run_steps(spec, signal, start, adam_settings(config), -1, (28, 28))[0]

    with ThreadPoolExecutor(4) as pool:
        assert all(torch.equal(a, b) for a, b in zip(map(end, starts), pool.map(end, starts), strict=True))


@built
def test_the_start_values_and_the_signal_stay_as_they_are():
    spec, signal = CASES[1]
    start = initial_weights(spec, 3, signal, FitConfig())
    before = [part.clone() for part in (start, signal.coords, signal.targets)]
    run_steps(spec, signal, start, adam_settings(FitConfig(steps=5)), -1)
    for part, old in zip((start, signal.coords, signal.targets), before, strict=True):
        assert torch.equal(part, old)


@built
def test_a_fit_stops_before_the_first_update_that_it_does_not_need():
    spec, signal = CASES[1]
    plan = adam_settings(FitConfig(steps=80, learning_rate=1e-3))
    start = initial_weights(spec, 3, signal, FitConfig())
    losses = []
    for steps in range(40):
        shorter = replace(plan, rates=plan.rates[:steps])
        flat, loss, made = run_steps(spec, signal, start, shorter, -1)
        assert made == steps
        mse = (INRBatch.from_flat(spec, flat[None])(signal.coords)[0] - signal.targets).square().mean()
        assert loss == pytest.approx(float(mse), rel=1e-4), "the loss is that of other weights"
        losses.append(loss)
    assert torch.equal(run_steps(spec, signal, start, replace(plan, rates=plan.rates[:0]), -1)[0], start)

    for stop in (losses[0], losses[7], losses[30], losses[30] * 1.0001):
        due = next(step for step, loss in enumerate(losses) if loss <= stop)
        _, loss, made = run_steps(spec, signal, start, plan, stop)
        assert (made, loss) == (due, losses[due])


@built
@pytest.mark.parametrize("spoil", [float("nan"), float("inf"), 1e30])
def test_a_fit_that_diverges_ends_at_once_and_changes_no_other(spoil):
    signals = [smooth(pixel_grid(6, 6), shift=number) for number in range(3)]
    keys = [ViewKey(f"object {number}", 0) for number in range(3)]
    config = FitConfig(engine="fused", learning_rate=3e-3, steps=50, floor_psnr=-99, attempts=2)
    healthy = fit_views(SINE, keys, signals, config, run_seed=0)
    spoilt = smooth(pixel_grid(6, 6))
    spoilt.targets[3] = spoil
    updates = []

    fitted = fit_views(
        SINE,
        [keys[0], ViewKey("spoilt", 0), *keys[1:]],
        [signals[0], spoilt, *signals[1:]],
        config,
        run_seed=0,
        on_progress=updates.append,
    )

    (failure,) = fitted.failures
    assert failure.object_id == "spoilt"
    assert "diverged in each of 2 attempts" in failure.reason
    assert torch.equal(fitted.inrs.flatten(), healthy.inrs.flatten())
    assert updates[-1].steps == fitted.steps.sum(), "it went on after its loss was lost"


@built
@pytest.mark.parametrize("name", variants())
def test_sine_and_cosine_are_good_to_float32_over_a_wide_range(name):
    generator = np.random.default_rng(0)
    z = np.concatenate([generator.uniform(-size, size, 16_000) for size in (0.5, 3, 100, 1e4)]).astype(np.float32)
    exact = z.astype(np.float64)
    turns = exact - 2 * np.round(exact / 2)  # exact, as z has 24 bits

    sine, cosine = sincospi(z, name)

    np.testing.assert_allclose(sine, np.sin(np.pi * turns), atol=2.5e-7, rtol=0)
    np.testing.assert_allclose(cosine, np.cos(np.pi * turns), atol=2.5e-7, rtol=0)


@built
@pytest.mark.parametrize("name", variants())
def test_range_reduction_loses_nothing(name):
    fraction = (np.arange(-255, 256, 2, dtype=np.float32) / 512)[
        None
    ]  # never a half, where rounding could go both ways
    integers = np.array([0, 1, -1, 2, 7, -10, 999, -1000, 4096, 10_000, -10_001], dtype=np.float32)[:, None]
    z = integers + fraction
    assert np.array_equal(z.astype(np.float64), integers.astype(np.float64) + fraction.astype(np.float64))

    sine, cosine = (part.reshape(z.shape) for part in sincospi(z.reshape(-1), name))

    sign = np.where(integers % 2 == 0, 1, -1)
    assert np.array_equal(sine * sign, np.broadcast_to(sine[0], z.shape))
    assert np.array_equal(cosine * sign, np.broadcast_to(cosine[0], z.shape))
    at_integers = sincospi(np.resize(integers.reshape(-1), 16), name)
    assert (at_integers[0] == 0).all()
    assert (abs(at_integers[1]) == 1).all()


@built
@pytest.mark.parametrize("name", variants())
def test_what_overflows_is_not_taken_for_a_number(name):
    z = np.full(16, np.float32("inf"))
    assert np.isnan(sincospi(z, name)[0]).all()
    assert np.isnan(sincospi(np.full_like(z, np.nan), name)[1]).all()


@built
def test_one_point_and_a_constant_image_are_fitted():
    config = FitConfig(engine="fused", learning_rate=3e-3, steps=100, target_psnr=25.0)
    for side in (1, 5):
        flat = Signal(pixel_grid(side, side), torch.full((side * side, 1), 0.3))
        assert fit_views(SINE, [ViewKey("a", 0)], [flat], config, run_seed=0).status.tolist() == [0]


@built
def test_auto_takes_the_fused_engine_where_it_can():
    assert engine_name(FitConfig(), "cpu", SINE) == engine_name(FitConfig(engine="fused"), "cpu", SINE) == "fused"
    assert engine_name(FitConfig(engine="reference"), "cpu", SINE) == "reference"


UNSUPPORTED = [
    (SirenSpec(2, 1, hidden_dim=8, activation="tanh", start="linear"), "cpu", "not 2-8-8-1, tanh"),
    (SirenSpec(2, 1, frequencies=17), "cpu", "17 frequencies"),
    (SirenSpec(2, 1, hidden_dim=513), "cpu", "up to 512 neurons"),
    (SirenSpec(2, 1, num_hidden=17), "cpu", "up to 16 hidden layers"),
    (SirenSpec(65, 1), "cpu", "64 coordinates"),
    (SINE, "mps", "not on mps"),
]


@built
@pytest.mark.parametrize(("spec", "device", "reason"), UNSUPPORTED, ids=lambda part: str(part))
def test_what_the_fused_engine_cannot_fit_is_refused_or_left_to_the_next(spec, device, reason):
    with pytest.raises(UsageError, match=reason):
        engine_name(FitConfig(engine="fused"), device, spec)
    assert engine_name(FitConfig(), device, spec) == ("batched" if device == "cpu" else "reference")


def test_the_fallback_is_logged_once(caplog, monkeypatch):
    engines._log_slow_engine.cache_clear()
    monkeypatch.setattr(fused_cpu, "obstacle", lambda spec: "there is no compiler")
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert engine_name(FitConfig(), "cpu", SINE) == "batched"
    (line,) = caplog.messages
    assert "there is no compiler" in line
    with pytest.raises(UsageError, match="there is no compiler"):
        engine_name(FitConfig(engine="fused"), "cpu", SINE)


@pytest.fixture
def fresh_library():
    """The library is loaded again in the test and after it."""
    fused_cpu._library.cache_clear()
    yield
    fused_cpu._library.cache_clear()


def test_without_the_library_another_engine_does_the_work(fresh_library, monkeypatch, tmp_path):
    monkeypatch.setattr(fused_cpu, "LIBRARY", tmp_path / "_fused.so")
    assert not fused_cpu.available()
    assert "this install has no C code" in fused_cpu.obstacle(SINE)
    assert fused_cpu.obstacle(SINE).endswith(COMPILE)
    fitted = fit_views(SINE, [ViewKey("a", 0)], [smooth(pixel_grid(4, 4))], FitConfig(steps=3, floor_psnr=-99), 0)
    assert len(fitted.inrs) == 1


def test_a_broken_library_is_not_used(fresh_library, monkeypatch, tmp_path):
    (tmp_path / "_fused.so").write_bytes(b"not a library")
    monkeypatch.setattr(fused_cpu, "LIBRARY", tmp_path / "_fused.so")
    assert "cannot be loaded" in fused_cpu.obstacle(SINE)


@built
def test_a_library_of_another_source_is_not_used(fresh_library, monkeypatch, tmp_path):
    (tmp_path / "fused.c").write_bytes(fused_cpu.SOURCE.read_bytes() + b"/* changed */")
    monkeypatch.setattr(fused_cpu, "SOURCE", tmp_path / "fused.c")
    assert "from another fused.c" in fused_cpu.obstacle(SINE)
