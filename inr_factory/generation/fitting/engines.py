"""Engines: which of them fits a spec on a device.

- `reference`: torch.func, any device; the baseline for correctness.
- `fused`: one kernel that makes all steps of an INR near its core: compiled C on the CPU, about ten times as fast, and
  Triton on an NVIDIA GPU (sine INRs, there up to three hidden layers of 64).
- `auto`: the fastest that supports the spec on the device.
- `none`: fits nothing and stores initial values.
"""

import logging
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Literal

import torch

from inr_factory.errors import UsageError
from inr_factory.generation.fitting import fused_cpu, fused_cuda
from inr_factory.generation.fitting.initial_values import InitialValues
from inr_factory.generation.fitting.reference import fit_reference
from inr_factory.generation.fitting.slots import FitRequest, OnStep
from inr_factory.generation.recipe import FitConfig
from inr_factory.inr.spec import SirenSpec

_log = logging.getLogger(__name__)


FitEngine = Callable[[SirenSpec, Sequence[FitRequest], InitialValues, FitConfig, torch.device, OnStep], None]
"""Fits requests that have the same number of points and reports the fits that finish."""


def choose_engine(config: FitConfig, device: torch.device, spec: SirenSpec) -> FitEngine:
    """The function of the engine that `engine_name` names."""
    if engine_name(config, device, spec) != "fused":
        return fit_reference
    return fused_cpu.fit_fused if device.type == "cpu" else fused_cuda.fit_fused


def engine_name(
    config: FitConfig, device: torch.device | str, spec: SirenSpec
) -> Literal["reference", "fused", "none"]:
    """The name of the engine that `fit_views` uses.

    Args:
        config: Fitting configuration; `config.engine` is auto, fused, reference or none.
        device: Device of the fit.
        spec: What is fitted.

    Raises:
        UsageError: `config.engine` is fused, and the fused engine cannot fit this spec on this device.
    """
    if config.engine in ("reference", "none"):
        return config.engine
    kind = torch.device(device).type
    if kind == "cpu":
        obstacle = fused_cpu.obstacle(spec)
    elif kind == "cuda":
        obstacle = "fit.scope is not built into it" if config.scope else fused_cuda.obstacle(spec)
    else:
        obstacle = f"it runs on the CPU and on NVIDIA GPUs, not on {kind}"
    if not obstacle:
        return "fused"
    if config.engine == "fused":
        raise UsageError(f"fit.engine fused cannot do this: {obstacle}; take fit.engine=auto")
    _log_slow_engine(obstacle)
    return "reference"


@lru_cache
def _log_slow_engine(obstacle: str) -> None:
    """Log one line a process for each reason; the cache suppresses repetitions."""
    _log.warning("fitting with the slower reference engine, since the fused one cannot do this: %s", obstacle)
