"""Engines: which of them fits a spec on a device.

- `reference`: torch.func, any device; the baseline for correctness.
- `fused`: one kernel that makes all steps of an INR near its core: compiled C on the CPU, about ten times as fast, and
  Triton on an NVIDIA GPU. On the CPU sine and ReLU INRs, on a GPU sine INRs without a positional encoding, there up
  to three hidden layers of 64. It fits layers of several widths at the speed of the widest.
- `batched`: batched matrix products with a backward pass by hand, on a CPU and on an NVIDIA GPU, for any spec.
- `auto`: the fastest that supports the spec on the device: `fused`, else `batched`, on other devices `reference`.
- `none`: fits nothing and stores initial values.

On a GPU an engine other than the reference is compared with it before its fits are used (self_check.py). Where it fails,
`auto` takes the next one, with a warning.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch

from inr_factory.errors import ResourceError, UsageError
from inr_factory.generation.fit_config import FitConfig
from inr_factory.generation.fitting import fused_cpu, fused_cuda
from inr_factory.generation.fitting.batched import fit_batched
from inr_factory.generation.fitting.fit_table import FitEngine
from inr_factory.generation.fitting.reference import fit_reference
from inr_factory.generation.fitting.self_check import checked, fault_of
from inr_factory.inr.spec import SirenSpec

_log = logging.getLogger(__name__)


CHECKED_DEVICES = ("cuda",)  # where the engine is compiled or captured by the process that uses it

EngineName = Literal["fused", "batched", "reference", "none"]


@dataclass(frozen=True)
class Engine:
    """An engine for one kind of device, and why it cannot fit a spec there, empty if it can."""

    name: EngineName
    fit: FitEngine
    obstacle: str = ""


def _candidates(config: FitConfig, device: torch.device, spec: SirenSpec) -> Iterator[Engine]:
    """The engines other than the reference, the fastest first."""
    other = "" if device.type in ("cpu", "cuda") else f"it runs on the CPU and on NVIDIA GPUs, not on {device.type}"
    learned = "the rates of a learned start are not built into it" if config.start_rates else ""
    muon = config.optimizer == "muon"
    if device.type == "cpu":
        single = [name for name, used in (("scope", config.scope), ("optimizer=muon", muon)) if used and spec.widths]
        uneven = f"fit.{single[0]} of layers of several widths is not built into it" if single else ""
        yield Engine("fused", fused_cpu.fit_fused, uneven or fused_cpu.obstacle(spec))
    elif device.type == "cuda":
        obstacle = "fit.scope is not built into it" if config.scope else fused_cuda.obstacle(spec, device)
        obstacle = learned or ("fit.optimizer=muon is not built into it" if muon else obstacle)
        yield Engine("fused", fused_cuda.fit_fused, obstacle)
        other = "" if torch.version.cuda else "on a GPU it needs an NVIDIA one and a CUDA build of torch"
    else:
        yield Engine("fused", fit_reference, other)
    yield Engine("batched", fit_batched, learned or other)


def choose_engine(config: FitConfig, device: torch.device, spec: SirenSpec, checks: bool = True) -> Engine:
    """The engine that `engine_name` names; on a GPU with its self-check, unless `checks` is False."""
    chosen = _choose(config, device, spec)
    if not checks or device.type not in CHECKED_DEVICES or chosen.name == "reference":
        return chosen
    return Engine(chosen.name, checked(chosen.name, chosen.fit))


def engine_name(config: FitConfig, device: torch.device | str, spec: SirenSpec) -> EngineName:
    """The name of the engine that `fit_views` uses.

    Args:
        config: Fitting configuration; `config.engine` is auto, fused, batched, reference or none.
        device: Device of the fit.
        spec: What is fitted.

    Raises:
        UsageError: `config.engine` is fused or batched, and that engine cannot fit this spec on this device.
        ResourceError: That engine has failed its self-check on this device.
    """
    return "none" if config.engine == "none" else _choose(config, torch.device(device), spec).name


def _choose(config: FitConfig, device: torch.device, spec: SirenSpec) -> Engine:
    reference = Engine("reference", fit_reference)
    if config.engine == "reference":
        return reference
    obstacles: list[str] = []
    for candidate in _candidates(config, device, spec):
        if config.engine not in ("auto", candidate.name):
            continue
        fault = fault_of(candidate.name, device)
        if fault and config.engine != "auto":
            raise ResourceError(
                f"fit.engine {config.engine} fails its self-check on {device}: {fault}; take fit.engine=auto"
            )
        obstacle = candidate.obstacle or (f"it fails its self-check on {device}: {fault}" if fault else "")
        if not obstacle:
            if obstacles:
                _log_slow_engine(candidate.name, obstacles[0])
            return candidate
        obstacles.append(obstacle)
    if config.engine != "auto":
        raise UsageError(f"fit.engine {config.engine} cannot do this: {'; '.join(obstacles)}; take fit.engine=auto")
    _log_slow_engine("reference", obstacles[0])
    return reference


@lru_cache
def _log_slow_engine(name: str, obstacle: str) -> None:
    """Log one line a process for each reason; the cache suppresses repetitions."""
    _log.warning("fitting with the slower %s engine, since the fused one cannot do this: %s", name, obstacle)
