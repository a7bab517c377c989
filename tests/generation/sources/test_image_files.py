"""Image files: every format and mode gives the same kind of signal; a broken file says so in one line."""

import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from support.images import COLOURS, GREYS, PLAIN, digits, encoded, folder, only, picture_of, put, save

from inr_factory.generation.signals import SignalError
from inr_factory.generation.sources.image_formats import FORMATS
from inr_factory.inr.pixel_grid import pixel_grid


def png(width: int, height: int, *chunks: tuple[bytes, bytes], depth: int = 8, colour: int = 2) -> bytes:
    """A PNG file with any header and nothing behind it but these chunks."""
    header = (b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    parts = [b"\x89PNG\r\n\x1a\n"]
    for kind, content in (header, *chunks, (b"IEND", b"")):
        parts.append(struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content)))
    return b"".join(parts)


def test_targets_go_row_by_row_from_the_top_left_and_share_the_grid(tmp_path):
    save(tmp_path / "a" / "1.png", COLOURS)
    save(tmp_path / "a" / "2.png", COLOURS)
    source = folder(tmp_path)

    one, two = source.signal(0), source.signal(1)

    assert np.array_equal(picture_of(one), COLOURS.astype(np.float32) / np.float32(255))
    assert one.targets.dtype == torch.float32
    assert one.coords is pixel_grid(4, 6)
    assert one.coords is two.coords, "signals of one size share their grid"
    assert (one.peak, one.facts) == (1.0, {"height": 4, "width": 6, **PLAIN})
    assert (source.in_dim, source.out_dim) == (2, 3)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "TIFF", "ppm", "webp", "WebP", "gif", "jpg", "JPEG"])
def test_each_format_is_read_whatever_the_case_of_its_suffix(suffix, tmp_path):
    exact = {"lossless": True} if suffix.lower() == "webp" else {"quality": 95} if suffix[0] in "jJ" else {}
    path = save(tmp_path / "a" / f"x.{suffix}", np.full((4, 6, 3), (51, 102, 204), dtype=np.uint8), **exact)

    values = picture_of(only(path))

    atol = 0.01 if suffix[0] in "jJ" else 1e-6
    assert np.allclose(values, (0.2, 0.4, 0.8), atol=atol)


def _palette(transparent: bool) -> Image.Image:
    image = Image.new("P", (6, 4), 1)
    image.putpalette([0, 0, 0, 51, 102, 204])
    if transparent:
        image.info["transparency"] = bytes((255, 0))
    return image


@pytest.mark.parametrize(
    ("image", "suffix", "rgb"),
    [
        (Image.new("1", (6, 4), 1), "png", (1, 1, 1)),
        (Image.new("1", (6, 4), 1), "pbm", (1, 1, 1)),
        (Image.new("L", (6, 4), 51), "png", (0.2, 0.2, 0.2)),
        (Image.new("LA", (6, 4), (51, 0)), "png", (1, 1, 1)),
        (Image.new("LA", (6, 4), (0, 51)), "png", (0.8, 0.8, 0.8)),
        (_palette(transparent=False), "png", (0.2, 0.4, 0.8)),
        (_palette(transparent=True), "png", (1, 1, 1)),
        (_palette(transparent=False), "gif", (0.2, 0.4, 0.8)),
        (Image.new("RGBA", (6, 4), (51, 102, 204, 255)), "png", (0.2, 0.4, 0.8)),
        (Image.new("RGBA", (6, 4), (0, 102, 204, 0)), "png", (1, 1, 1)),
        (Image.new("RGBA", (6, 4), (0, 0, 255, 51)), "webp", (0.8, 0.8, 1)),
        (Image.new("CMYK", (6, 4), (204, 153, 51, 0)), "tif", (0.2, 0.4, 0.8)),
        (Image.new("YCbCr", (6, 4), (51, 128, 128)), "tif", (0.2, 0.2, 0.2)),
        (Image.fromarray(np.full((4, 6), 13107, np.uint16)), "png", (0.2, 0.2, 0.2)),
        (Image.fromarray(np.full((4, 6), 13107, ">u2")), "tif", (0.2, 0.2, 0.2)),
        (Image.fromarray(np.full((4, 6), 13107, np.int32)), "tif", (0.2, 0.2, 0.2)),
        (Image.fromarray(np.full((4, 6), 13107, np.int32)), "pgm", (0.2, 0.2, 0.2)),
        (Image.fromarray(np.full((4, 6), 0.2, np.float32)), "tif", (0.2, 0.2, 0.2)),
    ],
    ids=lambda value: value.mode if isinstance(value, Image.Image) else None,
)
def test_every_mode_gives_values_in_0_to_1_and_transparent_parts_lie_on_white(image, suffix, rgb, tmp_path):
    options = {"lossless": True, "exact": True} if suffix == "webp" else {}
    if "transparency" in image.info:
        options["transparency"] = image.info["transparency"]
    path = save(tmp_path / "a" / f"x.{suffix}", image, **options)

    colour, grey = only(path), only(path, mode="grey")

    assert colour.targets.shape == (24, 3)
    assert np.allclose(picture_of(colour), rgb, atol=2e-3)
    assert grey.targets.shape == (24, 1)
    assert np.allclose(picture_of(grey), np.dot(rgb, (0.299, 0.587, 0.114)), atol=4e-3)


