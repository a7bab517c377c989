"""The weight reader: gathers rows of weights out of many shards, by memory map.

Shape letters: N rows in all, n rows of one batch, D parameters of one INR.
"""

import copy
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from inr_factory.errors import IntegrityError
from inr_factory.storage.shards import ShardReader

CHUNK = 8192


@dataclass(frozen=True)
class WeightsLocation:
    """Where the weights of one shard lie: `shape` (rows, D) float32, `offset` bytes into the file."""

    path: str
    offset: int
    shape: tuple[int, int]

    @classmethod
    def of(cls, shard: ShardReader) -> "WeightsLocation":
        weights = shard.column("weights")
        rows, dim = weights.shape
        return cls(str(shard.path.resolve()), weights.offset if isinstance(weights, np.memmap) else 0, (rows, dim))

    @property
    def end(self) -> int:
        """The number of bytes of the file up to the end of the weights."""
        return self.offset + 4 * self.shape[0] * self.shape[1]

    def check_size(self) -> None:
        """Raise IntegrityError where the file was cut short: reading beyond its end through a map ends the process."""
        try:
            size = os.stat(self.path).st_size
        except FileNotFoundError:  # a map outlives the name of its file
            return
        if size < self.end:
            raise IntegrityError(f"{self.path} was cut to {size:,} bytes while it is read; inr-factory verify names it")

    def map(self) -> NDArray[np.float32]:
        """The weights as a memory map. The map is private: writing into it would not reach the file.

        torch maps without keeping the file open; np.memmap keeps a descriptor a map, and a set of 1,000 shards
        would reach the usual limit of open files.
        """
        if 0 in self.shape:
            return np.empty(self.shape, np.float32)
        end = self.end
        self.check_size()
        mapped = torch.from_file(self.path, shared=False, size=end, dtype=torch.uint8, device="cpu")
        return mapped.numpy()[self.offset :].view("<f4").reshape(self.shape)


class WeightReader:
    """N rows of weights out of shards: `rows_N` counts through the rows of all shards, one after the other.

    Files are mapped when the first row is read, by the process that reads it: a pickled copy maps them again, a
    forked one may share the maps. `in_memory` copies the N rows into memory at that moment, once a process.
    """

    def __init__(
        self, locations: Sequence[WeightsLocation], rows_N: NDArray[np.int64], in_memory: bool = False
    ) -> None:
        assert locations, "a set without shards is refused before"
        self._locations = tuple(locations)
        sizes = [location.shape[0] for location in locations]
        self._shard_N = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)[rows_N]
        self._row_N = np.concatenate([np.arange(size, dtype=np.int32) for size in sizes])[rows_N]
        self._in_memory = in_memory
        self._maps: list[NDArray[np.float32]] | None = None
        self._table: NDArray[np.float32] | None = None
        self._dim = locations[0].shape[1]

    def __len__(self) -> int:
        return len(self._row_N)

    def select(self, further: Sequence[WeightsLocation], rows: NDArray[np.int64]) -> "WeightReader":
        """A reader of some of these rows, by number, and of those of further shards, which count on from them."""
        sizes = [location.shape[0] for location in further]
        new = len(self._locations) + np.arange(len(further), dtype=np.int32)
        shard_N = np.concatenate([self._shard_N, np.repeat(new, sizes)])[rows]
        row_N = np.concatenate([self._row_N, *[np.arange(size, dtype=np.int32) for size in sizes]])[rows]
        used, shard_N = np.unique(shard_N, return_inverse=True)
        chosen, locations = copy.copy(self), (*self._locations, *further)
        chosen._locations = tuple(locations[shard] for shard in used)
        chosen._shard_N, chosen._row_N = shard_N.astype(np.int32), row_N
        chosen._maps = chosen._table = None
        return chosen

    def check_sizes(self) -> None:
        """Raise IntegrityError where a file was cut short since it was mapped; cheap, for the begin of an epoch."""
        if self._table is None:
            for location in self._locations:
                location.check_size()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_maps": None, "_table": None}

    def gather(self, rows: NDArray[np.int64]) -> Tensor:
        """(n, D) float32: the rows in the given order, a copy. Raises IndexError for a row beyond N."""
        if not self._in_memory:
            return self._from_maps(rows)
        if self._table is None:
            table = np.empty((len(self), self._dim), np.float32)
            for start in range(0, len(self), CHUNK):
                chunk = np.arange(start, min(start + CHUNK, len(self)))
                table[chunk[0] : chunk[-1] + 1] = self._from_maps(chunk).numpy()
            self._table, self._maps = table, None
        return torch.from_numpy(np.take(self._table, rows, axis=0))

    def _from_maps(self, rows: NDArray[np.int64]) -> Tensor:
        if self._maps is None:
            self._maps = [location.map() for location in self._locations]
        maps, numbers = self._maps, zip(self._shard_N[rows].tolist(), self._row_N[rows].tolist(), strict=True)
        # One join is 1.4 times as fast as a numpy copy a row, and 2 to 4 times as an index a shard.
        joined = bytearray().join([maps[shard][row] for shard, row in numbers])
        if not joined:
            return torch.empty(0, self._dim, device="cpu")
        return torch.frombuffer(joined, dtype=torch.float32).view(-1, self._dim)
