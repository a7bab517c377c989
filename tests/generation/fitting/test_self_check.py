"""Self-check of engines on a GPU, with the CPU as the GPU and engines that are wrong on purpose as the fused one."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from support.signals import cloud, smooth

from inr_factory.errors import ResourceError
from inr_factory.generation.fit_config import FitConfig
from inr_factory.generation.fitting import engines, fused_cpu, self_check
from inr_factory.generation.fitting.batched import fit_batched
from inr_factory.generation.fitting.engines import engine_name
from inr_factory.generation.fitting.fit_views import fit_views
from inr_factory.generation.fitting.reference import fit_reference
from inr_factory.generation.signal_stack import stack_signals
from inr_factory.generation.signals import Signal
from inr_factory.inr.pixel_grid import pixel_grid
from inr_factory.inr.spec import SirenSpec
from inr_factory.storage.manifest import ViewKey

SPEC, CPU = SirenSpec(2, 1, hidden_dim=8, output_bias=0.5), torch.device("cpu")
SIGNALS = [smooth(pixel_grid(5, 5), shift=number) for number in range(3)]
KEYS = [ViewKey(f"object {number}", 0) for number in range(6)]


@pytest.fixture
def as_gpu(monkeypatch):
    """The CPU counts as a GPU where nothing was fitted yet; a given function is its fused engine. Returns the names of
    the engines that are compared from now on."""
    compared = []

    def compare(engine, *arguments):
        compared.append(engine.__name__)
        return self_check_compare(engine, *arguments)

    self_check_compare = self_check.compare
    monkeypatch.setattr(self_check, "compare", compare)
    monkeypatch.setattr(self_check, "_faults", {})
    monkeypatch.setattr(self_check, "_compared", set())
    monkeypatch.setattr(self_check, "_passed", set())
    monkeypatch.setattr(engines, "CHECKED_DEVICES", ("cpu",))
    engines._log_slow_engine.cache_clear()

    def pretend(engine):
        monkeypatch.setattr(fused_cpu, "fit_fused", engine)
        monkeypatch.setattr(fused_cpu, "obstacle", lambda spec: "")
        return compared

    yield pretend
    engines._log_slow_engine.cache_clear()


class Altered:
    """A table that alters what an engine reports to another."""

    def __init__(self, fits, alter):
        self.fits, self.alter = fits, alter

    def stop(self, rows, flat, losses, steps):
        return self.fits.stop(rows, *self.alter(flat, losses), steps)

    def __getattr__(self, name):
        return getattr(self.fits, name)


def altered(alter, least=1):
    """The reference, which reports something else for batches of at least `least` INRs."""

    def engine(spec, batch, config, device, fits):
        fit_reference(spec, batch, config, device, Altered(fits, alter) if len(batch) >= least else fits)

    return engine


def failing(error, least=1):
    def engine(spec, batch, config, device, fits):
        if len(batch) >= least:
            raise error
        fit_reference(spec, batch, config, device, fits)

    return engine


def half_loss(flat, losses):
    return flat, [loss / 2 for loss in losses]


def fitted(signals=SIGNALS, engine="auto", on_progress=None, **settings):
    config = FitConfig(engine=engine, **{"steps": 8, "learning_rate": 3e-3, "floor_psnr": -99, **settings})
    return fit_views(SPEC, KEYS[: len(signals)], signals, config, 0, on_progress=on_progress)


def test_an_engine_that_passes_is_compared_once_for_each_kind_of_fit(as_gpu, caplog):
    compared = as_gpu(fit_reference)
    for _ in range(2):
        assert torch.equal(fitted().flat, fitted(engine="reference").flat)
    assert compared == ["fit_reference"]
    fitted(batch_points=10)
    fitted(batch_points=10)
    fitted([Signal(signal.coords, signal.targets.round(), field="occupancy") for signal in SIGNALS])
    assert len(compared) == 3
    assert engine_name(FitConfig(), "cpu", SPEC) == "fused"
    assert caplog.messages == []


def test_an_engine_on_a_cpu_is_not_compared(as_gpu, monkeypatch):
    compared = as_gpu(altered(half_loss))
    monkeypatch.setattr(engines, "CHECKED_DEVICES", ("cuda",))
    fitted()
    assert compared == []


FAULTS = {
    "weights": (altered(lambda flat, losses: (flat + 1e-5, losses)), "differ from the reference's by"),
    "one bias": (altered(lambda flat, losses: (torch.cat([flat[:, :-1], flat[:, -1:] + 1e-6], 1), losses)), "differ"),
    "no numbers": (altered(lambda flat, losses: (flat * float("nan"), losses)), "differ from the reference's by nan"),
    "losses": (altered(half_loss), "2 of 2 losses are wrong: it reports"),
    "losses of many": (altered(half_loss, least=3), "losses are wrong: it reports"),
    "weights of many": (altered(lambda flat, losses: (flat * float("nan"), losses), least=3), "losses are wrong"),
    "no C compiler": (failing(RuntimeError("Failed to find C compiler.\nSet CC")), "RuntimeError: Failed to find C comp"),
    "read-only cache": (failing(PermissionError(13, "Permission denied", "/cache")), "PermissionError: [Errno 13]"),
    "a launch": (failing(RuntimeError("out of resource: shared memory"), least=3), "out of resource: shared memory"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_auto_fits_by_the_next_engine_and_says_why_once(fault, as_gpu, caplog):
    engine, reason = FAULTS[fault]
    compared, tallies = as_gpu(engine), []

    fits = fitted(on_progress=tallies.append)

    assert torch.equal(fits.flat, fitted(engine="batched").flat)
    assert fits.engine == engine_name(FitConfig(), "cpu", SPEC) == "batched"
    assert tallies[-1].done == tallies[-1].good == 3
    assert tallies[-1].steps == fits.steps.sum()
    assert [tally.done for tally in tallies] == sorted(tally.done for tally in tallies), "fits were reported twice"
    fitted()
    (line,) = caplog.messages
    assert "the slower batched engine, since the fused one cannot do this: it fails its self-check on cpu" in line
    assert reason in line
    assert compared == ["engine", "fit_batched"]


@pytest.mark.parametrize("fault", FAULTS)
def test_fused_that_fails_is_an_error_of_the_machine(fault, as_gpu, caplog):
    engine, reason = FAULTS[fault]
    compared = as_gpu(engine)
    for _ in range(2):
        with pytest.raises(ResourceError, match=r"fit\.engine fused fails its self-check on cpu") as caught:
            fitted(engine="fused")
        assert reason in str(caught.value)
        assert "\n" not in str(caught.value)
        assert "take fit.engine=auto" in str(caught.value)
        assert caught.value.exit_code == 5
    assert compared == ["engine"]
    assert caplog.messages == []


def test_the_reference_is_left_where_both_engines_fail(as_gpu, monkeypatch):
    as_gpu(altered(half_loss))
    monkeypatch.setattr(engines, "fit_batched", failing(RuntimeError("no graph")))
    assert torch.equal(fitted().flat, fitted(engine="reference").flat)
    assert fitted().engine == engine_name(FitConfig(), "cpu", SPEC) == "reference"


def test_fits_are_never_of_two_engines(as_gpu):
    """The first batch passes, the second, of more points than a step takes, is another kind and fails."""

    def engine(spec, batch, config, device, fits):
        wrong = config.batch_points and config.batch_points < len(batch.signals[0].coords)
        fit_reference(spec, batch, config, device, Altered(fits, half_loss) if wrong else fits)

    signals = [*SIGNALS, *(smooth(cloud(40, 2, number)) for number in range(3))]
    as_gpu(engine)
    tallies = []
    fits = fitted(signals, batch_points=30, on_progress=tallies.append)
    assert torch.equal(fits.flat, fitted(signals, batch_points=30, engine="batched").flat)
    assert tallies[-1].done == 6


def test_threads_of_a_worker_compare_once_and_each_says_what_fitted_it(as_gpu, caplog):
    compared = as_gpu(altered(half_loss, least=3))
    few, many = SIGNALS[:2], SIGNALS
    with ThreadPoolExecutor(4) as threads:
        fits = list(threads.map(fitted, [few, many, few, many]))
    assert compared.count("engine") == compared.count("fit_batched") == 1
    for fit in fits:
        expected = fitted(SIGNALS[: len(fit.keys)], engine="reference" if fit.engine == "fused" else "batched")
        assert torch.equal(fit.flat, expected.flat)
    assert [fit.engine for fit in fits[1::2]] == ["batched", "batched"]
    assert len(set(caplog.messages)) == 1


def test_errors_of_who_watches_the_fit_are_no_faults(as_gpu):
    as_gpu(fit_reference)

    def stop(tally):
        raise KeyError("time is up")

    for _ in range(2):
        with pytest.raises(KeyError, match="time is up"):
            fitted(on_progress=stop)
    assert engine_name(FitConfig(), "cpu", SPEC) == "fused"


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("2 GiB"), RuntimeError("Triton Error [CUDA]: out of memory")])
@pytest.mark.parametrize("least", [1, 3])
def test_a_lack_of_memory_is_no_fault_of_the_engine(error, least, as_gpu):
    as_gpu(failing(error, least))
    with pytest.raises(ResourceError, match="cpu has no memory for the fit"):
        fitted()
    assert engine_name(FitConfig(), "cpu", SPEC) == "fused"


def test_a_lack_of_memory_in_a_later_fit_is_one_line_too(as_gpu):
    as_gpu(failing(torch.OutOfMemoryError("2 GiB"), least=3))
    fitted(SIGNALS[:2])
    with pytest.raises(ResourceError, match="cpu has no memory for the fit \\(2 GiB\\)"):
        fitted()


def test_losses_of_fits_that_diverged_are_not_compared():
    signals = stack_signals(SIGNALS, shared_coords=False)
    flat, peaks = torch.full((3, SPEC.num_parameters), 1e4), np.ones(3)
    assert self_check.compare_losses(SPEC, signals, peaks, flat, [1.5, float("nan"), float("inf")], CPU) == (0, "")
    count, reason = self_check.compare_losses(SPEC, signals, peaks, flat, [1.5, float("nan"), 0.1], CPU)
    assert count == 1
    assert reason


def test_losses_are_compared_in_parts_that_fit_into_memory(monkeypatch):
    monkeypatch.setattr(self_check, "PASS_VALUES", 1)
    fits = fitted(engine="reference")
    signals = stack_signals(SIGNALS, shared_coords=False)
    losses = fits.loss.tolist()
    assert self_check.compare_losses(SPEC, signals, np.ones(3), fits.flat, losses, CPU) == (3, "")
    wrong = [*losses[:2], 1.1 * losses[2]]
    assert "1 of 1 losses are wrong" in self_check.compare_losses(SPEC, signals, np.ones(3), fits.flat, wrong, CPU)[1]


@pytest.mark.parametrize("tf32", [False, True])
@pytest.mark.parametrize(
    ("field", "batches", "shared"), [("values", False, True), ("sdf", True, False), ("occupancy", False, False)]
)
@pytest.mark.parametrize(
    "spec",
    [SPEC, SirenSpec(3, 4, hidden_dim=24, num_hidden=3, omega_0=10.0), SirenSpec(1, 1, hidden_dim=40, num_hidden=1),
     SirenSpec(2, 1, hidden_dim=8, activation="relu", start="linear")],
    ids=str,
)  # fmt: skip
def test_an_engine_of_other_rounding_is_far_below_what_is_accepted(spec, field, batches, shared, tf32):
    settings = FitConfig(tf32=tf32, optimizer="sprint", target_error=0.5, scope=0.1, attempts=3, batch_points=7)
    report = self_check.compare(fit_batched, spec, settings, CPU, field, batches, shared)
    assert report.reason == ""
    assert 0 < report.difference < 0.1 * self_check.EXACT.change
    assert report.tolerance == (5e-2 if tf32 else 1e-3)
