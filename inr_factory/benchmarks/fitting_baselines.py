"""Fitting baselines: the usual ways to fit INRs, written as published code does it.

Shape letters: N INRs, D parameters of one INR, P points, I coordinates, O values.
"""

import importlib.util
import os
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from inr_factory.generation.fitting.optimizers import EPSILON
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.forward_pass import hidden_layer, last_layer
from inr_factory.inr.spec import SirenSpec

BETAS = (0.9, 0.999)
RATE = 5e-4


class Sine(nn.Module):
    def __init__(self, omega_0: float) -> None:
        super().__init__()
        self.omega_0 = omega_0

    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(self.omega_0 * x)


def module_of(spec: SirenSpec, flat: Tensor) -> nn.Sequential:
    """One SIREN as a torch module with the weights flat (D,)."""
    inr = INRBatch.from_flat(spec, flat[None])
    layers: list[nn.Module] = []
    for number, (W, b) in enumerate(zip(inr.weights, inr.biases, strict=True)):
        linear = nn.Linear(W.shape[2], W.shape[1])
        linear.weight.data, linear.bias.data = W[0].clone(), b[0].clone()
        activation = Sine(spec.omega_0) if spec.activation == "sine" else nn.ReLU()
        layers += [linear, activation] if number < spec.num_hidden else [linear]
    return nn.Sequential(*layers)


def fit_in_loop(
    spec: SirenSpec, flat: Tensor, coords: Tensor, targets: Tensor, steps: int, stop: float | None = None
) -> tuple[Tensor, int]:
    """One INR at a time: torch module, autograd and torch.optim.Adam. Weights (D,) and the updates made.

    It reads its loss, at little cost, only where it has to stop at one.
    """
    model = module_of(spec, flat)
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE, betas=BETAS, eps=EPSILON)
    step = 0
    while step < steps:
        optimizer.zero_grad()
        loss = (model(coords) + spec.output_bias - targets).square().mean()
        if stop is not None and loss.item() <= stop:
            break
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        step += 1
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()]), step


def fit_by_autograd(spec: SirenSpec, flat: Tensor, coords: Tensor, targets: Tensor, steps: int) -> Tensor:
    """N INRs at once: batched matrix products, autograd and the fused torch.optim.Adam. Weights (N, D)."""
    inrs = INRBatch.from_flat(spec, flat)
    weights, biases = ([part.clone().requires_grad_() for part in parts] for parts in (inrs.weights, inrs.biases))
    optimizer = torch.optim.Adam([*weights, *biases], lr=RATE, betas=BETAS, eps=EPSILON, fused=True)
    points = coords.expand(len(flat), -1, -1)
    for _ in range(steps):
        optimizer.zero_grad()
        hidden = points
        for W, b in zip(weights[:-1], biases[:-1], strict=True):
            hidden = hidden_layer(spec, hidden, W, b)
        values = last_layer(spec, hidden, weights[-1], biases[-1])
        (values - targets).square().mean(dim=(1, 2)).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    pairs = zip(weights, biases, strict=True)
    return torch.cat([part.detach().flatten(1) for pair in pairs for part in pair], dim=1)


State = tuple[Tensor, Tensor, Tensor, Tensor]
"""Weights and both moments of Adam, each (N, D), and the number of steps made, a scalar."""


def initial_state(flat: Tensor) -> State:
    return flat, torch.zeros_like(flat), torch.zeros_like(flat), torch.zeros((), device=flat.device)


def batched_step(spec: SirenSpec) -> Callable[[State, Tensor, Tensor], State]:
    """(state, coords (P, I), targets (N, P, O)) -> state: a step of N INRs by batched products, autograd and Adam."""

    def step(state: State, coords: Tensor, targets: Tensor) -> State:
        flat, mean, square, count = state

        def loss(flat: Tensor) -> Tensor:
            return (INRBatch.from_flat(spec, flat)(coords) - targets).square().mean(dim=(1, 2)).sum()

        slope = torch.func.grad(loss)(flat)
        count = count + 1
        mean = mean.lerp(slope, 1 - BETAS[0])
        square = torch.lerp(square, slope * slope, 1 - BETAS[1])
        root = (square / (1 - BETAS[1] ** count)).sqrt() + EPSILON
        return flat - RATE * (mean / (1 - BETAS[0] ** count)) / root, mean, square, count

    return step


def compiled_fit(spec: SirenSpec) -> Callable[[Tensor, Tensor, Tensor, int], Tensor]:
    """(flat (N, D), coords (P, I), targets (N, P, O), steps) -> (N, D): each `batched_step` compiled by torch.compile."""
    compiled = torch.compile(batched_step(spec), fullgraph=True, dynamic=False)

    def fit(flat: Tensor, coords: Tensor, targets: Tensor, steps: int) -> Tensor:
        state = initial_state(flat)
        for _ in range(steps):
            state = compiled(state, coords, targets)
        return state[0]

    return fit


def has_jax() -> bool:
    return importlib.util.find_spec("jax") is not None


def jax_fit(spec: SirenSpec) -> Callable[..., Any]:
    """(flat, coords, targets, steps), as arrays, -> flat: the same by JAX: vmap of the gradient, a scan over steps, jit. On one thread, where
    JAX had not been loaded before."""
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")
    import jax
    import jax.numpy as jnp

    shapes = [shape for _, shape in spec.parameter_shapes]
    ends = torch.tensor(spec.parameter_sizes).cumsum(0).tolist()[:-1]

    def loss(flat: Any, coords: Any, targets: Any) -> Any:
        parts = [part.reshape(shape) for part, shape in zip(jnp.split(flat, ends), shapes, strict=True)]
        hidden = coords
        for W, b in zip(parts[0:-2:2], parts[1:-2:2], strict=True):
            hidden = jnp.sin(spec.omega_0 * (hidden @ W.T + b))
        return jnp.mean((hidden @ parts[-2].T + parts[-1] + spec.output_bias - targets) ** 2)

    slope_of = jax.vmap(jax.grad(loss), in_axes=(0, None, 0))

    def fit(flat: Any, coords: Any, targets: Any, steps: int) -> Any:
        def step(state: Any, number: Any) -> Any:
            flat, mean, square = state
            slope = slope_of(flat, coords, targets)
            mean = BETAS[0] * mean + (1 - BETAS[0]) * slope
            square = BETAS[1] * square + (1 - BETAS[1]) * slope**2
            root = jnp.sqrt(square / (1 - BETAS[1] ** number)) + EPSILON
            return (flat - RATE * (mean / (1 - BETAS[0] ** number)) / root, mean, square), None

        state = (flat, jnp.zeros_like(flat), jnp.zeros_like(flat))
        return jax.lax.scan(step, state, jnp.arange(1, steps + 1))[0][0]

    return jax.jit(fit, static_argnums=3)  # type: ignore[no-any-return]
