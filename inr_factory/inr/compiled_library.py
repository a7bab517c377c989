"""Compiled library: loads the C code that was compiled when the program was installed."""

import ctypes
import hashlib
from pathlib import Path

COMPILE = (
    "install a C compiler (gcc or clang, or set CC), then "
    "pip install --force-reinstall --no-deps --no-binary inr-factory inr-factory, or in a checkout pip install --no-deps -e ."
)


def load_library(source: Path, library: Path, built_from: str) -> ctypes.CDLL | str:
    """Load the library that was compiled from a C source.

    Args:
        source: the C source.
        library: the compiled library.
        built_from: name of its function that returns the sha256 of the source from which it was compiled.

    Returns:
        The library, or in one line why it cannot be used.
    """
    if not library.exists():
        return f"this install has no C code (a pure wheel, or no C compiler); to have it, {COMPILE}"
    try:
        functions = ctypes.CDLL(str(library))
    except OSError as error:
        return f"{library.name} cannot be loaded ({error}); {COMPILE}"
    stamp = getattr(functions, built_from)
    stamp.restype = ctypes.c_char_p
    if stamp().decode() != hashlib.sha256(source.read_bytes()).hexdigest():
        return f"{library.name} was compiled from another {source.name} than the installed one; {COMPILE}"
    return functions
