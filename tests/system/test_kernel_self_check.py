"""Self-check of the fused engine on a GPU: kernels that are wrong on purpose, run by Triton's interpreter."""

import importlib.util

import pytest
import torch
from support.signals import smooth
from support.triton_interpreter import KERNEL, interpreted

from inr_factory.errors import ResourceError
from inr_factory.generation.fit_config import FitConfig
from inr_factory.generation.fitting import engines, fused_cpu, fused_cuda, self_check
from inr_factory.generation.fitting.fit_views import fit_views
from inr_factory.inr.pixel_grid import pixel_grid
from inr_factory.inr.spec import SirenSpec
from inr_factory.storage.manifest import ViewKey

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="triton is not installed (it is for Linux only)"
)
SPEC = SirenSpec(2, 1, hidden_dim=8, output_bias=0.5)
# What is replaced in the kernel's source, and the reason that `auto` gives.
FAULTS = {
    "the sign of Adam's step": ("w -= tl.div_rn", "w += tl.div_rn", "differ from the reference's by"),
    "the sign of one gradient": ("to_offset += residual", "to_offset -= residual", "differ from the reference's by"),
    "the reported loss": ("loss = share * total", "loss = 0.9 * share * total", "losses are wrong: it reports"),
    "a name that does not exist": ("half_turns * tl.load", "half_turn * tl.load", "'half_turn' is not defined"),
}


@pytest.fixture
def with_kernel(tmp_path, monkeypatch):
    """`fit_views` takes the CUDA engine where it would take the C one, on a CPU that counts as a GPU, with a kernel."""

    def use(old="", new=""):
        source = KERNEL.read_text()
        assert old in source, "the kernel does not have this line any more: the test shows nothing"
        path = tmp_path / "kernel.py"
        path.write_text(source.replace(old, new) if old else source)
        kernel = interpreted(path)
        monkeypatch.setattr(fused_cuda, "fused_triton", lambda: kernel)

    monkeypatch.setattr(fused_cpu, "fit_fused", fused_cuda.fit_fused)
    monkeypatch.setattr(fused_cpu, "obstacle", fused_cuda._beyond)
    monkeypatch.setattr(engines, "CHECKED_DEVICES", ("cpu",))
    for name, empty in (("_faults", {}), ("_compared", set()), ("_passed", set())):
        monkeypatch.setattr(self_check, name, empty)
    engines._log_slow_engine.cache_clear()
    yield use
    engines._log_slow_engine.cache_clear()


def fitted(engine="auto", **settings):
    signals = [smooth(pixel_grid(6, 6), shift=number) for number in range(3)]
    keys = [ViewKey(f"object {number}", 0) for number in range(3)]
    config = FitConfig(engine=engine, **{"steps": 8, "learning_rate": 3e-3, "floor_psnr": -99, **settings})
    return fit_views(SPEC, keys, signals, config, run_seed=0)


@pytest.mark.parametrize(("tf32", "batch_points"), [(False, None), (True, 20)])
def test_the_kernel_passes_and_is_compared_once(tf32, batch_points, with_kernel, monkeypatch, caplog):
    with_kernel()
    compared, compare = [], self_check.compare
    monkeypatch.setattr(self_check, "compare", lambda *each: compared.append(compare(*each)) or compared[-1])
    for engine in ("auto", "fused"):
        fits = fitted(engine, tf32=tf32, batch_points=batch_points)
        assert fits.engine == "fused"
    (report,) = compared
    assert 0 < report.difference < 0.1 * report.tolerance
    assert caplog.messages == []


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_kernel_is_found_and_another_engine_fits(fault, with_kernel, caplog):
    old, new, reason = FAULTS[fault]
    with_kernel(old, new)
    fits = fitted()
    assert fits.engine == "batched"
    assert torch.equal(fits.flat, fitted("batched").flat)
    assert torch.allclose(fits.flat, fitted("reference").flat, atol=1e-4)
    (line,) = caplog.messages
    assert reason in line
    with pytest.raises(ResourceError, match=r"fit\.engine fused fails its self-check on cpu"):
        fitted("fused")
