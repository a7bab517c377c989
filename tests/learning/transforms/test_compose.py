"""Transforms: what all of them promise, how they combine, and how they are written."""

from dataclasses import replace

import pytest
import torch

from inr_factory.errors import UsageError
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.initialization import initialize
from inr_factory.inr.spec import SirenSpec
from inr_factory.learning.transforms.compose import (
    TRANSFORMS,
    Compose,
    OneOf,
    RandomApply,
    parse_transform,
    parse_transforms,
)
from inr_factory.learning.transforms.coordinate import Reflect, Rotate2D, Scale, Translate
from inr_factory.learning.transforms.intensity import Invert
from inr_factory.learning.transforms.noise import GaussianNoise
from inr_factory.learning.transforms.symmetries import FlipSigns, PermuteNeurons

COMBINED = ["permute+flip", "rotate2d|scale", "(translate+noise)@0.7", "contrast@0.5", "(rotate2d|flip@0.5)+phase"]
EVERY = [*TRANSFORMS, *COMBINED]
# These draw one of two outcomes, or none, so that several INRs may well get the same.
FEW_OUTCOMES = {"reflect", "invert", "canonical"}


def batch_for(name, seeds=range(16)):
    """INRs that the transform is made for; no two alike."""
    spec = SirenSpec(
        in_dim=3 if name == "rotate3d" else 2,
        out_dim=3 if name == "mix_channels" else 1,
        hidden_dim=8,
        omega_0=7.0,
        output_bias=0.5,
        activation="relu" if name == "scale_relu" else "sine",
        start="linear" if name == "scale_relu" else "siren",
    )
    return initialize(spec, seeds)


@pytest.mark.parametrize("name", EVERY)
def test_a_transform_makes_new_inrs_and_leaves_the_old_ones(name, generator):
    inrs = batch_for(name)
    before = inrs.flatten()

    moved = parse_transform(name)(inrs, generator)

    assert moved.spec == inrs.spec
    assert len(moved) == 16
    assert bool(moved.flatten().isfinite().all())
    assert not torch.equal(moved.flatten(), before), "it does nothing"
    assert torch.equal(inrs.flatten(), before), "the input batch was changed in place"


@pytest.mark.parametrize("name", EVERY)
def test_a_transform_draws_from_the_generator_it_is_given_alone(name):
    inrs, transform = batch_for(name), parse_transform(name)
    untouched = torch.get_rng_state()

    first = transform(inrs, torch.Generator().manual_seed(1)).flatten()
    torch.manual_seed(99)
    again = transform(inrs, torch.Generator().manual_seed(1)).flatten()
    other = transform(inrs, torch.Generator().manual_seed(2)).flatten()

    torch.set_rng_state(untouched)
    transform(inrs, torch.Generator().manual_seed(1))
    assert torch.equal(torch.get_rng_state(), untouched), "the global generator was used"
    assert torch.equal(first, again)
    assert name == "canonical" or not torch.equal(first, other)


@pytest.mark.parametrize("name", [name for name in EVERY if name not in FEW_OUTCOMES])
def test_a_transform_draws_for_each_inr_by_itself(name, generator):
    repeated = batch_for(name, [5] * 16)

    moved = parse_transform(name)(repeated, generator).flatten()

    # Those that a probability leaves alone are alike, and so are a few whose quantiles are near each other.
    assert len(moved.unique(dim=0)) > 4


@pytest.mark.parametrize("name", ["reflect", "invert"])
def test_a_transform_with_two_outcomes_gives_both(name, generator):
    moved = parse_transform(name)(batch_for(name, [5] * 16), generator).flatten()

    assert len(moved.unique(dim=0)) == 2


@pytest.mark.parametrize("name", EVERY)
def test_a_transform_keeps_the_precision_and_takes_empty_batches(name, generator):
    inrs = batch_for(name)

    assert parse_transform(name)(inrs.to(torch.float64), generator).dtype == torch.float64
    assert len(parse_transform(name)(inrs.select(slice(0)), generator)) == 0


