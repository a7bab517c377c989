"""HDF5 point clouds: clouds as rows of HDF5 files, laid out as modelnet40_ply_hdf5_2048.

Each file holds `data` (N, S, 3), N clouds of S points, and `label` (N,) or (N, 1); shape_names.txt next to
them names the classes. The names of the files give the splits: ply_data_train0.h5.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from inr_factory.errors import IntegrityError, UsageError, blame_machine, one_line
from inr_factory.generation.geometry.text_clouds import check_names
from inr_factory.generation.recipe import RECIPE_VERSION
from inr_factory.generation.signals import Item, SignalError
from inr_factory.generation.sources.class_folders import ClassFiles, check_classes_of_train
from inr_factory.generation.sources.folder_listing import list_folder, readable
from inr_factory.generation.sources.folder_tables import SPLITS
from inr_factory.inr.regular_files import check_regular, read_regular

if TYPE_CHECKING:
    import h5py

SUFFIXES = frozenset({".h5", ".hdf5"})
CLASS_NAMES = "shape_names.txt"
MAX_LABEL, MAX_NAMES_BYTES = 65_535, 1_000_000


class BlockRow(NamedTuple):
    """File and row of one cloud."""

    path: str
    row: int


def find_blocks(root: Path) -> list[Path]:
    """The HDF5 files directly in a folder, in the order of their names."""
    return sorted(
        path for path in root.iterdir() if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
    )  # fmt: skip


def list_blocks(
    root: Path, blocks: list[Path], version: int = RECIPE_VERSION
) -> tuple[ClassFiles, tuple[BlockRow, ...]]:
    """Every cloud of the files, named FILE/ROW, and its row.

    Raises IntegrityError that names a damaged file, UsageError where classes or splits do not go together. At version 1
    of the recipe a file without a split takes the splits from all others.
    """
    labelled, known = [(path, _labels(path)) for path in blocks], set(blocks)
    names = root / CLASS_NAMES
    highest = max((int(labels.max(initial=-1)) for _, labels in labelled), default=-1)
    if names.is_file():
        classes = tuple(read_regular(names, MAX_NAMES_BYTES).decode(errors="replace").split())
    else:
        classes = tuple(str(number) for number in range(highest + 1))
    if highest >= len(classes):
        raise UsageError(
            f"{readable(root)} has the label {highest}, and {CLASS_NAMES} names only {len(classes)} classes"
        )
    rows = [
        (Item(f"{readable(path.name)}/{row:05d}", int(label), _split(path.name)), BlockRow(str(path), row))
        for path, labels in labelled
        for row, label in enumerate(labels)
    ]
    if not rows:
        raise UsageError(f"the HDF5 files in {readable(root)} hold no clouds")
    items = tuple(item for item, _ in rows)
    listing = list_folder(root, lambda parts: len(parts) == 1 and (parts[0] == CLASS_NAMES or root / parts[0] in known))
    if version > 1:
        _check_splits(root, blocks)
        check_classes_of_train(root, classes, items, "clouds", listing)
    if any(item.split is None for item in items):
        items = tuple(Item(item.object_id, item.label, None) for item in items)
    files = ClassFiles(classes, items, tuple(block.path for _, block in rows), listing.passed_over(0))
    return files, tuple(block for _, block in rows)


def _check_splits(root: Path, blocks: list[Path]) -> None:
    """Raise UsageError where some of the files are of a split and others of none."""
    splits = {path.name: _split(path.name) for path in blocks}
    without = [name for name, split in splits.items() if split is None]
    if 0 < len(without) < len(splits):
        inside = next(name for name, split in splits.items() if split is not None)
        raise UsageError(
            f"{readable(root)}: the name of {readable(inside)} says its split, that of {readable(without[0])} does not; "
            f"rename it to contain one of {', '.join(SPLITS)}, or move it away"
        )


def read_block_row(block: BlockRow) -> NDArray[np.generic]:
    """One cloud (S, 3). Raises SignalError where the file is gone or damaged."""
    try:
        with _opened(Path(block.path)) as file:
            check_names(file)
            points: NDArray[np.generic] = _plain(file, "data", Path(block.path), 3)[block.row]
            return points
    except SignalError:
        raise
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        raise SignalError(f"cannot be read: {one_line(error)}") from error


def _split(name: str) -> str | None:
    """The split that a word of a file name gives."""
    words = re.split(r"[^a-z]+", Path(name).stem.casefold())
    return next((SPLITS[word] for word in words if word in SPLITS), None)


def _labels(path: Path) -> NDArray[np.int64]:
    try:
        with _opened(path) as file:
            count = _plain(file, "data", path, 3).shape[0]
            labels = np.asarray(_plain(file, "label", path, None)[...]).reshape(-1)
        if len(labels) != count or labels.dtype.kind not in "iu" or labels.min(initial=0) < 0:
            raise ValueError(f"{count} clouds and {len(labels)} labels of the type {labels.dtype}")
        if labels.max(initial=0) > MAX_LABEL:
            raise ValueError(f"it has the label {labels.max()}, at most {MAX_LABEL} is read")
        return labels.astype(np.int64)
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        blame_machine(error, readable(path))
        raise IntegrityError(f"{readable(path)} does not hold clouds: {one_line(error)}; fetch it again") from None


@contextmanager
def _opened(path: Path) -> "Iterator[h5py.File]":
    import h5py

    check_regular(path)
    with h5py.File(path, "r", locking=False) as file:
        yield file


def _plain(file: "h5py.File", name: str, path: Path, num_dims: int | None) -> Any:
    """A data set of numbers that lie in this file and are no more than it can hold. Raises ValueError for others."""
    import h5py

    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise ValueError(f"it has no {name} of its own")
    data = file[name]
    if not isinstance(data, h5py.Dataset) or data.dtype.kind not in "iuf":
        raise ValueError(f"{name} is no array of numbers")
    layout = data.id.get_create_plist()
    if data.is_virtual or layout.get_external_count():
        raise ValueError(f"{name} lies in other files")
    filters = {layout.get_filter(number)[0] for number in range(layout.get_nfilters())}
    if filters - {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32}:
        raise ValueError(f"{name} is packed in a way that is not read")
    nbytes = data.dtype.itemsize * int(np.prod(data.shape, dtype=object))
    # Floats of real clouds shrink to a third at best, labels more; a file that claims much more is damaged.
    if nbytes > max(path.stat().st_size, data.id.get_storage_size()) * 32:
        raise ValueError(f"{name} claims {nbytes} bytes, the file has {path.stat().st_size}")
    if data.chunks and int(np.prod(data.chunks)) * data.dtype.itemsize > 64 * 2**20:
        raise ValueError(f"{name} is stored in pieces of more than 64 MiB")
    if num_dims is not None and (data.ndim != num_dims or data.shape[2] < 3):
        raise ValueError(f"{name} has the shape {data.shape}, expected (N, S, 3)")
    return data
