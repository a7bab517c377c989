"""Image grid: captions are whole and apart, rows are named, differences have their scale, many INRs fill bands."""

import numpy as np
import pytest
from PIL import Image
from support.drawn import saved_picture

from inr_factory.reporting.figures import NO_GLYPH
from inr_factory.reporting.image_grid import Column, draw_columns, reconstruction
from inr_factory.reporting.palette import DIFFERENCE

LONG = (
    "a class with quite a long name, and more of it",
    "train/a_long_folder/of_many/parts/image_000123.png",
    "30.1 dB",
)
WIDE = ("W" * 40, "M" * 40, "100.0 dB")
SHORT = ("cat", "0", "9.1 dB")


def columns_of(captions, height=8, width=8, values=1, with_source=True):
    image = np.random.default_rng(0).random((height, width, values)).astype(np.float32)
    rows = reconstruction(image, image * 0.9 if with_source else None)
    return [Column(caption, rows, number) for number, caption in enumerate(captions)]


@pytest.mark.parametrize(
    ("count", "size"), [(1, (8, 8, 1)), (2, (40, 4, 3)), (10, (3, 60, 1)), (13, (1, 1, 1))], ids=str
)
def test_captions_are_whole_and_apart(tmp_path, count, size):
    captions = [(LONG, WIDE, SHORT)[number % 3] for number in range(count)]
    with saved_picture() as drawn:
        draw_columns(columns_of(captions, *size), tmp_path / "a.png", "A title " * 20, "Details, " * 60)

    assert drawn.overlaps() == []
    assert drawn.cut() == []


def test_the_test_of_captions_can_fail(tmp_path, monkeypatch):
    monkeypatch.setattr("inr_factory.reporting.figures.wrap", lambda text, *_: [text])
    with saved_picture() as drawn:
        draw_columns(columns_of([LONG] * 4), tmp_path / "a.png", "title")

    assert drawn.overlaps()


def test_rows_are_named_and_differences_have_their_scale(tmp_path):
    with saved_picture() as drawn:
        draw_columns(columns_of([SHORT, SHORT]), tmp_path / "a.png", "digits: INRs", "10 INRs")
    assert {
        "source",
        "INR",
        DIFFERENCE.replace(" ", "\n"),
        "−0.1",
        "0",
        "+0.1",
        "digits: INRs",
        "10 INRs",
        *SHORT,
    } <= set(drawn.words)

    with saved_picture() as drawn:
        draw_columns(columns_of([SHORT, SHORT], with_source=False), tmp_path / "a.png", "digits")
    assert set(drawn.words) == {"INR", "digits", *SHORT}


def test_an_inr_without_its_source_leaves_its_places_empty(tmp_path):
    columns = [*columns_of([SHORT], with_source=False), *columns_of([SHORT])]
    with saved_picture() as drawn:
        draw_columns(columns, tmp_path / "a.png", "digits")

    pictures = [axis for axis in drawn.figure.axes if axis.images]
    assert len(pictures) == 1 + 3 + 1  # and the scale


def test_many_columns_fill_bands_of_the_same_width(tmp_path):
    sizes = {}
    for count in (10, 20, 40):
        draw_columns(columns_of([SHORT] * count), tmp_path / "a.png", "digits")
        with Image.open(tmp_path / "a.png") as image:
            sizes[count] = image.size
    assert {width for width, _ in sizes.values()} == {sizes[10][0]}
    assert sizes[40][1] > 1.7 * sizes[20][1] > 2.7 * sizes[10][1]


def test_parts_of_captions_begin_at_one_height(tmp_path):
    with saved_picture() as drawn:
        draw_columns(columns_of([SHORT, LONG]), tmp_path / "a.png", "digits", least=3)

    heights = {text: round(box.y0) for text, box in drawn.texts if text.endswith("dB")}
    assert len(set(heights.values())) == 1


def test_a_class_that_no_font_can_write_is_called_by_its_number(tmp_path, monkeypatch):
    monkeypatch.setattr("inr_factory.reporting.figures._drawable", lambda: frozenset(map(chr, range(32, 127))))
    with saved_picture() as drawn:
        draw_columns(columns_of([("é", "é.png", "1 dB")]), tmp_path / "a.png", "digits")

    assert "class 0" in drawn.words
    assert f"{NO_GLYPH}.png" in drawn.words
