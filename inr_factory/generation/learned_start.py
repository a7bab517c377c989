"""Learned starts: an INR, and rates of each parameter and step, from which few steps fit any object of a collection.

Shape letters: N INRs, D parameters of one INR, S steps, P points, O values of a point.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from inr_factory.errors import UsageError
from inr_factory.generation.execution.shard_plan import make_shard_plan
from inr_factory.generation.recipe import Recipe, load_recipe
from inr_factory.generation.signals import Signal, Source
from inr_factory.generation.sources.registry import open_source
from inr_factory.generation.start_file import object_hashes
from inr_factory.inr.arguments import check_whole
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.batch_files import write_batch
from inr_factory.inr.device import choose_device
from inr_factory.inr.initialization import initialize
from inr_factory.inr.metrics import psnr_of_mse
from inr_factory.inr.regular_files import as_path
from inr_factory.inr.spec import SirenSpec
from inr_factory.storage.locations import Location, parse_location

MOST_OBJECTS, MOST_POINTS, HELD_OUT = 4096, 1024, 256
RATE, RATE_OF_RATES, FIRST_RATE = 2e-3, 3e-2, 1e-2  # of the weights, of the logarithms of rates, and where those begin


@dataclass(frozen=True)
class LearnedStart:
    """What `learn_start` made.

    Attributes:
        path: The file.
        spec: Architecture of the INR.
        steps: S, the steps that it was learned for.
        objects: Training objects that it was learned on.
        psnr: Median PSNR, in dB, of other training objects after S steps.
    """

    path: Path
    spec: SirenSpec
    steps: int
    objects: int
    psnr: float


def learn_start(
    recipe: Recipe | str | Path,
    out: str | Path,
    *,
    steps: int = 10,
    iterations: int = 1000,
    batch_size: int = 16,
    seed: int = 0,
    device: str = "auto",
    data_root: str | Path | Location | None = None,
    settings: Sequence[str] = (),
    on_progress: Callable[[int, int], None] | None = None,
) -> LearnedStart:
    """Learn an INR from which fits of a recipe need few steps, on its training objects alone.

    Its weights, and a rate of each parameter in each step, are learned by the gradient through all steps (MAML, Finn et
    al. 2017; with learned rates Meta-SGD, Li et al. 2017; for INRs Tancik et al., CVPR 2021), so that the logarithm of
    the error after the last step falls. At most 4,096 objects are used, and 1,024 points of each in an iteration.

    Args:
        recipe: Name, YAML file or Recipe: its source, splits and spec count.
        out: The file, by custom NAME.npz; `fit.starts=NAME.npz` starts fits from it, and `INRBatch.load` reads the INR.
        steps: S, at least 1.
        iterations: Steps of the learning.
        batch_size: Objects of each.
        seed: Of the first weights and of the choices of objects and points.
        device: "auto", "cpu", "cuda" or "cuda:N".
        data_root: Folder or URL of the source's files.
        settings: Further "key=value" of the recipe.
        on_progress: Called as `on_progress(iteration, iterations)`.

    Returns:
        Where the file is, and how good fits by it are.

    Raises:
        UsageError: An argument is out of range, the file is there already, the source has too few training objects, or
            its signals are occupancies.
    """
    check_whole(seed=seed, steps=steps, iterations=iterations, batch_size=batch_size)
    if min(steps, iterations, batch_size) < 1:
        raise UsageError(
            f"steps, iterations and batch_size must be at least 1, got {steps}, {iterations} and {batch_size}"
        )
    path = as_path(out, "a file of INRs")
    if path.exists():
        raise UsageError(f"{path} is there already; choose another --out, or remove it")
    if not path.parent.is_dir():
        raise UsageError(f"{path} cannot be written: {path.parent} is no folder; make it first")
    chosen = load_recipe(recipe, settings)
    root = None if data_root is None else parse_location(data_root)
    source, kind = open_source(chosen.source, root, chosen.version), choose_device(device)
    generator = np.random.default_rng(seed)
    training = list(chain(*make_shard_plan(chosen, source).blocks.get("train", ())))
    picked = generator.permutation(training)[: MOST_OBJECTS + HELD_OUT]
    held_out, learned_on = np.split(picked, [min(HELD_OUT, len(picked) // 10)])
    if len(held_out) < 1 or len(learned_on) < batch_size:
        raise UsageError(f"a start is learned on at least {max(10, batch_size)} training objects, got {len(picked)}")
    spec = chosen.spec.spec(source.in_dim, source.out_dim)
    weights, log_rates = (
        initialize(spec, [seed]).flatten()[0].to(kind),
        torch.full((steps, spec.num_parameters), math.log(FIRST_RATE), device=kind),
    )
    weights.requires_grad_(), log_rates.requires_grad_()
    optimizer = torch.optim.Adam([{"params": [weights], "lr": RATE}, {"params": [log_rates], "lr": RATE_OF_RATES}])
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda at: max(0.02, 1 - at / iterations))
    signals = _Signals(source, kind)
    for iteration in range(iterations):
        coords, targets = signals.batch(generator.choice(learned_on, batch_size, replace=False), generator)
        flat = take_steps(spec, weights, log_rates.exp(), coords, targets, create_graph=True)
        loss = _errors(spec, flat, coords, targets).clamp_min(1e-8).log().mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_([weights, log_rates], 1.0)
        optimizer.step()
        schedule.step()
        if on_progress is not None:
            on_progress(iteration + 1, iterations)
    with torch.no_grad():
        weights, rates = weights.detach(), log_rates.exp()
    psnr = _median_psnr(spec, weights, rates, signals, held_out, generator)
    hashes = object_hashes(source, [source.items[index].object_id for index in learned_on])
    write_batch(path, spec, weights.cpu().numpy()[None], rates=rates.cpu().numpy().astype("<f4"), objects=hashes)
    return LearnedStart(path, spec, steps, len(learned_on), psnr)


def take_steps(
    spec: SirenSpec, weights: Tensor, rates: Tensor, coords: Tensor, targets: Tensor, create_graph: bool = False
) -> Tensor:
    """(N, D): where S steps of gradient descent with rates (S, D) lead from weights (D,), one for each of N signals."""
    flat = weights.expand(len(targets), -1)
    if not create_graph:
        flat = flat.detach().requires_grad_()
    for rate in rates:
        with torch.enable_grad():
            error = _errors(spec, flat, coords, targets).sum()
            (gradient,) = torch.autograd.grad(error, flat, create_graph=create_graph)
        flat = flat - rate * gradient
        if not create_graph:
            flat = flat.detach().requires_grad_()
    return flat


def _errors(spec: SirenSpec, flat: Tensor, coords: Tensor, targets: Tensor) -> Tensor:
    """(N,) mean squared errors."""
    return (INRBatch.from_flat(spec, flat)(coords) - targets).square().mean((1, 2))


def _median_psnr(
    spec: SirenSpec,
    weights: Tensor,
    rates: Tensor,
    signals: "_Signals",
    rows: NDArray[np.int64],
    generator: np.random.Generator,
) -> float:
    coords, targets = signals.batch(rows, generator)
    errors = _errors(spec, take_steps(spec, weights, rates, coords, targets), coords, targets).detach()
    return float(psnr_of_mse(errors.clamp_min(1e-20), signals.peak).median())


class _Signals:
    """Points of signals, kept as they are read."""

    def __init__(self, source: Source, device: torch.device) -> None:
        self.source, self.device = source, device
        self.read: dict[int, Signal] = {}
        self.peak = 1.0

    def batch(self, rows: NDArray[np.int64], generator: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Coords (N, P, I) and targets (N, P, O) of objects, on the device; points of a large signal at random."""
        signals = [self._signal(int(row)) for row in rows]
        count = min(MOST_POINTS, *(len(signal.coords) for signal in signals))
        parts = []
        for signal in signals:
            chosen: slice | Tensor = slice(None)
            if len(signal.coords) > count:
                chosen = torch.from_numpy(generator.choice(len(signal.coords), count, replace=False))
            parts.append((signal.coords[chosen], signal.targets[chosen]))
        coords, targets = (torch.stack(side).float().to(self.device) for side in zip(*parts, strict=True))
        return coords, targets

    def _signal(self, row: int) -> Signal:
        if row not in self.read:
            signal = self.source.signal(row)
            if signal.field == "occupancy":
                raise UsageError("a start is learned by squared errors; take source.field=sdf, not occupancy")
            self.read[row], self.peak = signal, float(signal.peak)
        return self.read[row]
