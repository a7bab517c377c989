"""Conventions: what the numbers in other projects' files mean, and their exact conversion to and from this package's.

Foreign files hold neither omega_0 nor the offset of the output, the order of the coordinates or the range of the targets.
Everywhere a hidden layer computes sin(omega_0 (W x + b)). Shape letters: N INRs, I inputs and O outputs of a layer.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from inr_factory.errors import UsageError, did_you_mean
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.mlp_layers import spec_of
from inr_factory.inr.spec import SirenSpec, Start

Order = Literal["xy", "rowcol"]


@dataclass(frozen=True)
class Targets:
    """The range that INRs were fitted in: value in [0, 1] = foreign value * std + mean, by channel or for all.

    `raw`: unknown, or no values of an image; kept as they are.
    """

    name: str
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    @property
    def raw(self) -> bool:
        return self.name == "raw"

    @property
    def rescales(self) -> bool:
        return any(self.mean) or any(value != 1 for value in self.std)


# imagenet: of Implicit-Zoo's configuration. cifar10, mnist: of fit-a-nef's image_dataset/utils.py.
TARGETS = {
    targets.name: targets
    for targets in (
        Targets("unit"),
        Targets("signed", (0.5,), (0.5,)),
        Targets("imagenet", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        Targets("cifar10", (0.49186882, 0.48265392, 0.44717726), (0.24697122, 0.24338895, 0.2615926)),
        Targets("mnist", (0.13066047,), (0.30810782,)),
        Targets("raw"),
    )
}


@dataclass(frozen=True)
class Convention:
    """`output_bias` is what the project's code adds to the last layer's result; None where the user must give it.

    `order` is that of the inputs: (x, y) = (column, row), or (row, column). `start` is the kind of initialization.
    `first_omega_0` is the omega_0 of the first layer where it differs from that of the others.
    """

    name: str
    omega_0: float | None = 30.0
    output_bias: float | None = 0.0
    order: Order = "xy"
    targets: Targets | None = TARGETS["unit"]
    start: Start = "siren"
    first_omega_0: float | None = None

    def __str__(self) -> str:
        targets = self.targets.name if self.targets else "?"
        first = "" if self.first_omega_0 is None else f" ({self.first_omega_0:g} in the first layer)"
        return f"omega_0 {self.omega_0:g}{first}, output {self.output_bias:+g}, {self.order}, targets {targets}"

    def spec(self, dims: Sequence[int]) -> SirenSpec:
        """The spec of foreign INRs of these dims, in their convention. ValueError as `spec_of` raises it."""
        assert self.omega_0 is not None, "a convention is complete before INRs are read"
        assert self.output_bias is not None, "a convention is complete before INRs are read"
        return spec_of(dims, self.omega_0, self.output_bias, self.start)

    @property
    def stored_output_bias(self) -> float:
        """The output_bias of an imported INR's spec: the convention's, or the middle of [0, 1] if targets are rescaled."""
        return float(self.output_bias or 0) if self.targets is None or not self.targets.rescales else 0.5


CONVENTIONS = {
    convention.name: convention
    for convention in (
        Convention("inr-factory", None, None),
        Convention("dwsnets", output_bias=0.5, start="dwsnets"),
        Convention("siren", None, order="rowcol", targets=TARGETS["signed"]),
        Convention("nfn", order="rowcol", targets=TARGETS["signed"]),
        Convention("implicit-zoo", targets=TARGETS["imagenet"], start="dwsnets"),
        Convention("fit-a-nef", None, targets=None),
        Convention("inr2vec", targets=TARGETS["raw"]),
    )
}


def complete_convention(
    name: str,
    omega_0: float | None = None,
    output_bias: float | None = None,
    order: str | None = None,
    targets: str | None = None,
    first_omega_0: float | None = None,
) -> Convention:
    """The named convention with the given values in place of its own. UsageError where the result is incomplete."""
    if name not in CONVENTIONS:
        raise UsageError(f"unknown convention {name!r}; {did_you_mean(name, CONVENTIONS)}")
    convention = CONVENTIONS[name]
    if order is not None and order not in ("xy", "rowcol"):
        raise UsageError(f"--order must be xy or rowcol, got {order!r}")
    convention = replace(
        convention,
        omega_0=convention.omega_0 if omega_0 is None else omega_0,
        output_bias=convention.output_bias if output_bias is None else output_bias,
        order=convention.order if order is None else order,  # type: ignore[arg-type]
        targets=convention.targets if targets is None else parse_targets(targets),
        first_omega_0=first_omega_0,
    )
    if first_omega_0 is not None and not 0 < first_omega_0 < math.inf:
        raise UsageError(f"--first-omega-0 must be positive, got {first_omega_0:g}")
    lacking = {
        "--omega-0": convention.omega_0,
        "--output-bias": convention.output_bias,
        "--targets": convention.targets,
    }
    missing = [option for option, value in lacking.items() if value is None]
    if missing:
        raise UsageError(
            f"the files do not say {' and '.join(missing)} and convention {name} does not imply it; give {missing[0]}"
        )
    return convention


def parse_targets(text: str) -> Targets:
    """Targets by name, or as MEAN/STD with one number a channel: 0.49,0.48,0.45/0.25,0.24,0.26."""
    if text in TARGETS:
        return TARGETS[text]
    if "/" not in text:
        raise UsageError(
            f"unknown --targets {text!r}; {did_you_mean(text, TARGETS)}, or MEAN/STD, one number a channel"
        )
    try:
        mean, std = (tuple(float(part) for part in side.split(",")) for side in text.split("/"))
    except ValueError:
        raise UsageError(f"--targets takes MEAN/STD, one number a channel, got {text!r}") from None
    if (
        len(mean) != len(std)
        or not all(math.isfinite(value) for value in mean)
        or not all(0 < s < math.inf for s in std)
    ):
        raise UsageError(f"--targets needs as many means as positive standard deviations, got {text!r}")
    return Targets(text, mean, std)


def from_convention(foreign: INRBatch, convention: Convention) -> INRBatch:
    """The same functions with (x, y) inputs and values in [0, 1]; weights and biases float32.

    The spec of `foreign` has the convention's output_bias. Columns of W_0 are swapped exactly. Another range of targets
    goes into the last layer, computed in float64 and rounded once; [-1, 1] is exact, since 1/2 is a power of two.
    Another omega_0 of the first layer goes into its weights and biases: w (W x + b) = omega_0 (W w/omega_0 x + b w/omega_0).
    """
    weights, biases = list(foreign.weights), list(foreign.biases)
    if convention.first_omega_0 is not None:
        factor = convention.first_omega_0 / foreign.spec.omega_0
        weights[0], biases[0] = ((side[0].double() * factor).float() for side in (weights, biases))
    if convention.order == "rowcol":
        weights[0] = _swap_columns(weights[0])
    if convention.targets is not None and convention.targets.rescales:
        mean, std = _channels(convention.targets, foreign.spec)
        weights[-1] = (weights[-1].double() * std[:, None]).float()
        biases[-1] = (
            (biases[-1].double() + foreign.spec.output_bias) * std + mean - convention.stored_output_bias
        ).float()
    spec = replace(foreign.spec, output_bias=convention.stored_output_bias)
    return INRBatch(spec, tuple(weights), tuple(biases))


def to_convention(native: INRBatch, convention: Convention) -> INRBatch | None:
    """The same functions in a convention; None where `from_convention` would not give the same bits again."""
    spec = native.spec
    if convention.omega_0 != spec.omega_0 or (convention.order == "rowcol" and spec.in_dim != 2):
        return None
    weights, biases = list(native.weights), list(native.biases)
    if convention.order == "rowcol":
        weights[0] = _swap_columns(weights[0])
    if convention.targets is not None and convention.targets.rescales:
        if len(convention.targets.mean) not in (1, spec.out_dim):
            return None
        mean, std = _channels(convention.targets, spec)
        weights[-1] = (weights[-1].double() / std[:, None]).float()
        biases[-1] = (
            (biases[-1].double() + spec.output_bias - mean) / std - float(convention.output_bias or 0)
        ).float()
    foreign = INRBatch(replace(spec, output_bias=float(convention.output_bias or 0)), tuple(weights), tuple(biases))
    back = from_convention(foreign, convention)
    same = back.spec.output_bias == spec.output_bias and torch.equal(
        back.flatten().view(torch.int32), native.flatten().view(torch.int32)
    )
    return foreign if same else None


def _swap_columns(W: Tensor) -> Tensor:
    """W_0 (N, O, 2) with its two columns in the other order."""
    if W.shape[-1] != 2:
        raise UsageError(
            f"the order of coordinates is of INRs with 2 inputs, these have {W.shape[-1]}; give --order xy"
        )
    return W.flip(-1).contiguous()


def _channels(targets: Targets, spec: SirenSpec) -> tuple[Tensor, Tensor]:
    """Mean and std (O,) float64."""
    if len(targets.mean) not in (1, spec.out_dim):
        raise UsageError(
            f"targets {targets.name} are of {len(targets.mean)} channels, the INRs have {spec.out_dim}; give --targets"
        )
    mean, std = (torch.tensor(side, dtype=torch.float64).expand(spec.out_dim) for side in (targets.mean, targets.std))
    return mean, std
