"""Conventions: what the numbers in other projects' files mean, and their exact conversion to and from this package's.

Foreign files hold neither omega_0 nor the offset of the output, the order of the coordinates or the range of the targets,
nor activation and encoding. Sines are sin(omega_0 (W x + b)). Shape letters: N INRs, I inputs and O outputs of a layer.
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
from inr_factory.inr.spec import WITHOUT_OMEGA_0, Activation, SirenSpec, Start

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
    `first_omega_0` is the omega_0 of the first layer where it differs from that of the others. `activation`,
    `frequencies`, `first_frequency` and `coordinates` are those of `SirenSpec`. Their coordinates reach from -extent to
    extent, a power of two; where both axes of an image are divided by its height, as in COIN, `aspect` is
    (width - 1) / (height - 1), and None where the user must give the size.
    """

    name: str
    omega_0: float | None = 30.0
    output_bias: float | None = 0.0
    order: Order = "xy"
    targets: Targets | None = TARGETS["unit"]
    start: Start = "siren"
    first_omega_0: float | None = None
    activation: Activation = "sine"
    frequencies: int = 0
    first_frequency: float = math.pi
    coordinates: bool = True
    extent: float = 1.0
    aspect: float | None = 1.0

    def __str__(self) -> str:
        targets = self.targets.name if self.targets else "?"
        first = "" if self.first_omega_0 is None else f" ({self.first_omega_0:g} in the first layer)"
        kind = "" if self.activation == "sine" else f"{self.activation}, "
        kind += f"{self.frequencies} frequencies from {self.first_frequency:g}, " * (self.frequencies > 0)
        kind += f"omega_0 {self.omega_0:g}{first}, " * self.has_omega_0
        return f"{kind}output {self.output_bias:+g}, {self.order}, targets {targets}"

    @property
    def has_omega_0(self) -> bool:
        return self.activation not in WITHOUT_OMEGA_0

    def spec(self, dims: Sequence[int]) -> SirenSpec:
        """The spec of foreign INRs of these dims, in their convention. ValueError as `spec_of` raises it, or where the
        first layer has other inputs than the encoding gives."""
        assert self.omega_0 is not None, "a convention is complete before INRs are read"
        assert self.output_bias is not None, "a convention is complete before INRs are read"
        inputs = int(self.coordinates) + 2 * self.frequencies
        if dims[0] % inputs:
            raise UsageError(
                f"{self.frequencies} frequencies {'with' if self.coordinates else 'without'} coordinates give the first "
                f"layer a multiple of {inputs} inputs, these INRs have {dims[0]}; give --frequencies"
            )
        return replace(
            spec_of(dims, self.omega_0, self.output_bias, self.start),
            in_dim=dims[0] // inputs, activation=self.activation, frequencies=self.frequencies,
            first_frequency=self.first_frequency, coordinates=self.coordinates,
        )  # fmt: skip

    def stored_spec(self, foreign: SirenSpec) -> SirenSpec:
        """The spec of imported INRs: with the stored output_bias, and frequencies of coordinates from -1 to 1."""
        first = foreign.first_frequency * (self.extent if foreign.frequencies else 1)
        return replace(foreign, output_bias=self.stored_output_bias, first_frequency=first)

    def foreign_spec(self, stored: SirenSpec) -> SirenSpec:
        """The reverse of `stored_spec`."""
        first = stored.first_frequency / (self.extent if stored.frequencies else 1)
        return replace(stored, output_bias=float(self.output_bias or 0), first_frequency=first)

    def of_kind(self, foreign: SirenSpec) -> "Convention":
        """This convention, for INRs of that spec's activation and encoding."""
        return replace(
            self, activation=foreign.activation, frequencies=foreign.frequencies,
            first_frequency=foreign.first_frequency, coordinates=foreign.coordinates,
        )  # fmt: skip

    def difference(self, stored: SirenSpec) -> str:
        """In what INRs of a set are of another kind than this convention's, or an empty string."""
        name, foreign = self.name, self.foreign_spec(stored)
        if foreign.activation != self.activation:
            mine = "sines" if self.activation == "sine" else self.activation
            return f"the set has INRs of {foreign.activation}, and convention {name} {mine}"
        if self.of_kind(foreign) != self:
            wanted = f"{self.frequencies} from {self.first_frequency * self.extent:g}"
            return (
                f"the set has {stored.frequencies} frequencies from {stored.first_frequency:g}"
                f"{'' if stored.coordinates else ' without coordinates'}, and convention {name} {wanted}"
            )
        if self.has_omega_0 and foreign.omega_0 != self.omega_0:
            return f"the set has omega_0 {foreign.omega_0:g}, and convention {name} {self.omega_0:g}"
        return ""

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
        Convention("siren-pytorch", 1.0, order="rowcol", first_omega_0=30.0),
        Convention("coin", order="rowcol", aspect=None),
        Convention(
            "hyperdiffusion",
            targets=TARGETS["raw"],
            start="linear",
            activation="relu",
            frequencies=4,
            first_frequency=1.0,
            extent=0.5,
        ),
    )
}


