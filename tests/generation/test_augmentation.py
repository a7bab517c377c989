"""Augmentation of signals: what `source.augment` accepts, and what a view draws."""

import numpy as np
import pytest

from inr_factory.errors import UsageError
from inr_factory.generation.augmentation import IMAGE_CHANGES, SHAPE_CHANGES, draw_changes, parse_changes
from inr_factory.generation.recipe import load_recipe

ALL = "flip+flip:axis=y+crop:padding=3+resized_crop+rotate:degrees=20"
SHAPES = "flip+rotate:axis=any+scale"


def drawn(text=ALL, seed=0, name="a", view=1, split="train", known=IMAGE_CHANGES):
    return draw_changes(parse_changes(text, known), seed, name, view, split)


def test_text_and_list_are_one_setting_and_the_recipe_names_all_defaults():
    text = load_recipe("digits", ["source.augment=flip:probability=0.5+crop:padding=3"])
    listed = load_recipe("digits", ["source.augment=[flip, crop:padding=3]"])

    assert text.source.augment == listed.source.augment == ("flip:axis=x,probability=0.5", "crop:padding=3,fill=0")
    assert text.fingerprint == listed.fingerprint
    assert parse_changes(text.source.augment, IMAGE_CHANGES) == text.source.changes


@pytest.mark.parametrize("none", ["[]", "null"])
def test_a_recipe_without_changes_is_the_one_of_before(none):
    plain, empty = load_recipe("digits"), load_recipe("digits", [f"source.augment={none}"])

    assert plain.fingerprint == empty.fingerprint == "75a899fe34e1ad77"
    assert "augment" not in plain.model_dump(mode="json")["source"]
    assert load_recipe("digits", ["source.augment=flip"]).fingerprint != plain.fingerprint


@pytest.mark.parametrize(
    ("recipe", "setting", "reason"),
    [
        ("digits", "flop", "unknown change 'flop'; did you mean 'flip'"),
        ("digits", "crop:pading=3", "crop: no key 'pading'; did you mean 'padding'"),
        ("digits", "crop:3", "write crop:key=value, got 'crop:3'; its keys are padding, fill"),
        ("digits", "rotate:degrees=400", "rotate: degrees: input should be less than or equal to 180"),
        ("digits", "flip:axis=z", "flip: axis: unknown value 'z'"),
        ("digits", "flip+flip", "flip is given twice"),
        ("digits", "3", "expected changes as text"),
        ("primitives", "crop", "unknown change 'crop'"),
        ("primitives", "scale:low=2", "scale: low must be at most high"),
        ("primitives", "scale:high=2", "leaves [-1, 1]"),
        ("primitives", "rotate:axis=any,degrees=20", "axis any covers all rotations"),
    ],
)
def test_a_wrong_change_gives_one_line_with_a_remedy(recipe, setting, reason):
    with pytest.raises(UsageError) as error:
        load_recipe(recipe, [f"source.augment={setting}"])

    assert reason in str(error.value)
    assert "\n" not in str(error.value)


def test_a_shape_is_not_turned_out_of_its_cube():
    with pytest.raises(UsageError, match="rotate needs fit_to sphere"):
        load_recipe("primitives", ["source.augment=rotate", "source.fit_to=cube"])


@pytest.mark.parametrize(("text", "known"), [(ALL, IMAGE_CHANGES), (SHAPES, SHAPE_CHANGES)])
def test_view_0_and_the_splits_that_measure_are_never_changed(text, known):
    neutral = {name: number for change in parse_changes(text, known) for name, number in change.neutral.items()}

    assert drawn(text, view=0, known=known) == neutral
    assert drawn(text, split="val", known=known) == drawn(text, split="test", known=known) == neutral
    assert drawn(text, known=known) != neutral


def test_a_draw_depends_on_seed_object_and_view_alone():
    assert drawn() == drawn()
    others = [drawn(seed=1), drawn(name="b"), drawn(view=2)]
    assert all(other != drawn() for other in others)


def test_a_further_change_leaves_what_the_others_draw():
    assert drawn(ALL).items() >= drawn("rotate:degrees=20+crop:padding=3").items()


def test_draws_stay_in_their_ranges_and_reach_them():
    rows = [drawn(name=str(number)) for number in range(400)]
    column = {name: np.array([row[name] for row in rows]) for name in rows[0]}

    assert 0.4 < column["flip_x"].mean() < 0.6
    assert set(column["shift_x"]) == set(column["shift_y"]) == set(range(-3, 4))
    assert 18 < np.abs(column["rotate"]).max() <= 20
    area = column["crop_width"] * column["crop_height"]
    assert 0.5 < area.min() < 0.65
    assert area.max() > 0.9
    for start, share in (("crop_left", "crop_width"), ("crop_top", "crop_height")):
        assert (column[start] >= 0).all()
        assert (column[start] + column[share] <= 1 + 1e-12).all()


def test_rotations_about_any_axis_are_uniform_over_all_rotations():
    rows = [drawn("rotate:axis=any", name=str(number), known=SHAPE_CHANGES) for number in range(2000)]
    angles = np.linalg.norm([list(row.values()) for row in rows], axis=1)

    # The angle has the density (1 - cos) / 180 degrees, with a mean of 90 + 360 / pi^2.
    assert abs(angles.mean() - (90 + 360 / np.pi**2)) < 3
    assert angles.max() <= 180 + 1e-9
