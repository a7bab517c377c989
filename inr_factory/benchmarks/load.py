"""Load: random batches from a set on disk, by this package's readers and in the usual ways.

Shape letters: n rows of one batch, D parameters of one INR.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor
from torch.utils.data import DataLoader

from inr_factory.benchmarks.fixtures import SHARD_ROWS, SPEC, scratch_folder, set_bytes, write_random_set
from inr_factory.benchmarks.harness import BenchmarkSettings, BenchmarkTable, Candidate, measure
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.spec import SirenSpec
from inr_factory.learning.data.dataset import INRDataset
from inr_factory.learning.data.loader import INRLoader

# Files of one INR each: more of them take long to write and are read no faster.
MOST_FILES = 2_000
FILE_BYTES = 12_288
PREFETCH = 2


def benchmark_load(settings: BenchmarkSettings) -> tuple[BenchmarkTable]:
    """Batches of random rows with a warm cache; the baseline is numpy's fancy indexing of the same rows in RAM."""
    num_files = min(MOST_FILES, settings.rows)
    need = set_bytes(settings.rows) + 4 * settings.rows * SPEC.num_parameters + num_files * FILE_BYTES
    with scratch_folder(need) as folder:
        write_random_set(folder / "set", settings.rows, settings.on_step)
        maps = INRDataset(folder / "set", check=False)
        memory = INRDataset(folder / "set", check=False, in_memory=True)
        # This also brings every file into the cache.
        table = maps.gather(np.arange(settings.rows))[0].numpy()
        settings.on_step(f"writing the same rows as one HDF5 file, and {num_files:,} of them as .pth files")
        write_table(folder / "rows.h5", table)
        paths = write_state_dicts(folder / "files", table[:num_files], SPEC)
        with h5py.File(folder / "rows.h5", "r") as file, opened_shards(folder / "set") as shards:
            batches = Batches(settings.rows, settings.batch_size)
            files = Batches(num_files, min(64, settings.batch_size, num_files))
            size = settings.batch_size
            candidates = [
                Candidate("array in RAM, X[rows]", batches.each(lambda rows: table[rows]), size),
                Candidate("INRDataset.gather, memory maps", batches.each(maps.gather), size),
                Candidate("INRDataset.gather, in memory", batches.each(memory.gather), size),
                Candidate("INRLoader, memory maps", endless(INRLoader(maps, size)), size),
                Candidate("h5py, one file, sorted", batches.each(lambda rows: read_table(file["weights"], rows)), size),
                Candidate("h5py, same shards, sorted", batches.each(lambda rows: read_shards(shards, rows)), size),
                Candidate("one .pth an INR", files.each(lambda rows: read_state_dicts(paths, rows)), files.size),
                Candidate("DataLoader of items, 0 workers", endless(item_loader(maps, size, 0)), size),
                Candidate(
                    "DataLoader of items, 2 workers", endless(item_loader(maps, size, 2)), size, 2 * PREFETCH + 1
                ),
            ]
            measured = measure(candidates, settings)
    setting = f"{settings.rows:,} INRs {SPEC}, batches of {settings.batch_size}, warm cache"
    return (BenchmarkTable("load", candidates[0].name, setting, measured),)


@dataclass(frozen=True)
class Batches:
    """Random rows, drawn before they are timed: the same for every candidate."""

    rows: int
    size: int
    count: int = 64

    def each(self, step: Callable[[NDArray[np.int64]], object]) -> Callable[[], Iterator[object]]:
        """The `start` of a candidate that takes one batch of rows after the other, endlessly."""
        rng = np.random.default_rng(0)
        drawn = [rng.choice(self.rows, self.size, replace=False) for _ in range(self.count)]
        return lambda: (step(rows) for rows in itertools.cycle(drawn))


def endless(loader: Any) -> Callable[[], Iterator[object]]:
    """The `start` of a candidate that takes a loader's batches, epoch after epoch; closing it ends the workers."""

    def start() -> Iterator[object]:
        while True:
            yield from loader

    return start


def item_loader(dataset: INRDataset, batch_size: int, num_workers: int) -> DataLoader[Any]:
    """torch's DataLoader as most code has it: items, shuffled, put together by its default collate."""
    return DataLoader(
        dataset, batch_size, shuffle=True, drop_last=True, num_workers=num_workers, generator=Generator(),
        prefetch_factor=PREFETCH if num_workers else None,
    )  # fmt: skip


def write_table(path: Path, table_ND: NDArray[np.float32]) -> None:
    """All rows in one contiguous HDF5 data set."""
    with h5py.File(path, "w") as file:
        file.create_dataset("weights", data=table_ND)


def read_table(weights: h5py.Dataset, rows_n: NDArray[np.int64]) -> NDArray[np.float32]:
    """The rows in rising order, the only one that h5py takes."""
    rows: NDArray[np.float32] = weights[np.sort(rows_n)]
    return rows


@contextmanager
def opened_shards(root: Path) -> Iterator[list[h5py.Dataset]]:
    """The weights of every shard of a random set, block by block, as plain h5py opens them."""
    with ExitStack() as stack:
        files = [stack.enter_context(h5py.File(path, "r")) for path in sorted(root.rglob("*.h5"))]
        yield [file["weights"] for file in files]


def read_shards(shards: Sequence[h5py.Dataset], rows_n: NDArray[np.int64]) -> NDArray[np.float32]:
    """The rows in rising order, by one index a shard."""
    rows = np.sort(rows_n)
    starts = np.arange(len(shards) + 1) * SHARD_ROWS
    cuts = np.searchsorted(rows, starts)
    parts = [
        shard[rows[low:high] - start]
        for shard, start, low, high in zip(shards, starts[:-1], cuts[:-1], cuts[1:], strict=True)
        if low < high
    ]
    return np.concatenate(parts)


def write_state_dicts(folder: Path, table_ND: NDArray[np.float32], spec: SirenSpec) -> list[Path]:
    """One .pth a row, a state dict seq.{layer}.{weight,bias} with a label, as DWSNets publish theirs."""
    folder.mkdir()
    paths = []
    for number, row in enumerate(torch.from_numpy(table_ND)):
        inr = INRBatch.from_flat(spec, row[None])
        state: dict[str, Any] = {}
        for layer, (W, b) in enumerate(zip(inr.weights, inr.biases, strict=True)):
            state |= {f"seq.{layer}.weight": W[0].clone(), f"seq.{layer}.bias": b[0].clone()}
        paths.append(folder / f"model_{number}.pth")
        torch.save({**state, "label": number % 10}, paths[-1])
    return paths


def read_state_dicts(paths: Sequence[Path], rows_n: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    """Weights (n, D) and labels (n,) of the rows."""
    weights, labels = [], []
    for row in rows_n:
        state = torch.load(paths[row], map_location="cpu")
        labels.append(state.pop("label"))
        weights.append(torch.cat([tensor.flatten() for tensor in state.values()]))
    return torch.stack(weights), torch.tensor(labels)
