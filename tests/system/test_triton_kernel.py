"""Fused engine on a GPU: its kernel run by Triton's interpreter on the CPU, and compiled for an H100 without one."""

import importlib.util
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support.signals import cloud, smooth

from inr_factory.generation.fit_config import FitConfig
from inr_factory.generation.fitting import fused_cpu, fused_cuda
from inr_factory.generation.fitting.fit_table import FitBatch, FitTable
from inr_factory.generation.fitting.fit_views import fit_views
from inr_factory.generation.fitting.initial_values import initial_weights
from inr_factory.generation.fitting.optimizers import AdamSettings
from inr_factory.generation.signals import Signal
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.pixel_grid import pixel_grid
from inr_factory.inr.spec import SirenSpec
from inr_factory.storage.manifest import ViewKey

SINE = SirenSpec(2, 1, hidden_dim=8, output_bias=0.5)
KERNEL = Path(fused_cuda.__file__).with_name("fused_triton.py")
has_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="triton is not installed (it is for Linux only)"
)


@pytest.fixture(scope="module")
def kernel():
    """fused_triton.py bound to Triton's interpreter, under another name, so that who imports it gets the compiled one."""
    import triton.language.standard  # before the variable is set, so that triton's own functions stay as they are

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        module_spec = importlib.util.spec_from_file_location("fused_triton_interpreted", KERNEL)
        module = importlib.util.module_from_spec(module_spec)
        module_spec.loader.exec_module(module)
    module.add = triton.language.standard._sum_combine  # which the interpreter knows as numpy's sum: much quicker
    return module


@pytest.fixture
def on_cpu(kernel, monkeypatch):
    """`fit_views` takes the CUDA engine where it would take the C one, with the interpreter as its GPU."""
    monkeypatch.setattr(fused_cuda, "fused_triton", lambda: kernel)
    monkeypatch.setattr(fused_cpu, "fit_fused", fused_cuda.fit_fused)
    monkeypatch.setattr(fused_cpu, "obstacle", fused_cuda._beyond)


# spec, signal: grey and RGB images, clouds; one to three hidden layers; widths that fill their padding and that do not;
# all tile sizes, complete and partial; as many coordinates and values as there may be.
CASES = [
    (SirenSpec(2, 1, hidden_dim=8, output_bias=0.5), smooth(pixel_grid(9, 7))),
    (SirenSpec(2, 1, hidden_dim=32, output_bias=0.5), smooth(pixel_grid(8, 8))),
    (SirenSpec(2, 1, widths=(8, 20, 12)), smooth(pixel_grid(6, 5))),
    (SirenSpec(2, 3, hidden_dim=20, num_hidden=3, omega_0=7.0, output_bias=0.5), smooth(pixel_grid(7, 5), 3)),
    (SirenSpec(3, 1, hidden_dim=33), smooth(cloud(50, 3))),
    (SirenSpec(3, 1, hidden_dim=64, num_hidden=3, omega_0=10.0), smooth(cloud(33, 3))),
    (SirenSpec(1, 4, hidden_dim=16, num_hidden=1), smooth(cloud(29, 1), 4)),
    (SirenSpec(15, 16, hidden_dim=5, num_hidden=2, omega_0=5.0), smooth(cloud(20, 15), 16)),
    # Four inputs are multiplied one by one, five by a matrix product; with one hidden layer there is no other.
    (SirenSpec(4, 2, hidden_dim=12, omega_0=6.0), smooth(cloud(37, 4), 2)),
    (SirenSpec(5, 1, hidden_dim=17, omega_0=6.0), smooth(cloud(18, 5))),
    (SirenSpec(1, 1, hidden_dim=9, num_hidden=1), smooth(cloud(21, 1))),
]
NAMES = [f"{spec}, {len(signal.coords)} points" for spec, signal in CASES]


def end_of(engine, spec, signal, **settings):
    """Weights, PSNR and updates."""
    config = FitConfig(engine=engine, **{"target_psnr": None, "floor_psnr": -99, "attempts": 1, **settings})
    fitted = fit_views(spec, [ViewKey("a", 0)], [signal], config, run_seed=1)
    return fitted.inrs.flatten()[0], float(fitted.psnr[0]), int(fitted.steps[0])


def relative(fused, other):
    return float((fused - other).norm() / other.norm())


