"""What many tests share: a seeded generator, and small batches of INRs of every kind of spec."""

from pathlib import Path

import pytest
import torch
from support.specs import SPECS
from support.tiny_recipes import long_whole  # noqa: F401

from inr_factory.generation.fitting import fused_cpu
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.initialization import initialize
from inr_factory.inr.spec import SirenSpec

# The tests run beside others on few cores; many threads for tiny tensors take five times as long.
torch.set_num_threads(1)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture(params=SPECS, ids=str)
def inrs(request: pytest.FixtureRequest) -> INRBatch:
    """Five different sine INRs: two and three hidden layers, omega_0 30 and 7, coordinates and values of all kinds."""
    return initialize(request.param, range(5))


@pytest.fixture
def relu_inrs() -> INRBatch:
    return initialize(SirenSpec(2, 1, hidden_dim=8, activation="relu", start="linear"), range(5))


@pytest.fixture
def coords(inrs: INRBatch) -> torch.Tensor:
    """64 points at which the INRs of `inrs` can be asked."""
    return 2 * torch.rand(64, inrs.spec.in_dim, generator=torch.Generator().manual_seed(1)) - 1


@pytest.fixture
def repeated(inrs: INRBatch) -> INRBatch:
    """The same INR five times."""
    return inrs.select(torch.zeros(5, dtype=torch.long))


@pytest.fixture(params=["reference", "batched", "fused"])
def engine(request: pytest.FixtureRequest) -> str:
    """Each fitting engine that this machine has."""
    if request.param == "fused" and not fused_cpu.available():
        pytest.skip(f"no fused engine: {fused_cpu.obstacle(SPECS[0])}")
    return str(request.param)


@pytest.fixture
def hugging_face_offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The Hugging Face libraries ask nobody, draw no bars, and keep what they cache to this test."""
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "HF_HUB_DISABLE_TELEMETRY"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
