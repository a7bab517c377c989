"""Transforms: augmentations of INRs in weight space, combined, and written as text.

A transform is a frozen dataclass that maps (INRBatch, generator) to a new INRBatch. It draws for each INR
independently, changes nothing in place, and takes all its randomness from the generator, which lives on the device of
the INRs. The single transforms are in symmetries.py (exact), coordinate.py, intensity.py, noise.py and canonical.py;
TRANSFORMS has their names.

As text: `noise:scale=0.3`, keys separated by commas; `flip@0.5` applies it to each INR with that probability;
`rotate2d|scale` one of several; `permute+flip` one after the other; round brackets group.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Generator, Tensor

from inr_factory.errors import UsageError, shorten
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.spec import SirenSpec
from inr_factory.learning.option_strings import check_number, parse_option, read_joined
from inr_factory.learning.transforms.canonical import Canonicalize
from inr_factory.learning.transforms.coordinate import Reflect, Rotate2D, Rotate3D, Scale, Translate
from inr_factory.learning.transforms.intensity import Brightness, Contrast, Invert, MixChannels
from inr_factory.learning.transforms.noise import Dropout, GaussianNoise, MultiplicativeNoise, QuantileDropout
from inr_factory.learning.transforms.random_transform import RandomTransform, replace_rows
from inr_factory.learning.transforms.symmetries import FlipSigns, PermuteNeurons, ScaleReLU, ShiftPhases


class WeightTransform(Protocol):
    """What every transform is: a callable that gives N new INRs, with all randomness from the generator."""

    def __call__(self, inrs: INRBatch, generator: Generator) -> INRBatch: ...


TRANSFORMS: Mapping[str, type[RandomTransform]] = {
    option.name: option
    for option in (
        *(PermuteNeurons, FlipSigns, ShiftPhases, ScaleReLU, Canonicalize),
        *(Rotate2D, Rotate3D, Translate, Scale, Reflect),
        *(Contrast, Brightness, Invert, MixChannels),
        *(GaussianNoise, MultiplicativeNoise, Dropout, QuantileDropout),
    )
}


@dataclass(frozen=True)
class Compose(RandomTransform):
    """Apply several transforms, one after the other.

    Args:
        transforms: Callables (inrs, generator) -> inrs; none leave the INRs as they are.
    """

    name: ClassVar[str] = "compose"
    transforms: tuple[WeightTransform, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "transforms", _callables(self.transforms, self.name))

    def apply(self, inrs: INRBatch, generator: Generator) -> INRBatch:
        for transform in self.transforms:
            inrs = transform(inrs, generator)
        return inrs

    def __str__(self) -> str:
        return "+".join(_grouped(transform, Compose) for transform in self.transforms)


@dataclass(frozen=True)
class RandomApply(RandomTransform):
    """Apply a transform to random INRs.

    Args:
        transform: A callable (inrs, generator) -> inrs.
        probability: How likely it is applied to each INR, in [0, 1].

    Raises:
        UsageError: For values outside their ranges.
    """

    name: ClassVar[str] = "random_apply"
    transform: WeightTransform
    probability: float = 0.5

    def __post_init__(self) -> None:
        _callables([self.transform], self.name)
        check_number(self, "probability", 0, 1)

    def apply(self, inrs: INRBatch, generator: Generator) -> INRBatch:
        chosen = torch.rand(len(inrs), generator=generator, device=generator.device) < self.probability
        return _apply_where(chosen, self.transform, inrs, generator)

    def __str__(self) -> str:
        return f"{_grouped(self.transform, Compose, OneOf, RandomApply)}@{self.probability}"


@dataclass(frozen=True)
class OneOf(RandomTransform):
    """Apply one of several transforms to each INR, each equally likely.

    Args:
        transforms: Callables (inrs, generator) -> inrs, at least one.

    Raises:
        UsageError: For no transforms, or what cannot be called.
    """

    name: ClassVar[str] = "one_of"
    transforms: tuple[WeightTransform, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "transforms", _callables(self.transforms, self.name))
        if not self.transforms:
            raise UsageError("one of no transforms cannot be chosen; name at least one")

    def apply(self, inrs: INRBatch, generator: Generator) -> INRBatch:
        choice = torch.randint(len(self.transforms), (len(inrs),), generator=generator, device=generator.device)
        for number, transform in enumerate(self.transforms):
            inrs = _apply_where(choice == number, transform, inrs, generator)
        return inrs

    def __str__(self) -> str:
        return "|".join(_grouped(transform, Compose, OneOf) for transform in self.transforms)


def applicable_transforms(inrs: INRBatch) -> Iterator[RandomTransform]:
    """Every transform at its defaults that such INRs support."""
    for kind in TRANSFORMS.values():
        transform = kind()
        try:
            transform(inrs, Generator().manual_seed(0))
        except UsageError:
            continue
        yield transform


def check_transform(transform: WeightTransform, spec: SirenSpec) -> None:
    """Try a transform on a few INRs of random weights, so that what it refuses of a spec is known before any work."""
    weights = torch.randn(8, spec.num_parameters, generator=Generator().manual_seed(0))
    transform(INRBatch.from_flat(spec, weights), Generator().manual_seed(0))


def parse_transforms(texts: Iterable[str]) -> Compose:
    """Read several transforms, of a recipe's list or a repeated command-line option, as one after the other."""
    return Compose(tuple(parse_transform(text) for text in texts))


def parse_transform(text: str) -> WeightTransform:
    """Read a transform from text.

    Args:
        text: `name`, or `name:key=value,key=value`. `flip@0.5` applies it to each INR with that probability;
            `rotate2d|scale` is one of several; `permute+flip` one after the other; round brackets group.

    Returns:
        The transform; `str()` of it is such a text again.

    Raises:
        UsageError: For an unknown name or key, with the nearest known one, and for a value that does not fit.
    """
    if not isinstance(text, str):
        raise UsageError(f"a transform is text such as 'permute+noise:scale=0.3', got {type(text).__name__}")
    return read_joined(text, _parse_single, Compose, OneOf, RandomApply)


def _parse_single(text: str) -> WeightTransform:
    return parse_option(text, TRANSFORMS, "transform")


def _callables(transforms: object, name: str) -> tuple[WeightTransform, ...]:
    """The transforms as a tuple; UsageError for anything that cannot be called."""
    if not isinstance(transforms, Iterable) or isinstance(transforms, str) or hasattr(transforms, "ndim"):
        raise UsageError(f"{name} takes a list of transforms, got {shorten(transforms)}; parse_transform reads text")
    chosen = tuple(transforms)
    for transform in chosen:
        if not callable(transform):
            raise UsageError(f"{name} takes transforms, got {shorten(transform)}; parse_transform reads text")
    return chosen


def _grouped(transform: WeightTransform, *kinds: type) -> str:
    """The transform as text, in brackets if it is one of the kinds."""
    return f"({transform})" if isinstance(transform, kinds) else str(transform)


def _apply_where(chosen_N: Tensor, transform: WeightTransform, inrs: INRBatch, generator: Generator) -> INRBatch:
    """The INRs with the transform applied to the chosen ones."""
    rows = chosen_N.nonzero()[:, 0]
    return replace_rows(inrs, rows, transform(inrs.select(rows), generator))