@has_triton
@pytest.mark.parametrize(
    ("spec", "signal"),
    [*CASES, (SirenSpec(2, 1, hidden_dim=9, omega_0=7.0, first_omega_0=21.0), smooth(cloud(40, 2)))],
    ids=[*NAMES, "another omega_0 of the first layer"],
)
def test_twenty_steps_end_where_those_of_the_reference_end(spec, signal, on_cpu):
    start = initial_weights(spec, ViewKey("a", 0).seed(1), signal, FitConfig())
    reference, _, _ = end_of("reference", spec, signal, steps=20)

    fused, _, steps = end_of("fused", spec, signal, steps=20)

    assert steps == 20
    assert relative(fused, reference) < 1e-4
    assert relative(fused - start, reference - start) < 1e-4, "the weights agree, the way that they went does not"


@has_triton
@pytest.mark.parametrize(("field", "batch_points"), [("values", None), ("occupancy", 2)])
@pytest.mark.parametrize(("spec", "signal"), CASES, ids=NAMES)
def test_the_gradient_is_that_of_autograd(spec, signal, field, batch_points, on_cpu, monkeypatch):
    """Adam hides the size of a gradient. With an epsilon of 1 and a rate of 1 its first step is -g / (|g| + 1)."""
    monkeypatch.setattr(fused_cuda, "EPSILON", 1.0)
    start = initial_weights(spec, 3, signal, FitConfig())
    plan = AdamSettings((0.9, 0.999), torch.ones(1, dtype=torch.float64))
    ended = fused_cuda.run_steps(
        spec, signal.coords, signal.targets[None], start[None].clone(), plan, torch.tensor([-1.0]), field, batch_points
    )
    step = (start - ended.flat[0]).double()

    exact = start.double().requires_grad_()
    some = slice(batch_points)
    values = INRBatch.from_flat(spec, exact[None])(signal.coords[some].double())[0]
    targets = signal.targets[some].double()
    if field == "occupancy":
        torch.nn.functional.binary_cross_entropy_with_logits(values, targets).backward()
    else:
        (values - targets).square().mean().backward()
    assert relative(step / (1 - step.abs()), exact.grad) < 3e-5


@has_triton
@pytest.mark.parametrize("optimizer", ["adam", "sprint"])
@pytest.mark.parametrize(("spec", "signal"), CASES[1:3], ids=NAMES[1:3])
def test_a_full_run_is_as_good_as_the_reference(spec, signal, optimizer, on_cpu):
    pace = {"steps": 30, "learning_rate": 4e-3} if optimizer == "adam" else {"steps": 25, "learning_rate": 4e-3}
    _, reference, _ = end_of("reference", spec, signal, optimizer=optimizer, **pace)
    _, fused, _ = end_of("fused", spec, signal, optimizer=optimizer, **pace)
    assert fused == pytest.approx(reference, abs=0.2)


@has_triton
@pytest.mark.parametrize("batch_points", [1, 20, 62, 200])
def test_batches_take_the_points_that_the_reference_takes(batch_points, on_cpu):
    spec, signal = CASES[0]
    reference, _, _ = end_of("reference", spec, signal, steps=20, batch_points=batch_points)
    fused, _, _ = end_of("fused", spec, signal, steps=20, batch_points=batch_points)
    complete, _, _ = end_of("fused", spec, signal, steps=20)
    assert relative(fused, reference) < 1e-4
    assert torch.equal(fused, complete) == (batch_points >= 63)


@has_triton
@pytest.mark.parametrize("batch_points", [None, 20])
@pytest.mark.parametrize("target_psnr", [14.0, 18.0, 24.0])
def test_a_fit_stops_where_the_reference_stops(target_psnr, batch_points, on_cpu):
    spec, signal = CASES[0]
    settings = {"learning_rate": 2e-3, "batch_points": batch_points, "target_psnr": target_psnr}
    _, reference, due = end_of("reference", spec, signal, **settings)
    _, fused, steps = end_of("fused", spec, signal, **settings)
    assert steps == due < 1000
    assert fused == pytest.approx(reference, abs=0.01)


