"""Decoding: whatever a decoder raises for the content of a damaged file becomes one SignalError."""

from collections.abc import Callable
from typing import TypeVar

from inr_factory.errors import one_line
from inr_factory.generation.signals import SignalError

Shape = TypeVar("Shape")


def decode(content: bytes, read: Callable[[bytes], Shape]) -> Shape:
    """Return read(content); raise SignalError, and nothing else, for content that is empty or damaged."""
    if not content:
        raise SignalError("the file is empty (0 bytes)")
    try:
        return read(content)
    except SignalError:
        raise
    except MemoryError:
        raise  # no fault of the content
    except Exception as error:
        # A damaged file may raise anything at all in a decoder; it is one object's reason, kept in its record.
        raise SignalError(f"cannot be read: {type(error).__name__}: {one_line(error)}") from error
