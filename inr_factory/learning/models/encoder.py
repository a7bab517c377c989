"""Encoders: what every network that turns the weights of INRs into features is.

Shape letters: N INRs, F features.
"""

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


class Encoder(nn.Module):
    """Maps INRs to features: forward(normalized INRs, the same INRs as fitted) -> (N, features).

    `features` is the width of the result, `options` all that besides the spec is needed to build it again: an
    encoder's constructor takes `(spec, **options)`. The normalized INRs are centred and scaled, or where `centred` is
    False only scaled, which keeps the signs of neurons exact. With `function_only` the result depends on what the INRs
    compute alone: they come as fitted, neither normalized nor in canonical form. `former_options` are options that checkpoints of earlier
    versions lack, with the values that those encoders had. Encoders that run the INRs use those as fitted. Raises
    UsageError unless widths and numbers of layers, heads and probes are whole numbers and `dropout` is in [0, 1).
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

    def __init__(self, spec: SirenSpec, **options: Any) -> None:
        super().__init__()
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
