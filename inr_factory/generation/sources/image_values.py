"""Image values: a decoded image of any mode as values in [0, 1], upright, on a background, at the size of the recipe.

H and W are an image's height and width, O its values a pixel: 1 (grey) or 3 (rgb).
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from inr_factory.errors import UsageError, did_you_mean, needs_extra
from inr_factory.generation.recipe import RECIPE_VERSION, ImageSource
from inr_factory.generation.signals import SignalError

if TYPE_CHECKING:
    with needs_extra("images"):
        from PIL import Image

Values = NDArray[np.float32]
Facts = dict[str, int | float]

# EXIF's number for "turned or mirrored like this" -> the name of Pillow's step that puts it upright.
ORIENTATION = 0x0112
# Tags of TIFF: bits of a value; 0 where 0 is white; 1 where values are unsigned, 2 where they are signed.
BITS, PHOTOMETRIC, SAMPLE_FORMAT = 258, 262, 339
KEY_SCALES = {"L;2": 85, "L;4": 17}  # what Pillow multiplies greys of a PNG by, but not the transparent one
UPRIGHT = {
    2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE",
    6: "ROTATE_270", 7: "TRANSVERSE", 8: "ROTATE_90",
}  # fmt: skip


def correct_key(image: "Image.Image") -> None:
    """Give a PNG's transparent value in the units of the pixels that Pillow will decode: of 8 bits, but for greys of 16."""
    key, raw = image.info.get("transparency"), image.tile[0][3] if image.format == "PNG" and image.tile else None  # type: ignore[attr-defined]
    if raw in KEY_SCALES and isinstance(key, int):
        image.info["transparency"] = key * KEY_SCALES[raw]
    elif raw == "RGB;16B" and isinstance(key, tuple):
        image.info["transparency"] = tuple(level >> 8 for level in key)


def file_values(image: "Image.Image", channels: int, config: ImageSource, version: int) -> tuple[Values, Facts]:
    """Values (H, W, O) of a decoded file, and what its row says of it: nothing before version 2 of the recipe.

    transparent is the share of the area through which the background shows, in [0, 1]; more_frames is 1 where the file
    has frames or pages besides the first; clipped is the share of values outside of a `source.value_range`.
    """
    tags = getattr(image, "tag_v2", {}) if version >= 2 else {}
    values, facts = pixel_values(_upright(image), channels, config, version, tags)
    return values, facts | ({"more_frames": int(_has_more_frames(image))} if version >= 2 else {})


def pixel_values(
    image: "Image.Image",
    channels: int,
    config: ImageSource,
    version: int = RECIPE_VERSION,
    tags: Mapping[int, Any] = MappingProxyType({}),
) -> tuple[Values, Facts]:
    """Values (H, W, O) in [0, 1] of an upright image, at `config.size`, and facts about it; `tags` are those of a TIFF.

    A size is reached by cropping the middle to its aspect, then resampling bicubically with antialiasing.
    """
    with needs_extra("images"):
        from PIL import Image, ImageOps

    transparent, clipped = 0.0, 0.0
    signed = tags.get(SAMPLE_FORMAT) == (2,) and tags.get(BITS) in ((8,), (16,))
    if image.mode.startswith("I") or image.mode == "F" or signed:
        stored = np.array(image)
        if signed and stored.dtype == np.uint8:
            stored = stored.view(np.int8)
        elif tags.get(BITS) == (32,) and tags.get(SAMPLE_FORMAT, (1,)) == (1,):
            stored = stored.view(np.uint32)
        deepest = 4095 if image.mode == "I;16" and tags.get(BITS) == (12,) else 65535
        white = None if signed else 1 if image.mode == "F" else deepest
        values, clipped = _mapped(stored, config.value_range, white)
        if tags.get(PHOTOMETRIC) == 0 and config.value_range is None:
            values = 1 - values  # Pillow inverts bytes by itself
        if isinstance(key := image.info.get("transparency"), int) and version >= 2:
            values = np.where(stored == key, _grey(config), values)
            transparent = float((stored == key).mean())
        image = Image.fromarray(values)
    else:
        if image.has_transparency_data:
            layer = image.convert("RGBA")
            transparent = 1 - float(np.asarray(layer.getchannel("A")).mean()) / 255
            image = Image.alpha_composite(Image.new("RGBA", image.size, background_color(config)), layer)
        image = image.convert("L" if channels == 1 else "RGB")
    if config.size is not None:
        height, width = height_width(config.size)
        image = ImageOps.fit(image, (width, height), Image.Resampling.BICUBIC)
    pixels = np.asarray(image)
    if image.mode == "F":
        values = pixels.clip(0, 1)  # bicubic resampling overshoots at edges; Pillow clips bytes by itself, floats not
    elif config.value_range is not None:
        values, clipped = _mapped(pixels, config.value_range, white=255)
    else:
        values = pixels.astype(np.float32) / np.float32(255)
    facts: Facts = {"transparent": transparent} if version >= 2 else {}
    if config.value_range is not None:
        facts["clipped"] = clipped
    return _channels(values, channels), facts


