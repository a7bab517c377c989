"""Perturbation: gradients of a classifier taken at perturbed weights, so that it generalises better.

Shape letters: N INRs, C classes.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import torch
from torch import Generator, Tensor, nn

from inr_factory.inr.batch import INRBatch
from inr_factory.learning.models.parameter_kinds import ParameterKind, parameter_kinds
from inr_factory.learning.option_strings import Option, check_integer, check_number, check_word, parse_option

Loss = Callable[[INRBatch, Tensor], Tensor]
"""The mean loss of a model over a batch of INRs and their targets (N, C)."""
Move = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Perturbation(Option):
    """How gradients are taken. `backward` puts them into .grad, None before, and returns the loss that they are of, a
    scalar. `extra_parameters` are learned besides the model's; `parameters_for` initializes them.

    `kinds` of parameters are moved, see `parameter_kinds`: biases, positions and probe points stay. Under `rules` 1, of
    runs before version 0.2, all parameters of two or more dimensions are moved instead.
    """

    kinds: ClassVar[tuple[ParameterKind, ...]] = ("kernel", "gain")

    def moved(self, model: nn.Module, rules: int = 2) -> list[nn.Parameter]:
        """The parameters that are moved, in the model's order; frozen ones are not."""
        kinds = parameter_kinds(model)
        return [
            parameter
            for name, parameter in model.named_parameters()
            if parameter.requires_grad and (parameter.dim() > 1 if rules == 1 else kinds[name] in self.kinds)
        ]

    def parameters_for(self, model: nn.Module, rules: int = 2, seed: int = 0) -> list[nn.Parameter]:
        return []

    def backward(
        self,
        model: nn.Module,
        loss: Loss,
        inrs: INRBatch,
        targets: Tensor,
        extra_parameters: Sequence[nn.Parameter] = (),
        rules: int = 2,
    ) -> Tensor:
        raise NotImplementedError

    def eval_model(
        self, model: nn.Module, extra_parameters: Sequence[nn.Parameter], generator: Generator, rules: int = 2
    ) -> nn.Module:
        """The model that is evaluated and saved: the model itself, or another made from it."""
        return model


@dataclass(frozen=True)
class DAMP(Perturbation):
    """The batch in `parts`, each with all kernels and gains times 1 + sigma z of its own, z standard normal; the mean of
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
        rules: int = 2,
    ) -> Tensor:
        count, weights = len(inrs), self.moved(model, rules)
        parts = max(1, min(self.parts, count // 2))
        total = torch.zeros((), device=targets.device)
        for number in range(parts):
            rows = slice(count * number // parts, count * (number + 1) // parts)
            with _perturbed(weights, [weight * (1 + self.sigma * torch.randn_like(weight)) for weight in weights]):
                share = loss(inrs.select(rows), targets[rows]) * (rows.stop - rows.start) / count
                share.backward()  # type: ignore[no-untyped-call]
            total += share.detach()
        return total


@dataclass(frozen=True)
class ASAM(Perturbation):
    """The gradient where the loss is worst nearby, in steps that go by the size of each weight: theta + rho T² g / |T g|
    with T = |theta| + eta (adaptive sharpness-aware minimisation, Kwon et al., ICML 2021). It moves kernels and gains;
    the paper's code also moves biases, with T = 1."""

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
        rules: int = 2,
    ) -> Tensor:
        weights = self.moved(model, rules)
        value = loss(inrs, targets)
        gradients = torch.autograd.grad(value, weights, materialize_grads=True)
        with torch.no_grad():
            scales = [weight.abs() + self.eta for weight in weights]
            norm = torch.stack([(T * g).square().sum() for T, g in zip(scales, gradients, strict=True)]).sum().sqrt()
            steps = [self.rho / (norm + 1e-12) * T * T * g for T, g in zip(scales, gradients, strict=True)]
        with _perturbed(weights, [weight + step for weight, step in zip(weights, steps, strict=True)]):
            loss(inrs, targets).backward()  # type: ignore[no-untyped-call]
        return value.detach()


