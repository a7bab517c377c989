"""The batch sampler: which rows the batches of an epoch hold, and the seed of each.

Shape letters: N active rows, U units of an epoch (rows, or groups of views of one object), k views of an object.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from inr_factory.errors import UsageError
from inr_factory.inr.arguments import check_flags, check_whole
from inr_factory.inr.stable_hash import stable_seed


@dataclass(frozen=True, eq=False, kw_only=True)
class BatchSampler:
    """All batches of all epochs, as a function of these settings, the epoch and the position in it.

    Without views_per_object an epoch is every row once. With views_per_object = k each object gives k different rows,
    drawn again each epoch; one that has fewer gives what it has.

    Args:
        num_rows: N.
        batch_size: Rows of a batch, of one rank. A step takes world_size batches off the epoch's order, one for each
            rank: the parts of ranks are disjoint, and every rank has as many batches.
        shuffle: A new random order each epoch; else the rows' own order.
        drop_last: Leave out the rows that fill no whole step; by default if shuffled. Where there are too few rows for
            a single step, the batch is made smaller instead, see `rows_per_batch`. Else the last step is shared among
            the ranks as evenly as it goes.
        seed: What all randomness comes from.
        rank: Number of this process, 0 to world_size - 1.
        world_size: How many processes there are.
        objects_N: The number of each row's object; needed for views_per_object.
        views_per_object: k.
        grouped: Put the k rows of an object next to each other in one batch, so that (n, ...) reshapes to
            (n / k, k, ...). An object that has fewer than k is left out, see `num_left_out`.

    Raises:
        UsageError: For settings under which a rank would have no batch, or that do not go together.
    """

    num_rows: int
    batch_size: int
    shuffle: bool = True
    drop_last: bool | None = None
    seed: int = 0
    rank: int = 0
    world_size: int = 1
    objects_N: NDArray[np.int64] | None = None
    views_per_object: int | None = None
    grouped: bool = False

    def __post_init__(self) -> None:
        k = self.views_per_object
        check_whole(1, 2**31 - 1, num_rows=self.num_rows, batch_size=self.batch_size, world_size=self.world_size)
        check_whole(seed=self.seed, rank=self.rank)
        check_flags(shuffle=self.shuffle, grouped=self.grouped, drop_last=self.drop_last is None or self.drop_last)
        if not 0 <= self.rank < self.world_size:
            raise UsageError(
                f"rank must be 0 to {self.world_size - 1} in a world of {self.world_size}, got {self.rank}"
            )
        if self.grouped and k is None:
            raise UsageError("grouped batches need views_per_object: how many views of an object to put together")
        if k is not None:
            check_whole(views_per_object=k)
            most = int(self._views_of.max())
            if not 1 <= k <= most:
                raise UsageError(f"views_per_object must be 1 to {most}, the most views of an object, got {k}")
            if not self.shuffle:
                raise UsageError("views_per_object draws views at random; leave shuffle on, or choose views= instead")
            if self.grouped and self.batch_size % k:
                raise UsageError(f"batch_size must be a multiple of views_per_object {k}, got {self.batch_size}")
        rest = self._num_units % (self._units_per_batch * self.world_size)
        if self._num_units < self.world_size or (not self._drops and 0 < rest < self.world_size):
            raise UsageError(
                f"{self._num_units} {'groups' if self.grouped else 'rows'} do not give each of {self.world_size} "
                "ranks a part of every step; take fewer ranks, another batch_size, or drop_last"
            )

    def __len__(self) -> int:
        """How many batches an epoch has."""
        step = self._units_per_batch * self.world_size
        return self._num_units // step if self._drops else -(-self._num_units // step)

    @property
    def rows_per_batch(self) -> int:
        """batch_size, or what is left of it where an epoch has fewer rows."""
        return self._units_per_batch * self._unit

    @property
    def num_left_out(self) -> int:
        """How many objects are in no batch, because they have fewer views than a group needs."""
        return int((self._views_of < self._unit).sum()) if self.grouped else 0

    def batches(self, epoch: int, position: int = 0) -> Iterator[NDArray[np.int64]]:
        """The row numbers of this rank's batches of an epoch from a position on, in constant time."""
        order = self.order(epoch)
        step = self._units_per_batch * self.world_size
        for start in range(position * step, len(self) * step, step):
            units = order[start : start + step]
            yield np.array_split(units, self.world_size)[self.rank].reshape(-1)

    def order(self, epoch: int) -> NDArray[np.int64]:
        """(U,), or (U, k) if grouped: the rows of an epoch in their order, over all ranks."""
        if not self.shuffle:
            return np.arange(self.num_rows)
        k = self.views_per_object
        if k is None:
            return self._permutation(epoch, "rows", self.num_rows)
        assert self.objects_N is not None
        draws = self._permutation(epoch, "views", self.num_rows)
        by_object = draws[
            np.argsort(self.objects_N[draws], kind="stable")
        ]  # an object's rows together, in random order
        owner = self.objects_N[by_object]
        nth = np.arange(self.num_rows) - (np.cumsum(self._views_of) - self._views_of)[owner]
        drawn = nth < k
        rows = by_object[drawn & (self._views_of[owner] >= k)].reshape(-1, k) if self.grouped else by_object[drawn]
        return rows[self._permutation(epoch, "rows", len(rows))]

    def batch_seed(self, epoch: int, position: int) -> int:
        """The seed of all randomness in a batch, 63 bits."""
        return stable_seed(self.seed, epoch, "batch", position, self.rank)

    def _permutation(self, epoch: int, purpose: str, count: int) -> NDArray[np.int64]:
        """A random order of `count` items, by the raw bits of Philox, so that it is the same in every numpy."""
        bits = np.random.Philox(key=stable_seed(self.seed, epoch, purpose)).random_raw(count)
        return np.argsort(bits, kind="stable")

    @cached_property
    def _views_of(self) -> NDArray[np.int64]:
        """How many rows each object has."""
        assert self.objects_N is not None, "views are those of objects"
        assert len(self.objects_N) == self.num_rows
        return np.bincount(self.objects_N)

    @property
    def _drops(self) -> bool:
        return self.shuffle if self.drop_last is None else self.drop_last

    @property
    def _unit(self) -> int:
        """The rows of one unit."""
        return self.views_per_object if self.grouped and self.views_per_object is not None else 1

    @cached_property
    def _num_units(self) -> int:
        """U: over all ranks."""
        if self.views_per_object is None:
            return self.num_rows
        if self.grouped:
            return int((self._views_of >= self.views_per_object).sum())
        return int(np.minimum(self._views_of, self.views_per_object).sum())

    @property
    def _units_per_batch(self) -> int:
        units = self.batch_size // self._unit
        return min(units, max(1, self._num_units // self.world_size)) if self._drops else units
