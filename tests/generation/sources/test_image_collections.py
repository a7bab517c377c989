"""Images: every collection gives the same kind of signal, and what is missing or broken says so in one line."""

import gzip
import hashlib
import os
import pickle
import socket
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from support.paths import DATASETS

from inr_factory.errors import IntegrityError, UsageError
from inr_factory.generation.recipe import ImageSource
from inr_factory.generation.signals import Signal, SignalError, Source, pixel_grid
from inr_factory.generation.sources.image_collections import default_data_root, open_source
from inr_factory.generation.sources.image_files import FORMATS
from inr_factory.generation.sources.torchvision_images import torchvision_datasets

needs_datasets = pytest.mark.skipif(not DATASETS.is_dir(), reason=f"the real data are not at {DATASETS}")

rng = np.random.default_rng(0)
COLOURS = rng.integers(0, 256, (4, 6, 3), dtype=np.uint8)
GREYS = rng.integers(0, 256, (4, 6), dtype=np.uint8)


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test of this file may reach the network."""

    def refuse(*_: Any, **__: Any) -> None:
        raise socket.gaierror("no network in tests")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def save(path: Path, picture: Image.Image | NDArray[Any], **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    image.save(path, **options)
    return path


def folder(root: Path, **settings: Any) -> Source:
    return open_source(ImageSource(collection="image_folder", **settings), root)


def only(path: Path, **settings: Any) -> Signal:
    """The signal of the one image in root/class/file."""
    source = folder(path.parent.parent, **settings)
    assert len(source.items) == 1
    return source.signal(0)


def picture_of(signal: Signal) -> NDArray[np.float32]:
    """Targets as (H, W, O)."""
    values: NDArray[np.float32] = signal.targets.numpy()
    return values.reshape(signal.facts["height"], signal.facts["width"], -1)


def png(width: int, height: int, *chunks: tuple[bytes, bytes], depth: int = 8, colour: int = 2) -> bytes:
    """A PNG file with any header and nothing behind it but these chunks."""
    header = (b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    parts = [b"\x89PNG\r\n\x1a\n"]
    for kind, content in (header, *chunks, (b"IEND", b"")):
        parts.append(struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content)))
    return b"".join(parts)


def put(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


# --- one image ---


def test_targets_go_row_by_row_from_the_top_left_and_share_the_grid(tmp_path):
    save(tmp_path / "a" / "1.png", COLOURS)
    save(tmp_path / "a" / "2.png", COLOURS)
    source = folder(tmp_path)

    one, two = source.signal(0), source.signal(1)

    assert np.array_equal(picture_of(one), COLOURS.astype(np.float32) / np.float32(255))
    assert one.targets.dtype == torch.float32
    assert one.coords is pixel_grid(4, 6)
    assert one.coords is two.coords, "signals of one size share their grid"
    assert (one.peak, one.facts) == (1.0, {"height": 4, "width": 6})
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

    with pytest.raises(SignalError, match=r"values go from .* expected 0 to"):
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

    assert signal.facts == {"height": 4, "width": 6}
    assert np.allclose(picture_of(signal)[:, :, 0], GREYS / 255, atol=1e-6)


@pytest.mark.parametrize("exif", [b"", b"garbage", b"II*\0\xff\xff\xff\x7f", b"II*\0\x08\0\0\0\xff\xff\x12\x01"])
def test_a_picture_with_unreadable_exif_is_taken_as_it_is_stored(exif, tmp_path):
    path = save(tmp_path / "a" / "x.jpg", COLOURS, exif=b"Exif\0\0" + exif)

    assert only(path).facts == {"height": 4, "width": 6}


def test_an_animation_gives_its_first_frame(tmp_path):
    frames = [Image.new("RGB", (6, 4), colour) for colour in ("red", "blue", "green")]
    path = save(tmp_path / "a" / "x.gif", frames[0], save_all=True, append_images=frames[1:])

    assert np.allclose(picture_of(only(path)), (1, 0, 0))


# --- size and mode ---


@pytest.mark.parametrize(("size", "height", "width"), [(5, 5, 5), ((3, 7), 3, 7), ((16, 2), 16, 2)])
@pytest.mark.parametrize("mode", ["grey", "rgb"])
def test_size_is_one_side_or_height_and_width(size, height, width, mode, tmp_path):
    save(tmp_path / "a" / "x.png", COLOURS)

    for source in (folder(tmp_path, size=size, mode=mode), _digits(size=size, mode=mode)):
        signal = source.signal(0)
        assert signal.facts == {"height": height, "width": width}
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
    assert torch.allclose(_digits(size=8, mode=mode).signal(0).targets, _digits(mode=mode).signal(0).targets)


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


# --- files without a signal ---


def _encoded(kind: str) -> bytes:
    content = BytesIO()
    noise = np.random.default_rng(1).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(noise).save(content, kind)
    return content.getvalue()


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
    **{f"cut {kind}": (_encoded(kind)[:-300], "cannot be read|cannot be decoded") for kind in ("PNG", "JPEG", "GIF")},
    **{
        f"cut {kind}": (_encoded(kind)[:-300], "cannot be|not recognised as an image")
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
    whole = np.frombuffer(_encoded(kind), np.uint8)
    path = put(tmp_path / "a" / "x.png", b"")
    source = folder(tmp_path)
    draw = np.random.default_rng(2)
    failed = 0
    for trial in range(200):
        bad = whole[: draw.integers(1, len(whole))].copy() if trial % 2 else whole.copy()
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
    assert limit == Image.MAX_IMAGE_PIXELS, "Pillow's limit belongs to the whole process"


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
        _digits(max_points=63).signal(0)


# --- image folders ---


def tree(root: Path, *names: str) -> Path:
    for name in names:
        save(root / name, GREYS, format="png")
    return root


def test_folders_of_classes_have_no_split_and_names_are_paths(tmp_path):
    source = folder(tree(tmp_path, "dog/2.png", "cat/b/c/1.png", "dog/1.PNG", "cat/a.jpg"))

    assert source.classes == ("cat", "dog")
    assert [(item.object_id, item.label, item.split) for item in source.items] == [
        ("cat/a.jpg", 0, None),
        ("cat/b/c/1.png", 0, None),
        ("dog/1.PNG", 1, None),
        ("dog/2.png", 1, None),
    ]


def test_the_signal_is_that_of_the_item_with_its_number(tmp_path):
    for value in (30, 10, 20):
        save(tmp_path / f"class {value}" / "x.png", np.full((2, 2), value, np.uint8))
    source = folder(tmp_path, mode="grey")

    for number, item in enumerate(source.items):
        assert float(source.signal(number).targets[0] * 255) == pytest.approx(int(item.object_id[6:8]))


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train", "train"), ("Training", "train"), ("val", "val"), ("VALID", "val"), ("validation", "val"),
        ("test", "test"), ("Testing", "test"),
    ],
)  # fmt: skip
def test_split_folders_go_by_many_names(name, split, tmp_path):
    source = folder(tree(tmp_path, f"{name}/cat/1.png", "train/dog/1.png", "test/ape/x/1.png"))

    found = {item.object_id: (item.split, source.classes[item.label]) for item in source.items}
    assert source.classes == ("ape", "cat", "dog"), "the sorted union over all splits"
    assert found[f"{name}/cat/1.png"] == (split, "cat")
    assert found["test/ape/x/1.png"] == ("test", "ape")


def test_hidden_files_other_files_and_images_beside_the_classes_are_passed_over(tmp_path):
    tree(tmp_path, "cat/1.png", "cat/.2.png", ".hidden/3.png", "cat/.git/4.png", "preview.png")
    put(tmp_path / "cat" / "notes.txt", b"no image")
    put(tmp_path / "docs" / "readme.md", b"no image")
    os.mkfifo(tmp_path / "cat" / "pipe.png")

    source = folder(tmp_path)

    assert [item.object_id for item in source.items] == ["cat/1.png"]
    assert source.classes == ("cat",)


def test_a_class_may_be_called_train_among_other_classes(tmp_path):
    source = folder(tree(tmp_path, "bus/1.png", "train/1.png"))

    assert source.classes == ("bus", "train")
    assert {item.split for item in source.items} == {None}


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        ([], "no images in class folders .* expected CLASS/FILE, SPLIT/CLASS/FILE"),
        (["1.png"], "no images in class folders"),
        (["train/cat/1.png", "extra/cat/1.png"], "the split train and beside it extra"),
        (["train/cat/1.png", "test/1.png"], "test holds files that are in no class folder"),
        (["train/1.png"], "train holds files that are in no class folder"),
    ],
)
def test_folders_of_no_known_layout_are_a_usage_error_of_one_line(names, reason, tmp_path):
    with pytest.raises(UsageError, match=reason) as caught:
        folder(tree(tmp_path, *names))

    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_a_missing_folder_is_a_usage_error_that_names_it(tmp_path):
    with pytest.raises(UsageError, match=f"no folder {tmp_path}/nowhere; give --data-root"):
        folder(tmp_path / "nowhere")


def test_linked_files_and_folders_count_but_loops_end(tmp_path):
    tree(tmp_path / "store", "1.png", "2.png")
    root = tree(tmp_path / "root", "cat/0.png")
    (root / "cat" / "1.png").symlink_to(tmp_path / "store" / "1.png")
    (root / "dog").symlink_to(tmp_path / "store")
    (root / "cat" / "up").symlink_to(root)
    (root / "cat" / "self").symlink_to(root / "cat" / "self")
    (root / "cat" / "self.png").symlink_to(root / "cat" / "self.png")
    (root / "cat" / "gone.png").symlink_to(root / "nowhere.png")

    source = folder(root)

    ids = [item.object_id for item in source.items]
    assert ids == ["cat/0.png", "cat/1.png", "cat/gone.png", "cat/self.png", "dog/1.png", "dog/2.png"]
    assert source.signal(1).facts == {"height": 4, "width": 6}
    assert len(source.fingerprint) == 16
    for broken in (2, 3):
        with pytest.raises(SignalError):
            source.signal(broken)


def test_names_that_are_not_utf_8_are_written_as_utf_8_and_still_open(tmp_path):
    raw = os.path.join(os.fsencode(tmp_path), b"caf\xe9", b"\xff.png")
    os.mkdir(os.path.dirname(raw))
    Path(os.fsdecode(raw)).write_bytes(_encoded("PNG"))
    tree(tmp_path, "café/ü.png")

    source = folder(tmp_path)

    assert [item.object_id for item in source.items] == ["caf\\xe9/\\xff.png", "café/ü.png"]
    assert source.classes == ("caf\\xe9", "café")
    assert all(item.object_id.encode() for item in source.items)
    assert source.signal(0).facts == {"height": 32, "width": 32}
    assert len(source.fingerprint) == 16


def test_two_names_that_would_be_written_alike_are_refused(tmp_path):
    tree(tmp_path, "cat/\\xff.png")
    Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), b"cat", b"\xff.png"))).write_bytes(_encoded("PNG"))

    with pytest.raises(UsageError, match="same name once written as UTF-8"):
        folder(tmp_path)


def test_a_folders_fingerprint_follows_names_and_sizes_and_not_settings_or_place(tmp_path):
    here = folder(tree(tmp_path / "here", "cat/1.png", "dog/1.png"))
    there = folder(tree(tmp_path / "there", "dog/1.png", "cat/1.png"), size=8, mode="grey")
    renamed = folder(tree(tmp_path / "renamed", "cat/1.png", "dog/2.png"))
    grown = tree(tmp_path / "grown", "cat/1.png", "dog/1.png")
    put(grown / "dog" / "1.png", (grown / "dog" / "1.png").read_bytes() + b"\0")

    assert here.fingerprint == there.fingerprint
    assert len({here.fingerprint, renamed.fingerprint, folder(grown).fingerprint}) == 3
    assert len(here.fingerprint) == 16


# --- digits and the official sets ---


def _digits(**settings: Any) -> Source:
    return open_source(ImageSource(collection="digits", **settings))


def test_digits_are_scikit_learns_scans_divided_by_16():
    from sklearn.datasets import load_digits

    source, scans = _digits(), load_digits()

    assert len(source.items) == 1797
    assert source.classes == tuple("0123456789")
    assert (source.items[12].object_id, source.items[12].split) == ("00012", None)
    assert [item.label for item in source.items] == scans.target.tolist()
    assert (source.in_dim, source.out_dim, source.licence) == (2, 1, "CC BY 4.0")
    assert source.version.startswith("scikit-learn ")
    for number in (0, 12, 1796):
        assert np.array_equal(picture_of(source.signal(number))[:, :, 0], scans.images[number] / 16)


def test_grey_collections_repeat_their_channel_when_asked_for_rgb():
    grey, rgb = _digits().signal(3), _digits(mode="rgb").signal(3)

    assert torch.equal(rgb.targets, grey.targets.expand(-1, 3))


def idx(pixels: NDArray[np.uint8]) -> bytes:
    return struct.pack(f">HBB{pixels.ndim}I", 0, 8, pixels.ndim, *pixels.shape) + pixels.tobytes()


TRAIN = rng.integers(0, 256, (7, 5, 4), dtype=np.uint8)
TEST = rng.integers(0, 256, (3, 5, 4), dtype=np.uint8)
IDX_FILES = {
    "train-images-idx3-ubyte": idx(TRAIN),
    "train-labels-idx1-ubyte": idx(np.arange(7, dtype=np.uint8)),
    "t10k-images-idx3-ubyte": idx(TEST),
    "t10k-labels-idx1-ubyte": idx(np.array([9, 0, 9], np.uint8)),
}
FOLDERS = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST"}


def official(collection: str, root: Path, **settings: Any) -> Source:
    return open_source(ImageSource(collection=collection, **settings), root)


@pytest.fixture(params=FOLDERS)
def tiny(request, tmp_path) -> tuple[str, Path]:
    """A name and a data root with 7 + 3 images in torchvision's layout."""
    for name, content in IDX_FILES.items():
        put(tmp_path / FOLDERS[request.param] / "raw" / name, content)
    return request.param, tmp_path


