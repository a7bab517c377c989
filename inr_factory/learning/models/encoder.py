"""Encoders: what every network that reads INRs is.

Shape letters: N INRs, F features.
"""

from typing import Any, ClassVar

from torch import Tensor, nn

from inr_factory.errors import UsageError
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.spec import SirenSpec


class Encoder(nn.Module):
    """Reads INRs: forward(inrs of N INRs) -> (N, features).

    `features` is the width of the result, `options` all that besides the spec is needed to build it again: an
    encoder's constructor takes `(spec, **options)`. The values it is given are normalised already: centred and
    scaled, or where `centred` is False scaled alone, which keeps the signs of neurons exact.
    """

    name: ClassVar[str]
    centred: ClassVar[bool] = True
    features: int

    def __init__(self, spec: SirenSpec, **options: Any) -> None:
        super().__init__()
        self.spec = spec
        self.options = options

    def forward(self, inrs: INRBatch) -> Tensor:
        raise NotImplementedError

    def read(self, normal: INRBatch, original: INRBatch) -> Tensor:
        """Features of INRs that are given normalised and, for encoders that run them, as they are."""
        return self(normal)  # type: ignore[no-any-return]


def check_options(name: str, **options: Any) -> None:
    """Raise UsageError unless each width or number of layers is a whole number >= 1 and `dropout` is in [0, 1)."""
    for option, value in options.items():
        if option == "dropout":
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
                raise UsageError(f"dropout of {name} must be at least 0 and below 1, got {value!r}")
        elif isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise UsageError(f"{option} of {name} must be a whole number of at least 1, got {value!r}")


def check_batch_norm(name: str, inrs: INRBatch) -> None:
    """Raise UsageError for a batch of one: batch normalisation has nothing to take statistics over."""
    if len(inrs) < 2:
        raise UsageError(f"{name} with batch_norm trains on batches of at least 2 INRs, got 1; drop the last batch")
