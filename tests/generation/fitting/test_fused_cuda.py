"""Fused engine on a GPU: which machines and specs it supports. tests/system/test_triton_kernel.py tests its kernel."""

import threading
from types import SimpleNamespace

import pytest
import torch

from inr_factory.errors import UsageError
from inr_factory.generation.fit_config import FitConfig
from inr_factory.generation.fitting import engines, fused_cpu, fused_cuda
from inr_factory.generation.fitting.engines import engine_name
from inr_factory.generation.fitting.fit_views import fit_views
from inr_factory.generation.signal_stack import SignalStack
from inr_factory.inr.pixel_grid import pixel_grid
from inr_factory.inr.spec import SirenSpec
from inr_factory.storage.manifest import ViewKey

SINE = SirenSpec(2, 1, hidden_dim=8, output_bias=0.5)

UNSUPPORTED = [
    (SirenSpec(2, 1, hidden_dim=8, activation="relu", start="linear"), "not 2-8-8-1, relu"),
    (SirenSpec(2, 1, hidden_dim=65), "of up to 64 neurons"),
    (SirenSpec(2, 1, num_hidden=4), "up to 3 hidden layers"),
    (SirenSpec(16, 1), "15 coordinates"),
    (SirenSpec(2, 17), "16 values"),
]


@pytest.fixture
def gpu(monkeypatch):
    """A machine whose second GPU has what the engine needs, as far as torch says; settings take some of it away. The
    first, which is the current device, has nothing."""

    def pretend(available=True, capability=(9, 0), cuda="13.0", triton=True, shared=233_472):
        small = SimpleNamespace(shared_memory_per_multiprocessor=1024, name="GPU W")
        large = SimpleNamespace(shared_memory_per_multiprocessor=shared, name="GPU X")

        def second(device):
            return device is not None and torch.device(device).index == 1

        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device=None: large if second(device) else small)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
        monkeypatch.setattr(
            torch.cuda, "get_device_capability", lambda device=None: capability if second(device) else (6, 0)
        )
        monkeypatch.setattr(
            torch.cuda, "get_device_name", lambda device=None: (large if second(device) else small).name
        )
        monkeypatch.setattr(torch.version, "cuda", cuda)
        monkeypatch.setattr(fused_cuda, "find_spec", lambda name: object() if triton else None)
        fused_cuda._missing.cache_clear()

    yield pretend
    fused_cuda._missing.cache_clear()


def test_auto_takes_the_fused_engine_if_the_gpu_of_the_fit_has_what_it_needs(gpu):
    gpu()
    assert engine_name(FitConfig(), "cuda:1", SINE) == engine_name(FitConfig(engine="fused"), "cuda:1", SINE) == "fused"
    assert engine_name(FitConfig(engine="reference"), "cuda:1", SINE) == "reference"
    assert engine_name(FitConfig(), "cuda:0", SINE) == engine_name(FitConfig(), "cuda", SINE) == "batched"


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
def test_a_machine_that_lacks_something_logs_it_and_falls_back_to_another_engine(lacks, reason, gpu, caplog):
    gpu(**lacks)
    other = "reference" if "cuda" in lacks else "batched"
    engines._log_slow_engine.cache_clear()
    assert engine_name(FitConfig(), "cuda:1", SINE) == engine_name(FitConfig(), "cuda:1", SINE) == other
    (line,) = caplog.messages
    assert reason in line
    with pytest.raises(UsageError, match=reason):
        engine_name(FitConfig(engine="fused"), "cuda:1", SINE)


@pytest.mark.parametrize(("spec", "reason"), UNSUPPORTED, ids=lambda part: str(part))
def test_specs_beyond_the_kernel_are_refused_or_fall_back_to_the_batched_engine(spec, reason, gpu):
    gpu()
    with pytest.raises(UsageError, match=reason):
        engine_name(FitConfig(engine="fused"), "cuda:1", spec)
    assert engine_name(FitConfig(), "cuda:1", spec) == "batched"