def test_official_sets_keep_their_splits_and_numbers(tiny):
    source = official(*tiny)

    assert [item.object_id for item in source.items] == [
        *(f"train/{number:05d}" for number in range(7)),
        *(f"test/{number:05d}" for number in range(3)),
    ]
    assert [item.split for item in source.items] == ["train"] * 7 + ["test"] * 3
    assert [item.label for item in source.items] == [*range(7), 9, 0, 9]
    assert source.name == tiny[0]
    assert len(source.classes) == 10
    assert np.array_equal(picture_of(source.signal(2))[:, :, 0], TRAIN[2].astype(np.float32) / np.float32(255))
    assert np.array_equal(picture_of(source.signal(8))[:, :, 0], TEST[1].astype(np.float32) / np.float32(255))
    assert source.signal(0).coords is source.signal(8).coords
    assert source.out_dim == 1
    assert official(*tiny, mode="rgb", size=(6, 3)).signal(1).targets.shape == (18, 3)


def test_an_official_sets_fingerprint_follows_pixels_labels_and_splits_and_not_settings(tiny):
    name, root = tiny
    raw = root / FOLDERS[name] / "raw"
    seen = {official(name, root).fingerprint}
    assert official(name, root, size=8, mode="rgb").fingerprint in seen

    for file in IDX_FILES:
        content = bytearray(IDX_FILES[file])
        content[-1] ^= 1
        put(raw / file, bytes(content))
        seen.add(official(name, root).fingerprint)
    put(raw / "train-images-idx3-ubyte", idx(TRAIN[:6]))
    put(raw / "train-labels-idx1-ubyte", idx(np.arange(6, dtype=np.uint8)))
    seen.add(official(name, root).fingerprint)

    assert len(seen) == 6


