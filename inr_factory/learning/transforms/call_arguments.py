"""Arguments that transforms and mixing are called with: checked, each wrong one refused in one line.

Shape letters: N INRs, I coordinates.
"""

from typing import Any

import torch
from torch import Generator, Tensor

from inr_factory.errors import UsageError
from inr_factory.inr.arguments import as_tensor
from inr_factory.inr.batch import INRBatch


def require_batch(inrs: object, name: str) -> None:
    """Raise UsageError unless inrs is an INRBatch."""
    if not isinstance(inrs, INRBatch):
        kind = f"{type(inrs).__module__}.{type(inrs).__name__}".removeprefix("builtins.")
        remedy = (
            "its .inrs is one"
            if isinstance(getattr(inrs, "inrs", None), INRBatch)
            else "INRBatch.from_flat(spec, weights) makes one"
        )
        raise UsageError(f"{name} needs an INRBatch, got {kind}; {remedy}")


def require_pairs(name: str, first: object, second: object) -> None:
    """Raise UsageError unless both are INRBatches of one spec, dtype and device, the second of as many INRs or one."""
    require_batch(first, name)
    require_batch(second, name)
    assert isinstance(first, INRBatch)
    assert isinstance(second, INRBatch)
    if first.spec != second.spec:
        raise UsageError(f"{name} takes only INRs of one spec, got {first.spec} and {second.spec}")
    if len(second) not in (1, len(first)):
        raise UsageError(f"{name}: {len(first)} INRs need {len(first)} partners or one for all, got {len(second)}")
    if (first.dtype, first.device) != (second.dtype, second.device):
        raise UsageError(
            f"{name} takes INRs of one dtype and device, got {first.dtype} on {first.device} and {second.dtype} "
            f"on {second.device}; use INRBatch.to"
        )


def default_generator(inrs: INRBatch, generator: Generator | None, name: str) -> Generator:
    """The generator, or a new one on the INRs' device seeded by the system; UsageError for one that does not fit."""
    require_batch(inrs, name)
    if generator is None:
        generator = Generator(inrs.device)
        generator.seed()
    if not isinstance(generator, Generator):
        raise UsageError(f"{name}: generator must be a torch.Generator, got {type(generator).__name__}")
    if generator.device.type != inrs.device.type or (generator.device.index or 0) != (inrs.device.index or 0):
        raise UsageError(
            f"{name}: the INRs are on {inrs.device} and the generator on {generator.device}; "
            f"make it with torch.Generator({str(inrs.device)!r})"
        )
    return generator


def numbers_of(inrs: INRBatch, value: Any, name: str, *shapes: str) -> Tensor:
    """A user's finite numbers, of a shape like "", "N", "I" or "N I", in float64 and on the INRs' device."""
    sizes = {"N": len(inrs), "I": inrs.spec.in_dim}
    sizes = {letter: size for letter, size in sizes.items() if letter in "".join(shapes)}
    numbers = as_tensor(value, name, *shapes, dtype=torch.float64, device=inrs.device, **sizes)
    if not bool(numbers.isfinite().all()):
        raise UsageError(f"{name} must be finite, got {value!r}")
    return numbers
