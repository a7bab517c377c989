"""Foreign files: where they may lie, which of them are left out, and the whole numbers in them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from inr_factory.errors import IntegrityError, shorten
from inr_factory.inr.regular_files import check_regular, is_replaced


def file_inside(root: Path, path: str, max_bytes: int) -> Path:
    """A file of a foreign set. IntegrityError if it is outside root, is no file, or is larger than `max_bytes`."""
    file = root / path
    if ".." in Path(path).parts or Path(path).is_absolute() or not file.resolve().is_relative_to(root.resolve()):
        raise IntegrityError(f"{path} leads out of {root}; put the file itself there")
    if is_replaced(file):
        check_regular(file)
    if not file.is_file():
        raise IntegrityError(f"{path} is not there, or is no file; is the download of {root} complete?")
    size = file.stat().st_size
    if size > max_bytes:
        raise IntegrityError(f"{path} has {size:,} bytes, at most {max_bytes:,} are read; is it the right file?")
    return file


def whole_number(value: Any) -> int:
    """A label or the number of a view or image, from JSON, a tensor or an array. ValueError for one with a fraction."""
    value = value.item() if hasattr(value, "item") else value
    if not isinstance(value, int | float) or not float(value).is_integer():
        raise ValueError(f"{shorten(value)} is no whole number")
    return int(value)


def left_out(paths: Sequence[object], expected: str) -> list[str]:
    """A remark on files that are not named as a layout has it; none without such files."""
    return [f"files without a name such as {expected}, left out: {len(paths):,}, first {paths[0]}"] if paths else []