@pytest.mark.parametrize("file", IDX_FILES)
@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:3],
        lambda content: content[:10],
        lambda content: content[:-1],
        lambda content: content + b"\0",
        lambda content: b"<html>404 not found, and much else to say about it</html>",
        lambda content: content[:2] + b"\x0d" + content[3:],
        lambda content: content[:4] + b"\xff\xff\xff\xff" + content[8:],
    ],
    ids=["empty", "3 bytes", "10 bytes", "cut", "longer", "html", "other type", "huge count"],
)
def test_a_damaged_idx_file_is_an_integrity_error_that_names_it(file, damage, tiny):
    name, root = tiny
    path = put(root / FOLDERS[name] / "raw" / file, damage(IDX_FILES[file]))

    with pytest.raises(IntegrityError, match=f"{path} is damaged .*; delete it and run again") as caught:
        official(name, root)

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("labels", "reason"),
    [(np.arange(6, dtype=np.uint8), "as many labels as images"), (np.full(7, 10, np.uint8), "labels go from 0 to 10")],
)
def test_labels_that_do_not_fit_the_images_are_an_integrity_error(labels, reason, tiny):
    name, root = tiny
    put(root / FOLDERS[name] / "raw" / "train-labels-idx1-ubyte", idx(labels))

    with pytest.raises(IntegrityError, match=reason):
        official(name, root)


