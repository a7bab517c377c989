"""Perturbation: gradients of a classifier taken at perturbed weights, so that it generalises better.

Shape letters: N INRs, C classes.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Generator, Tensor, nn

from inr_factory.inr.batch import INRBatch
from inr_factory.learning.option_strings import Option, check_integer, check_number, check_word, parse_option

Loss = Callable[[INRBatch, Tensor], Tensor]
"""The mean loss of a model over a batch of INRs and their targets (N, C)."""


@dataclass(frozen=True)
class Perturbation(Option):
    """How gradients are taken. `backward` puts them into .grad, None before, and returns the loss that they are of, a
    scalar. `extra_parameters` are learned besides the model's; `parameters_for` initializes them."""

    def parameters_for(self, model: nn.Module) -> list[nn.Parameter]:
        return []

    def backward(
        self,
        model: nn.Module,
        loss: Loss,
        inrs: INRBatch,
        targets: Tensor,
        extra_parameters: Sequence[nn.Parameter] = (),
    ) -> Tensor:
        raise NotImplementedError

    def eval_model(self, model: nn.Module, extra_parameters: Sequence[nn.Parameter], generator: Generator) -> nn.Module:
        """The model that is evaluated and saved: the model itself, or another made from it."""
        return model


@dataclass(frozen=True)
class DAMP(Perturbation):
    """The batch in `parts`, each with all weight matrices times 1 + sigma z of its own, z standard normal; the mean of
    the gradients there moves the clean weights (diversified multiplicative perturbation, Trinh et al., NeurIPS 2024).

    A batch that is smaller than two INRs a part is cut into fewer.
    """

    name: ClassVar[str] = "damp"
    sigma: float = 0.2
    parts: int = 8

    def __post_init__(self) -> None:
        check_number(self, "sigma", 0, 10)
        check_integer(self, "parts", 1, 1024)

    def backward(
        self,
        model: nn.Module,
        loss: Loss,
        inrs: INRBatch,
        targets: Tensor,
        extra_parameters: Sequence[nn.Parameter] = (),
    ) -> Tensor:
        count = len(inrs)
        parts = max(1, min(self.parts, count // 2))
        total = torch.zeros((), device=targets.device)
        for number in range(parts):
            rows = slice(count * number // parts, count * (number + 1) // parts)
            with _perturbed(model, lambda weight: weight * (1 + self.sigma * torch.randn_like(weight))):
                share = loss(inrs.select(rows), targets[rows]) * (rows.stop - rows.start) / count
                share.backward()  # type: ignore[no-untyped-call]
            total += share.detach()
        return total


@dataclass(frozen=True)
class ASAM(Perturbation):
    """The gradient where the loss is worst nearby, in steps that go by the size of each weight: theta + rho T² g / |T g|
    with T = |theta| + eta, of weight matrices alone (adaptive sharpness-aware minimisation, Kwon et al., ICML 2021)."""

    name: ClassVar[str] = "asam"
    rho: float = 0.5
    eta: float = 0.01

    def __post_init__(self) -> None:
        check_number(self, "rho", 0, 100)
        check_number(self, "eta", 0, 1)

    def backward(
        self,
        model: nn.Module,
        loss: Loss,
        inrs: INRBatch,
        targets: Tensor,
        extra_parameters: Sequence[nn.Parameter] = (),
    ) -> Tensor:
        weights = _matrices(model)
        value = loss(inrs, targets)
        gradients = torch.autograd.grad(value, weights)
        with torch.no_grad():
            scales = [weight.abs() + self.eta for weight in weights]
            norm = torch.stack([(T * g).square().sum() for T, g in zip(scales, gradients, strict=True)]).sum().sqrt()
            steps = iter([self.rho / (norm + 1e-12) * T * T * g for T, g in zip(scales, gradients, strict=True)])
        with _perturbed(model, lambda weight: weight + next(steps)):
            loss(inrs, targets).backward()  # type: ignore[no-untyped-call]
        return value.detach()


@dataclass(frozen=True)
class WAT(Perturbation):
    """Losses are those of shadow weights p T(W): T random at each step, p a number a matrix that is learned, from 1 on;
    the gradient moves p and the plain weights W (weights augmentation, Zhuang et al. 2024, arXiv 2405.19590).

    The paper leaves T open. Here, of each matrix: "noise" multiplies every weight by 1 + sigma z, z standard normal,
    "scale" every row, and "drop" sets a share sigma of the weights to 0 and divides the others by 1 - sigma.

    `evaluate` "plain" keeps and measures W, the paper's accuracy-oriented mode, "shadow" one draw of p T(W) that is
    the same throughout an epoch, its desire-oriented mode.
    """

    name: ClassVar[str] = "wat"
    transform: Literal["noise", "scale", "drop"] = "noise"
    sigma: float = 0.2
    evaluate: Literal["plain", "shadow"] = "plain"

    def __post_init__(self) -> None:
        check_word(self, "transform")
        check_word(self, "evaluate")
        check_number(self, "sigma", 0, 0.95 if self.transform == "drop" else 10)

    def parameters_for(self, model: nn.Module) -> list[nn.Parameter]:
        return [nn.Parameter(torch.ones((), device=weight.device)) for weight in _matrices(model)]

    def backward(
        self,
        model: nn.Module,
        loss: Loss,
        inrs: INRBatch,
        targets: Tensor,
        extra_parameters: Sequence[nn.Parameter] = (),
    ) -> Tensor:
        weights = _matrices(model)
        factors = [self._factor(weight, None) for weight in weights]
        scales = iter(p.detach() * factor for p, factor in zip(extra_parameters, factors, strict=True))
        with _perturbed(model, lambda weight: weight * next(scales)):
            value = loss(inrs, targets)
            value.backward()  # type: ignore[no-untyped-call]
        for weight, p, factor in zip(weights, extra_parameters, factors, strict=True):
            if weight.grad is not None:  # of the shadow weight, S = p T(W)
                gradient = weight.grad * factor
                p.grad = (gradient * weight.detach()).sum()
                weight.grad = p.detach() * gradient
        return value.detach()

    def eval_model(self, model: nn.Module, extra_parameters: Sequence[nn.Parameter], generator: Generator) -> nn.Module:
        if self.evaluate == "plain":
            return model
        shadow = copy.deepcopy(model)
        with torch.no_grad():
            for weight, p in zip(_matrices(shadow), extra_parameters, strict=True):
                weight.mul_(p * self._factor(weight, generator))
        return shadow

    def _factor(self, weight: Tensor, generator: Generator | None) -> Tensor:
        """T(W) / W, drawn on the CPU by the generator, or by torch's global one of its device."""
        shape = (*weight.shape[:-1], 1) if self.transform == "scale" else weight.shape
        device = weight.device if generator is None else generator.device
        draw = torch.rand if self.transform == "drop" else torch.randn
        values = draw(shape, generator=generator, device=device).to(weight)
        return (values >= self.sigma) / (1 - self.sigma) if self.transform == "drop" else 1 + self.sigma * values


PERTURBATIONS: dict[str, type[Perturbation]] = {kind.name: kind for kind in (DAMP, ASAM, WAT)}


def parse_perturbation(text: str) -> Perturbation:
    """`damp:sigma=0.1` and the like. Raises UsageError as `parse_option` does."""
    return parse_option(text, PERTURBATIONS, "perturbation")


def _matrices(model: nn.Module) -> list[nn.Parameter]:
    """Its weight matrices: parameters of two and more dimensions, which biases and norms are not."""
    return [parameter for parameter in model.parameters() if parameter.dim() >= 2 and parameter.requires_grad]


@contextmanager
def _perturbed(model: nn.Module, move: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Context in which the weight matrices are those that `move` returns; restored afterwards."""
    weights = _matrices(model)
    clean = [weight.detach().clone() for weight in weights]
    with torch.no_grad():
        for weight in weights:
            weight.copy_(move(weight))
    try:
        yield
    finally:
        with torch.no_grad():
            for weight, before in zip(weights, clean, strict=True):
                weight.copy_(before)
