"""Fused engine on a GPU: which machines and specs it supports. tests/system/test_triton_kernel.py tests its kernel."""

from types import SimpleNamespace

import pytest
import torch

from inr_factory.errors import UsageError
from inr_factory.generation.fitting import engines, fused_cuda
from inr_factory.generation.fitting.engines import engine_name
from inr_factory.generation.recipe import FitConfig
from inr_factory.inr.spec import SirenSpec

SINE = SirenSpec(2, 1, hidden_dim=8, output_bias=0.5)

UNSUPPORTED = [
    (SirenSpec(2, 1, hidden_dim=8, activation="relu", start="linear"), "not relu"),
    (SirenSpec(2, 1, hidden_dim=65), "of up to 64 neurons"),
    (SirenSpec(2, 1, num_hidden=4), "up to 3 hidden layers"),
    (SirenSpec(16, 1), "15 coordinates"),
    (SirenSpec(2, 17), "16 values"),
]


@pytest.fixture
def gpu(monkeypatch):
    """A machine that has what the engine needs, as far as torch says; settings take some of it away."""

    def pretend(available=True, capability=(9, 0), cuda="13.0", triton=True, shared=233_472):
        properties = SimpleNamespace(shared_memory_per_multiprocessor=shared)
        monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "GPU X")
        monkeypatch.setattr(torch.version, "cuda", cuda)
        monkeypatch.setattr(fused_cuda, "find_spec", lambda name: object() if triton else None)
        fused_cuda._missing.cache_clear()

    yield pretend
    fused_cuda._missing.cache_clear()


def test_auto_takes_the_fused_engine_on_a_gpu_that_has_what_it_needs(gpu):
    gpu()
    assert engine_name(FitConfig(), "cuda", SINE) == engine_name(FitConfig(engine="fused"), "cuda:0", SINE) == "fused"
    assert engine_name(FitConfig(engine="reference"), "cuda", SINE) == "reference"


@pytest.mark.parametrize(
    ("lacks", "reason"),
    [
        ({"available": False}, "an NVIDIA one"),
        ({"cuda": None}, "a CUDA build of torch"),
        ({"capability": (7, 5)}, "compute capability 8.0, which GPU X does not have"),
        ({"triton": False}, "it needs triton"),
        ({"shared": 41_024}, "bytes of shared memory, GPU X has 40000"),
    ],
    ids=str,
)
def test_a_machine_that_lacks_something_logs_it_and_falls_back_to_the_reference(lacks, reason, gpu, caplog):
    gpu(**lacks)
    engines._log_slow_engine.cache_clear()
    assert engine_name(FitConfig(), "cuda", SINE) == engine_name(FitConfig(), "cuda", SINE) == "reference"
    (line,) = caplog.messages
    assert reason in line
    with pytest.raises(UsageError, match=reason):
        engine_name(FitConfig(engine="fused"), "cuda", SINE)


@pytest.mark.parametrize(("spec", "reason"), UNSUPPORTED, ids=lambda part: str(part))
def test_specs_beyond_the_kernel_are_refused_or_fall_back_to_the_reference(spec, reason, gpu):
    gpu()
    with pytest.raises(UsageError, match=reason):
        engine_name(FitConfig(engine="fused"), "cuda", spec)
    assert engine_name(FitConfig(), "cuda", spec) == "reference"
