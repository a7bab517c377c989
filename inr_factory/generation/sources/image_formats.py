"""Image formats: which files are read as images, by which decoders of Pillow, and up to which size."""

from collections.abc import Collection

from inr_factory.errors import UsageError, needs_extra

# Pillow goes by the content, not by the name; without this list an .eps named .png would start Ghostscript.
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm"})

# What version 2 of the recipe reads besides. Pillow may be built without the decoders of `FEATURES`.
MORE_FORMATS = ("JPEG2000", "AVIF")
MORE_SUFFIXES = SUFFIXES | {
    ".jpe", ".jfif", ".jif", ".pjpeg", ".pjp", ".mpo", ".apng", ".pnm", ".pfm",
    ".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx", ".avif", ".avifs",
    ".tga", ".icb", ".vda", ".vst", ".dib",
}  # fmt: skip
# Nothing in the content of these says what it is: only files of these names are tried.
NAMED_FORMATS = {".tga": "TGA", ".icb": "TGA", ".vda": "TGA", ".vst": "TGA", ".dib": "DIB"}
FEATURES = {
    ".avif": "avif", ".avifs": "avif",
    **dict.fromkeys((".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"), "jpg_2000"),
}  # fmt: skip
# Decoders that take about 20 bytes a pixel, however small the file.
MAX_PIXELS = {"JPEG2000": 16_000_000}


def image_suffixes(version: int) -> frozenset[str]:
    """Suffixes, in lower case, of the files that a recipe of this version reads as images."""
    return SUFFIXES if version == 1 else MORE_SUFFIXES


def pillow_formats(suffix: str, version: int) -> tuple[str, ...]:
    """The formats that a file of this suffix may have."""
    if version == 1:
        return FORMATS
    named = NAMED_FORMATS.get(suffix.lower())
    return (*FORMATS, *MORE_FORMATS, *((named,) if named else ()))


def check_decoders(suffixes: Collection[str]) -> None:
    """Raise UsageError where this machine's Pillow lacks the decoder of a suffix: its files are not to blame."""
    with needs_extra("images"):
        from PIL import features

    for suffix in sorted(FEATURES.keys() & suffixes):
        if not features.check(FEATURES[suffix]):
            raise UsageError(f"this machine's Pillow does not read {suffix} files; pip install --upgrade Pillow")