def complete_convention(
    name: str,
    omega_0: float | None = None,
    output_bias: float | None = None,
    order: str | None = None,
    targets: str | None = None,
    first_omega_0: float | None = None,
    activation: str | None = None,
    frequencies: int | None = None,
    first_frequency: float | None = None,
    coordinates: bool | None = None,
    size: tuple[int, int] | None = None,
) -> Convention:
    """The named convention with the given values in place of its own. UsageError where the result is incomplete.

    `size` is the (height, width) of images, of which an `aspect` follows.
    """
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
        first_omega_0=convention.first_omega_0 if first_omega_0 is None else first_omega_0,
        frequencies=convention.frequencies if frequencies is None else frequencies,
        first_frequency=convention.first_frequency if first_frequency is None else first_frequency,
        coordinates=convention.coordinates if coordinates is None else coordinates,
        aspect=convention.aspect if convention.aspect or size is None else aspect_of(size),
    )
    if activation is not None and activation != convention.activation:
        start: Start = "finer" if activation == "finer" else "siren" if activation == "sine" else "linear"
        convention = replace(convention, activation=activation, start=start, first_omega_0=first_omega_0)  # type: ignore[arg-type]
    SirenSpec(
        1, 1, activation=convention.activation, frequencies=convention.frequencies,
        first_frequency=convention.first_frequency, coordinates=convention.coordinates,
    )  # fmt: skip
    if first_omega_0 is not None and convention.activation != "sine":
        raise UsageError(f"--first-omega-0 is of sines, these INRs have {convention.activation}; leave it out")
    if convention.frequencies and convention.aspect not in (None, 1):
        raise UsageError(
            "coordinates divided by the height have no exact conversion with --frequencies; leave them out"
        )
    if not convention.has_omega_0 and convention.omega_0 is None:
        convention = replace(convention, omega_0=30.0)  # no layer has it
    if first_omega_0 is not None and not 0 < first_omega_0 < math.inf:
        raise UsageError(f"--first-omega-0 must be positive, got {first_omega_0:g}")
    lacking = {
        "--omega-0": convention.omega_0,
        "--output-bias": convention.output_bias,
        "--targets": convention.targets,
        "--size": convention.aspect,
    }
    missing = [option for option, value in lacking.items() if value is None]
    if missing:
        raise UsageError(
            f"the files do not say {' and '.join(missing)} and convention {name} does not imply it; give {missing[0]}"
        )
    return convention