@pytest.mark.parametrize(
    ("collection", "place", "files"),
    [
        ("mnist", "MNIST/raw", "train-images-idx3-ubyte.gz"),
        ("fashion_mnist", "FashionMNIST/raw", "t10k-labels-idx1-ubyte.gz"),
        ("cifar10", "cifar-10-batches-py", "cifar-10-python.tar.gz"),
    ],
)
def test_a_set_that_is_neither_there_nor_to_be_had_says_what_to_put_where(collection, place, files, tmp_path, capsys):
    root = tmp_path / "data" / "sets"

    with pytest.raises(UsageError) as caught:
        official(collection, root)

    for part in (f"{root}/{place}", files, "no network in tests", "--data-root", "INR_FACTORY_DATA"):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == [], "a failed download leaves nothing, not even the folder"
    said = capsys.readouterr()
    assert said.out == ""
    assert f"is not in {root} yet: fetching it" in said.err


@pytest.fixture
def archives(monkeypatch) -> dict[str, bytes]:
    """The four packed files of a tiny Fashion-MNIST, whose MD5 sums torchvision is made to expect."""
    packed = {f"{name}.gz": gzip.compress(content) for name, content in IDX_FILES.items()}
    resources = [(name, hashlib.md5(content).hexdigest()) for name, content in packed.items()]
    monkeypatch.setattr(torchvision_datasets().FashionMNIST, "resources", resources)
    return packed