@has_triton
@pytest.mark.parametrize("batch_points", [None, 30])
@pytest.mark.parametrize("optimizer", ["adam", "sprint"])
def test_occupancies_are_fitted_by_cross_entropy_as_in_the_reference(batch_points, optimizer, on_cpu):
    coords = cloud(80, 3)
    signal = Signal(coords, (coords.norm(dim=1, keepdim=True) < 0.8).float(), field="occupancy")
    spec, settings = SirenSpec(3, 1, hidden_dim=24, omega_0=8.0), {"optimizer": optimizer, "batch_points": batch_points}
    reference, psnr, _ = end_of("reference", spec, signal, steps=10, **settings)
    fused, fused_psnr, _ = end_of("fused", spec, signal, steps=10, **settings)
    assert relative(fused, reference) < (1e-4 if optimizer == "adam" else 1e-3)
    assert fused_psnr == pytest.approx(psnr, abs=0.01)
    plain, _, _ = end_of("fused", spec, replace(signal, field="values"), steps=10, **settings)
    assert relative(plain, reference) > 1e-3


@has_triton
def test_psnr_and_loss_are_those_of_the_stored_weights(on_cpu):
    signals = [smooth(pixel_grid(6, 6), shift=number) for number in range(3)]
    keys = [ViewKey(f"object {number}", 0) for number in range(3)]
    config = FitConfig(engine="fused", learning_rate=3e-3, steps=10, target_psnr=25.0, floor_psnr=-99)
    fitted = fit_views(SINE, keys, signals, config, run_seed=0)
    mse = (fitted.inrs(pixel_grid(6, 6)) - torch.stack([signal.targets for signal in signals])).square().mean((1, 2))
    np.testing.assert_allclose(fitted.loss, mse.numpy(), rtol=1e-4)


@has_triton
@pytest.mark.parametrize(("order", "chunk"), [([0, 1, 2, 3, 4], 2), ([4, 2, 0], 4096), ([1, 1], 1)])
@pytest.mark.parametrize(("optimizer", "target"), [("adam", 14.0), ("sprint", 18.0)])
def test_an_inr_is_bit_identical_alone_together_in_any_order_and_chunk(
    order, chunk, optimizer, target, on_cpu, monkeypatch
):
    signals = [smooth(pixel_grid(5, 5), shift=number) for number in range(3)]
    signals += [smooth(cloud(25, 2, number), shift=number) for number in range(2)]
    keys = [ViewKey(f"object {number}", 0) for number in range(5)]
    config = FitConfig(
        engine="fused", optimizer=optimizer, learning_rate=3e-3, steps=8, target_psnr=target, floor_psnr=-99
    )
    together = fit_views(SINE, keys, signals, config, run_seed=0)
    assert len(set(together.steps.tolist())) > 1, "all stopped together"
    monkeypatch.setattr(fused_cuda, "MAX_CHUNK", chunk)

    apart = fit_views(SINE, [keys[at] for at in order], [signals[at] for at in order], config, run_seed=0)

    assert torch.equal(apart.inrs.flatten(), together.inrs.flatten()[order])
    assert apart.steps.tolist() == together.steps[order].tolist()


@has_triton
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of numpy, in the interpreter
@pytest.mark.parametrize(("spoil", "batch_points"), [(float("nan"), None), (float("inf"), None), (1e30, 10)])
def test_a_fit_that_diverges_ends_at_once_and_changes_no_other(spoil, batch_points, on_cpu):
    signals = [smooth(pixel_grid(5, 5), shift=number) for number in range(3)]
    keys = [ViewKey(f"object {number}", 0) for number in range(3)]
    config = FitConfig(
        engine="fused", learning_rate=3e-3, steps=8, floor_psnr=-99, attempts=2, batch_points=batch_points
    )
    healthy = fit_views(SINE, keys, signals, config, run_seed=0)
    spoilt = smooth(pixel_grid(5, 5))
    spoilt.targets[3] = spoil  # past the check that Signal makes
    updates = []

    fitted = fit_views(
        SINE, [keys[0], ViewKey("spoilt", 0), *keys[1:]], [signals[0], spoilt, *signals[1:]], config, 0,
        on_progress=updates.append,
    )  # fmt: skip

    (failure,) = fitted.failures
    assert failure.object_id == "spoilt"
    assert "diverged in each of 2 attempts" in failure.reason
    assert torch.equal(fitted.inrs.flatten(), healthy.inrs.flatten())
    assert updates[-1].steps == fitted.steps.sum(), "it went on after its loss was lost"


