"""Reference engine: batched fits by torch.func, on any device; the baseline that every other engine is compared with.

Shape letters: N slots, D parameters of one INR, P points, I coordinates, O values.
"""

import torch
from torch import Tensor
from torch.func import grad_and_value, vmap
from torch.nn import functional as F

from inr_factory.generation.fit_config import FitConfig
from inr_factory.generation.fitting.fit_table import FitBatch, FitTable
from inr_factory.generation.fitting.initial_values import initial_weights
from inr_factory.generation.fitting.optimizers import EPSILON, Muon, adam_settings, learned_rates, rate_factors
from inr_factory.generation.fitting.scope_regularizer import Scope, scope_of, scope_penalty
from inr_factory.generation.fitting.slots import BatchSlots
from inr_factory.generation.signals import Field
from inr_factory.inr.forward_pass import encode, layer_outputs
from inr_factory.inr.spec import SirenSpec


def fit_reference(spec: SirenSpec, batch: FitBatch, config: FitConfig, device: torch.device, fits: FitTable) -> None:
    """Fit a batch of signals, by Adam, and Muon, on the mean squared error at the rates of its settings.

    Every slot counts its own steps, so that an INR which joins late has the moments of one that began early.
    """
    slots = BatchSlots(batch, config, fits)
    shared, signal = batch.shared_coords, batch.signals[0]
    shape = (len(slots), *signal.targets.shape)
    targets = torch.zeros(shape, device=device)
    coords = signal.coords.to(device)
    if not shared:
        coords = torch.zeros(len(slots), *coords.shape, device=device)
    flat = torch.zeros(len(slots), spec.num_parameters, device=device)
    mean, square = torch.zeros_like(flat), torch.zeros_like(flat)
    step_N = torch.zeros(len(slots), dtype=torch.float64)
    factor, learned = rate_factors(spec).to(device), learned_rates(spec, config, device)
    adam = adam_settings(config)
    first, second = adam.betas
    parts = zip(torch.split(torch.arange(len(factor)), list(spec.parameter_sizes)), spec.parameter_shapes, strict=True)
    matrices = [
        (part, Muon(len(slots), *shape[:2], device=device)) for part, (_, shape) in list(parts)[2:-2:2] if adam.momentum
    ]

    def fill(index: int) -> None:
        """Put the signal of a slot, and its initial values, into the batch."""
        slot = slots.slots[index]
        assert slot is not None
        targets[index] = slot.signal.targets.to(device)
        if not shared:
            coords[index] = slot.signal.coords.to(device)
        flat[index] = initial_weights(spec, int(fits.seeds[slot.row]), slot.signal, config).to(device)
        mean[index], square[index], step_N[index] = 0, 0, 0
        for _, muon in matrices:
            muon.reset(index)

    for index, slot in enumerate(slots.slots):
        if slot is not None:
            fill(index)
    field = signal.field
    coords_dim = None if shared else 0
    objective = objective_and_error(spec, field, scope_of(spec, config))
    gradient_and_loss = vmap(grad_and_value(objective, has_aux=True), in_dims=(0, coords_dim, 0))
    loss_only = vmap(objective_and_error(spec, field), in_dims=(0, coords_dim, 0))
    count = config.batch_points or shape[1]
    while slots.busy:
        if count >= shape[1]:
            gradient, (_, loss) = gradient_and_loss(flat, coords, targets)
        else:
            points_NB = ((step_N.long() * count)[:, None] + torch.arange(count)) % shape[1]
            rows = torch.arange(len(slots), device=device)[:, None], points_NB.to(device)
            gradient, (_, loss) = gradient_and_loss(flat, coords[rows], targets[rows])
            if any(slot is not None and slot.needs_loss(config) for slot in slots.slots):
                loss = loss_only(flat, coords, targets)[1]
        refill, updated = slots.advance(loss.tolist(), flat)
        step_N += 1
        mean.lerp_(gradient, 1 - first)
        square.mul_(second).addcmul_(gradient, gradient, value=1 - second)
        # Bias corrections in double precision, as torch.optim.Adam takes them.
        rate_N = adam.rates[(step_N.long() - 1).clamp(max=config.steps - 1)]
        rate = (rate_N / (1 - first**step_N)).float().to(device)[:, None]
        root = (1 - second**step_N).sqrt().float().to(device)[:, None]
        change = factor * rate * mean / (square.sqrt() / root + EPSILON)
        for part, muon in matrices:
            matrix = gradient[:, part].view_as(muon.momentum)
            step = muon.step(matrix, adam, (1 - second**step_N).float().to(device)[:, None, None])
            change[:, part] = rate_N.float().to(device)[:, None] * step.flatten(1)
        if learned is not None:
            first_steps = (step_N <= len(learned))[:, None].to(device)
            change = torch.where(
                first_steps, learned[(step_N.long() - 1).clamp(max=len(learned) - 1)] * gradient, change
            )
        flat -= change
        for index in refill:
            fill(index)
        fits.step(updated)


def objective_and_error(spec: SirenSpec, field: Field, scope: Scope | None = None):  # type: ignore[no-untyped-def]
    """(flat (D,), coords (P, I), targets (P, O)) -> objective and mean squared error, two scalars.

    They differ for occupancies only: there an INR gives the logit of being inside, the objective is the binary
    cross-entropy, and the error is that of the probability. A scope adds its penalty to the objective.
    """
    sizes, shapes = list(spec.parameter_sizes), [shape for _, shape in spec.parameter_shapes]

    def loss(flat: Tensor, coords: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        parts = [part.view(shape) for part, shape in zip(torch.split(flat, sizes), shapes, strict=True)]
        *_, values = layer_outputs(spec, encode(spec, coords), parts[::2], parts[1::2])
        if field == "occupancy":
            error = (torch.sigmoid(values) - targets).square().mean()
            entropy = F.binary_cross_entropy_with_logits(values, targets)
            return (entropy if scope is None else entropy + scope_penalty(spec, flat, scope)), error
        error = (values - targets).square().mean()
        return (error if scope is None else error + scope_penalty(spec, flat, scope)), error

    return loss