def test_packed_files_that_are_there_are_unpacked_without_a_network(archives, tmp_path):
    raw = tmp_path / "FashionMNIST" / "raw"
    for name, content in archives.items():
        put(raw / name, content)

    assert len(official("fashion_mnist", tmp_path).items) == 10
    assert {path.name for path in raw.iterdir()} == set(IDX_FILES) | set(archives)
    assert list(tmp_path.iterdir()) == [tmp_path / "FashionMNIST"]


def test_a_download_fills_in_what_is_missing_and_replaces_nothing(archives, tmp_path, monkeypatch):
    raw = tmp_path / "FashionMNIST" / "raw"
    mine = put(raw / "t10k-images-idx3-ubyte", idx(TEST[::-1]))
    limits = []

    def download(url: str, path: Any, *_: Any) -> None:
        limits.append(socket.getdefaulttimeout())
        assert Path(path).is_relative_to(tmp_path), "on another disk the last step would be a copy, not a rename"
        Path(path).write_bytes(archives[Path(path).name])

    monkeypatch.setattr(sys.modules["torchvision.datasets.utils"], "_get_redirect_url", lambda url, max_hops: url)
    monkeypatch.setattr(sys.modules["torchvision.datasets.utils"], "_urlretrieve", download)
    source = official("fashion_mnist", tmp_path)

    assert len(source.items) == 10
    assert mine.read_bytes() == idx(TEST[::-1])
    assert {path.name for path in raw.iterdir()} == set(IDX_FILES) | set(archives)
    assert len(limits) == 4
    assert all(limits), "without a timeout a silent server holds a run for ever"
    assert socket.getdefaulttimeout() is None