def test_16_bit_greys_keep_their_16_bits(tmp_path):
    ramp = np.arange(24, dtype=np.uint16).reshape(4, 6) + 40_000
    path = save(tmp_path / "a" / "x.png", ramp)

    assert np.array_equal(picture_of(only(path, mode="grey"))[:, :, 0], ramp.astype(np.float32) / np.float32(65535))


@pytest.mark.parametrize(
    "pixels",
    [
        np.full((4, 6), 70_000, np.int32),
        np.full((4, 6), -1, np.int32),
        np.full((4, 6), 1.5, np.float32),
        np.full((4, 6), np.nan, np.float32),
    ],
    ids=["over 16 bits", "negative", "over 1", "nan"],
)
def test_values_whose_white_is_unknown_are_refused_not_guessed(pixels, tmp_path):
    path = save(tmp_path / "a" / "x.tif", pixels)

    with pytest.raises(SignalError, match=r"values go from .* expected 0 to|NaN or infinite"):
        only(path)


# What EXIF says of the stored image: 6 is "its first row is the right side, its first column the top".
STORED: dict[int, Callable[[NDArray[Any]], NDArray[Any]]] = {
    1: lambda seen: seen,
    2: lambda seen: seen[:, ::-1],
    3: lambda seen: seen[::-1, ::-1],
    4: lambda seen: seen[::-1],
    5: lambda seen: seen.T,
    6: lambda seen: seen[:, ::-1].T,
    7: lambda seen: seen[::-1, ::-1].T,
    8: lambda seen: seen[::-1].T,
    9: lambda seen: seen,
}


@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
@pytest.mark.parametrize("orientation", STORED)
def test_pictures_stand_upright_as_exif_says(orientation, suffix, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.ascontiguousarray(STORED[orientation](GREYS))
    options = {"lossless": True} if suffix == "webp" else {}
    path = save(tmp_path / "a" / f"x.{suffix}", stored, exif=exif, **options)

    signal = only(path, mode="grey")

    assert signal.facts == {"height": 4, "width": 6, **PLAIN}
    assert np.allclose(picture_of(signal)[:, :, 0], GREYS / 255, atol=1e-6)


@pytest.mark.parametrize("exif", [b"", b"garbage", b"II*\0\xff\xff\xff\x7f", b"II*\0\x08\0\0\0\xff\xff\x12\x01"])
def test_a_picture_with_unreadable_exif_is_taken_as_it_is_stored(exif, tmp_path):
    path = save(tmp_path / "a" / "x.jpg", COLOURS, exif=b"Exif\0\0" + exif)

    assert only(path).facts == {"height": 4, "width": 6, **PLAIN}


def test_an_animation_gives_its_first_frame(tmp_path):
    frames = [Image.new("RGB", (6, 4), colour) for colour in ("red", "blue", "green")]
    path = save(tmp_path / "a" / "x.gif", frames[0], save_all=True, append_images=frames[1:])

    assert np.allclose(picture_of(only(path)), (1, 0, 0))


@pytest.mark.parametrize(("size", "height", "width"), [(5, 5, 5), ((3, 7), 3, 7), ((16, 2), 16, 2)])
@pytest.mark.parametrize("mode", ["grey", "rgb"])
def test_size_is_one_side_or_height_and_width(size, height, width, mode, tmp_path):
    save(tmp_path / "a" / "x.png", COLOURS)

    for source in (folder(tmp_path, size=size, mode=mode), digits(size=size, mode=mode)):
        signal = source.signal(0)
        assert {**signal.facts, **PLAIN} == {"height": height, "width": width, **PLAIN}
        assert signal.targets.shape == (height * width, source.out_dim)
        assert source.out_dim == {"grey": 1, "rgb": 3}[mode]
        assert 0 <= signal.targets.min() < signal.targets.max() <= 1


def test_size_crops_the_middle_to_its_aspect_and_does_not_squeeze(tmp_path):
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, 10:20] = (0, 255, 0)
    tall = np.ascontiguousarray(wide.transpose(1, 0, 2))

    for name, pixels in (("wide", wide), ("tall", tall)):
        path = save(tmp_path / name / "a" / "x.png", pixels)
        assert np.allclose(picture_of(only(path, size=10)), (0, 1, 0))
        assert not np.allclose(picture_of(only(path)), (0, 1, 0))


@pytest.mark.parametrize("mode", ["grey", "rgb"])
def test_the_size_that_an_image_has_changes_nothing(mode, tmp_path):
    path = save(tmp_path / "a" / "x.png", COLOURS)

    assert torch.allclose(only(path, size=(4, 6), mode=mode).targets, only(path, mode=mode).targets)
    assert torch.allclose(digits(size=8, mode=mode).signal(0).targets, digits(mode=mode).signal(0).targets)


