"""Transforms: augmentations of INRs in weight space, combined, and written as text.

A transform is a frozen dataclass that maps (INRBatch, generator) to a new INRBatch. It draws for each INR by
itself, changes nothing in place, and takes all its randomness from the generator, which lives on the device of
the INRs. The single transforms are in symmetries.py (exact), warps.py (of coordinates), tones.py (of
values), noise.py and canonical.py; what they are called is in TRANSFORMS.

As text: `noise:scale=0.3`, keys separated by commas; `flip@0.5` applies it to each INR with that probability;
`rotate2d|scale` one of several; `permute+flip` one after the other; round brackets group.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol, cast

import torch
from torch import Generator, Tensor

from inr_factory.errors import UsageError
from inr_factory.inr.batch import INRBatch
from inr_factory.learning.option_strings import Option, check_number, parse_option
from inr_factory.learning.transforms.canonical import Canonicalize
from inr_factory.learning.transforms.coordinate import Reflect, Rotate2D, Rotate3D, Scale, Translate
from inr_factory.learning.transforms.intensity import Brightness, Contrast, Invert, MixChannels
from inr_factory.learning.transforms.noise import Dropout, GaussianNoise, MultiplicativeNoise, QuantileDropout
from inr_factory.learning.transforms.symmetries import FlipSigns, PermuteNeurons, ScaleReLU, ShiftPhases


class WeightTransform(Protocol):
    """What every transform can be called with."""

    def __call__(self, inrs: INRBatch, generator: Generator) -> INRBatch: ...


TRANSFORMS: Mapping[str, type[Option]] = {
    option.name: option
    for option in (
        *(PermuteNeurons, FlipSigns, ShiftPhases, ScaleReLU, Canonicalize),
        *(Rotate2D, Rotate3D, Translate, Scale, Reflect),
        *(Contrast, Brightness, Invert, MixChannels),
        *(GaussianNoise, MultiplicativeNoise, Dropout, QuantileDropout),
    )
}


@dataclass(frozen=True)
class Compose:
    """Several transforms, one after the other; none leave the INRs as they are."""

    transforms: tuple[WeightTransform, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "transforms", tuple(self.transforms))

    def __call__(self, inrs: INRBatch, generator: Generator) -> INRBatch:
        for transform in self.transforms:
            inrs = transform(inrs, generator)
        return inrs

    def __str__(self) -> str:
        return "+".join(_grouped(transform, Compose) for transform in self.transforms)


@dataclass(frozen=True)
class RandomApply(Option):
    """Apply a transform to each INR with `probability`."""

    name: ClassVar[str] = "random_apply"
    transform: WeightTransform
    probability: float = 0.5

    def __post_init__(self) -> None:
        check_number(self, "probability", 0, 1)

    def __call__(self, inrs: INRBatch, generator: Generator) -> INRBatch:
        chosen = torch.rand(len(inrs), generator=generator, device=generator.device) < self.probability
        return _apply_where(chosen, self.transform, inrs, generator)

    def __str__(self) -> str:
        return f"{_grouped(self.transform, Compose, OneOf, RandomApply)}@{self.probability}"


@dataclass(frozen=True)
class OneOf:
    """Apply one of several transforms to each INR, each as likely as the others."""

    transforms: tuple[WeightTransform, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "transforms", tuple(self.transforms))
        if not self.transforms:
            raise UsageError("one of no transforms cannot be chosen; name at least one")

    def __call__(self, inrs: INRBatch, generator: Generator) -> INRBatch:
        choice = torch.randint(len(self.transforms), (len(inrs),), generator=generator, device=generator.device)
        for number, transform in enumerate(self.transforms):
            inrs = _apply_where(choice == number, transform, inrs, generator)
        return inrs

    def __str__(self) -> str:
        return "|".join(_grouped(transform, Compose, OneOf) for transform in self.transforms)


def parse_transforms(texts: Iterable[str]) -> Compose:
    """The transforms that a recipe's list, or a repeated command-line option, describes, one after the other."""
    return Compose(tuple(parse_transform(text) for text in texts))


def parse_transform(text: str) -> WeightTransform:
    """The transform that `name`, `name:key=value,key=value` or a combination of them describes; see the module.

    `str()` of the result is such a text again. Raises UsageError in one line for an unknown name or key, with
    the nearest known one, and for a value that does not fit.
    """
    tokens = re.findall(r"[()+|]|@[^()+|@]*|[^()+|@]+", text)
    tokens = [token.strip() for token in tokens if token.strip()]
    transform = _parse_chain(tokens, text)
    if tokens:
        raise UsageError(f"{text!r} cannot be read from {tokens[0]!r} on; join transforms by + or |, keys by commas")
    return transform


def _parse_chain(tokens: list[str], text: str) -> WeightTransform:
    """Take `a|b+c` off the front of tokens."""
    links = [_parse_choice(tokens, text)]
    while tokens and tokens[0] == "+":
        tokens.pop(0)
        links.append(_parse_choice(tokens, text))
    return Compose(tuple(links)) if len(links) > 1 else links[0]


def _parse_choice(tokens: list[str], text: str) -> WeightTransform:
    """Take `a|b` off the front of tokens."""
    choices = [_parse_single(tokens, text)]
    while tokens and tokens[0] == "|":
        tokens.pop(0)
        choices.append(_parse_single(tokens, text))
    return OneOf(tuple(choices)) if len(choices) > 1 else choices[0]


def _parse_single(tokens: list[str], text: str) -> WeightTransform:
    """Take one transform or one bracket, with its probability, off the front of tokens."""
    if not tokens or tokens[0] in ")+|" or tokens[0].startswith("@"):
        raise UsageError(f"a transform is missing in {text!r}; write for example permute+noise:scale=0.3")
    token = tokens.pop(0)
    transform: WeightTransform
    if token == "(":
        transform = _parse_chain(tokens, text)
        if not tokens or tokens.pop(0) != ")":
            raise UsageError(f"a closing bracket is missing in {text!r}")
    else:
        transform = cast(WeightTransform, parse_option(token, TRANSFORMS, "transform"))
    if tokens and tokens[0].startswith("@"):
        share = tokens.pop(0)[1:]
        try:
            probability = float(share)
        except ValueError:
            raise UsageError(f"after @ stands a probability, got {share!r} in {text!r}") from None
        transform = RandomApply(transform, probability)
    return transform


def _grouped(transform: WeightTransform, *kinds: type) -> str:
    """The transform as text, in brackets if it is one of the kinds."""
    return f"({transform})" if isinstance(transform, kinds) else str(transform)


def _apply_where(chosen_N: Tensor, transform: WeightTransform, inrs: INRBatch, generator: Generator) -> INRBatch:
    """The INRs with the transform applied to the chosen ones."""
    rows = chosen_N.nonzero()[:, 0]
    moved = transform(inrs.select(rows), generator)
    return INRBatch.from_flat(inrs.spec, inrs.flatten().index_copy_(0, rows, moved.flatten()))