@pytest.mark.parametrize("failure", [TimeoutError("timed out"), KeyboardInterrupt(), None], ids=repr)
def test_a_download_that_breaks_off_leaves_nothing_that_looks_whole(failure, archives, tmp_path, monkeypatch):
    def download(url: str, path: Any, *_: Any) -> None:
        content = archives[Path(path).name]
        if "labels" in str(path):
            content = content[:-3]
        Path(path).write_bytes(content)
        if "labels" in str(path) and failure is not None:
            raise failure

    monkeypatch.setattr(sys.modules["torchvision.datasets.utils"], "_get_redirect_url", lambda url, max_hops: url)
    monkeypatch.setattr(sys.modules["torchvision.datasets.utils"], "_urlretrieve", download)

    with pytest.raises(KeyboardInterrupt if isinstance(failure, KeyboardInterrupt) else UsageError):
        official("fashion_mnist", tmp_path)

    assert list(tmp_path.iterdir()) == []


COLOUR_IMAGES = rng.integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)


@pytest.fixture
def cifar(tmp_path, monkeypatch) -> Path:
    """A data root with a CIFAR-10 of one image a batch, pickled as of old, whose MD5 sums torchvision expects."""
    names = ["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"]
    sums = {}
    for number, name in enumerate([*names, "batches.meta"]):
        if name == "batches.meta":
            content = pickle.dumps({"label_names": [f"class {label}" for label in range(10)]}, protocol=2)
        else:
            row = COLOUR_IMAGES[number].transpose(2, 0, 1).reshape(1, -1)
            new = pickle.dumps({"data": row, "labels": [number]}, protocol=2)
            # The published files call dtype("u1", 0, 1); NumPy 2.4.0 warned of the 0, its successors of ("u1", 0).
            assert new.count(b"\x89\x88\x87") == 1
            content = new.replace(b"\x89\x88\x87", b"K\x00\x86")
        put(tmp_path / "cifar-10-batches-py" / name, content)
        sums[name] = hashlib.md5(content).hexdigest()
    cifar10 = torchvision_datasets().CIFAR10
    monkeypatch.setattr(cifar10, "train_list", [[name, sums[name]] for name in names[:5]])
    monkeypatch.setattr(cifar10, "test_list", [["test_batch", sums["test_batch"]]])
    monkeypatch.setattr(cifar10, "meta", {**cifar10.meta, "md5": sums["batches.meta"]})
    return tmp_path


def test_cifar10_is_colour_and_its_grey_is_luma(cifar):
    source, grey = official("cifar10", cifar), official("cifar10", cifar, mode="grey")

    assert [item.object_id for item in source.items][-2:] == ["train/00004", "test/00000"]
    assert source.classes[3] == "class 3"
    assert (source.out_dim, grey.out_dim) == (3, 1)
    for number in range(6):
        colours = COLOUR_IMAGES[number].astype(np.float32) / np.float32(255)
        assert np.array_equal(picture_of(source.signal(number)), colours)
        luma = colours @ np.array([[0.299], [0.587], [0.114]])
        assert np.allclose(picture_of(grey.signal(number)), luma, atol=0.003)
    assert official("cifar10", cifar, size=8).signal(0).targets.shape == (64, 3)


