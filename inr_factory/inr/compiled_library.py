"""Compiled: finds the C code that was compiled when the program was installed."""

import ctypes
import hashlib
from pathlib import Path


def load_library(source: Path, library: Path, built_from: str) -> ctypes.CDLL | str:
    """The library that was compiled from a C source, or in one line why there is none.

    `built_from` is the name of its function that gives the sha256 of the source it was compiled from.
    """
    if not library.exists():
        return "its C code was not compiled when inr-factory was installed (it needs a C compiler)"
    try:
        functions = ctypes.CDLL(str(library))
    except OSError as error:
        return f"{library.name} cannot be loaded ({error})"
    stamp = getattr(functions, built_from)
    stamp.restype = ctypes.c_char_p
    if stamp().decode() != hashlib.sha256(source.read_bytes()).hexdigest():
        return (
            f"{library.name} was compiled from another {source.name} than the one beside it; install inr-factory again"
        )
    return functions
