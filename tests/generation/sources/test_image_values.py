"""Image values: what shows through transparent parts, which stored values become 0 and 1, and the facts of a file."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from support.images import COLOURS, folder, only, picture_of, put, save

from inr_factory.errors import UsageError
from inr_factory.generation.recipe import ImageSource
from inr_factory.generation.signals import SignalError
from inr_factory.generation.sources.image_files import file_signal


def drawing(colour=255):
    """A square of one colour on transparency: a quarter of its area is opaque."""
    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[2:6, 2:6] = (colour, colour, colour, 255)
    return Image.fromarray(pixels)


@pytest.mark.parametrize(
    ("background", "level"),
    [("white", 1), ("black", 0), (0.4, 0.4), (0, 0), ("#333333", 0.2), ([0.2, 0.2, 0.2], 0.2), ("Gray", 128 / 255)],
    ids=str,
)
@pytest.mark.parametrize("mode", ["grey", "rgb"])
@pytest.mark.parametrize("layout", ["RGBA", "LA"])
def test_a_background_shows_through_transparent_parts_d04(background, level, mode, layout, tmp_path):
    path = save(tmp_path / "a" / "x.png", drawing().convert(layout))

    signal = only(path, background=background, mode=mode)

    values = picture_of(signal)
    assert np.allclose(values[2:6, 2:6], 1)
    assert np.allclose(values[0], level, atol=1e-6)
    assert signal.facts["transparent"] == pytest.approx(0.75)
    assert (values.std() == 0) == (level == 1)


def test_a_background_may_have_a_colour(tmp_path):
    path = save(tmp_path / "a" / "x.png", drawing())

    assert np.allclose(picture_of(only(path, background=[1, 0, 0]))[0, 0], (1, 0, 0))
    assert np.allclose(picture_of(only(path, background="blue"))[0, 0], (0, 0, 1))
    with pytest.raises(UsageError, match="no colour 'blak'; did you mean 'black'"):
        folder(tmp_path, background="blak")


def png(width, bits, kind, row, key):
    """A PNG of two equal rows, with the value that is transparent."""
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, 2, bits, kind, 0, 0, 0)), (b"tRNS", key),
        (b"IDAT", zlib.compress(2 * (b"\0" + row))), (b"IEND", b""),
    ]  # fmt: skip
    content = b"".join(struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in chunks)
    return b"\x89PNG\r\n\x1a\n" + content


@pytest.mark.parametrize(
    ("image", "levels"),
    [
        (png(8, 1, 0, b"\xaa", b"\0\1"), [0.4, 0] * 4),
        (png(4, 2, 0, b"\x1b", b"\0\2"), [0, 1 / 3, 0.4, 1]),
        (png(2, 4, 0, b"\x5a", b"\0\5"), [0.4, 2 / 3]),
        (png(2, 8, 0, b"\x55\xaa", b"\0\x55"), [0.4, 2 / 3]),
        (png(2, 16, 2, b"\x55\x11" * 3 + b"\xaa\xaa" * 3, b"\x55\x11" * 3), [0.4, 2 / 3]),
    ],
    ids=["1 bit", "2 bits", "4 bits", "8 bits", "colours of 16 bits"],
)
def test_the_transparent_value_of_a_png_has_the_bits_of_its_pixels(image, levels, tmp_path):
    path = put(tmp_path / "a" / "x.png", image)

    assert np.allclose(picture_of(only(path, background=0.4))[0, :, 0], levels, atol=1e-6)
    if levels[0] == 0.4 and len(levels) == 2:
        assert only(path).facts["transparent"] == 0.5


def tiff(values, bits, photometric=1, sample_format=1):
    """A TIFF of one row of greys, whose bytes are `values`."""
    tags = [
        (256, 8 * len(values) // bits), (257, 1), (258, bits), (259, 1), (262, photometric), (273, 8 + 2 + 12 * 10 + 4),
        (277, 1), (278, 1), (279, len(values)), (339, sample_format),
    ]  # fmt: skip
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + values


@pytest.mark.parametrize(
    ("image", "levels"),
    [
        (tiff(b"\xff\xf5\x55", 12), [1, 1 / 3]),
        (tiff(struct.pack("<2H", 0, 43690), 16, photometric=0), [1, 1 / 3]),
        (tiff(struct.pack("<2f", 0, 0.75), 32, photometric=0, sample_format=3), [1, 0.25]),
        (tiff(bytes([0, 85]), 8, photometric=0), [1, 2 / 3]),
        (tiff(struct.pack("<2I", 0, 65535), 32), [0, 1]),
        (tiff(struct.pack("<2i", 0, 65535), 32, sample_format=2), [0, 1]),
    ],
    ids=["12 bits", "0 is white", "floats, 0 is white", "bytes, 0 is white", "32 bits", "32 bits, signed"],
)
def test_the_tags_of_a_tiff_say_what_black_and_white_are(image, levels, tmp_path):
    path = put(tmp_path / "a" / "x.tif", image)

    assert np.allclose(picture_of(only(path))[0, :, 0], levels, atol=1e-6)


@pytest.mark.parametrize(
    ("image", "value_range", "reason"),
    [
        (tiff(bytes([1, 255]), 8, sample_format=2), (-3, 1), "int8 values go from -1 to 1, and are signed"),
        (tiff(struct.pack("<2h", 3, 1), 16, sample_format=2), (-1, 3), "values go from 1 to 3, and are signed"),
        (tiff(struct.pack("<2I", 2**32 - 1, 2**31 - 1), 32), (0, 2**32 - 1), "uint32 values go from 2.14748e"),
    ],
    ids=["8 bits", "16 bits", "32 bits"],
)
def test_values_without_a_white_need_a_range(image, value_range, reason, tmp_path):
    path = put(tmp_path / "a" / "x.tif", image)

    with pytest.raises(SignalError, match=reason):
        only(path)
    assert np.allclose(picture_of(only(path, value_range=value_range))[0, :, 0], [1, 0.5], atol=1e-6)


def test_transparency_of_16_bit_greys_is_one_value(tmp_path):
    row = np.array([1000, 52428], ">u2").tobytes()
    path = put(tmp_path / "a" / "x.png", png(2, 16, 0, row, struct.pack(">H", 1000)))

    signal = only(path, mode="grey", background=0.4)

    assert np.allclose(picture_of(signal)[:, :, 0], [[0.4, 0.8]] * 2)
    assert signal.facts["transparent"] == 0.5


def test_a_value_range_says_what_becomes_0_and_1(tmp_path):
    twelve_bit = np.array([[0, 1024], [4095, 2048]], np.uint16)
    hounsfield = np.array([[-1000, 0], [3000, 1000]], np.int32)
    cases = [
        (twelve_bit, "png", [0, 4095], twelve_bit / 4095, 0),
        (hounsfield, "tif", [-1000, 1000], [[0, 0.5], [1, 1]], 0.25),
        (np.array([[0, 2.5], [5, 10]], np.float32), "tif", [0, 10], [[0, 0.25], [0.5, 1]], 0),
        (np.array([[0, 51], [102, 255]], np.uint8), "png", [51, 102], [[0, 0], [1, 1]], 0.5),
    ]
    for at, (pixels, suffix, value_range, expected, clipped) in enumerate(cases):
        path = save(tmp_path / str(at) / "a" / f"x.{suffix}", Image.fromarray(pixels))
        signal = only(path, mode="grey", value_range=value_range)
        assert np.allclose(picture_of(signal)[:, :, 0], expected, atol=1e-6)
        assert signal.facts["clipped"] == clipped
    with pytest.raises(SignalError, match=r"from -1000 to 3000, expected 0 to 65535; source.value_range says which"):
        only(tmp_path / "1" / "a" / "x.tif", mode="grey")


def test_the_whole_range_of_bytes_changes_no_value(tmp_path):
    path = save(tmp_path / "a" / "x.png", COLOURS)

    assert np.allclose(picture_of(only(path, value_range=[0, 255])), picture_of(only(path)), atol=1e-7)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_file_with_values_that_are_no_numbers_is_refused(value, tmp_path):
    pixels = np.zeros((2, 2), np.float32)
    pixels[0, 0] = value
    path = save(tmp_path / "a" / "x.tif", Image.fromarray(pixels))

    for settings in ({}, {"value_range": [0, 1]}):
        with pytest.raises(SignalError, match="NaN or infinite"):
            only(path, **settings)


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tif"])
def test_frames_that_are_not_used_are_counted(suffix, tmp_path):
    frames = [Image.fromarray(np.full((4, 6, 3), level, np.uint8)) for level in (0, 255)]
    save(tmp_path / "a" / f"one.{suffix}", frames[0])
    frames[0].save(
        tmp_path / "a" / f"two.{suffix}",
        save_all=True,
        append_images=frames[1:],
        **{"lossless": True} if suffix == "webp" else {},
    )

    source = folder(tmp_path)

    assert [source.signal(index).facts["more_frames"] for index in (0, 1)] == [0, 1]
    assert picture_of(source.signal(1)).max() == 0, "the first frame"


def test_version_1_has_the_facts_and_values_that_it_had(tmp_path):
    path = save(tmp_path / "a" / "x.png", drawing(0))
    config = ImageSource(collection="image_folder", mode="grey")

    one, two = (file_signal(path, config, version) for version in (1, 2))

    assert one.facts == {"height": 8, "width": 8}
    assert np.array_equal(one.targets, two.targets)