@pytest.mark.parametrize("name", ["data_batch_3", "test_batch", "batches.meta"])
def test_a_damaged_batch_of_cifar10_is_an_integrity_error_that_names_it(name, cifar):
    path = cifar / "cifar-10-batches-py" / name
    put(path, path.read_bytes()[:-1])

    with pytest.raises(IntegrityError, match=f"{path} is damaged .*MD5"):
        official("cifar10", cifar)


# --- all sources ---


def test_sources_survive_pickling(tiny, tmp_path):
    pictures = tree(tmp_path / "pictures", "cat/1.png")
    for source in (official(*tiny), folder(pictures), _digits()):
        again = pickle.loads(pickle.dumps(source))
        assert again.items == source.items
        assert again.fingerprint == source.fingerprint
        assert torch.equal(again.signal(0).targets, source.signal(0).targets)


def test_the_data_root_is_the_variables_or_data_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tree(tmp_path, "data/cat/1.png", "other/dog/1.png"))
    monkeypatch.delenv("INR_FACTORY_DATA", raising=False)
    assert default_data_root() == Path("data")
    assert open_source(ImageSource(collection="image_folder"), None).classes == ("cat",)

    monkeypatch.setenv("INR_FACTORY_DATA", str(tmp_path / "other"))
    assert open_source(ImageSource(collection="image_folder"), None).classes == ("dog",)


def test_a_source_opened_by_a_relative_root_outlives_a_change_of_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tree(tmp_path, "pictures/cat/1.png"))
    source = folder(Path("pictures"))
    monkeypatch.chdir("/")

    assert source.signal(0).facts == {"height": 4, "width": 6}


LIGHT = "import sys, inr_factory.generation.sources.image_collections; print([m for m in ('torchvision', 'PIL', 'sklearn') if m in sys.modules])"


@pytest.mark.parametrize(("first", "loaded"), [("", "[]"), ("import PIL; ", "['PIL']")])
def test_importing_the_room_is_light(first, loaded):
    found = subprocess.run([sys.executable, "-c", first + LIGHT], capture_output=True, text=True, check=True)

    assert found.stdout.strip() == loaded


class _Refuse:
    """An import hook by which the first import of torchvision fails."""

    def __init__(self, error: Exception) -> None:
        self.errors = [error]

    def find_spec(self, name: str, *_: Any) -> None:
        if name.partition(".")[0] == "torchvision" and self.errors:
            raise self.errors.pop()


@pytest.mark.parametrize("error", [RuntimeError("something else"), ImportError("No module named 'torchvision'")])
def test_only_the_missing_operator_of_a_cpu_torch_is_worked_around(error, monkeypatch):
    for module in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(sys, "meta_path", [_Refuse(error), *sys.meta_path])

    with pytest.raises(type(error), match=str(error)):
        torchvision_datasets()


# --- real data ---


@needs_datasets
def test_fashion_mnist_has_60000_and_10000_images():
    source = official("fashion_mnist", DATASETS)

    splits = [item.split for item in source.items]
    assert (splits.count("train"), splits.count("test")) == (60_000, 10_000)
    assert (source.items[-1].object_id, source.licence) == ("test/09999", "MIT")
    assert np.bincount([item.label for item in source.items]).tolist() == [7000] * 10
    assert source.classes[source.items[0].label] == "Ankle boot"
    raw = np.fromfile(DATASETS / "FashionMNIST" / "raw" / "t10k-images-idx3-ubyte", np.uint8, offset=16)
    last = source.signal(69_999).targets * 255
    assert torch.equal(last.round().to(torch.uint8)[:, 0], torch.from_numpy(raw[-784:]))


@needs_datasets
def test_the_cifar10_image_folder_has_10_classes_of_250():
    source = folder(DATASETS / "cifar10_images")

    assert len(source.classes) == 10
    assert np.bincount([item.label for item in source.items]).tolist() == [250] * 10
    splits = [item.split for item in source.items]
    assert (splits.count("train"), splits.count("test")) == (2000, 500)
    assert all(source.signal(number).targets.shape == (1024, 3) for number in range(0, 2500, 100))
