"""Batched engine: the reference's results by a backward pass of its own, whatever is fitted with an INR, and frozen
INRs that stay as they are however seldom the host looks."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from support.signals import cloud, smooth

from inr_factory.errors import UsageError
from inr_factory.generation.fit_config import FitConfig
from inr_factory.generation.fitting import batched
from inr_factory.generation.fitting.engines import engine_name
from inr_factory.generation.fitting.fit_views import fit_views
from inr_factory.generation.fitting.initial_values import initial_weights
from inr_factory.generation.signals import Signal
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.pixel_grid import pixel_grid
from inr_factory.inr.spec import SirenSpec
from inr_factory.storage.manifest import ViewKey

CPU = torch.device("cpu")
RELU = {"activation": "relu", "start": "linear"}
CASES = [
    (SirenSpec(2, 1, hidden_dim=8, output_bias=0.5), smooth(pixel_grid(9, 7))),
    (SirenSpec(2, 3, hidden_dim=33, num_hidden=3, output_bias=0.5), smooth(pixel_grid(13, 11), 3)),
    (SirenSpec(3, 1, hidden_dim=72, num_hidden=1, omega_0=10.0), smooth(cloud(77, 3))),
    (SirenSpec(1, 4, hidden_dim=20, num_hidden=18, omega_0=3.0), smooth(cloud(29, 1), 4)),
    (SirenSpec(66, 2, hidden_dim=9), smooth(cloud(31, 66), 2)),
    (SirenSpec(2, 1, hidden_dim=24, **RELU), smooth(cloud(101, 2))),
    (SirenSpec(3, 2, hidden_dim=17, num_hidden=4, output_bias=0.5, **RELU), smooth(cloud(50, 3), 2)),
    (SirenSpec(2, 1, hidden_dim=1), smooth(cloud(3, 2))),
    (SirenSpec(2, 1, hidden_dim=24, activation="tanh", start="linear"), smooth(cloud(60, 2))),
    (SirenSpec(2, 2, hidden_dim=17, activation="gauss", omega_0=3.0, start="linear"), smooth(cloud(60, 2), 2)),
    (SirenSpec(2, 1, hidden_dim=16, activation="finer", omega_0=4.0), smooth(pixel_grid(9, 7))),
    (SirenSpec(2, 1, widths=(24, 8, 13), output_bias=0.5), smooth(pixel_grid(9, 7))),
    (SirenSpec(2, 1, hidden_dim=20, frequencies=4, **RELU), smooth(pixel_grid(9, 7))),
    (SirenSpec(3, 1, widths=(9, 30), frequencies=2, first_frequency=1.0, coordinates=False), smooth(cloud(77, 3))),
]
NAMES = [f"{spec}, {len(signal.coords)} points" for spec, signal in CASES]
KEYS = [ViewKey(f"object {number}", 0) for number in range(7)]


def fit(spec, signals, engine="batched", keys=KEYS, **settings):
    config = FitConfig(engine=engine, **{"target_psnr": None, "floor_psnr": -999, "attempts": 1, **settings})
    return fit_views(spec, keys[: len(signals)], signals, config, run_seed=1)


def relative(one, other):
    return float((one - other).norm() / other.norm())


@pytest.fixture
def small_tiles(monkeypatch):
    """A step takes its points in tiles of 16, as it does where there are many."""
    monkeypatch.setattr(batched, "MIN_TILE", 16)
    monkeypatch.setitem(batched.TILE_BYTES, "cpu", 0)


@pytest.mark.parametrize("field", ["values", "occupancy"])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"optimizer": "muon"},
        {"optimizer": "muon", "batch_points": 20},
        {"batch_points": 20},
        {"scope": 0.05},
        {"optimizer": "sprint", "learning_rate": 5e-4},
    ],
    ids=str,
)
@pytest.mark.parametrize(("spec", "signal"), CASES, ids=NAMES)
def test_twenty_steps_end_where_those_of_the_reference_end(spec, signal, settings, field):
    if field == "occupancy":
        signal = replace(signal, targets=(signal.targets > signal.targets.median()).float(), field=field)
    config = FitConfig(**settings)
    start = initial_weights(spec, KEYS[0].seed(1), signal, config)
    reference = fit(spec, [signal], "reference", steps=20, **settings).inrs.flatten()[0]

    moved = fit(spec, [signal], steps=20, **settings).inrs.flatten()[0]

    # Muon enlarges what rounding leaves in directions without gradient.
    tolerance = {"sprint": 1e-3, "muon": 0.1}.get(settings.get("optimizer"), 1e-4)
    assert relative(moved - start, reference - start) < tolerance


@pytest.mark.parametrize("field", ["values", "occupancy"])
@pytest.mark.parametrize("tiles", [False, True])
@pytest.mark.parametrize(("spec", "signal"), CASES, ids=NAMES)
def test_the_gradient_is_that_of_autograd(spec, signal, tiles, field, request):
    if tiles:
        request.getfixturevalue("small_tiles")
    signal = replace(signal, field=field)
    config = FitConfig(engine="batched")
    slots = batched.Slots(spec, config, signal, 2, CPU)
    rows = np.arange(2)
    slots.fill(rows, [signal, signal], False, np.array([3, 4]), torch.full((2,), -1.0))
    flat = slots.flat(rows).double().requires_grad_()
    assert len(slots.tiles) == (-(-len(signal.coords) // 16) if tiles else 1)

    with torch.no_grad():
        slots.step()

    values = INRBatch.from_flat(spec, flat)(signal.coords.double())
    targets = signal.targets.double().expand_as(values)
    if field == "occupancy":
        loss = torch.nn.functional.binary_cross_entropy_with_logits(values, targets, reduction="none")
    else:
        loss = (values - targets).square()
    loss.mean(dim=(1, 2)).sum().backward()
    gradient = slots.pieces[0][3][:, slots.columns].double()
    assert relative(gradient, flat.grad) < 3e-5


def test_many_points_in_tiles_are_fitted_as_at_once(small_tiles):
    spec, signal = CASES[5]
    in_tiles = fit(spec, [signal], steps=20)
    assert in_tiles.loss[0] == pytest.approx(fit(spec, [signal], "reference", steps=20).loss[0], rel=1e-4)


@pytest.mark.parametrize("spec", [CASES[0][0], CASES[5][0]], ids=str)
@pytest.mark.parametrize("settings", [{}, {"batch_points": 20}, {"scope": 0.01}], ids=str)
@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4, 5, 6], [6, 2, 5, 0], [4], [1, 1, 1]])
def test_an_inr_is_bit_identical_alone_together_and_in_any_order(spec, settings, order):
    signals = [smooth(pixel_grid(7, 9), shift=number) for number in range(5)]
    signals += [smooth(cloud(63, 2, number), shift=number) for number in range(2)]
    settings = {"learning_rate": 3e-3, "steps": 60, "target_psnr": 18.0, **settings}
    together = fit(spec, signals, **settings)

    apart = fit(spec, [signals[at] for at in order], keys=[KEYS[at] for at in order], **settings)

    assert torch.equal(apart.inrs.flatten(), together.inrs.flatten()[order])
    assert apart.steps.tolist() == together.steps[order].tolist()


@pytest.mark.parametrize("lanes", [2, 3, 5])
def test_lanes_limit_the_inrs_side_by_side_unless_they_are_the_default(lanes):
    spec, signal = CASES[0]
    default = batched.num_slots(spec, FitConfig(), signal, CPU)
    assert default == batched.MAX_SLOTS["cpu"] != FitConfig().lanes
    assert batched.num_slots(spec, FitConfig(lanes=lanes), signal, CPU) == lanes
    wide = SirenSpec(2, 1, hidden_dim=700)
    assert batched.num_slots(wide, FitConfig(lanes=lanes), signal, CPU) == 1


@pytest.mark.parametrize("settings", [{}, {"batch_points": 20}, {"steps": 37, "target_psnr": 90.0}], ids=str)
@pytest.mark.parametrize("look", [1, 10, 25])
def test_frozen_inrs_stay_as_they_were_until_the_host_looks(look, settings, monkeypatch):
    """On a GPU the host does not look after every step: here `run` is that of a GPU."""
    spec, signals = CASES[0][0], [smooth(pixel_grid(9, 7), shift=number) for number in range(7)]
    settings = {"learning_rate": 3e-3, "steps": 100, "target_psnr": 20.0, "lanes": 3, **settings}
    every_step = fit(spec, signals, **settings)
    monkeypatch.setattr(batched, "LOOK", look)
    make = batched.Slots.__init__

    def on_gpu(slots, *arguments):
        make(slots, *arguments)
        slots.looks = False

    monkeypatch.setattr(batched.Slots, "__init__", on_gpu)

    seldom = fit(spec, signals, **settings)

    assert torch.equal(seldom.inrs.flatten(), every_step.inrs.flatten())
    for column in ("steps", "loss", "status"):
        assert getattr(seldom, column).tolist() == getattr(every_step, column).tolist()
    if settings["target_psnr"] == 20:
        assert len(set(every_step.steps.tolist())) > 1, "all stopped together"


@pytest.mark.parametrize("batch_points", [None, 20])
@pytest.mark.parametrize("target_psnr", [14.0, 18.0, 24.0])
@pytest.mark.parametrize(("spec", "signal"), [CASES[0], CASES[5]], ids=[NAMES[0], NAMES[5]])
def test_a_fit_stops_where_the_reference_stops(spec, signal, target_psnr, batch_points):
    settings = {"learning_rate": 2e-3, "steps": 300, "target_psnr": target_psnr, "batch_points": batch_points}
    reference, moved = fit(spec, [signal], "reference", **settings), fit(spec, [signal], **settings)
    assert moved.steps.tolist() == reference.steps.tolist()
    assert moved.psnr[0] == pytest.approx(reference.psnr[0], abs=0.01)


def test_a_gpu_takes_the_gradient_of_the_biases_apart_to_the_same_result(monkeypatch):
    for spec, signal in CASES[1], CASES[6]:
        config, rows = FitConfig(engine="batched", steps=20, target_psnr=None), np.arange(2)
        ends = []
        for own_bias in (False, True):
            monkeypatch.setattr(batched, "OWN_BIAS", {"cpu": own_bias})
            slots = batched.Slots(spec, config, signal, 2, CPU)
            slots.fill(rows, [signal, signal], False, np.array([3, 4]), torch.full((2,), -1.0))
            with torch.no_grad():
                for _ in range(20):
                    slots.step()
            ends.append(slots.flat(rows))
        assert relative(ends[1], ends[0]) < 1e-5


def test_progress_comes_at_least_every_tenth_step():
    tallies = []
    spec, signal = CASES[0]
    config = FitConfig(engine="batched", steps=95, target_psnr=None, floor_psnr=-99)
    fit_views(spec, KEYS[:3], [signal] * 3, config, run_seed=0, on_progress=tallies.append)
    steps = [tally.steps for tally in tallies]
    assert max(np.diff([0, *steps])) <= 30
    assert steps[-1] == 3 * 95


def test_other_devices_are_refused_by_name():
    with pytest.raises(UsageError, match="not on mps"):
        engine_name(FitConfig(engine="batched"), "mps", CASES[0][0])
    assert engine_name(FitConfig(), "mps", CASES[0][0]) == "reference"


def test_more_than_the_fused_engine_takes_is_fitted():
    spec = SirenSpec(2, 1, hidden_dim=600, output_bias=0.5)
    signal = Signal(pixel_grid(6, 6), torch.rand(36, 1, generator=torch.Generator().manual_seed(0)))
    assert engine_name(FitConfig(), "cpu", spec) == "batched"
    fitted = fit(spec, [signal], "auto", steps=150, target_psnr=30.0)
    assert fitted.status.tolist() == [0]
