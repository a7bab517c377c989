"""Regular files: the one way to open a file for reading, and the paths that users pass.

A pipe, a device, a socket or a folder in the place of a file is refused.

Opening a named pipe would wait for a writer, and reading some devices would never end.
"""

import os
import stat
from io import BufferedReader
from pathlib import Path
from typing import Any

from inr_factory.errors import IntegrityError, UsageError, shorten

_KINDS = {
    stat.S_IFIFO: "a named pipe", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device", stat.S_IFSOCK: "a socket",
    stat.S_IFDIR: "a folder",
}  # fmt: skip


class NotRegularError(IntegrityError, OSError):
    """Something else than a regular file is in the place of a file. An OSError, as other files that cannot be opened."""


def open_regular(path: str | os.PathLike[str]) -> BufferedReader:
    """Open a file for reading bytes, without waiting for anything.

    Args:
        path: the file; links are followed.

    Returns:
        The open file.

    Raises:
        NotRegularError: for a named pipe, a device, a socket or a folder, which is not read.
        OSError: where there is no such file, or it cannot be opened.
    """
    check_regular(path)
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOCTTY", 0)
    file = os.fdopen(os.open(path, flags), "rb")
    try:
        _check_mode(path, os.fstat(file.fileno()).st_mode)  # it may have been replaced meanwhile
    except BaseException:
        file.close()
        raise
    return file


def check_regular(path: str | os.PathLike[str]) -> None:
    """Check a file that a library opens by its name. Raises as `open_regular`."""
    _check_mode(path, os.stat(path).st_mode)


def is_replaced(path: str | os.PathLike[str]) -> bool:
    """Whether something that is no regular file is in the place of this file; a broken link is none."""
    try:
        return not stat.S_ISREG(os.stat(path).st_mode)
    except OSError:
        return False


def read_regular(path: str | os.PathLike[str], max_bytes: int | None = None) -> bytes:
    """The bytes of a file. Raises as `open_regular`, and IntegrityError for one of more than max_bytes."""
    with open_regular(path) as file:
        content = file.read() if max_bytes is None else file.read(max_bytes + 1)
    if max_bytes is not None and len(content) > max_bytes:
        raise IntegrityError(f"{path} has more than {max_bytes:,} bytes, which no such file has")
    return content


def read_text(path: Path, max_bytes: int | None = None) -> str:
    """The UTF-8 text of a file. Raises as `read_regular`, and UnicodeDecodeError (a ValueError) for other bytes."""
    return read_regular(path, max_bytes).decode("utf-8")


def _check_mode(path: str | os.PathLike[str], mode: int) -> None:
    if not stat.S_ISREG(mode):
        kind = _KINDS.get(stat.S_IFMT(mode), "no regular file")
        raise NotRegularError(f"{os.fspath(path)} is {kind}, expected a file; move it away or name another")


def as_path(value: Any, what: str) -> Path:
    """A user's path. Raises UsageError for what is none; `what` says what it is the path of, such as "a checkpoint"."""
    try:
        text = os.fsencode(value if isinstance(value, str | os.PathLike) else b"")
    except UnicodeEncodeError:  # lone surrogates
        text = b""
    if not text or b"\0" in text:
        raise UsageError(f"the path of {what} must be text or a Path, got {shorten(value)}")
    return Path(os.fsdecode(text))