def aspect_of(size: tuple[int, int]) -> float:
    """(width - 1) / (height - 1): how far columns reach where rows reach from 0 to 1."""
    if min(size) < 2:
        raise UsageError(f"this convention needs images of 2 rows and columns or more, got --size {size[0]}x{size[1]}")
    return (size[1] - 1) / (size[0] - 1)


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
    So do other coordinates: an `extent`, exactly, and an `aspect`, whose x is (x + 1) aspect - 1.
    """
    weights, biases = list(foreign.weights), list(foreign.biases)
    W, b = weights[0].double(), biases[0].double()
    if convention.first_omega_0 is not None:
        W, b = (side * (convention.first_omega_0 / foreign.spec.omega_0) for side in (W, b))
    if convention.order == "rowcol":
        W = _swap_coordinates(W, foreign.spec)
    if (aspect := convention.aspect or 1.0) != 1:
        b = b + W[..., 0] * (aspect - 1)
        W = torch.cat([W[..., :1] * aspect, W[..., 1:]], dim=-1)
    weights[0], biases[0] = _scale_coordinates(W, convention.extent, foreign.spec).float(), b.float()
    if convention.targets is not None and convention.targets.rescales:
        mean, std = _channels(convention.targets, foreign.spec)
        weights[-1] = (weights[-1].double() * std[:, None]).float()
        biases[-1] = (
            (biases[-1].double() + foreign.spec.output_bias) * std + mean - convention.stored_output_bias
        ).float()
    return INRBatch(convention.stored_spec(foreign.spec), tuple(weights), tuple(biases))


def to_convention(native: INRBatch, convention: Convention) -> INRBatch | None:
    """The same functions in a convention; None where `from_convention` would not give the same bits again."""
    spec = native.spec
    if convention.difference(spec) or (convention.order == "rowcol" and spec.in_dim != 2):
        return None
    weights, biases = list(native.weights), list(native.biases)
    W, b = _scale_coordinates(weights[0].double(), 1 / convention.extent, spec), biases[0].double()
    if (aspect := convention.aspect or 1.0) != 1:
        W = torch.cat([W[..., :1] / aspect, W[..., 1:]], dim=-1)
        b = b - W[..., 0] * (aspect - 1)
    if convention.order == "rowcol":
        W = _swap_coordinates(W, spec)
    if convention.first_omega_0 is not None:
        W, b = (side / (convention.first_omega_0 / spec.omega_0) for side in (W, b))
    weights[0], biases[0] = W.float(), b.float()
    if convention.targets is not None and convention.targets.rescales:
        if len(convention.targets.mean) not in (1, spec.out_dim):
            return None
        mean, std = _channels(convention.targets, spec)
        weights[-1] = (weights[-1].double() / std[:, None]).float()
        biases[-1] = (
            (biases[-1].double() + spec.output_bias - mean) / std - float(convention.output_bias or 0)
        ).float()
    foreign = INRBatch(convention.foreign_spec(spec), tuple(weights), tuple(biases))
    back = from_convention(foreign, convention)
    same = back.spec == spec and torch.equal(back.flatten().view(torch.int32), native.flatten().view(torch.int32))
    return foreign if same else None


def _swap_coordinates(W: Tensor, spec: SirenSpec) -> Tensor:
    """W_0 (N, O, I) with the columns of the two coordinates in the other order, in each part of an encoding."""
    if spec.in_dim != 2:
        raise UsageError(
            f"the order of coordinates is of INRs with 2 inputs, these have {spec.in_dim}; give --order xy"
        )
    return W.reshape(*W.shape[:-1], W.shape[-1] // 2, 2).flip(-1).flatten(-2)


def _scale_coordinates(W: Tensor, factor: float, spec: SirenSpec) -> Tensor:
    """W_0 (N, O, I) with the columns of the coordinates themselves times a factor."""
    if factor == 1 or not spec.coordinates:
        return W
    return torch.cat([W[..., : spec.in_dim] * factor, W[..., spec.in_dim :]], dim=-1)


def _channels(targets: Targets, spec: SirenSpec) -> tuple[Tensor, Tensor]:
    """Mean and std (O,) float64."""
    if len(targets.mean) not in (1, spec.out_dim):
        raise UsageError(
            f"targets {targets.name} are of {len(targets.mean)} channels, the INRs have {spec.out_dim}; give --targets"
        )
    mean, std = (torch.tensor(side, dtype=torch.float64).expand(spec.out_dim) for side in (targets.mean, targets.std))
    return mean, std
