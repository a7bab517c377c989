"""Batch files: INRs without a data set, in one .npz file that is read without running code.

A file holds `format` (text), `spec` (JSON) and `weights` (N, D) float32 in the order of `SirenSpec.parameter_shapes`.
numpy reads it, too.
"""

import io
import json
import os
import secrets
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inr_factory.errors import DISK_FULL, IntegrityError, ResourceError, UsageError, blame_machine, one_line
from inr_factory.inr.plain_json import parse_json_object
from inr_factory.inr.regular_files import as_path, open_regular
from inr_factory.inr.spec import SirenSpec

FORMAT = "inr-factory batch 1"


def write_batch(path: str | Path, spec: SirenSpec, weights: NDArray[np.float32], **more: NDArray[Any]) -> None:
    """Write INRs to a file, which appears complete or not at all; an older file of that name is replaced.

    `more` are arrays that `read_arrays` returns.

    Raises UsageError where the folder does not exist, ResourceError where the disk is full.
    """
    path = _local(path)
    if not path.parent.is_dir():
        raise UsageError(f"{path} cannot be written: {path.parent} is no folder; make it first")
    if not np.isfinite(weights).all():
        raise UsageError(
            f"{path} is not written: the INRs have weights that are NaN or infinite, which no file may hold"
        )
    file = io.BytesIO()
    np.savez(file, format=FORMAT, spec=json.dumps(spec.to_dict()), weights=np.ascontiguousarray(weights, "<f4"), **more)  # type: ignore[arg-type]
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        temporary.write_bytes(file.getvalue())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        if error.errno in DISK_FULL:
            raise ResourceError(f"the disk is full: {path} needs {file.tell():,} bytes; free some space") from None
        raise UsageError(f"{path} cannot be written: {one_line(error)}") from None


def read_batch(path: str | Path) -> tuple[SirenSpec, NDArray[np.float32]]:
    """Read the spec and the flat weights (N, D) of a file that `write_batch` wrote.

    Raises UsageError where there is no file, IntegrityError where it is damaged or something else.
    """
    path = _local(path)
    if not path.is_file():
        raise UsageError(f"no file {path}; INRBatch.save writes one")
    try:
        with open_regular(path) as file, zipfile.ZipFile(file) as archive:
            if str(_member(archive, "format")) != FORMAT:
                raise ValueError(f"its format is not {FORMAT!r}")
            spec = SirenSpec.from_dict(parse_json_object(str(_member(archive, "spec"))))
            weights = _member(archive, "weights")
        if weights.dtype != np.dtype("<f4") or weights.ndim != 2 or weights.shape[1] != spec.num_parameters:
            raise ValueError(
                f"its weights are {weights.dtype} {weights.shape}, expected float32 (N, {spec.num_parameters})"
            )
        if not np.isfinite(weights).all():
            raise ValueError("it has weights that are NaN or infinite")
    except (OSError, zipfile.BadZipFile, ValueError, KeyError, TypeError, NotImplementedError, RecursionError) as error:
        blame_machine(error, path)
        raise IntegrityError(f"{path} is no complete file of INRBatch.save: {one_line(error)}") from None
    return spec, weights


def read_arrays(path: str | Path, *names: str) -> tuple[NDArray[Any] | None, ...]:
    """Further arrays of a file that `read_batch` has read, None for those that it lacks. IntegrityError for damage."""
    path = _local(path)
    try:
        with open_regular(path) as file, zipfile.ZipFile(file) as archive:
            kept = set(archive.namelist())
            return tuple(_member(archive, name) if f"{name}.npy" in kept else None for name in names)
    except (OSError, zipfile.BadZipFile, ValueError, KeyError, NotImplementedError) as error:
        blame_machine(error, path)
        raise IntegrityError(f"{path} is no complete file of INRBatch.save: {one_line(error)}") from None


def _local(path: str | Path) -> Path:
    if "://" in str(path):
        raise UsageError(f"{path} is a URL; files of INRs are local, data sets may lie in stores")
    return as_path(path, "a file of INRs").expanduser()


def _member(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    """One array. ValueError where it takes more memory than the file has bytes, or needs a pickle."""
    info = archive.getinfo(f"{name}.npy")
    if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
        raise ValueError(f"{name} is compressed")
    with archive.open(info) as file:
        if np.lib.format.read_magic(file) != (1, 0):
            raise ValueError(f"{name} has another version of numpy's format")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
        content = file.read()
    if fortran or dtype.hasobject:
        raise ValueError(f"{name} is stored as {dtype}")
    return np.frombuffer(content, dtype).reshape(shape).copy()