@pytest.mark.parametrize("name", [name for name in EVERY if name not in ("rotate3d", "mix_channels", "scale_relu")])
def test_a_transform_takes_views_and_inrs_of_one_hidden_neuron(name, generator):
    spec = SirenSpec(2, 1, hidden_dim=1, num_hidden=1)
    flat = initialize(spec, range(6)).flatten()

    moved = parse_transform(name)(INRBatch.from_flat(spec, flat), generator)

    assert bool(moved.flatten().isfinite().all())


@pytest.mark.parametrize("text", EVERY)
def test_what_a_transform_prints_reads_back_as_itself(text):
    transform = parse_transform(text)

    assert parse_transform(str(transform)) == transform


def test_published_defaults():
    printed = {name: str(option()) for name, option in TRANSFORMS.items()}

    assert printed["rotate2d"] == "rotate2d:degrees=30.0"
    assert printed["translate"] == "translate:max_shift=0.25"
    assert printed["scale"] == "scale:low=0.8,high=1.2,per_axis=false"
    assert printed["noise"] == "noise:scale=0.32"
    assert printed["dropout"] == "dropout:probability=0.1"
    assert printed["quantile_dropout"] == "quantile_dropout:max_quantile=0.1,joint=true"
    assert printed["flip"] == "flip:probability=0.5"
    assert printed["phase"] == "phase:max_k=1"
    assert printed["permute"] == "permute"


def test_text_becomes_the_transform_it_describes():
    assert parse_transform("noise:scale=0.3") == GaussianNoise(scale=0.3)
    assert parse_transform("scale:low=0.5,per_axis=true") == Scale(low=0.5, per_axis=True)
    assert parse_transform("flip@0.25") == RandomApply(FlipSigns(), 0.25)
    assert parse_transform("rotate2d | translate:max_shift=0.1") == OneOf((Rotate2D(), Translate(max_shift=0.1)))
    assert parse_transform("permute+rotate2d|scale") == Compose((PermuteNeurons(), OneOf((Rotate2D(), Scale()))))
    assert parse_transform("(permute+flip)@0.1") == RandomApply(Compose((PermuteNeurons(), FlipSigns())), 0.1)
    assert parse_transforms(["permute", "noise:scale=0.3"]) == Compose((PermuteNeurons(), GaussianNoise(scale=0.3)))
    assert parse_transforms([]) == Compose(())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("permut", "unknown transform 'permut'; did you mean 'permute'"),
        ("noise:scal=1", "noise has no key 'scal'; did you mean 'scale'"),
        ("permute,flip", "unknown transform 'permute,flip'"),
        ("flip:probability=2", "flip: probability must be a number from 0 to 1, got 2.0"),
        ("flip@2", "probability must be a number from 0 to 1, got 2.0"),
        ("flip@", "write a probability after @"),
        ("", "a transform is missing"),
        ("permute+", "a transform is missing"),
        ("|permute", "a transform is missing"),
        ("(permute", "a closing bracket is missing"),
        ("permute)", "cannot be read from ')' on"),
        ("(permute)flip", "cannot be read from 'flip' on"),
    ],
)
def test_text_that_describes_none_is_refused_in_one_line(text, words):
    with pytest.raises(UsageError, match=r"^[^\n]*$") as caught:
        parse_transform(text)
    assert words in str(caught.value)


def test_compose_goes_from_left_to_right(inrs, coords, generator):
    transform = parse_transforms(["invert:probability=1", "contrast:low=2,high=2,pivot=0"])

    moved = transform(inrs, generator)

    torch.testing.assert_close(moved(coords), 2 * (1 - inrs(coords)), atol=2e-5, rtol=0)


def test_no_transforms_give_the_inrs_back(inrs, generator):
    assert torch.equal(Compose(())(inrs, generator).flatten(), inrs.flatten())


