"""Perturbation: gradients of a classifier taken beside its weights instead of at them, so that it generalises better.

Shape letters: N INRs, C classes.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from inr_factory.inr import INRBatch
from inr_factory.options import Option, check_number, check_whole, parse_option

Loss = Callable[[INRBatch, Tensor], Tensor]
"""The mean loss of a model over a batch of INRs and their targets (N, C)."""


@dataclass(frozen=True)
class Perturbation(Option):
    """How gradients are taken. `backward` adds them to .grad and gives the loss that they are of, a scalar."""

    def backward(self, model: nn.Module, loss: Loss, inrs: INRBatch, targets: Tensor) -> Tensor:
        raise NotImplementedError


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
        check_whole(self, "parts", 1, 1024)

    def backward(self, model: nn.Module, loss: Loss, inrs: INRBatch, targets: Tensor) -> Tensor:
        count = len(inrs)
        parts = max(1, min(self.parts, count // 2))
        total = torch.zeros((), device=targets.device)
        for number in range(parts):
            rows = slice(count * number // parts, count * (number + 1) // parts)
            with _moved(model, lambda weight: weight * (1 + self.sigma * torch.randn_like(weight))):
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

    def backward(self, model: nn.Module, loss: Loss, inrs: INRBatch, targets: Tensor) -> Tensor:
        weights = _matrices(model)
        here = loss(inrs, targets)
        slopes = torch.autograd.grad(here, weights)
        with torch.no_grad():
            scales = [weight.abs() + self.eta for weight in weights]
            norm = torch.stack([(T * g).square().sum() for T, g in zip(scales, slopes, strict=True)]).sum().sqrt()
            steps = iter([self.rho / (norm + 1e-12) * T * T * g for T, g in zip(scales, slopes, strict=True)])
        with _moved(model, lambda weight: weight + next(steps)):
            loss(inrs, targets).backward()  # type: ignore[no-untyped-call]
        return here.detach()


PERTURBATIONS: dict[str, type[Perturbation]] = {kind.name: kind for kind in (DAMP, ASAM)}


def parse_perturbation(text: str) -> Perturbation:
    """`damp:sigma=0.1` and the like. Raises UsageError as `parse_option` does."""
    return parse_option(text, PERTURBATIONS, "perturbation")


def _matrices(model: nn.Module) -> list[nn.Parameter]:
    """Its weight matrices: parameters of two and more dimensions, which biases and norms are not."""
    return [parameter for parameter in model.parameters() if parameter.dim() >= 2 and parameter.requires_grad]


@contextmanager
def _moved(model: nn.Module, move: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Meanwhile, its weight matrices are elsewhere."""
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
