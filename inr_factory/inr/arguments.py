"""Arguments of public functions: arrays, numbers and flags that users pass, checked in one line."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from inr_factory.errors import UsageError, shorten


def as_tensor(
    value: Any,
    name: str,
    *shapes: str,
    dtype: torch.dtype | None = None,
    device: torch.device | None = None,
    **sizes: int,
) -> Tensor:
    """Check a user's array and return it as a tensor.

    Args:
        value: a tensor, a numpy array, or numbers in nested lists.
        name: what messages call the value, such as "coords".
        shapes: allowed shapes in letters, such as "P I", "N P I". A letter without a size stands for any number; a
            leading "..." for any dimensions. Without shapes any shape is allowed.
        dtype: the type of the result; None keeps floating types and turns whole numbers into float32.
        device: where the result must lie; arrays are copied there, tensors of another device are refused.
        sizes: known sizes of letters, such as I=2.

    Returns:
        The tensor. It shares memory with the value where it can.

    Raises:
        UsageError: for values that are no numbers, or of another shape or device.
    """
    if np.ma.is_masked(value):
        raise UsageError(f"{name} has masked values; fill them, for example with {name}.filled(0)")
    if isinstance(value, Tensor):
        tensor = value
        if tensor.layout != torch.strided:
            raise UsageError(f"{name} must be a dense tensor, got {tensor.layout}; use {name}.to_dense()")
        if device is not None and tensor.device.type != device.type:
            raise UsageError(
                f"{name} must be on {device}, got a tensor on {tensor.device}; use {name}.to({str(device)!r})"
            )
        if tensor.is_nested or tensor.is_quantized or tensor.is_meta:
            raise UsageError(f"{name} must be a tensor of plain numbers, got one that is nested, quantized or on meta")
    else:
        try:
            array = np.asarray(value)
            if array.dtype.kind not in "biuf":
                raise TypeError
            if array.dtype.byteorder == ">" or any(stride < 0 for stride in array.strides) or not array.flags.writeable:
                array = array.astype(array.dtype.newbyteorder("="), order="C")
            tensor = torch.from_numpy(array) if array.dtype != np.longdouble else torch.from_numpy(array.astype(float))
        except (TypeError, ValueError):
            kind = f"{type(value).__name__} of {value.dtype}" if hasattr(value, "dtype") else type(value).__name__
            raise UsageError(f"{name} must be an array of numbers, got {kind}") from None
        tensor = tensor.to(device)
    if tensor.is_complex():
        raise UsageError(f"{name} must be real numbers, got {tensor.dtype}")
    if shapes and not any(_fits(tensor.shape, shape.split(), sizes) for shape in shapes):
        expected = " or ".join(_written(shape.split(), sizes) for shape in shapes)
        raise UsageError(f"{name} must have the shape {expected}, got {tuple(tensor.shape)}")
    kept = tensor.is_floating_point() and tensor.itemsize > 1  # torch cannot compute with floats of 8 bits
    return tensor.to(dtype or (tensor.dtype if kept else torch.float32))


def check_whole(least: int | None = None, most: int | None = None, **numbers: Any) -> None:
    """Raise UsageError for a number that is not whole, below the least or above the most."""
    bound = "" if least is None else f" of at least {least}" if most is None else f" from {least} to {most:,}"
    for name, value in numbers.items():
        whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
        if not whole or (least is not None and value < least) or (most is not None and value > most):
            raise UsageError(f"{name} must be a whole number{bound}, got {shorten(value)}")


def check_flags(**flags: Any) -> None:
    """Raise UsageError for a flag that is not True or False."""
    for name, value in flags.items():
        if not isinstance(value, bool | np.bool_):
            raise UsageError(f"{name} must be True or False, got {shorten(value)}")


def check_hooks(**hooks: Any) -> None:
    """Raise UsageError for a hook, such as `log`, that is not None and cannot be called."""
    for name, value in hooks.items():
        if value is not None and not callable(value):
            raise UsageError(f"{name} must be a function or None, got {shorten(value)}")


def _fits(actual: torch.Size, letters: list[str], sizes: dict[str, int]) -> bool:
    if letters[:1] == ["..."]:
        letters = letters[1:]
        actual = actual[max(0, len(actual) - len(letters)) :]
    known = dict(sizes)
    return len(actual) == len(letters) and all(
        known.setdefault(letter, size) == size for letter, size in zip(letters, actual, strict=True)
    )


def _written(letters: list[str], sizes: dict[str, int]) -> str:
    parts = [str(sizes.get(letter, letter)) for letter in letters]
    return f"({', '.join(parts)}{',' if len(parts) == 1 else ''})"
