"""Reference engine: batched fits by torch.func, on any device. What every other engine is compared with.

Shape letters: N lanes, D parameters of one INR, P points, I coordinates, O values.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.func import grad_and_value, vmap
from torch.nn import functional as F

from inr_factory.generation.fitting.optimizers import EPSILON, schedule
from inr_factory.generation.fitting.scope_regularizer import Scope, divergence, scope_of
from inr_factory.generation.fitting.slots import Job, Lanes, OnStep, Start
from inr_factory.generation.recipe import FitConfig
from inr_factory.generation.signals import Field
from inr_factory.inr.spec import SirenSpec


def fit_reference(
    spec: SirenSpec, jobs: Sequence[Job], start: Start, config: FitConfig, device: torch.device, on_step: OnStep
) -> None:
    """Fit jobs that have the same number of points, by Adam on the mean squared error, at the rates of its schedule.

    Every lane counts its own steps, so that an INR which joins late has the moments of one that began early.
    """
    lanes = Lanes(jobs, config)
    shared = jobs[0].shared_coords
    shape = (len(lanes), *jobs[0].signal.targets.shape)
    targets = torch.zeros(shape, device=device)
    coords = jobs[0].signal.coords.to(device)
    if not shared:
        coords = torch.zeros(len(lanes), *coords.shape, device=device)
    flat = torch.zeros(len(lanes), spec.num_parameters, device=device)
    mean, square = torch.zeros_like(flat), torch.zeros_like(flat)
    step_N = torch.zeros(len(lanes), dtype=torch.float64)
    plan = schedule(config)
    first, second = plan.betas

    def fill(place: int) -> None:
        """Put the job that a lane now has, and its start values, into the batch."""
        lane = lanes.lanes[place]
        assert lane is not None
        targets[place] = lane.job.signal.targets.to(device)
        if not shared:
            coords[place] = lane.job.signal.coords.to(device)
        flat[place] = start(lane.job.index, lane.attempt).to(device)
        mean[place], square[place], step_N[place] = 0, 0, 0

    for place, lane in enumerate(lanes.lanes):
        if lane is not None:
            fill(place)
    field = jobs[0].signal.field
    coords_dim = None if shared else 0
    minimised = _loss(spec, field, scope_of(spec, config))
    slope_and_loss = vmap(grad_and_value(minimised, has_aux=True), in_dims=(0, coords_dim, 0))
    loss_alone = vmap(_loss(spec, field), in_dims=(0, coords_dim, 0))
    count = config.batch_points or shape[1]
    while lanes.busy:
        if count >= shape[1]:
            slope, (_, loss) = slope_and_loss(flat, coords, targets)
        else:
            some_NB = ((step_N.long() * count)[:, None] + torch.arange(count)) % shape[1]
            rows = torch.arange(len(lanes), device=device)[:, None], some_NB.to(device)
            slope, (_, loss) = slope_and_loss(flat, coords[rows], targets[rows])
            if any(lane is not None and lane.due(config) for lane in lanes.lanes):
                loss = loss_alone(flat, coords, targets)[1]
        finished, refill, updated = lanes.settle(loss.tolist(), flat)
        step_N += 1
        mean.lerp_(slope, 1 - first)
        square.mul_(second).addcmul_(slope, slope, value=1 - second)
        # Bias corrections in double precision, as torch.optim.Adam takes them.
        rate_N = plan.rates[(step_N.long() - 1).clamp(max=config.steps - 1)]
        rate = (rate_N / (1 - first**step_N)).float().to(device)[:, None]
        root = (1 - second**step_N).sqrt().float().to(device)[:, None]
        flat -= rate * mean / (square.sqrt() / root + EPSILON)
        for place in refill:
            fill(place)
        on_step(finished, updated)


def _loss(spec: SirenSpec, field: Field, scope: Scope | None = None):  # type: ignore[no-untyped-def]
    """(flat (D,), coords (P, I), targets (P, O)) -> what is minimised, and the mean squared error, two scalars.

    They are the same but for occupancies: there an INR gives the logit of being inside, what is minimised is the binary
    cross-entropy, and the error is that of the probability.
    """
    sizes, shapes = list(spec.parameter_sizes), [shape for _, shape in spec.parameter_shapes]

    def loss(flat: Tensor, coords: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        parts = [part.view(shape) for part, shape in zip(torch.split(flat, sizes), shapes, strict=True)]
        hidden = coords
        for W, b in zip(parts[0:-2:2], parts[1:-2:2], strict=True):
            hidden = F.linear(hidden, W, b)
            hidden = torch.sin(spec.omega_0 * hidden) if spec.activation == "sine" else torch.relu(hidden)
        values = F.linear(hidden, parts[-2], parts[-1]) + spec.output_bias
        if field == "occupancy":
            error = (torch.sigmoid(values) - targets).square().mean()
            entropy = F.binary_cross_entropy_with_logits(values, targets)
            return (entropy if scope is None else entropy + divergence(spec, flat, scope)), error
        error = (values - targets).square().mean()
        return (error if scope is None else error + divergence(spec, flat, scope)), error

    return loss
