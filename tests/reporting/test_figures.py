"""Figures: text fits, is never a formula, and a letter without a font costs neither a warning nor the picture."""

import pytest
from PIL import Image
from support.drawn import saved_picture

from inr_factory.reporting import figures
from inr_factory.reporting.figures import NO_GLYPH, REMEDY, drawing, shorten, text_width, wrap

LONG = "train/a_long_folder/of_many/parts/image_000123.png"


@pytest.mark.parametrize("text", [LONG, "W" * 60, "i" * 200, "a b", "Ünïcödé-Wörter, sehr lang und breit"])
@pytest.mark.parametrize("inches", [0.5, 1.0, 2.0])
def test_shortened_text_fits_and_keeps_both_ends(text, inches):
    short = shorten(text, 72 * inches, 7)

    assert text_width(short, 7) <= 72 * inches
    head, cut, tail = short.partition("…")
    assert text.startswith(head)
    assert text.endswith(tail)
    assert bool(cut) == (short != text)
    if cut:
        assert abs(len(head) - len(tail)) <= 1


@pytest.mark.parametrize("lines", [1, 2, 3])
def test_wrapped_lines_fit_and_the_last_has_the_end(lines):
    wrapped = wrap(LONG, 72 * 0.9, 7, lines)

    assert len(wrapped) == lines
    assert all(text_width(line, 7) <= 72 * 0.9 for line in wrapped)
    assert wrapped[-1].endswith(".png")
    assert wrap("Ankle boot", 72 * 0.9, 7, lines) == ["Ankle boot"]


@pytest.fixture
def fallback(monkeypatch):
    """Sets the fonts that are looked for after matplotlib's own."""

    def choose(*names):
        monkeypatch.setattr(figures, "FALLBACK_FONTS", names)
        for cached in (figures.font_families, figures._font_files, figures._drawable):
            cached.cache_clear()

    yield choose
    choose()


@pytest.mark.parametrize("layout", [None, "constrained"])
def test_a_name_without_a_font_is_a_number_and_the_picture_says_what_to_install(tmp_path, fallback, layout):
    fallback()
    with saved_picture() as drawn, drawing(tmp_path / "a.png", 6, 2, layout=layout) as page:
        assert page.label("猫", number=3) == "class 3"
        assert page.label("test/猫.png") == f"test/{NO_GLYPH}.png"
        page.figure.text(0.1, 0.5, page.label("猫 and 犬"))

    assert drawn.words == [f"{NO_GLYPH} and {NO_GLYPH}", REMEDY]


def test_installed_fonts_draw_what_the_first_font_lacks(tmp_path, fallback):
    from matplotlib.font_manager import findfont, get_font

    fallback()
    letter = next(
        chr(code) for code in get_font(findfont("STIXGeneral")).get_charmap() if chr(code) not in figures._drawable()
    )
    fallback("STIXGeneral", "a font that nobody has")
    with saved_picture() as drawn, drawing(tmp_path / "a.png", 3, 1) as page:
        page.figure.text(0.1, 0.5, page.label(letter, number=3))

    assert figures.font_families() == ("DejaVu Sans", "STIXGeneral")
    assert drawn.words == [letter]


@pytest.mark.parametrize(
    ("name", "shown"), [("$x^{$", "$x^{$"), (r"$\frac$", r"$\frac$"), ("a\x1b[31mb\n", r"a\x1b[31mb\n")]
)
def test_names_are_neither_formulas_nor_control_characters(tmp_path, name, shown):
    with saved_picture() as drawn, drawing(tmp_path / "a.png", 3, 1) as page:
        page.figure.text(0.1, 0.5, page.label(name))

    assert drawn.words == [shown]


def test_a_picture_depends_on_what_is_drawn_alone(tmp_path):
    import matplotlib

    def draw(name):
        with drawing(tmp_path / name, 2, 1) as page:
            page.figure.text(0.1, 0.5, "text")
        return (tmp_path / name).read_bytes()

    before = dict(matplotlib.rcParams)
    first = draw("a.png")
    with matplotlib.rc_context({"font.family": ["serif"], "axes.titlesize": 30}):
        second = draw("b.png")

    assert first == second
    assert dict(matplotlib.rcParams) == before, "the user's own settings were changed"
    with Image.open(tmp_path / "a.png") as image:
        assert image.size == (300, 150)