@has_triton
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_learning_rate_that_diverges_is_the_reason_of_the_failure(on_cpu):
    config = FitConfig(engine="fused", steps=20, attempts=1).model_copy(
        update={"learning_rate": 1e30}
    )  # not in recipes
    fitted = fit_views(SINE, [ViewKey("a", 0)], [smooth(pixel_grid(5, 5))], config, run_seed=0)
    assert "diverged in its only attempt" in fitted.failures[0].reason


@has_triton
def test_a_fit_below_the_floor_is_repeated_from_the_initial_values_of_its_next_attempt(on_cpu):
    signals = [smooth(pixel_grid(5, 5), shift=number) for number in range(4)]
    keys = [ViewKey(f"object {number}", 0) for number in range(4)]
    config = FitConfig(engine="fused", learning_rate=3e-3, steps=5, target_psnr=None, floor_psnr=-99)
    first = fit_views(SINE, keys, signals, config, run_seed=0)
    floor = float(np.median(first.psnr))
    again = fit_views(SINE, keys, signals, config.model_copy(update={"floor_psnr": floor, "attempts": 10}), run_seed=0)

    assert sum(seed != key.seed(0) for key, seed in zip(again.keys, again.seeds, strict=True)) == 2
    for at, (key, seed) in enumerate(zip(again.keys, again.seeds.tolist(), strict=True)):
        assert seed in [key.seed(0, number) for number in range(10)]
        alone = FitTable(SINE, [key], np.ones(1), config, run_seed=0)
        alone.seeds[0] = seed
        batch = FitBatch(np.arange(1), [signals[keys.index(key)]], shared_coords=False)
        fused_cuda.fit_fused(SINE, batch, config, torch.device("cpu"), alone)
        assert torch.equal(alone.flat[0], again.inrs.flatten()[at])


@has_triton
def test_one_point_and_a_constant_image_are_fitted(on_cpu):
    config = FitConfig(engine="fused", learning_rate=3e-3, steps=60, target_psnr=25.0)
    for side in (1, 5):
        flat = Signal(pixel_grid(side, side), torch.full((side * side, 1), 0.3))
        assert fit_views(SINE, [ViewKey("a", 0)], [flat], config, run_seed=0).status.tolist() == [0]


@has_triton
@pytest.mark.parametrize(("spec", "signal"), [*CASES[1:3], CASES[8]], ids=[*NAMES[1:3], NAMES[8]])
def test_the_faster_mode_rounds_gradients_but_not_losses(spec, signal, on_cpu):
    """Its sines are the polynomials here: the interpreter cannot run those of the hardware."""
    reference, psnr, _ = end_of("reference", spec, signal, steps=20)
    fast, fast_psnr, _ = end_of("fused", spec, signal, steps=20, tf32=True)
    assert 1e-6 < relative(fast, reference) < 1e-2
    assert fast_psnr == pytest.approx(psnr, abs=0.1)
    own = (INRBatch.from_flat(spec, fast[None])(signal.coords)[0] - signal.targets).square().mean()
    assert fast_psnr == pytest.approx(float(-10 * own.log10()), abs=1e-3)


