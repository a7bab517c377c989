"""Registry: encoders by their names."""

import inspect
from typing import Any

from inr_factory.errors import UsageError, did_you_mean, one_line, shorten
from inr_factory.inr.spec import SirenSpec
from inr_factory.learning.models.dws import DWSEncoder
from inr_factory.learning.models.encoder import FORMER_NAMES, NAMED, Encoder
from inr_factory.learning.models.mlp import MLPEncoder
from inr_factory.learning.models.ng_gnn import NGGNNEncoder
from inr_factory.learning.models.ng_t import NGTransformerEncoder
from inr_factory.learning.models.parity import ParityEncoder
from inr_factory.learning.models.probes import ProbesEncoder
from inr_factory.learning.models.render import RenderEncoder
from inr_factory.learning.models.scalegmn import ScaleGMNEncoder
from inr_factory.learning.option_strings import own_encoders

ENCODERS: dict[str, type[Encoder]] = {
    kind.name: kind
    for kind in (
        MLPEncoder,
        ParityEncoder,
        DWSEncoder,
        NGGNNEncoder,
        NGTransformerEncoder,
        ScaleGMNEncoder,
        ProbesEncoder,
        RenderEncoder,
    )
}


def encoder_class(name: str) -> type[Encoder]:
    """The class of encoders of this name, present or former, or of the package that has it as an entry point.

    Raises UsageError with the nearest known name, or where an entry point is of no such class.
    """
    if not isinstance(name, str):
        raise UsageError(f"an encoder is named by text, such as 'parity', got {shorten(name)}")
    name = FORMER_NAMES.get(name, name)
    if name not in NAMED:
        found = own_encoders()
        for entry in found.select(name=name):
            try:
                entry.load()
            except Exception as error:  # another package's code
                raise UsageError(
                    f"the entry point {name} = {entry.value} cannot be imported: {one_line(error)}"
                ) from None
            if name not in NAMED:
                raise UsageError(f"the entry point {name} = {entry.value} is no inr.Encoder with the name {name!r}")
        if name not in NAMED:
            hint = did_you_mean(name, {*NAMED, *found.names})
            raise UsageError(
                f"no encoder is called {name!r}; {hint} (one of your own is known once its module is imported)"
            )
    return NAMED[name]


def build_encoder(name: str, spec: SirenSpec, **options: Any) -> Encoder:
    """Build an encoder by name, with parameters drawn from torch's global generator.

    Args:
        name: One of ENCODERS, a former name, or that of an encoder of your own.
        spec: The INRs that it is made for.
        options: Options of its constructor.

    Returns:
        The encoder, on the CPU.

    Raises:
        UsageError: The name or an option is unknown (the nearest known one is named), or a value is out of range.
    """
    kind = encoder_class(name)
    if not isinstance(spec, SirenSpec):
        raise UsageError(f"{kind.name} is made for a SirenSpec, as `spec` of INRs is, got {shorten(spec)}")
    known = [option for option in inspect.signature(kind).parameters if option != "spec"]
    for option in options:
        if option not in known:
            raise UsageError(f"{kind.name} has no option {option!r}; {did_you_mean(option, known)}")
    encoder = kind(spec, **options)
    if lost := [option for option in options if encoder.options.get(option, ...) != options[option]]:
        raise UsageError(
            f"{kind.name} does not keep {lost[0]}; give all options to super().__init__(spec, {lost[0]}=...)"
        )
    if type(getattr(encoder, "features", None)) is not int:
        raise UsageError(f"{kind.name} must set self.features, a whole number: the width of its result (N, features)")
    return encoder
