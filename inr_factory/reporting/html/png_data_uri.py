"""PNG: pictures as data URIs for a page that needs no other file. The same picture gives the same bytes.

Shape letters: H height, W width.
"""

import base64
import io

import numpy as np
from numpy.typing import NDArray

from inr_factory.errors import needs_extra

with needs_extra("report"):
    from PIL import Image

# A palette of shaded surfaces: opaque shades first, then shades of edges, each with three strengths, the last clear.
OPAQUE, EDGES, STRENGTHS = 96, 21, (64, 128, 191)
CLEAR = OPAQUE + len(STRENGTHS) * EDGES


def image_uri(image: NDArray[np.floating]) -> str:
    """A picture (H, W, 1 or 3) with values in [0, 1]."""
    pixels = (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)
    return _uri(Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels))


def shades_uri(shade: NDArray[np.floating], cover: NDArray[np.floating], color: tuple[float, float, float]) -> str:
    """A surface in shades of one colour on nothing: brightness and cover (H, W), each in [0, 1]."""
    level = np.clip(shade, 0, 1)
    index = np.round(level * (OPAQUE - 1)).astype(np.int64)
    strength = np.clip(np.round(cover * 4).astype(np.int64), 0, 4)
    edge = OPAQUE + (strength - 1) * EDGES + np.round(level * (EDGES - 1)).astype(np.int64)
    index = np.where(strength == 4, index, np.where(strength == 0, CLEAR, edge))
    shades = np.concatenate([np.linspace(0, 1, OPAQUE), *[np.linspace(0, 1, EDGES)] * len(STRENGTHS), [0.0]])
    alpha = np.concatenate([np.full(OPAQUE, 255), *[np.full(EDGES, each) for each in STRENGTHS], [0]])
    palette = np.round(shades[:, None] * np.array(color) * 255).astype(np.uint8)
    surface = Image.fromarray(index.astype(np.uint8))
    surface.putpalette(palette.tobytes())
    return _uri(surface, transparency=alpha.astype(np.uint8).tobytes())


def _uri(image: Image.Image, **options: bytes) -> str:
    content = io.BytesIO()
    image.save(content, format="PNG", compress_level=9, **options)
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"
