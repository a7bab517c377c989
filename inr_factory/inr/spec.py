"""The spec of INRs: their architecture. Loads no torch, which keeps runs on a complete set quick.

Shape letters: I inputs and O outputs of a layer, D parameters of one INR.
"""

import itertools
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal, get_args

from inr_factory.errors import UsageError, shorten

Start = Literal["siren", "dwsnets", "linear", "finer"]
Activation = Literal["sine", "relu", "tanh", "gauss", "finer"]

# Larger claims of damaged or foreign files are refused before memory is allocated.
MAX_DIM = 65_536
MAX_FREQUENCIES = 32
WITHOUT_OMEGA_0: tuple[Activation, ...] = ("relu", "tanh")

NEWER_FIELDS = ("first_omega_0", "widths", "frequencies", "first_frequency", "coordinates")


@dataclass(frozen=True)
class SirenSpec:
    """The architecture of an INR: 2-32-32-1 has in_dim 2, hidden_dim 32, num_hidden 2 and out_dim 1.

    Hidden layers compute sin(omega_0 (W x + b)) (Sitzmann et al., NeurIPS 2020); the last layer is linear and
    `output_bias` is added to its result. `start` names the initialization; docs/conventions.md has its bounds.
    Hidden layers of other activations compute, of z = W x + b: relu max(0, z) and tanh tanh(z), without omega_0;
    gauss exp(-(omega_0 z)² / 2), whose omega_0 is 1/a of Ramasinghe and Lucey (ECCV 2022); finer
    sin(omega_0 (|z| + 1) z) (Liu et al., CVPR 2024).

    Args:
        in_dim: coordinates of a point: 2 for images, 3 for shapes.
        out_dim: values at a point: 1 for grey images and shapes, 3 for colour images.
        hidden_dim: neurons of each hidden layer.
        num_hidden: number of hidden layers.
        omega_0: frequency of the sine, greater than 0.
        output_bias: constant added to all values.
        start: initialization: "siren", "dwsnets" or "linear".
        activation: "sine", "relu", "tanh", "gauss" or "finer".
        first_omega_0: that of the first layer, for signals of higher frequencies than the other layers' (audio: 3,000).
            It is how fits start and learn: weights and biases of the first layer are stored times first_omega_0 /
            omega_0, so that an INR is computed, read and changed like any other. None is omega_0.
        widths: neurons of each hidden layer, from the first to the last, where they differ; hidden_dim is then the
            largest and num_hidden their number, whatever was given.
        frequencies: F of a positional encoding (Mildenhall et al., ECCV 2020): the first layer gets sines and cosines
            of the coordinates times first_frequency · 2^k, k = 0 .. F-1. 0 is no encoding.
        first_frequency: the lowest, greater than 0; that paper has pi, its code 1.
        coordinates: whether the coordinates themselves come before the sines and cosines.

    Raises:
        UsageError: for dimensions outside 1 to MAX_DIM, an omega_0, first_omega_0 or first_frequency that is not
            positive, numbers that are not finite, or an unknown start or activation.
    """

    in_dim: int
    out_dim: int
    hidden_dim: int = 32
    num_hidden: int = 2
    omega_0: float = 30.0
    output_bias: float = 0.0
    start: Start = "siren"
    activation: Activation = "sine"
    first_omega_0: float | None = None
    widths: tuple[int, ...] | None = None
    frequencies: int = 0
    first_frequency: float = math.pi
    coordinates: bool = True

    def __post_init__(self) -> None:
        if self.widths is not None:
            self._set_widths()
        for name in ("in_dim", "out_dim", "hidden_dim", "num_hidden"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_DIM:
                raise UsageError(f"{name} of an INR must be a whole number from 1 to {MAX_DIM}, got {shorten(value)}")
        for name in (
            "omega_0",
            "output_bias",
            "first_frequency",
            *["first_omega_0"] * (self.first_omega_0 is not None),
        ):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not math.isfinite(value):
                raise UsageError(f"{name} of an INR must be a finite number, got {shorten(value)}")
        if self.omega_0 <= 0:
            raise UsageError(f"omega_0 must be positive, got {self.omega_0}; the usual value is 30")
        if self.first_omega_0 is not None and (self.first_omega_0 <= 0 or self.activation != "sine"):
            raise UsageError(
                f"first_omega_0 must be positive, and None for INRs of other activations than the sine, got "
                f"{self.first_omega_0}"
            )
        if self.first_omega_0 == self.omega_0:
            object.__setattr__(self, "first_omega_0", None)
        if not isinstance(self.start, str) or self.start not in get_args(Start):
            raise UsageError(f"start must be one of {', '.join(get_args(Start))}, got {shorten(self.start)}")
        if not isinstance(self.activation, str) or self.activation not in get_args(Activation):
            raise UsageError(
                f"activation must be one of {', '.join(get_args(Activation))}, got {shorten(self.activation)}"
            )
        self._check_encoding()

    def _set_widths(self) -> None:
        """hidden_dim and num_hidden of `widths`, which are None where they are all the same."""
        try:
            widths = tuple(self.widths or ())
        except TypeError:
            raise UsageError(f"widths of an INR must be a list of whole numbers, got {shorten(self.widths)}") from None
        for width in widths or (None,):
            if not isinstance(width, int) or isinstance(width, bool) or not 1 <= width <= MAX_DIM:
                raise UsageError(
                    f"widths of an INR must be whole numbers from 1 to {MAX_DIM}, one for each hidden layer, got "
                    f"{shorten(self.widths)}"
                )
        object.__setattr__(self, "hidden_dim", max(widths))
        object.__setattr__(self, "num_hidden", len(widths))
        object.__setattr__(self, "widths", None if len(set(widths)) == 1 else widths)

    def _check_encoding(self) -> None:
        count, coordinates = self.frequencies, self.coordinates
        if not isinstance(count, int) or isinstance(count, bool) or not 0 <= count <= MAX_FREQUENCIES:
            raise UsageError(
                f"frequencies of an INR must be a whole number from 0 to {MAX_FREQUENCIES}, got {shorten(count)}"
            )
        if self.first_frequency <= 0:
            raise UsageError(f"first_frequency must be positive, got {self.first_frequency}; the usual value is pi")
        if not isinstance(coordinates, bool) or not (coordinates or count):
            raise UsageError(
                f"coordinates must be true, or false for INRs with frequencies, got {shorten(coordinates)} with "
                f"{count} frequencies"
            )
        if not count:
            object.__setattr__(self, "first_frequency", math.pi)

    @property
    def hidden_dims(self) -> tuple[int, ...]:
        """Neurons of each hidden layer, from the first to the last."""
        return self.widths or (self.hidden_dim,) * self.num_hidden

    @property
    def encoded_dim(self) -> int:
        """Inputs of the first layer: in_dim, or more with a positional encoding."""
        return self.in_dim * (int(self.coordinates) + 2 * self.frequencies)

    @property
    def widest(self) -> int:
        """The most inputs or neurons of a layer but the last: numbers that a forward pass holds of a point."""
        return max(self.hidden_dim, self.encoded_dim)

    @property
    def has_omega_0(self) -> bool:
        """Whether hidden layers multiply W x + b by omega_0."""
        return self.activation not in WITHOUT_OMEGA_0

    @property
    def is_odd(self) -> bool:
        """Whether the activation is odd, so that a neuron's weights and bias can change signs with its outgoing weights."""
        return self.activation in ("sine", "tanh", "finer")

    @cached_property
    def layer_shapes(self) -> tuple[tuple[int, int], ...]:
        """(O, I) of each layer, from the first to the last."""
        dims = (self.encoded_dim, *self.hidden_dims, self.out_dim)
        return tuple((outputs, inputs) for inputs, outputs in itertools.pairwise(dims))

    @cached_property
    def parameter_shapes(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """Name and shape of each tensor in the order of the flat layout: W_0 row by row, b_0, W_1, b_1, ..."""
        named: list[tuple[str, tuple[int, ...]]] = []
        for layer, (outputs, inputs) in enumerate(self.layer_shapes):
            named += [(f"layers.{layer}.weight", (outputs, inputs)), (f"layers.{layer}.bias", (outputs,))]
        return tuple(named)

    @cached_property
    def parameter_sizes(self) -> tuple[int, ...]:
        """Number of parameters of each tensor, in the order of `parameter_shapes`."""
        return tuple(math.prod(shape) for _, shape in self.parameter_shapes)

    @property
    def first_factor(self) -> float:
        """What the weights and biases of the first layer are stored times: first_omega_0 / omega_0, as a rule 1."""
        return 1.0 if self.first_omega_0 is None else self.first_omega_0 / self.omega_0

    @cached_property
    def num_parameters(self) -> int:
        """The number of parameters of one INR, D."""
        return sum(self.parameter_sizes)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as manifests and shards store them; without fields that older versions do not know, where they
        are at their defaults."""
        fields = asdict(self)
        for name in NEWER_FIELDS:
            if fields[name] == type(self).__dataclass_fields__[name].default:
                del fields[name]
        return fields | ({"widths": list(self.widths)} if self.widths else {})

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "SirenSpec":
        """Make a spec of the fields that `to_dict` returns. Raises UsageError for unknown or missing fields."""
        unknown = set(fields) - set(cls.__dataclass_fields__)
        if unknown:
            raise UsageError(f"an INR's spec has no field {sorted(unknown)[0]!r}; install a newer inr-factory?")
        missing = {"in_dim", "out_dim"} - set(fields)
        if missing:
            raise UsageError(f"an INR's spec needs the field {sorted(missing)[0]!r}, got {', '.join(fields) or 'none'}")
        return cls(**fields)

    def __str__(self) -> str:
        hidden = self.hidden_dims if self.num_hidden <= 16 else [f"{self.num_hidden}x{self.hidden_dim}"]
        dims = [self.in_dim, *hidden, self.out_dim]
        kind: str = "" if self.activation == "sine" else self.activation
        if self.has_omega_0:
            kind = f"{kind} omega_0 {self.omega_0:g}".lstrip()
        kind += "" if self.first_omega_0 is None else f", first {self.first_omega_0:g}"
        kind += f", {self.frequencies} frequencies" * (self.frequencies > 0)
        return f"{'-'.join(map(str, dims))}, {kind}, {self.start} start"
