"""One image, from a file or an array, as a signal: values in [0, 1] at the centres of pixels.

H and W are an image's height and width, O its values a pixel: 1 (grey) or 3 (rgb).
"""

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from inr_factory.errors import needs_extra, one_line
from inr_factory.generation.recipe import RECIPE_VERSION, ImageSource
from inr_factory.generation.signal_stack import SignalStack
from inr_factory.generation.signals import Signal, SignalError
from inr_factory.generation.sources.image_formats import MAX_PIXELS, pillow_formats
from inr_factory.generation.sources.image_values import Values, correct_key, file_values, height_width, pixel_values
from inr_factory.inr.pixel_grid import pixel_grid
from inr_factory.inr.regular_files import open_regular
from inr_factory.inr.stable_hash import content_digest

if TYPE_CHECKING:
    with needs_extra("images"):
        from PIL import Image

DECODER_BYTES = 24  # of memory that a decoder takes for a pixel, at most


def out_dim(config: ImageSource, stored: int) -> int:
    """Values a pixel: those of `mode`, else the stored number of channels."""
    return {"grey": 1, "rgb": 3, None: stored}[config.mode]


def file_signal(path: Path, config: ImageSource, version: int = RECIPE_VERSION) -> Signal:
    """Read the signal of an image file: its first frame, upright by its EXIF tag, on `source.background`.

    8-bit values are divided by 255, 16-bit greys by 65535; floating-point values must lie in [0, 1]; or
    `source.value_range` says which values become 0 and 1. 16-bit colour is read as 8-bit, the most that Pillow gives.
    From version 2 of the recipe on, facts say how much is transparent and whether there are more frames.

    Raises:
        SignalError: The file is missing, damaged, not an image or over `max_pixels` or `max_points`, both of which are
            checked before it is decoded.
        MemoryError: There is not enough memory to decode it. Nothing else is raised.
    """
    with needs_extra("images"):
        from PIL import Image, UnidentifiedImageError

    formats, pixels = pillow_formats(path.suffix, version), 0
    try:
        if path.stat().st_size == 0:
            raise SignalError("the file is empty (0 bytes)")
        with warnings.catch_warnings():
            # Pillow warns of odd metadata, and of sizes that `max_pixels` allows.
            warnings.simplefilter("ignore")
            # A file, not its path: by path, Pillow 13 maps uncompressed TIFFs into memory and scrambles turned ones.
            with open_regular(path) as file, Image.open(file, formats=formats) as image:
                _check_decoder(image)
                _check_size(image.width, image.height, config)
                pixels = image.width * image.height
                if version >= 2:
                    correct_key(image)
                image.load()
                content = content_digest(file)
                return _signal(*file_values(image, out_dim(config, stored=3), config, version), content)
    except SignalError:
        raise
    except UnidentifiedImageError:
        kinds = ", ".join(formats)
        raise SignalError(f"not recognised as an image: none of {kinds}, or a rare kind of these") from None
    except Image.DecompressionBombError as error:
        # Pillow's limit belongs to the process, so it stays, even where max_pixels is above it.
        claimed, pillow_limit, *_ = [int(digits) for digits in re.findall(r"\d+", str(error))]
        limit = f"source.max_pixels allows {config.max_pixels}" if claimed > config.max_pixels else None
        raise SignalError(f"{claimed} pixels, {limit or f'Pillow allows {pillow_limit}'}") from None
    except OSError as error:
        if error.errno is None:
            _check_memory(pixels or min(_webp_pixels(path), config.max_pixels))
        raise SignalError(f"cannot be read: {error.strerror or one_line(error)}") from error
    except MemoryError:
        raise  # no fault of the file
    except Exception as error:
        # A damaged file may raise anything at all in a decoder; it is one object's reason, kept in its record.
        _check_memory(pixels)
        raise SignalError(f"cannot be decoded: {type(error).__name__}: {one_line(error)}") from error


def _check_memory(pixels: int) -> None:
    """Raise MemoryError unless there is memory to decode so many pixels: some decoders report none as damage."""
    np.empty((pixels, DECODER_BYTES), np.uint8)


def _webp_pixels(path: Path) -> int:
    """The pixels that a WebP file claims (RFC 9649, section 2); Pillow makes its decoder before it tells. 0 for others."""
    with open_regular(path) as file:
        head = file.read(30).ljust(30, b"\0")
    if head[12:16] == b"VP8X":
        return (int.from_bytes(head[24:27], "little") + 1) * (int.from_bytes(head[27:30], "little") + 1)
    bits = int.from_bytes(head[21:25], "little") if head[12:16] == b"VP8L" else 0
    width, height = int.from_bytes(head[26:28], "little"), int.from_bytes(head[28:30], "little")
    if head[8:16] == b"WEBPVP8 ":
        return (width & 0x3FFF) * (height & 0x3FFF)
    return ((bits & 0x3FFF) + 1) * ((bits >> 14 & 0x3FFF) + 1) if bits else 0


def array_signal(pixels: NDArray[np.uint8], white: int, config: ImageSource) -> Signal:
    """The signal of pixels (H, W) or (H, W, 3) whose values go from 0 to `white`."""
    stack = array_signals(pixels[None], white, config)
    if stack is not None:
        return stack[0]
    channels = out_dim(config, stored=pixels.shape[2] if pixels.ndim == 3 else 1)

    with needs_extra("images"):
        from PIL import Image

    image = Image.fromarray(pixels if white == 255 else pixels.astype(np.float32) / np.float32(white))
    return _signal(pixel_values(image, channels, config)[0], {})


def array_signals(pixels: NDArray[np.uint8], white: int, config: ImageSource) -> SignalStack | None:
    """The signals of images (N, H, W) or (N, H, W, 3) of one size; None where Pillow resizes them or turns them grey."""
    height, width = pixels.shape[1:3]
    stored = pixels.shape[3] if pixels.ndim == 4 else 1
    channels = out_dim(config, stored)
    _check_size(width, height, config)
    if config.size is not None or channels < stored:
        return None
    values = torch.tensor(pixels).view(len(pixels), height * width, stored).expand(-1, -1, channels)
    return SignalStack(pixel_grid(height, width), values, white, 1.0, {"height": height, "width": width})


def _check_decoder(image: "Image.Image") -> None:
    """Refuse an image that its decoder would need too much memory for."""
    most = MAX_PIXELS.get(image.format or "", image.width * image.height)
    if image.width * image.height > most:
        raise SignalError(f"{image.width} x {image.height} pixels of {image.format}, at most {most} are decoded")


def _check_size(width: int, height: int, config: ImageSource) -> None:
    """Refuse an image by its header alone. Turning it upright changes neither count."""
    pixels = width * height
    if pixels > config.max_pixels:
        raise SignalError(f"{width} x {height} are {pixels} pixels, source.max_pixels allows {config.max_pixels}")
    points = pixels if config.size is None else int(np.prod(height_width(config.size)))
    if points > config.max_points:
        raise SignalError(
            f"{points} points, source.max_points allows {config.max_points}; "
            "set source.size (--set source.size=64) or raise source.max_points"
        )


def _signal(values: Values, facts: Mapping[str, int | float], content: int | None = None) -> Signal:
    height, width, channels = values.shape
    targets = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32).reshape(-1, channels))
    facts = {"height": height, "width": width, **facts}
    return Signal(pixel_grid(height, width), targets, peak=1.0, facts=facts, content=content)