def test_random_apply_leaves_the_others_bit_for_bit(inrs, generator):
    many = inrs.select(torch.arange(2000) % 5)

    moved = RandomApply(Invert(probability=1), 0.3)(many, generator)

    changed = (moved.flatten() != many.flatten()).any(dim=1)
    assert abs(float(changed.float().mean()) - 0.3) < 0.04
    expected = Invert(probability=1)(many.select(changed), generator)
    assert torch.equal(moved.select(changed).flatten(), expected.flatten())


@pytest.mark.parametrize(("probability", "changed"), [(0, 0), (1, 5)])
def test_random_apply_never_and_always(probability, changed, inrs, generator):
    moved = RandomApply(GaussianNoise(), probability)(inrs, generator)

    assert int((moved.flatten() != inrs.flatten()).any(dim=1).sum()) == changed


def test_one_of_gives_each_inr_exactly_one(generator):
    inrs = batch_for("scale", [5] * 900)
    mirror, negative = Reflect(probability=1), Invert(probability=1)

    moved = OneOf((mirror, negative, Compose(())))(inrs, generator).flatten()

    outcomes = [transform(inrs.select(slice(1)), generator).flatten() for transform in (mirror, negative, Compose(()))]
    shares = [float((moved == outcome).all(dim=1).float().mean()) for outcome in outcomes]
    assert abs(sum(shares) - 1) < 1e-6
    assert all(abs(share - 1 / 3) < 0.06 for share in shares)


def test_a_transform_that_does_not_fit_is_refused_inside_a_combination(generator):
    solid = initialize(SirenSpec(3, 1, hidden_dim=8), range(4))

    with pytest.raises(UsageError, match="rotate2d turns INRs of 2 coordinates"):
        parse_transform("flip+(rotate2d|scale)@1")(solid, generator)


def test_one_of_nothing_is_refused():
    with pytest.raises(UsageError):
        OneOf(())


def test_a_transform_reads_omega_from_the_inrs(generator):
    inrs = batch_for("phase")
    other = replace(inrs, spec=replace(inrs.spec, omega_0=14.0))

    shift = parse_transform("phase")(inrs, torch.Generator().manual_seed(1)).biases[0] - inrs.biases[0]
    half = parse_transform("phase")(other, torch.Generator().manual_seed(1)).biases[0] - other.biases[0]

    torch.testing.assert_close(shift, 2 * half, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", EVERY)
def test_without_a_generator_every_call_draws_other_numbers(name):
    inrs, transform = batch_for(name), parse_transform(name)
    untouched = torch.get_rng_state()

    first, second = transform(inrs).flatten(), transform(inrs).flatten()

    assert torch.equal(torch.get_rng_state(), untouched), "the global generator was used"
    assert name == "canonical" or not torch.equal(first, second)


@pytest.mark.parametrize("name", EVERY)
def test_wrong_arguments_are_refused_in_one_line(name, generator):
    inrs, transform = batch_for(name), parse_transform(name)
    for wrong, words in (
        (lambda: transform(inrs.flatten().numpy(), generator), "needs an INRBatch, got numpy.ndarray"),
        (lambda: transform(inrs, 3), "generator must be a torch.Generator, got int"),
        (lambda: transform(inrs.to("meta"), generator), "the INRs are on meta and the generator on cpu"),
    ):
        with pytest.raises(UsageError, match=r"^[^\n]*$") as caught:
            wrong()
        assert words in str(caught.value)


@pytest.mark.parametrize(
    "wrong",
    [lambda: Compose(3), lambda: Compose("flip"), lambda: OneOf(None), lambda: OneOf([3]), lambda: RandomApply("flip")],
)
def test_only_transforms_can_be_combined(wrong):
    with pytest.raises(UsageError, match=r"^[^\n]*takes (a list of )?transforms, got [^\n]*$"):
        wrong()
