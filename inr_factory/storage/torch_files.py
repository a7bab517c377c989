"""Torch files: files of `torch.save`, read without running code and without more memory than the file has bytes."""

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

# All that torch.load raises for files that are truncated or of another kind.
LOAD_ERRORS = (
    RuntimeError, OSError, pickle.UnpicklingError, zipfile.BadZipFile, EOFError, LookupError, ValueError, TypeError,
    AttributeError, OverflowError,
)  # fmt: skip


def load_plain(path: Path) -> Any:
    """Load plain values and tensors to the CPU.

    Raises one of LOAD_ERRORS for a pickle of objects, a compressed archive, or a format older than that of torch 1.6.
    """
    check_archive(path)
    return torch.load(path, map_location="cpu", weights_only=True)


def check_archive(path: Path) -> None:
    """Check that a file is an archive as torch.save writes it.

    Its members are not compressed, so that reading takes no more memory than the file has bytes. Raises ValueError for
    other archives.
    """
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
                raise ValueError(f"{member.filename} is compressed")


def count_numbers(state: Mapping[str, Tensor]) -> int:
    """Count the numbers of a state. Raises ValueError for a tensor that claims more than the file stores for it."""
    for name, tensor in state.items():
        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise ValueError(f"{name} claims {tensor.numel()} numbers and has fewer")
    return sum(tensor.numel() for tensor in state.values())