def test_a_thread_keeps_its_streams(monkeypatch):
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: object())
    monkeypatch.setattr(fused_cuda, "_OF_THREAD", threading.local())
    device, other = torch.device("cuda:0"), []
    streams = fused_cuda.streams_of_thread(device)
    thread = threading.Thread(target=lambda: other.extend(fused_cuda.streams_of_thread(device)))
    thread.start()
    thread.join()
    assert fused_cuda.streams_of_thread(device) == streams
    assert len({*streams, *other}) == 4
    assert not set(fused_cuda.streams_of_thread(torch.device("cuda:1"))) & set(streams)


@pytest.fixture
def chunks(monkeypatch):
    """`fit_fused` on the CPU with a kernel that keeps the initial weights; their mean decides loss and steps."""
    launched = []

    def run_steps(spec, coords, targets, flat, adam, stop, *settings):
        launched.append(len(flat))
        loss = (flat.mean(dim=1) + targets.mean(dim=(1, 2))).abs() + 1e-3
        return fused_cuda.LaunchResult(flat, loss, (1000 * loss).to(torch.int32))

    monkeypatch.setattr(fused_cuda, "run_steps", run_steps)
    monkeypatch.setattr(fused_cpu, "fit_fused", fused_cuda.fit_fused)
    monkeypatch.setattr(fused_cpu, "obstacle", lambda spec: "")
    return launched


def fitted(count=60, on_progress=None, **changes):
    pixels = torch.arange(count * 9, dtype=torch.int64).remainder(256).to(torch.uint8).view(count, 9, 1)
    stack = SignalStack(pixel_grid(3, 3), pixels, white=255)
    keys = [ViewKey(f"object {number}", 0) for number in range(count)]
    config = FitConfig(engine="fused", floor_psnr=8.0, attempts=3, **changes)
    return fit_views(SINE, keys, stack, config, run_seed=0, on_progress=on_progress)


def test_chunks_of_any_size_and_their_retries_have_the_same_results(chunks, monkeypatch):
    together = fitted()
    assert together.failures
    assert set(together.seeds.tolist()) != {key.seed(0) for key in together.keys}, "none was tried again"
    assert len(together.keys) + len(together.failures) == 60

    for most in (1, 7):
        chunks.clear()
        monkeypatch.setattr(fused_cuda, "MAX_CHUNK", most)
        apart = fitted()
        assert max(chunks) == most
        assert apart.keys == together.keys
        assert torch.equal(apart.flat, together.flat)
        assert apart.psnr.tolist() == together.psnr.tolist()


def test_a_process_begins_with_the_chunks_that_suited_the_last_fits(chunks, monkeypatch):
    monkeypatch.setattr(fused_cuda, "_SIZES", {})
    monkeypatch.setattr(fused_cuda, "FIRST_CHUNK", 4)
    fitted()
    assert chunks[0] == 4
    chunks.clear()
    fitted()
    assert chunks[0] == 60, "retries of a few INRs do not count"
    chunks.clear()
    fitted(steps=7)
    assert chunks[0] == 4


def test_progress_is_reported_after_every_chunk_and_can_end_the_fit(chunks, monkeypatch):
    monkeypatch.setattr(fused_cuda, "MAX_CHUNK", 10)
    seen = []
    ended = fitted(on_progress=seen.append)
    assert len(seen) == len(chunks) >= 6
    assert seen[-1].done == 60
    assert seen[-1].good == len(ended.keys)
    chunks.clear()

    def end(tally):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fitted(on_progress=end)
    assert len(chunks) == 1


def test_chunks_take_about_as_long_as_they_should():
    seconds = fused_cuda.SECONDS
    assert fused_cuda.next_size(256, seconds, 4096) == 256
    assert fused_cuda.next_size(256, 4 * seconds, 4096) == 64
    assert fused_cuda.next_size(256, seconds / 4, 4096) == 1024
    assert fused_cuda.next_size(256, 0.0, 4096) == 2048, "one odd measurement does not decide"
    assert fused_cuda.next_size(2048, seconds / 4, 4096) == 4096
    assert fused_cuda.next_size(1, 100 * seconds, 4096) == 1
