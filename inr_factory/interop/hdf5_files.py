"""HDF5 files: those of fit-a-nef and inr2vec, read with checks and written as their code writes them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from inr_factory.errors import IntegrityError, blame_machine, one_line
from inr_factory.inr.regular_files import check_regular
from inr_factory.storage.hdf5_layout import contiguous_offset, stored_dataset

MAX_CONFIG_BYTES = 1_000_000


def read_hdf5(path: Path, text: tuple[str, ...] = (), skip: tuple[str, ...] = ()) -> dict[str, Any]:
    """All data sets of a file, as arrays; those named `text` hold one string. IntegrityError for links, groups, chunks,
    filters, external or virtual storage, and for data sets that claim more than the file has."""
    size = path.stat().st_size
    content: dict[str, Any] = {}
    check_regular(path)
    try:
        with h5py.File(path, "r", locking=False) as file:
            for name in file:
                data = stored_dataset(file, name)
                if name in skip:
                    continue
                if name in text:
                    content[name] = _one_string(name, data)
                else:
                    contiguous_offset(name, data, size)
                    content[name] = np.asarray(data[()])
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        blame_machine(error, path)
        raise IntegrityError(f"{path.name} is not an HDF5 file as expected: {one_line(error)}") from None
    return content


def _one_string(name: str, data: h5py.Dataset) -> str:
    if data.shape != (1,) or data.is_virtual or data.id.get_create_plist().get_external_count():
        raise ValueError(f"{name} has the shape {data.shape}, expected one string")
    if h5py.check_string_dtype(data.dtype) is None:
        raise ValueError(f"{name} has the type {data.dtype}, expected a string")
    value = data[0]
    content = value if isinstance(value, bytes) else str(value).encode()
    if len(content) > MAX_CONFIG_BYTES:
        raise ValueError(f"{name} has {len(content):,} bytes")
    return content.decode()


def hdf5_bytes(columns: Mapping[str, NDArray[Any]], text: Mapping[str, str] | None = None) -> bytes:
    """A file with these data sets, contiguous, and these strings, each a data set of one string of variable length."""
    with h5py.File.in_memory() as file:
        for name, column in columns.items():
            if column.dtype == object:
                encoded = [str(value).encode() for value in column]
                column = np.array(encoded, dtype=h5py.string_dtype("utf-8", max([1, *map(len, encoded)])))
            file.create_dataset(name, data=column)
        for name, value in (text or {}).items():
            file.create_dataset(name, (1,), dtype=h5py.string_dtype())[0] = value
        file.flush()
        image: bytes = file.id.get_file_image()
    return image
