"""Saved state: whether what last.pt holds can be the state of this run. The functions raise ValueError where it cannot.

Torch itself takes an optimizer's state of any size, and other types for numbers, and fails or goes wrong later.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor
from torch.optim import Optimizer

from inr_factory.errors import FactoryError, UsageError, shorten
from inr_factory.learning.models.checkpoint import load_checkpoint
from inr_factory.learning.training.run_config import BEST, LAST, RUN, RunConfig, TrainProgress

FREE_GROUP_SETTINGS = {"lr", "fused"}  # the rate is set again in each step; `fused` is how, not what


def check_same_data(saved: Mapping[str, Any], requested: Mapping[str, Any], out: Path) -> None:
    """Raise UsageError where the meta of a saved run and of the requested one name different data sets."""
    there, here = saved.get("train"), requested.get("train")
    if isinstance(there, Mapping) and isinstance(here, Mapping) and there.get("fingerprint") != here.get("fingerprint"):
        raise UsageError(f"{out} holds a run on another data set; give this one another folder by --out")


def check_nothing_to_lose(out: Path) -> None:
    """Raise UsageError where a folder without last.pt has a best.pt, but one that a run left that was killed in saving its
    first epoch."""
    if not (best := out / BEST).exists():
        return
    try:
        epochs = TrainProgress.model_validate(load_checkpoint(best).get("progress")).epoch
    except (FactoryError, ValidationError):
        epochs = None  # another program's file
    if epochs != 1 or (out / RUN).exists():
        raise UsageError(
            f"{out} has a {BEST}, which would be overwritten, and no {LAST} to resume from; train into another folder, or move it"
        )


def checked_progress(fields: Any, config: RunConfig, num_batches: int) -> TrainProgress:
    """The progress that a checkpoint recorded, of a run with this number of batches an epoch."""
    progress = TrainProgress.model_validate(fields, strict=True)
    numbers = (progress.position, progress.step, progress.rows, progress.loss_sum, progress.seconds)
    if not all(math.isfinite(number) for number in numbers) or min(numbers[:3]) < 0 or progress.seconds < 0:
        raise ValueError(f"its progress has the numbers {shorten(numbers)}")
    if progress.epoch != len(progress.history) or not progress.position <= num_batches:
        raise ValueError(
            f"its progress is epoch {shorten(progress.epoch)}, batch {shorten(progress.position)}, its history has "
            f"{len(progress.history)} epochs of {num_batches} batches"
        )
    for epoch, record in enumerate(progress.history):
        if record.get("epoch") != epoch or not all(math.isfinite(value) for value in record.values()):
            raise ValueError(f"its record of epoch {epoch} is {shorten(record)}")
        if not {"step", "train_loss", "lr", "seconds"} <= record.keys():
            raise ValueError(f"its record of epoch {epoch} lacks figures: {shorten(record)}")
    if progress.best is None and progress.finished(config):
        raise ValueError("no epoch of its history was validated")
    return progress


def checked_loader_state(state: Any, progress: TrainProgress) -> dict[str, Any]:
    """The state of the loader, which must be where the progress is."""
    place = (progress.epoch, progress.position)
    if not isinstance(state, dict) or (state.get("epoch"), state.get("position")) != place:
        raise ValueError(f"its loader is at {shorten(state)}, its progress at {place}")
    return {**state, "epoch": progress.epoch, "position": progress.position}


def checked_optimizer_state(saved: Any, optimizer: Optimizer, steps: int) -> dict[str, Any]:
    """The state of an optimizer for exactly these parameters and settings, after this number of steps."""
    groups = optimizer.state_dict()["param_groups"]
    if not isinstance(saved, dict) or not isinstance(saved.get("state"), dict):
        raise ValueError("its optimizer is none")
    saved_groups = saved.get("param_groups")
    if not isinstance(saved_groups, list) or len(saved_groups) != len(groups):
        raise ValueError("its optimizer has other groups of parameters")
    for group, other in zip(groups, saved_groups, strict=True):
        for name in (group.keys() & other.keys()) - FREE_GROUP_SETTINGS:
            if _plain(group[name]) != _plain(other[name]):
                raise ValueError(
                    f"its optimizer has another {name} ({shorten(other[name])} there, {shorten(group[name])} here)"
                )
    parameters = [(parameter, _moments_of(group)) for group in optimizer.param_groups for parameter in group["params"]]
    if bool(saved["state"]) != bool(steps):
        raise ValueError(f"its optimizer has the state of {len(saved['state'])} parameters after {steps} steps")
    for index, state in saved["state"].items():
        if not isinstance(index, int) or not 0 <= index < len(parameters):
            raise ValueError(f"its optimizer has a state of parameter {shorten(index)} of {len(parameters)}")
        _check_moments(state, *parameters[index], f"its optimizer's state of parameter {index}", steps)
    return {"state": saved["state"], "param_groups": groups}


def _moments_of(group: Mapping[str, Any]) -> set[str]:
    """What the state of a parameter of this group holds."""
    if "nesterov" in group:
        return {"momentum_buffer"}
    return {"step", "exp_avg", "exp_avg_sq", *(["max_exp_avg_sq"] if group.get("amsgrad") else [])}


def _check_moments(state: Any, parameter: Tensor, moments: set[str], name: str, steps: int) -> None:
    """The state of one parameter: its number of steps, and these moments, tensors of its shape."""
    if not isinstance(state, dict) or state.keys() != moments:
        raise ValueError(f"{name} is {shorten(sorted(map(str, state)) if isinstance(state, dict) else state)}")
    for moment in sorted(moments):
        check_like(state[moment], torch.zeros(()) if moment == "step" else parameter, f"{name}, {moment}")
        if "_sq" in moment and bool((state[moment] < 0).any()):
            raise ValueError(f"{name}, {moment} has negative values")
    if "step" in moments and not 0 <= float(state["step"]) <= steps:
        raise ValueError(f"{name} is of {float(state['step']):g} steps, the run did {steps}")


def check_like(value: Any, expected: Tensor, name: str) -> None:
    """A tensor of the type and shape of another, with finite numbers."""
    if not isinstance(value, Tensor) or (value.dtype, value.shape) != (expected.dtype, expected.shape):
        actual = f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(f"{name} is {actual}, expected {expected.dtype} {tuple(expected.shape)}")
    if not bool(value.isfinite().all()):
        raise ValueError(f"{name} has values that are NaN or infinite")


def check_all_like(values: Any, expected: Sequence[Tensor], name: str) -> None:
    """Tensors of the types and shapes of others."""
    if not isinstance(values, list) or len(values) != len(expected):
        raise ValueError(f"{name} are {type(values).__name__}, expected {len(expected)} tensors")
    for value, other in zip(values, expected, strict=True):
        check_like(value, other, name)


def checked_generators(saved: Any, rank: int) -> Mapping[str, Any]:
    """The states of the random generators of one rank."""
    states = saved[rank]
    if not isinstance(states, dict):
        raise ValueError("the states of its random generators are none")
    check_like(states.get("cpu"), torch.get_rng_state(), "the state of its random generator")
    cuda = states.get("cuda")
    if cuda is not None and not (isinstance(cuda, Tensor) and cuda.dtype == torch.uint8 and cuda.dim() == 1):
        raise ValueError("the state of its random generator on the GPU is none")
    return states


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
