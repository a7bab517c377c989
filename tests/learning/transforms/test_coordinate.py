"""Coordinate and intensity transforms: the new INR is the old one at known other coordinates, or its values known other values."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from support.specs import KINDS, SPECS, names, random_inrs

from inr_factory.errors import UsageError
from inr_factory.inr.initialization import initialize
from inr_factory.inr.spec import SirenSpec
from inr_factory.learning.transforms.coordinate import (
    Reflect,
    Rotate2D,
    Rotate3D,
    Scale,
    Translate,
    change_coordinates,
    reflect,
    rotate2d,
    rotate3d,
    scale,
    translate,
)
from inr_factory.learning.transforms.intensity import (
    Brightness,
    Contrast,
    Invert,
    MixChannels,
    brightness,
    contrast,
    invert,
)

COORDINATE_TRANSFORMS = [
    Rotate2D(), Rotate2D(degrees=180), Rotate3D(), Rotate3D(axis="x", degrees=20), Rotate3D(axis="any"),
    Translate(), Scale(), Scale(low=0.5, high=0.9, per_axis=True), Reflect(probability=1), Reflect(axis="y", probability=1),
]  # fmt: skip
# The products W_0 A are rounded before omega_0 multiplies them.
ATOL = 2e-5


def seeded():
    return torch.Generator().manual_seed(3)


def fits(transform, spec):
    needed = {"rotate2d": spec.in_dim == 2, "rotate3d": spec.in_dim == 3, "mix_channels": spec.out_dim == 3}
    return needed.get(transform.name, True)


def cases(transforms):
    """Each transform with a batch of every spec that it is made for."""
    return pytest.mark.parametrize(
        ("transform", "inrs"),
        [
            pytest.param(transform, initialize(spec, range(5)), id=f"{transform} of {spec}")
            for transform in transforms
            for spec in SPECS
            if fits(transform, spec)
        ],
    )


@cases(COORDINATE_TRANSFORMS)
def test_a_coordinate_transform_gives_the_old_inr_at_the_drawn_coordinates(transform, inrs, coords):
    before = inrs.flatten()

    matrix, offset = transform.draw(inrs, seeded())
    moved = transform(inrs, seeded())

    drawn_coords = torch.einsum("nij,pj->npi", matrix, coords) + offset[:, None]
    torch.testing.assert_close(moved(coords), inrs(drawn_coords), atol=ATOL, rtol=0)
    assert float((moved(coords) - inrs(coords)).abs().amax(dim=(1, 2)).min()) > 10 * ATOL, "an INR was left as it was"
    assert torch.equal(inrs.flatten(), before), "the input batch was changed in place"


@cases(COORDINATE_TRANSFORMS)
def test_a_coordinate_transform_is_undone_at_the_inverse_coordinates(transform, inrs, coords):
    matrix, offset = transform.draw(inrs, seeded())
    moved = change_coordinates(inrs, matrix, offset)

    back = torch.einsum("nij,npj->npi", torch.linalg.inv(matrix), coords - offset[:, None])

    torch.testing.assert_close(moved(back), inrs(coords), atol=5 * ATOL, rtol=0)


def test_a_transform_is_not_its_inverse(inrs, coords):
    matrix, offset = Translate().draw(inrs, seeded())

    wrong = change_coordinates(inrs, matrix, -offset)

    assert float((wrong(coords) - inrs(coords + offset[:, None])).abs().max()) > 100 * ATOL


@pytest.mark.parametrize(
    "transform", [Rotate3D(axis="any"), Rotate3D(axis="x"), Rotate3D(axis="y"), Rotate3D(axis="z")], ids=str
)
def test_rotations_are_proper_and_keep_their_axis(transform, generator):
    inrs = initialize(SirenSpec(3, 1, hidden_dim=2), [1]).select(torch.zeros(4000, dtype=torch.long))

    matrix, _ = transform.draw(inrs, generator)

    identity = torch.eye(3).expand(4000, 3, 3)
    torch.testing.assert_close(matrix @ matrix.mT, identity, atol=1e-6, rtol=0)
    torch.testing.assert_close(torch.linalg.det(matrix), torch.ones(4000), atol=1e-5, rtol=0)
    trace = matrix.diagonal(dim1=1, dim2=2).sum(dim=1)
    if transform.axis == "any":
        # The trace of uniform rotations has mean 0 and mean square 1; of uniform angles about a random axis 1 and 3.
        assert abs(float(trace.mean())) < 0.06
        assert abs(float(trace.square().mean()) - 1) < 0.06
        torch.testing.assert_close(matrix.mean(dim=0), torch.zeros(3, 3), atol=0.05, rtol=0)
    else:
        axis = "xyz".index(transform.axis)
        torch.testing.assert_close(matrix[:, axis], identity[:, axis], atol=0, rtol=0)
        assert abs(float(trace.mean()) - 1) < 0.1
        assert abs(float(trace.square().mean()) - 3) < 0.2


def test_draws_stay_in_their_range_and_fill_it(inrs, generator):
    many = inrs.select(torch.zeros(2000, dtype=torch.long))

    _, offset = Translate(max_shift=0.4).draw(many, generator)
    isotropic, _ = Scale(low=0.5, high=2).draw(many, generator)
    per_axis, _ = Scale(low=0.5, high=2, per_axis=True).draw(many, generator)

    assert -0.4 <= float(offset.min()) < -0.39
    assert 0.39 < float(offset.max()) <= 0.4
    factors = isotropic.diagonal(dim1=1, dim2=2)
    assert 0.5 <= float(factors.min()) < 0.51
    assert 1.99 < float(factors.max()) <= 2
    assert torch.equal(factors[:, 0], factors[:, 1])
    assert not torch.equal(per_axis[:, 0, 0], per_axis[:, 1, 1])


@pytest.mark.parametrize(
    ("transform", "spec", "words"),
    [
        (Rotate2D(), SirenSpec(3, 1), "rotate2d turns INRs of 2 coordinates, got 3-32-32-1"),
        (Rotate3D(), SirenSpec(2, 1), "rotate3d turns INRs of 3 coordinates, got 2-32-32-1"),
        (Reflect(axis="z"), SirenSpec(2, 1), "axis must be one of x, y for 2-32-32-1"),
        (MixChannels(), SirenSpec(2, 1), "needs INRs of 3 values"),
    ],
)
def test_inrs_of_other_dimensions_are_refused_in_one_line(transform, spec, words, generator):
    with pytest.raises(UsageError, match=r"^[^\n]*$") as caught:
        transform(initialize(spec, [0]), generator)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "refused",
    [
        lambda: Rotate2D(degrees=181),
        lambda: Rotate3D(axis="w"),
        lambda: Rotate3D(axis="any", degrees=90),
        lambda: Translate(max_shift=-1),
        lambda: Scale(low=1.2, high=0.8),
        lambda: Scale(low=0, high=1),
        lambda: Reflect(probability=2),
        lambda: Contrast(low=2, high=1),
        lambda: Invert(probability=float("nan")),
        lambda: MixChannels(strength=1.1),
    ],
)
def test_values_outside_their_range_are_refused(refused):
    with pytest.raises(UsageError):
        refused()


def grid(size):
    """Pixel centres (size * size, 2), row by row from the top left; y points down."""
    centres = (2 * torch.arange(size) + 1) / size - 1
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    return torch.stack([x, y], dim=-1).view(-1, 2)


def pictures(inrs, size=6):
    return inrs(grid(size)).view(len(inrs), size, size, -1).numpy()


def close(changed, expected):
    torch.testing.assert_close(torch.as_tensor(changed), torch.as_tensor(expected.copy()), atol=ATOL, rtol=0)


PICTURES = initialize(SirenSpec(2, 1, hidden_dim=8, omega_0=7.0, output_bias=0.5), range(3))


def test_rotate2d_turns_pictures_counter_clockwise():
    before = pictures(PICTURES)

    close(pictures(rotate2d(PICTURES, degrees=90)), np.rot90(before, axes=(1, 2)))
    each = pictures(rotate2d(PICTURES, degrees=np.array([0, 180, -90])))
    close(each, np.stack([before[0], np.rot90(before[1], 2), np.rot90(before[2], -1)]))


def test_reflect_mirrors_pictures():
    before = pictures(PICTURES)

    close(pictures(reflect(PICTURES)), before[:, :, ::-1])
    close(pictures(reflect(PICTURES, axis="y")), before[:, ::-1])


def test_translate_moves_pictures_by_its_offset():
    before = pictures(PICTURES)

    moved = pictures(translate(PICTURES, offset=[2 / 6, -4 / 6]))  # one pixel to the right, two up

    close(moved[:, :4, 1:], before[:, 2:, :5])
    assert abs(moved[:, :4, :5] - before[:, 2:, 1:]).max() > 100 * ATOL


def test_scale_enlarges_pictures():
    inner, enlarged = PICTURES(grid(6) / 2), scale(PICTURES, 2)(grid(6))

    torch.testing.assert_close(enlarged, inner, atol=ATOL, rtol=0)
    per_axis = scale(PICTURES, torch.tensor([2.0, 1.0]))(grid(6))
    torch.testing.assert_close(per_axis, PICTURES(grid(6) * torch.tensor([0.5, 1])), atol=ATOL, rtol=0)


@pytest.mark.parametrize(("axis", "point", "turned"), [
    ("z", [1.0, 0, 0.5], [0.0, 1, 0.5]), ("x", [0.5, 1, 0], [0.5, 0, 1]), ("y", [0, 0.5, 1], [1, 0.5, 0]),
])  # fmt: skip
def test_rotate3d_turns_shapes_by_the_right_hand_rule(axis, point, turned):
    shapes = initialize(SirenSpec(3, 1, hidden_dim=8, omega_0=7.0), range(3))

    moved = rotate3d(shapes, degrees=90, axis=axis)

    torch.testing.assert_close(moved(torch.tensor([turned])), shapes(torch.tensor([point])), atol=ATOL, rtol=0)


def test_chosen_intensities_change_values_as_they_say():
    before = torch.from_numpy(pictures(PICTURES))

    for changed, expected in (
        (brightness(PICTURES, offset=0.2), before + 0.2),
        (
            brightness(PICTURES, offset=np.array([0.1, 0.2, 0.3])),
            before + torch.tensor([0.1, 0.2, 0.3])[:, None, None, None],
        ),
        (contrast(PICTURES, factor=1.5), 0.5 + 1.5 * (before - 0.5)),
        (contrast(PICTURES, factor=0.0, pivot=0.3), torch.full_like(before, 0.3)),
        (invert(PICTURES), 1 - before),
    ):
        torch.testing.assert_close(torch.from_numpy(pictures(changed)), expected, atol=ATOL, rtol=0)


def test_random_transforms_are_the_chosen_ones_with_drawn_numbers(generator):
    for transform, chosen in (
        (Scale(low=2, high=2), scale(PICTURES, 0.5)),
        (Reflect(probability=1), reflect(PICTURES)),
        (Invert(probability=1), invert(PICTURES)),
        (Contrast(low=3, high=3), contrast(PICTURES, 3)),
        (Brightness(max_shift=0), brightness(PICTURES, 0)),
    ):
        torch.testing.assert_close(transform(PICTURES, generator).flatten(), chosen.flatten(), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda: rotate2d(np.zeros((3, 4))), "rotate2d needs an INRBatch, got numpy.ndarray"),
        (lambda: rotate2d(initialize(SirenSpec(3, 1), [0])), "for 3 use rotate3d"),
        (lambda: rotate3d(PICTURES), "rotate3d turns INRs of 3 coordinates"),
        (lambda: rotate2d(PICTURES, degrees=[1, 2]), "degrees must have the shape () or (3,), got (2,)"),
        (lambda: rotate2d(PICTURES, degrees="ten"), "degrees must be an array of numbers"),
        (lambda: reflect(PICTURES, axis="z"), "axis must be one of x, y"),
        (lambda: scale(PICTURES, 0), "factor must not be 0"),
        (lambda: scale(PICTURES, float("nan")), "factor must be finite"),
        (lambda: translate(PICTURES, [1, 2, 3]), "offset must have the shape"),
        (lambda: brightness(PICTURES, [1, 2]), "offset must have the shape"),
        (lambda: contrast(None, 2), "contrast needs an INRBatch, got NoneType"),
        (lambda: invert("a"), "invert needs an INRBatch, got str"),
        (lambda: invert(SimpleNamespace(inrs=PICTURES)), "got types.SimpleNamespace; its .inrs is one"),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(wrong, words):
    with pytest.raises(UsageError, match=r"^[^\n]*$") as caught:
        wrong()
    assert words in str(caught.value)


@pytest.mark.parametrize("spec", KINDS, ids=names(KINDS))
def test_coordinates_change_exactly_whatever_the_activation_and_with_an_encoding_by_reflections_alone(spec, generator):
    inrs, coords = random_inrs(spec), torch.rand(64, 2, generator=generator, dtype=torch.float64)
    mirror = torch.tensor([1.0, -1.0])

    torch.testing.assert_close(reflect(inrs, "y")(coords), inrs(coords * mirror), atol=1e-12, rtol=0)
    assert float((reflect(inrs, "y")(coords) - inrs(coords)).abs().max()) > 1e-3
    both = Reflect(probability=0.5)(inrs.select(torch.zeros(50, dtype=torch.long)), generator)
    sides = {round(float(value), 9) for value in both(coords[:1])[:, 0, 0]}
    assert len(sides) == 2
    assert sides == {round(float(inrs(coords[:1] * torch.tensor([s, 1.0]))[0, 0, 0]), 9) for s in (1, -1)}
    for transform in (Rotate2D(), Translate(), Scale(), Scale(per_axis=True)):
        if spec.frequencies:
            with pytest.raises(
                UsageError, match=r"^[^\n]*only reflections[^\n]*frequencies[^\n]*; take reflect[^\n]*$"
            ):
                transform(inrs, generator)
        else:
            matrix, offset = transform.draw(inrs, generator)
            changed = torch.einsum("nij,pj->npi", matrix, coords) + offset[:, None]
            torch.testing.assert_close(
                transform.change(inrs, matrix, offset)(coords), inrs(changed), atol=1e-10, rtol=0
            )


@pytest.mark.parametrize("spec", KINDS, ids=names(KINDS))
def test_values_change_exactly_whatever_the_activation_widths_and_encoding(spec, generator):
    inrs, coords = random_inrs(spec), torch.rand(64, 2, generator=generator, dtype=torch.float64)

    for transform in (Contrast(), Brightness(), Invert(), MixChannels()):
        matrix, offset = transform.draw(inrs, generator)
        expected = torch.einsum("noi,npi->npo", matrix, inrs(coords)) + offset[:, None]
        torch.testing.assert_close(transform.change(inrs, matrix, offset)(coords), expected, atol=1e-12, rtol=0)
