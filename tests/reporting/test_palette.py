"""Palette: its colours differ for colour-blind readers, and signed differences mean one thing."""

import itertools

import numpy as np
import pytest

from inr_factory.reporting.palette import (
    ABOVE,
    BELOW,
    COLORS,
    MARKERS,
    ZERO,
    color_of,
    line_style,
    mark_of,
    signed_colors,
)

# Linear RGB as seen without one kind of cones (Machado, Oliveira and Fernandes, 2009, severity 1).
VISIONS = {
    "normal": np.eye(3),
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
}
TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)


def rgb(color):
    return np.array([int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)])


def seen(color, vision):
    """CIELAB of an sRGB colour (3,) with a vision."""
    linear = np.where(color <= 0.04045, color / 12.92, ((color + 0.055) / 1.055) ** 2.4)
    xyz = TO_XYZ @ np.clip(np.array(VISIONS[vision]) @ linear, 0, 1) / np.array([0.95047, 1, 1.08883])
    x, y, z = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def distance(a, b, vision):
    return np.linalg.norm(seen(a, vision) - seen(b, vision))


@pytest.mark.parametrize("vision", VISIONS)
def test_all_colours_differ_and_neighbours_differ_clearly(vision):
    colors = [rgb(color) for color in COLORS]
    assert min(distance(a, b, vision) for a, b in itertools.combinations(colors, 2)) > 15
    assert min(distance(a, b, vision) for a, b in itertools.pairwise(colors)) > 20


def test_the_test_of_colours_can_fail():
    red, green = rgb("#d62728"), rgb("#2ca02c")
    assert distance(red, green, "normal") > 50
    assert distance(red, green, "deuteranopia") < 10


@pytest.mark.parametrize("vision", VISIONS)
def test_the_ends_of_differences_lie_apart_and_apart_from_zero(vision):
    for a, b in itertools.combinations(map(np.array, (BELOW, ZERO, ABOVE)), 2):
        assert distance(a, b, vision) > 40


def test_21_classes_have_a_colour_and_a_mark_each():
    marks = {(color_of(number), MARKERS[mark_of(number)]) for number in range(21)}
    assert len(marks) == 21


def test_neighbouring_lines_differ_without_colours():
    for number in range(20):
        one, other = line_style(number), line_style(number + 1)
        assert one["marker"] != other["marker"]
        assert one["linestyle"] != other["linestyle"]


def test_differences_are_orange_above_blue_below_and_white_at_zero():
    shown = signed_colors(np.array([[[0.1], [0.0], [-0.1], [0.9], [0.05]]], np.float32))[0]

    assert np.allclose(shown[:3], [ABOVE, ZERO, BELOW], atol=1e-6)
    assert np.allclose(shown[3], ABOVE), "beyond the scale it stays at its end"
    assert np.allclose(shown[4], (np.array(ABOVE) + np.array(ZERO)) / 2)


def test_of_colours_the_value_that_differs_most_counts():
    shown = signed_colors(np.array([[[0.02, -0.1, 0.03], [0.1, -0.02, 0.0]]], np.float32))[0]

    assert np.allclose(shown, [BELOW, ABOVE], atol=1e-6)
