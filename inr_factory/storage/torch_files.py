"""Torch files: files of `torch.save`, read without running code and without more memory than the file has bytes."""

import pickle
import re
import struct
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from inr_factory.errors import blame_machine, one_line
from inr_factory.inr.regular_files import open_regular

# What values that are not what they should be raise where they are used.
DAMAGE = (LookupError, TypeError, AttributeError, ValueError, RuntimeError, ArithmeticError, AssertionError)
# What torch.load raises besides for files that are truncated or of another kind.
_LOAD_ERRORS = (*DAMAGE, OSError, pickle.UnpicklingError, zipfile.BadZipFile, EOFError, struct.error, zlib.error)

MAX_VALUES, MAX_DEPTH = 2_000_000, 50
# The number with which torch's files began before version 1.6, as pickles of protocols 2 and later write it.
_LEGACY_MAGIC = (0x1950A86A20F9469CFC6C).to_bytes(10, "little")


def load_plain(path: Path) -> Any:
    """Load plain values and tensors to the CPU. Tensors need no gradient, parameters become tensors.

    Raises:
        ValueError: in one line, for a file that is damaged (each part's CRC is compared), compressed, of another format,
            of a version before torch 1.6, or that holds other objects, whose code is not run.
    """
    try:
        with open_regular(path) as file:
            _check_format(file)
            check_archive(file)
            file.seek(0)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of types that are refused below
                saved = torch.load(file, map_location="cpu", weights_only=True)
        return _plain(saved, {})[0]
    except _LOAD_ERRORS as error:
        blame_machine(error, path)
        raise ValueError(_reason(error)) from None


def check_archive(file: BinaryIO) -> None:
    """Check that a file is an archive as torch.save writes it, and that each of its parts has its CRC.

    Its parts are not compressed, so that reading takes no more memory than the file has bytes. Raises ValueError for
    other archives, BadZipFile for damaged ones.
    """
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        for member in members:
            if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
                raise ValueError(f"{member.filename} is compressed")
        if len({member.filename for member in members}) < len(members):
            raise ValueError("it has two parts of one name")
        wrong = archive.testzip()
        if wrong is not None:
            raise ValueError(f"its part {wrong} is damaged (its CRC differs)")


def _check_format(file: BinaryIO) -> None:
    """Name what torch or others write in other formats."""
    head = file.read(32)
    if head.startswith(b"PK"):
        return
    if _LEGACY_MAGIC in head:
        raise ValueError(
            "it has the format of torch before 1.6; load it with a newer torch, and save its state dict by torch.save"
        )
    if head[:1] == b"\x80":
        raise ValueError("it is a plain pickle; save a state dict by torch.save")
    raise ValueError("it is empty" if not head else "it is no file of torch.save (no zip archive)")


def _reason(error: BaseException) -> str:
    text = " ".join(str(error).split())
    unsafe = re.search(r"Unsupported (?:global: GLOBAL|class) ([\w.]+)", text)
    if unsafe is not None:
        return f"it holds an object of {unsafe[1][:80]}, whose code is not run; save module.state_dict() instead of the module"
    if "TorchScript" in text:
        return "it is a TorchScript archive; save the module's state dict by torch.save"
    return one_line(ValueError(re.sub(r"\x1b\[[0-9;]*m", "", text))) if text else type(error).__name__


def _plain(value: Any, seen: dict[int, tuple[Any, int]], depth: int = 0) -> tuple[Any, int]:
    """The value without gradients, and how many values it stands for; ValueError for what no file here has."""
    if isinstance(value, Tensor):
        if value.layout != torch.strided or value.is_quantized or value.device.type != "cpu" or value.is_nested:
            raise ValueError("it has a tensor that is sparse, quantized, nested or has no numbers")
        if value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise ValueError(f"it has a tensor that claims {value.numel()} numbers and has fewer")
        return value.detach(), 1
    if isinstance(value, int) and value.bit_length() > 64:
        raise ValueError("it has a number of more than 64 bits")
    if not isinstance(value, dict | list | tuple) or isinstance(value, torch.Size):
        return value, 1
    if id(value) not in seen:
        if depth > MAX_DEPTH:
            raise ValueError("it is nested too deeply, or within itself")
        keys = list(value) if isinstance(value, dict) else []
        parts = [_plain(each, seen, depth + 1) for each in (value.values() if isinstance(value, dict) else value)]
        count = 1 + sum(part for _, part in parts)
        if count > MAX_VALUES:
            raise ValueError(f"it stands for more than {MAX_VALUES:,} values")
        inner = [part for part, _ in parts]
        plain = dict(zip(keys, inner, strict=True)) if isinstance(value, dict) else type(value)(inner)
        seen[id(value)] = plain, count
    return seen[id(value)]