@has_triton
@pytest.mark.parametrize(("exact", "tolerance"), [(True, 2.5e-7), (False, 7e-7)])
def test_sine_and_cosine_are_good_to_float32_over_a_wide_range(exact, tolerance, kernel, monkeypatch):
    """Of the faster ones the reduction alone: the hardware's sine and cosine are replaced by numpy's."""
    generator = np.random.default_rng(0)
    z = np.concatenate([generator.uniform(-size, size, 1024) for size in (0.5, 3, 100, 1e4)]).astype(np.float32)
    sine, cosine = torch.empty(len(z)), torch.empty(len(z))

    def of_numpy(assembly, constraints, arguments, dtype, is_pure, pack):
        return (kernel.tl.sin if assembly.startswith("sin") else kernel.tl.cos)(*arguments)

    monkeypatch.setattr(kernel, "INTERPRETED", False)
    monkeypatch.setattr(kernel.tl, "inline_asm_elementwise", of_numpy)
    kernel.sincospi_kernel[(len(z) // 512,)](torch.from_numpy(z), sine, cosine, 1, COUNT=512, EXACT=exact)
    turns = z.astype(np.float64) - 2 * np.round(z.astype(np.float64) / 2)  # exact, as z has 24 bits
    np.testing.assert_allclose(sine, np.sin(np.pi * turns), atol=tolerance, rtol=0)
    np.testing.assert_allclose(cosine, np.cos(np.pi * turns), atol=tolerance, rtol=0)


COMPILED = [
    SirenSpec(2, 1, hidden_dim=16),
    SirenSpec(2, 1, hidden_dim=32),
    SirenSpec(2, 3, hidden_dim=32),
    SirenSpec(3, 4, hidden_dim=32, num_hidden=3),
    SirenSpec(3, 1, hidden_dim=64),
    SirenSpec(7, 1, hidden_dim=32),
    SirenSpec(2, 3, hidden_dim=64, num_hidden=3),
]


@has_triton
@pytest.mark.parametrize(
    ("spec", "batches"), [*((spec, False) for spec in COMPILED), (COMPILED[1], True), (COMPILED[-1], True)], ids=str
)
def test_the_kernel_compiles_for_an_h100_within_the_limits_of_its_layout(spec, batches, study):
    compiled = study.compile_ahead(spec, batches=batches)
    usage = study.run_tool("cuobjdump", "-res-usage", suffix="cubin", content=compiled.asm["cubin"])
    registers, stack = (int(number) for number in re.search(r"REG:(\d+) STACK:(\d+)", usage).groups())
    print(f"{spec}: {registers} registers, {stack} bytes of stack, {compiled.metadata.shared} of shared memory")
    layout = fused_cuda.layout_of(spec)
    assert registers <= layout.registers
    assert stack <= 768, "it spills so much that another layout is better"
    assert compiled.metadata.shared <= layout.shared
    assert "mma" in compiled.asm["ptx"], "the matrix products are not made by the tensor cores"


@has_triton
@pytest.mark.parametrize("spec", [COMPILED[1], COMPILED[-1]], ids=str)
def test_barriers_stand_between_the_stores_and_loads_of_gradients_and_weights(spec, study):
    """One thread reads what another has stored. The compiler would drop tl.debug_barrier without a word."""
    ptx = study.compile_ahead(spec).asm["ptx"]
    events = "".join({"st": "s", "ld": "l", "bar": "|", "sqr": "r"}[kind] for kind in re.findall(EVENT, ptx, re.M))
    before_adam, adam = events[: events.index("r")], events[events.rindex("r") :]
    assert re.search(r"s\|+l+$", before_adam), "gradients are loaded without a barrier"
    assert re.match(r"r+s+\|", adam), "the next step loads weights without a barrier"


# In PTX: stores and loads of global memory, barriers of a program, and the square root, which Adam alone takes.
EVENT = r"^\s*(?:@%p\d+ )?(st(?=\.global)|ld(?=\.(?:volatile\.)?global)|bar(?=\.sync)|sqr(?=t\.rn))"


@has_triton
def test_the_sines_of_the_faster_mode_are_those_of_the_hardware(study):
    assert "sin.approx" in study.compile_ahead(COMPILED[1], tf32=True).asm["ptx"]
    assert "sin.approx" not in study.compile_ahead(COMPILED[1]).asm["ptx"]


@has_triton
def test_the_study_lists_what_a_spec_compiles_to(study):
    exact, fast = (study.measure(COMPILED[0], tf32) for tf32 in (False, True))
    assert exact["HMMA"] > fast["HMMA"] > 0 == exact["MUFU"] < fast["MUFU"]
    assert fast["MUFU"] == 2 * 2 * 16 * 16 / 32, "a sine and a cosine a neuron and layer"
    assert 0 < exact["registers"] <= 255
    assert exact["CTAs"] == study.programs_at_once(exact["registers"], exact["shared, bytes"], exact["warps"])
    assert study.table([exact, fast]).count("\n") == 3


@has_triton
@pytest.mark.parametrize("spec", COMPILED, ids=str)
def test_candidate_layouts_start_with_the_usual_one_and_differ(spec):
    layouts = fused_cuda.candidate_layouts(spec)
    assert layouts[0] == fused_cuda.layout_of(spec)
    assert len(set(layouts)) == len(layouts) == 6


@pytest.fixture
def study(tmp_path, monkeypatch):
    """pipelines/studies/gpu_kernel.py, which compiles ahead of time, with an empty cache of compiled kernels."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "cache"))
    path = Path(fused_cuda.__file__).parents[3] / "pipelines/studies/gpu_kernel.py"
    module_spec = importlib.util.spec_from_file_location("gpu_kernel", path)
    module = importlib.util.module_from_spec(module_spec)
    module_spec.loader.exec_module(module)
    return module
