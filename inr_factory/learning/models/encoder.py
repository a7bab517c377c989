"""Encoders: what every network that turns the weights of INRs into features is.

Shape letters: N INRs, F features.
"""

import re
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from inr_factory.errors import UsageError, shorten
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.spec import SirenSpec

LEAST = {"hidden_dim": 1, "edge_dim": 1, "num_hidden": 1, "num_layers": 1, "num_heads": 1, "num_probes": 0,
         "frequencies": 0}  # fmt: skip
"""The least values of options that encoders share."""
MOST = 65_536
Reads = Literal["weights", "weights and probes", "function", "pixels"]
"""What an encoder takes its result from: see Encoder.reads."""
FORMER_NAMES = {"forward": "parity"}
"""Names that commands, sweep files and checkpoints of earlier versions use."""
NAMED: dict[str, type["Encoder"]] = {}
"""All encoders that have been imported, those of users too, by their names."""


class Encoder(nn.Module):
    """Maps INRs to features: forward(normalized INRs, the same INRs as fitted) -> (N, features).

    A subclass with a `name` of its own is known by it wherever encoders are named, once its module is imported; its
    constructor takes `(spec, *, ...)` with a default for each option, gives the options to this one, and sets `features`,
    the width of the result. The entry points `inr_factory.encoders` of installed packages are imported when asked for.

    The normalized INRs are centred and scaled, or where `centred` is False only scaled, which keeps the signs of neurons
    exact. With `function_only` the result depends on what the INRs compute alone: they come as fitted, neither normalized
    nor in canonical form. `former_options` are options that checkpoints of earlier versions lack, with the values that
    those encoders had. Encoders that run the INRs use those as fitted.

    Args:
        spec: The INRs that it is made for.
        options: All that besides the spec is needed to build it again, as plain values: checkpoints keep them.

    Raises:
        UsageError: A width or a number of layers, heads or probes is not a whole number, or `dropout` not in [0, 1).
    """

    name: ClassVar[str]
    centred: ClassVar[bool] = True
    function_only: ClassVar[bool] = False
    former_options: ClassVar[Mapping[str, Any]] = {}
    features: int
    picture: Tensor | None = None
    """Coordinates (P, I) of a grid. With them, the last P * O features (P, O) are what the encoder takes the INR to show
    there, each output standardised: its mean over the grid is 0, its standard deviation 1."""
    reads: Reads = "weights"
    """What the result depends on: the weights alone; weights and values at learned points, or what can become such
    values; values at learned points alone (function); a rendering on a grid (pixels)."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" not in cls.__dict__:
            return
        if not isinstance(cls.name, str) or not re.fullmatch(r"[a-z]\w*", cls.name):
            raise UsageError(
                f"the name of an encoder starts with a small letter, then letters, digits and _, got {cls.name!r}"
            )
        if cls.name in FORMER_NAMES:
            raise UsageError(f"{cls.name!r} is an earlier name of {FORMER_NAMES[cls.name]}; take another name")
        there = NAMED.setdefault(cls.name, cls)
        if (there.__module__, there.__qualname__) != (cls.__module__, cls.__qualname__):
            raise UsageError(
                f"{there.__module__}.{there.__qualname__} is called {cls.name!r} already; take another name"
            )
        NAMED[cls.name] = cls  # a cell of a notebook that was run again

    def __init__(self, spec: SirenSpec, **options: Any) -> None:
        super().__init__()
        if not hasattr(type(self), "name"):
            raise UsageError(f"{type(self).__name__} has no name; an encoder is a subclass of inr.Encoder with a name")
        _check_options(self.name, options)
        self.spec = spec
        self.options = options

    def forward(self, inrs: INRBatch, original: INRBatch | None = None) -> Tensor:
        """(N, features) of N normalized INRs; `original` are the INRs as fitted, by default `inrs`."""
        raise NotImplementedError


def _check_options(name: str, options: Mapping[str, Any]) -> None:
    for option, value in options.items():
        if option == "dropout":
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
                raise UsageError(f"dropout of {name} must be at least 0 and below 1, got {value!r}")
        elif option in LEAST and (type(value) is not int or not LEAST[option] <= value <= MOST):
            raise UsageError(
                f"{option} of {name} must be a whole number from {LEAST[option]} to {MOST:,}, got {shorten(value)}"
            )


def check_kind(name: str, spec: SirenSpec, inrs: INRBatch, any_width: bool = True) -> None:
    """Raise UsageError unless the INRs have the inputs, outputs, number of layers, activation and positional encoding of
    the spec and, but for `any_width`, its widths."""
    fields = ["in_dim", "out_dim", "num_hidden", "activation", "frequencies", "first_frequency", "coordinates"]
    fields += [] if any_width else ["hidden_dims"]
    differ = [field for field in fields if getattr(spec, field) != getattr(inrs.spec, field)]
    if differ:
        raise UsageError(
            f"this {name} encoder takes INRs {spec}{', of any width' * any_width}; got {inrs.spec}, which differ in "
            f"{', '.join(differ)}"
        )


def check_batch_norm(name: str, inrs: INRBatch) -> None:
    """Raise UsageError for a batch of one: batch normalisation has nothing to take statistics over."""
    if len(inrs) < 2:
        raise UsageError(f"{name} with batch norm trains on batches of at least 2 INRs, got 1; drop the last batch")
