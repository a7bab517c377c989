"""HDF5 layout: contiguous data sets and attributes of fixed size, the only kinds that shards have."""

import io
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from inr_factory.inr.regular_files import check_regular
from inr_factory.storage.manifest import FORMAT_VERSION


def read_layout(path: Path) -> tuple[dict[str, tuple[np.dtype[Any], tuple[int, ...], int | None]], dict[str, Any]]:
    """Type, shape and offset of each data set, and the attributes. Raises ValueError for anything that shards never have."""
    check_regular(path)
    size = path.stat().st_size
    with h5py.File(path, "r", locking=False) as file:
        return _layout(file, size)


def read_image(image: bytes) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Data sets and attributes of a file in memory, under the conditions of `read_layout`."""
    with h5py.File(io.BytesIO(image), "r") as file:
        layout, attributes = _layout(file, len(image))
    columns = {}
    for name, (dtype, shape, offset) in layout.items():
        count = math.prod(shape)
        flat = np.frombuffer(image, dtype, count, offset or 0) if count else np.empty(0, dtype)
        columns[name] = flat.reshape(shape)
    return columns, attributes


def utf8_column(texts: Iterable[str]) -> NDArray[Any]:
    """Texts at the fixed length of the longest, as UTF-8."""
    encoded = [text.encode() for text in texts]
    return np.array(encoded, dtype=h5py.string_dtype("utf-8", max([1, *map(len, encoded)])))


def hdf5_image(columns: Mapping[str, NDArray[Any]], attributes: Mapping[str, str | int]) -> bytes:
    """The bytes of a file, which depend on its content alone."""
    with h5py.File.in_memory(libver=("v110", "v110"), alignment_threshold=1024, alignment_interval=4096) as file:
        for name in sorted(columns):
            file.create_dataset(name, data=columns[name])
        for name in sorted(attributes):
            put_attribute(file, name, attributes[name])
        file.flush()
        image: bytes = file.id.get_file_image()
    return image


def _layout(
    file: h5py.File, size: int
) -> tuple[dict[str, tuple[np.dtype[Any], tuple[int, ...], int | None]], dict[str, Any]]:
    columns: dict[str, tuple[np.dtype[Any], tuple[int, ...], int | None]] = {}
    for name in file:
        data = stored_dataset(file, name)
        columns[name] = (np.dtype(data.dtype.str), tuple(map(int, data.shape)), contiguous_offset(name, data, size))
    if len({shape[:1] for _, shape, _ in columns.values()}) > 1:
        raise ValueError("its columns differ in length")
    attributes = {name: read_attribute(file, name) for name in file.attrs}
    version = attributes.get("format_version")
    if version != FORMAT_VERSION:
        raise ValueError(f"it has format version {version}, this program reads {FORMAT_VERSION}")
    return columns, attributes


def stored_dataset(file: h5py.File, name: str) -> h5py.Dataset:
    """A data set that the file itself stores. Raises ValueError for a link to another file, or a group."""
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise ValueError(f"{name} is a link to another file")
    data = file[name]
    if not isinstance(data, h5py.Dataset):
        raise ValueError(f"{name} is not a data set")
    return data


def contiguous_offset(name: str, data: h5py.Dataset, size: int) -> int | None:
    """The offset of a data set in its file of `size` bytes; None for one without bytes.

    Raises ValueError unless it is contiguous, of numbers or text of fixed length, and lies inside the file.
    """
    layout = data.id.get_create_plist()
    contiguous = layout.get_layout() == h5py.h5d.CONTIGUOUS and layout.get_nfilters() == 0
    if not contiguous or layout.get_external_count() or data.is_virtual:
        raise ValueError(f"{name} is not contiguous (it has chunks, filters, external or virtual storage)")
    if data.dtype.kind not in "iufS" or h5py.check_vlen_dtype(data.dtype) is not None:
        raise ValueError(f"{name} has the type {data.dtype}")
    offset: int | None = data.id.get_offset()
    nbytes = data.dtype.itemsize * int(np.prod(data.shape, dtype=object))
    if nbytes and (offset is None or offset + nbytes > size):
        raise ValueError(f"{name} claims {nbytes:,} bytes, the file has {size:,}")
    return offset


def put_attribute(file: h5py.File, name: str, value: str | int) -> None:
    """Write text at fixed length, into HDF5's checksummed header.

    A flipped bit in the heap that holds text of variable length can make HDF5 search for ever.
    """
    if isinstance(value, int):
        file.attrs[name] = value
    else:
        text = value.encode()
        file.attrs.create(name, text, dtype=h5py.string_dtype("utf-8", max(1, len(text))))


def read_attribute(file: h5py.File, name: str) -> str | int:
    """Read an attribute of a kind that shards have. Raises ValueError for one of another kind, which is not read."""
    kind = file.attrs.get_id(name)
    if kind.shape != () or kind.dtype.kind not in "iuS":
        raise ValueError(f"attribute {name} is not one whole number or text of fixed length")
    value = file.attrs[name]
    return value.decode() if isinstance(value, bytes) else int(value)
