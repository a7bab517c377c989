"""PNG: pictures as data URIs for a page that needs no other file. The same picture gives the same bytes.

Shape letters: H height, W width.
"""

import base64
import struct
import zlib

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

# A palette of shaded surfaces: opaque shades first, then shades of edges, each with three strengths, the last clear.
OPAQUE, EDGES, STRENGTHS = 192, 21, (64, 128, 191)
CLEAR = 255


def image_uri(image: NDArray[np.floating]) -> str:
    """A picture (H, W, 1 or 3) with values in [0, 1]."""
    pixels = (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)
    grey = pixels.shape[2] == 1
    return _uri(_png(pixels, kind=0 if grey else 2))


def shades_uri(shade: NDArray[np.floating], cover: NDArray[np.floating], color: tuple[float, float, float]) -> str:
    """A surface in shades of one colour on nothing: brightness and cover (H, W), each in [0, 1]; 256 shades in all."""
    level = np.clip(shade, 0, 1)
    index = np.round(level * (OPAQUE - 1)).astype(np.int64)
    strength = np.clip(np.round(cover * 4).astype(np.int64), 0, 4)
    edge = OPAQUE + (strength - 1) * EDGES + np.round(level * (EDGES - 1)).astype(np.int64)
    index = np.where(strength == 4, index, np.where(strength == 0, CLEAR, edge))
    shades = np.concatenate([np.linspace(0, 1, OPAQUE), *[np.linspace(0, 1, EDGES)] * len(STRENGTHS), [0.0]])
    alpha = np.concatenate([np.full(OPAQUE, 255), *[np.full(EDGES, each) for each in STRENGTHS], [0]])
    palette = np.round(shades[:, None] * np.array(color) * 255).astype(np.uint8)
    chunks = _chunk(b"PLTE", palette.tobytes()) + _chunk(b"tRNS", alpha.astype(np.uint8).tobytes())
    return _uri(_png(index.astype(np.uint8)[:, :, None], kind=3, palette=chunks))


def _png(pixels: Pixels, kind: int, palette: bytes = b"") -> bytes:
    """The file of pixels (H, W, channels); `kind` is PNG's: 0 grey, 2 colours, 3 a palette."""
    height, width, channels = pixels.shape
    lines = np.zeros((height, 1 + width * channels), np.uint8)
    lines[:, 1:] = pixels.reshape(height, -1)
    if kind != 3:  # the difference to the line above packs better, but for palettes
        lines[1:, 1:] -= pixels.reshape(height, -1)[:-1]
        lines[1:, 0] = 2
    head = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n"
        + head
        + palette
        + _chunk(b"IDAT", zlib.compress(lines.tobytes(), 9))
        + _chunk(b"IEND", b"")
    )


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def _uri(content: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"
