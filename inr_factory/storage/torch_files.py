"""Torch files: what `torch.save` wrote, read without running code and without taking more memory than the file has."""

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

# All that torch.load raises for files that are cut short or are something else.
LOAD_ERRORS = (
    RuntimeError, OSError, pickle.UnpicklingError, zipfile.BadZipFile, EOFError, LookupError, ValueError, TypeError,
    AttributeError, OverflowError,
)  # fmt: skip


def load_plain(path: Path) -> Any:
    """The values and tensors of a file, on the CPU. Raises one of LOAD_ERRORS for anything else: a pickle of objects,
    a packed archive, an older format than that of torch 1.6."""
    check_archive(path)
    return torch.load(path, map_location="cpu", weights_only=True)


def check_archive(path: Path) -> None:
    """ValueError unless the file is as torch.save writes it: an archive whose members are not packed, so that reading
    takes no more memory than the file has bytes."""
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
                raise ValueError(f"{member.filename} is packed")


def count_numbers(state: Mapping[str, Tensor]) -> int:
    """How many numbers a state has. ValueError for a tensor that claims more than is stored for it."""
    for name, tensor in state.items():
        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise ValueError(f"{name} claims {tensor.numel()} numbers and has fewer")
    return sum(tensor.numel() for tensor in state.values())