def test_smaller_sizes_are_antialiased(tmp_path):
    fine = np.indices((64, 64)).sum(0) % 2 * 255
    path = save(tmp_path / "a" / "x.png", fine.astype(np.uint8))

    assert np.allclose(picture_of(only(path, size=8)), 0.5, atol=0.06)


def test_resampling_does_not_leave_0_to_1_in_16_bits(tmp_path):
    edge = np.zeros((8, 8), np.uint16)
    edge[:, 4:] = 65535
    path = save(tmp_path / "a" / "x.png", edge)

    targets = only(path, size=31).targets

    assert (targets.min(), targets.max()) == (0, 1)


BROKEN = {
    "empty": (b"", "empty"),
    "text": (b"this is no image", "not recognised as an image"),
    "html": (b"<html><body>404 not found</body></html>", "not recognised as an image"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n", "not recognised as an image"),
    "signature alone": (b"\x89PNG\r\n\x1a\n", "not recognised as an image|cannot be"),
    "no pixel data": (png(8, 8), "cannot be read|cannot be decoded"),
    "garbage for pixels": (png(8, 8, (b"IDAT", b"garbage")), "cannot be read|cannot be decoded"),
    "no width": (png(0, 8, (b"IDAT", zlib.compress(b""))), "not recognised as an image"),
    "no pixels": (b"GIF89a\0\0\0\0\0\0\0;", "not recognised as an image"),
    **{f"cut {kind}": (encoded(kind)[:-300], "cannot be read|cannot be decoded") for kind in ("PNG", "JPEG", "GIF")},
    **{
        f"cut {kind}": (encoded(kind)[:-300], "cannot be|not recognised as an image")
        for kind in ("BMP", "TIFF", "WEBP", "PPM")
    },
}


@pytest.mark.parametrize(("content", "reason"), BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_a_signal_error_with_a_short_reason(content, reason, tmp_path, capfd):
    path = put(tmp_path / "a" / "x.png", content)

    with pytest.raises(SignalError, match=reason) as caught:
        only(path)

    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 250
    assert str(tmp_path) not in str(caught.value), "the caller names the object"
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", FORMATS)
def test_damage_anywhere_raises_nothing_but_signal_errors(kind, tmp_path):
    intact = np.frombuffer(encoded(kind), np.uint8)
    path = put(tmp_path / "a" / "x.png", b"")
    source = folder(tmp_path)
    draw = np.random.default_rng(2)
    failed = 0
    for trial in range(200):
        bad = intact[: draw.integers(1, len(intact))].copy() if trial % 2 else intact.copy()
        bad[draw.integers(0, min(len(bad), 200), 3)] = draw.integers(0, 256, 3)
        path.write_bytes(bad.tobytes())
        try:
            source.signal(0)
        except SignalError:
            failed += 1

    assert failed > 50


def test_a_file_that_vanished_is_a_signal_error(tmp_path):
    path = save(tmp_path / "a" / "x.png", COLOURS)
    source = folder(tmp_path)
    path.unlink()

    with pytest.raises(SignalError, match="No such file") as caught:
        source.signal(0)

    assert str(tmp_path) not in str(caught.value), "the caller names the object"


@pytest.mark.parametrize(
    ("side", "settings", "reason"),
    [
        (20_000, {}, "400000000 pixels, source.max_pixels allows 64000000"),
        (8_001, {}, "64016001 pixels, source.max_pixels allows 64000000"),
        (9_800, {}, "96040000 pixels, source.max_pixels allows 64000000"),
        (9_800, {"max_pixels": 10**9, "size": 8}, "cannot be read"),
        (20_000, {"max_pixels": 10**9, "size": 8}, "400000000 pixels, Pillow allows 178956970"),
        (9, {"max_pixels": 80}, "81 pixels, source.max_pixels allows 80"),
    ],
)
def test_pixels_are_counted_in_the_header_before_anything_is_decoded(side, settings, reason, tmp_path):
    limit = Image.MAX_IMAGE_PIXELS
    path = put(tmp_path / "a" / "x.png", png(side, side, (b"IDAT", zlib.compress(b"\0" * 100))))

    with pytest.raises(SignalError, match=reason):
        only(path, **settings)
    assert limit == Image.MAX_IMAGE_PIXELS, "Pillow's limit belongs to the process"


def test_too_many_points_are_refused_with_what_to_do(tmp_path):
    path = save(tmp_path / "a" / "x.png", COLOURS)

    assert len(only(path, max_points=24).targets) == 24
    assert len(only(path, max_points=23, size=4).targets) == 16
    with pytest.raises(
        SignalError, match=r"24 points.*set source\.size \(--set source\.size=64\) or raise source\.max_"
    ):
        only(path, max_points=23)
    with pytest.raises(SignalError, match="25 points"):
        only(path, max_points=24, size=5)
    with pytest.raises(SignalError, match="64 points"):
        digits(max_points=63).signal(0)