def height_width(size: int | tuple[int, int]) -> tuple[int, int]:
    """Height and width of a `source.size`."""
    return (size, size) if isinstance(size, int) else size


def background_color(config: ImageSource) -> tuple[int, int, int, int]:
    """`source.background` as red, green, blue and alpha, bytes; UsageError for a name that is no colour."""
    with needs_extra("images"):
        from PIL import ImageColor

    chosen = config.background
    if isinstance(chosen, str):
        if not chosen.startswith("#") and chosen.lower() not in ImageColor.colormap:
            raise UsageError(f"source.background: no colour {chosen!r}; {did_you_mean(chosen, ImageColor.colormap)}")
        red, green, blue = ImageColor.getrgb(chosen)[:3]
    else:
        levels = chosen if isinstance(chosen, tuple) else (chosen,) * 3
        red, green, blue = (round(255 * level) for level in levels)
    return red, green, blue, 255


def _grey(config: ImageSource) -> np.float32:
    """`source.background` as a grey in [0, 1]; Pillow's weights are those of ITU-R BT.601."""
    red, green, blue, _ = background_color(config)
    return np.float32((0.299 * red + 0.587 * green + 0.114 * blue) / 255)


def _upright(image: "Image.Image") -> "Image.Image":
    """The image turned by its EXIF orientation; ImageOps.exif_transpose fails where other fields are malformed."""
    with needs_extra("images"):
        from PIL import Image

    step = UPRIGHT.get(image.getexif().get(ORIENTATION, 1))
    return image if step is None else image.transpose(Image.Transpose[step])


def _has_more_frames(image: "Image.Image") -> bool:
    """Whether a file has frames or pages besides the first. The second picture of a camera's MPO is a preview."""
    if image.format == "MPO":
        return False
    try:
        return bool(getattr(image, "is_animated", False))
    except MemoryError:
        raise
    except Exception:  # Pillow may raise anything for a damaged frame: there is one, and it is not used
        return True


def _mapped(pixels: NDArray[Any], value_range: tuple[float, float] | None, white: int | None) -> tuple[Values, float]:
    """Stored values as [0, 1]: 0 to `white` divided by it, or those of a range, and the share that lies outside of it.

    Without a range values must lie in 0 to `white`: Pillow gives no white for 32-bit greys. None is that of signed ones.
    """
    low, high = pixels.min(), pixels.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        raise SignalError("it has values that are NaN or infinite")
    if value_range is None:
        if white is None or not (low >= 0 and high <= white):
            expected = "and are signed, so their white is unknown" if white is None else f"expected 0 to {white}"
            raise SignalError(
                f"{pixels.dtype} values go from {low:g} to {high:g}, {expected}; source.value_range says which "
                "values become 0 and 1 (--set source.value_range=[0,4095])"
            )
        return pixels.astype(np.float32) / np.float32(white), 0.0
    first, last = value_range
    scaled = (pixels.astype(np.float64) - first) / (last - first)
    return scaled.clip(0, 1).astype(np.float32), float(((scaled < 0) | (scaled > 1)).mean())


def _channels(values: Values, channels: int) -> Values:
    """Greys (H, W) as (H, W, O), the same in each channel; colours stay as they are."""
    return values if values.ndim == 3 else np.repeat(values[:, :, None], channels, axis=2)