@dataclass(frozen=True)
class WAT(Perturbation):
    """Losses are those of shadow weights p T(W): T random at each step, p a learned number for each kernel; the gradient
    moves p and the plain weights W (weights augmentation, Zhuang et al. 2024, arXiv 2405.19590).

    The authors' T translates or crops kernels of convolutions at random, and their p starts uniform in [0, 1). Matrices
    have no space to crop. "shift", the nearest form, shifts the rows and the columns of each matrix cyclically, each by
    up to a share sigma of them. Neighbours in a matrix are not neighbours in space, so that other features meet other
    weights. Of our own, "noise" multiplies every weight by 1 + sigma z, z standard normal, "scale" every row, and "drop"
    sets a share sigma of the weights to 0 and divides the others by 1 - sigma. `start` "uniform" draws p as the authors
    do; by default p starts at 1.

    `evaluate` "plain" keeps and measures W, the paper's accuracy-oriented mode, "shadow" one draw of p T(W) that is
    the same throughout an epoch, its desire-oriented mode.
    """

    name: ClassVar[str] = "wat"
    kinds: ClassVar[tuple[ParameterKind, ...]] = ("kernel",)
    transform: Literal["noise", "scale", "drop", "shift"] = "noise"
    sigma: float = 0.2
    evaluate: Literal["plain", "shadow"] = "plain"
    start: Literal["one", "uniform"] = "one"

    def __post_init__(self) -> None:
        check_word(self, "transform")
        check_word(self, "evaluate")
        check_word(self, "start")
        check_number(self, "sigma", 0, {"drop": 0.95, "shift": 1}.get(self.transform, 10))

    def parameters_for(self, model: nn.Module, rules: int = 2, seed: int = 0) -> list[nn.Parameter]:
        generator = Generator().manual_seed(seed)
        draw = partial(torch.rand, generator=generator) if self.start == "uniform" else torch.ones
        return [nn.Parameter(draw(()).to(weight.device)) for weight in self.moved(model, rules)]

    def backward(
        self,
        model: nn.Module,
        loss: Loss,
        inrs: INRBatch,
        targets: Tensor,
        extra_parameters: Sequence[nn.Parameter] = (),
        rules: int = 2,
    ) -> Tensor:
        weights = self.moved(model, rules)
        maps = [self._draw(weight, None) for weight in weights]
        moved = [T(weight.detach()) for weight, (T, _) in zip(weights, maps, strict=True)]
        shadows = [p.detach() * image for p, image in zip(extra_parameters, moved, strict=True)]
        with _perturbed(weights, shadows):
            value = loss(inrs, targets)
            value.backward()  # type: ignore[no-untyped-call]
        for weight, p, image, (_, transposed) in zip(weights, extra_parameters, moved, maps, strict=True):
            if weight.grad is not None:  # of the shadow weight, S = p T(W), and T is linear
                p.grad = (weight.grad * image).sum()
                weight.grad = p.detach() * transposed(weight.grad)
        return value.detach()

    def eval_model(
        self, model: nn.Module, extra_parameters: Sequence[nn.Parameter], generator: Generator, rules: int = 2
    ) -> nn.Module:
        if self.evaluate == "plain":
            return model
        shadow = copy.deepcopy(model)
        with torch.no_grad():
            for weight, p in zip(self.moved(shadow, rules), extra_parameters, strict=True):
                weight.copy_(p * self._draw(weight, generator)[0](weight))
        return shadow

    def _draw(self, weight: Tensor, generator: Generator | None) -> tuple[Move, Move]:
        """T, a linear map of weights, and its transpose; drawn by the generator, or by torch's global one."""
        device = weight.device if generator is None else generator.device
        if self.transform == "shift":
            return _shifts(weight, self.sigma, generator, device)
        shape = (*weight.shape[:-1], 1) if self.transform == "scale" else weight.shape
        draw = torch.rand if self.transform == "drop" else torch.randn
        values = draw(shape, generator=generator, device=device).to(weight)
        factor = (values >= self.sigma) / (1 - self.sigma) if self.transform == "drop" else 1 + self.sigma * values
        return (lambda x: x * factor), (lambda x: x * factor)


def _shifts(weight: Tensor, share: float, generator: Generator | None, device: torch.device) -> tuple[Move, Move]:
    """Cyclic shifts of the rows and columns of (..., R, C) by up to a share of them, another for each matrix."""
    rows, columns = weight.shape[-2:]
    stack = weight.shape[:-2]
    draws = torch.rand(2, *stack, generator=generator, device=device)
    by_row, by_column = (
        ((2 * draw - 1) * share * size).round().long().to(weight.device)
        for draw, size in zip(draws, (rows, columns), strict=True)
    )

    def roll(x: Tensor, sign: int) -> Tensor:
        row = (torch.arange(rows, device=x.device) - sign * by_row[..., None]) % rows
        column = (torch.arange(columns, device=x.device) - sign * by_column[..., None]) % columns
        return x.gather(-2, row[..., :, None].expand_as(x)).gather(-1, column[..., None, :].expand_as(x))

    return (lambda x: roll(x, 1)), (lambda x: roll(x, -1))


PERTURBATIONS: dict[str, type[Perturbation]] = {kind.name: kind for kind in (DAMP, ASAM, WAT)}


def parse_perturbation(text: str) -> Perturbation:
    """`damp:sigma=0.1` and the like. Raises UsageError as `parse_option` does."""
    return parse_option(text, PERTURBATIONS, "perturbation")


@contextmanager
def _perturbed(weights: Sequence[Tensor], values: Sequence[Tensor]) -> Iterator[None]:
    """Context in which the weights have these values; restored afterwards."""
    clean = [weight.detach().clone() for weight in weights]
    with torch.no_grad():
        for weight, value in zip(weights, values, strict=True):
            weight.copy_(value)
    try:
        yield
    finally:
        with torch.no_grad():
            for weight, before in zip(weights, clean, strict=True):
                weight.copy_(before)
