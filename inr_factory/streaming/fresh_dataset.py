"""Fresh data set: the training INRs of a set, of which each epoch shows views that are fitted meanwhile.

Shape letters: N objects, V stored views of each.
"""

import os
import shutil
import tempfile
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from inr_factory.errors import UsageError
from inr_factory.learning.data.dataset import INRDataset
from inr_factory.learning.data.weight_reader import WeightsLocation
from inr_factory.storage.locations import Location
from inr_factory.storage.shards import ShardReader
from inr_factory.streaming.fitters import Fitters
from inr_factory.streaming.pool import Demand, Pool
from inr_factory.streaming.schedule import FreshSchedule, Shard

AHEAD = 2  # epochs beyond the present one for which fitters work
POOL_BYTES = 2**30  # of the weights of all objects in all views that take turns
AUTO_POOL = 8  # views that take turns where nobody knows how often each is shown
POLL_SECONDS = 0.02
AUTO = "auto"

OnWait = Callable[[int, int, float], None]
"""Called with shards that are there, shards that the epoch needs, and fits per second."""


@dataclass(frozen=True)
class StreamSettings:
    """How fresh views are made.

    Attributes:
        reuse: How often an INR is shown; "auto" until the next one is there, so that training never waits.
        fitters: Number of processes that fit.
        address: Of a Ray cluster that has them; None for this machine.
        keep: Folder of a set that keeps all that is fitted; None gives it up after use.
        threads: Threads that training leaves itself on a CPU.
    """

    reuse: int | str
    fitters: int
    address: str | None
    keep: Path | None
    threads: int


class FreshDataset(INRDataset):
    """The training split of a set, one row for each object, with another view in each epoch: stored ones at first, then
    views that fitters make while a network trains, see `FreshSchedule`. `inr_factory.stream` opens one.

    It takes the place of an INRDataset in `train` and in INRLoader. A context manager: it ends its fitters.

    Where the fit of an object failed, the object shows a stored view instead; `figures` counts those.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | Location,
        settings: StreamSettings,
        write_job: Callable[[Pool], None],
        on_wait: OnWait | None = None,
        **options: Any,
    ) -> None:
        """`write_job` puts into a pool what its fitters have to know; `options` are those of INRDataset."""
        super().__init__(path, "train", **options)
        if self.target is not None and (self.target.name == "psnr" or self.target.name.startswith("facts.")):
            raise UsageError(
                f"the target {self.target.name} is another one for each view, and fresh views are not recorded; train without "
                "fresh views"
            )
        self.settings, self.on_wait, self._write_job = settings, on_wait, write_job
        self.stored = self.manifest.views
        self.arrived: tuple[int, ...] = ()
        self._choose_first_rows()
        self.active_blocks: tuple[int, ...] = tuple(np.unique(self.blocks).tolist())
        self._run: Path | None = None
        self._pool: Pool | None = None
        self._fitters: Fitters | None = None
        self._end: weakref.finalize[..., FreshDataset] | None = None  # ends the fitters, also where nobody asks for it
        self._first = True
        self._opened: dict[Shard, tuple[WeightsLocation, NDArray[np.int64]]] = {}
        self._epoch: int | None = None
        self._since = self._waited = self._epoch_began = 0.0
        self._done_before, self._new, self._replaced = (0.0, 0.0, 0.0), 0, 0
        self._threads = torch.get_num_threads()

    def _choose_first_rows(self) -> None:
        """Keep one row of each object, that of its first view, and remember where its others are."""
        views = np.searchsorted(np.array(self.chosen_views), self.views)
        numbers, first = self.objects, np.unique(self._object_ids, return_index=True)[1]
        reader = self._weights
        # (V, N): where the view of an object stands in the reader of all stored rows; the first view stands in for others.
        self._stored_rows = np.tile(first, (len(self.chosen_views), 1))
        self._stored_rows[views, numbers] = np.arange(len(self.labels))
        self._all_stored = reader
        for name in ("labels", "psnr", "_object_ids", "_checksums", "views", "blocks"):
            setattr(self, name, getattr(self, name)[first])
        self.values = None if self.values is None else self.values[first]
        self.changes = {}
        self.__dict__.pop("objects", None)
        self.__dict__.pop("object_ids", None)
        self._weights = reader.select([], self._stored_rows[0])

    @property
    def schedule(self) -> FreshSchedule:
        """Which views epochs show."""
        reuse = None if self.settings.reuse == AUTO else int(self.settings.reuse)
        most = POOL_BYTES // (4 * self.spec.num_parameters * len(self))
        return FreshSchedule(
            self.stored, self.active_blocks, max(1, min(reuse or AUTO_POOL, most)), reuse, self.arrived
        )

    def prepare(self, run: Path, first: bool) -> None:
        """Use the folder of a run for what is fitted; only its first rank fits."""
        self._run, self._first = run, first

    def begin_epoch(self, epoch: int) -> None:
        """Wait until the views of this epoch are fitted, and ask for those of the next ones."""
        begin, pool = time.monotonic(), self._open_pool()
        if not self._first:
            self._follow(pool, epoch)
        elif len(self.arrived) <= epoch:
            self.arrived += (self._count_come(pool, epoch),) * (epoch + 1 - len(self.arrived))
        schedule = self.schedule
        if self._first:
            self._publish(pool, epoch, schedule)
        self._wait(pool, [shard for shard in schedule.shown(epoch) if shard[0] >= self.stored])
        self._show(pool, schedule, epoch)
        now = time.monotonic()
        self._epoch, self._epoch_began, self._waited = epoch, begin, now - begin

    def figures(self) -> dict[str, float]:
        """Of the present epoch: `fresh` INRs that no epoch before had, `replaced` ones of failed fits, `fits_per_second` of
        all fitters, the share of time that training spent `waiting` for them, and that they were `idle`."""
        if self._pool is None or self._epoch is None:
            return {}
        now = time.monotonic()
        passed = max(now - self._epoch_began, 1e-9)
        before, self._done_before = self._done_before, self._done()
        inrs, busy, idle = (max(0.0, now - was) for now, was in zip(self._done_before, before, strict=True))
        since, self._since = self._since, now
        return {
            "fresh": self._new,
            "replaced": self._replaced,
            "fits_per_second": round(inrs / max(now - since, 1e-9), 2),
            "waiting": round(self._waited / passed, 4),
            "idle": round(idle / max(busy + idle, 1e-9), 4),
        }

    def finish(self, complete: bool) -> None:
        """End the fitters. What was fitted stays for a resume of an interrupted run, and where it is kept."""
        pool, self._pool, self._fitters = self._pool, None, None
        if self._end is not None:
            self._end()
            torch.set_num_threads(self._threads)
        if pool is not None and self._first and complete:
            shutil.rmtree(pool.folder, ignore_errors=True)

    def __enter__(self) -> "FreshDataset":
        return self

    def __exit__(self, *_: object) -> None:
        self.finish(complete=False)

    def __getstate__(self) -> dict[str, Any]:
        """Without fitters: processes that read batches have those of this epoch only."""
        return {**self.__dict__, "_fitters": None, "_end": None, "_write_job": None, "on_wait": None}

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "fresh": {"reuse": self.settings.reuse, "stored": self.stored}}

    def __repr__(self) -> str:
        return (
            f"FreshDataset({self.manifest.name}, train: {len(self):,} objects, views from {self.stored} on are fresh; uses of "
            f"each: {self.settings.reuse}, views that take turns: {self.schedule.pool}, fitters: {self.settings.fitters}; "
            f"{self.spec})"
        )

    def _open_pool(self) -> Pool:
        if self._pool is not None:
            return self._pool
        folder = Path(tempfile.mkdtemp(prefix="inr-factory-fresh-")) if self._run is None else self._run / "fresh"
        self._pool = pool = Pool(folder.absolute(), (self.settings.keep or folder).absolute())
        self._since = time.monotonic()
        if self._first:
            before = pool.demand()
            self.arrived = () if before is None else before.arrived
            pool.create()
            self._write_job(pool)
            pool.publish(Demand(0, self.arrived, ()))
            self._fitters = Fitters(pool, self.settings.fitters, self.settings.address)
            self._end = weakref.finalize(self, _end, self._fitters, pool.folder if self._run is None else None)
            self._fitters.start()
            if torch.get_num_threads() > self.settings.threads:
                torch.set_num_threads(self.settings.threads)
        return pool

    def _count_come(self, pool: Pool, epoch: int) -> int:
        """How many fresh shards this epoch has: by `reuse`, or those that are there, at most one more of each block."""
        schedule = self.schedule
        if schedule.reuse is not None:
            return schedule.come(epoch)
        come = before = schedule.come(epoch - 1) if epoch else 0
        while epoch and come < before + len(self.active_blocks) and pool.path(schedule.shard(come)).exists():
            come += 1
        return come

    def _publish(self, pool: Pool, epoch: int, schedule: FreshSchedule) -> None:
        """Give up what is no longer needed, and ask for what is."""
        lying = set()
        for path, shard in pool.fresh_shards():
            if self.settings.keep is None and shard[0] >= self.stored and schedule.is_done(shard, epoch - 1):
                path.unlink(missing_ok=True)  # other ranks may still be in the epoch before; maps outlive it
            else:
                lying.add(shard)
        needed = tuple(shard for shard in schedule.needed(epoch, AHEAD) if shard not in lying)
        pool.publish(Demand(epoch, self.arrived, needed))

    def _follow(self, pool: Pool, epoch: int) -> None:
        """The first rank counts and asks; wait until it has."""
        while (demand := pool.demand()) is None or len(demand.arrived) <= epoch:
            pool.raise_failure()
            time.sleep(POLL_SECONDS)
        self.arrived = demand.arrived

    def _wait(self, pool: Pool, needed: Sequence[Shard]) -> None:
        missing = [shard for shard in needed if not pool.path(shard).exists()]
        while missing:
            self._look(pool, len(needed) - len(missing), len(needed))
            missing = [shard for shard in missing if not pool.path(shard).exists()]
        if self._fitters is not None:
            self._fitters.check()

    def _look(self, pool: Pool, done: int, needed: int) -> None:
        if self._fitters is not None:
            self._fitters.check()
        else:
            pool.raise_failure()
        if self.on_wait is not None:
            self.on_wait(
                done, needed, sum(report["inrs"] / report["busy"] for report in pool.reports() if report["busy"])
            )
        time.sleep(POLL_SECONDS)

    def _done(self) -> tuple[float, float, float]:
        """INRs, seconds of fits and seconds without any, of all fitters."""
        reports = [] if self._pool is None else self._pool.reports()
        inrs, busy, idle = (sum(report[name] for report in reports) for name in ("inrs", "busy", "idle"))
        return inrs, busy, idle

    def _show(self, pool: Pool, schedule: FreshSchedule, epoch: int) -> None:
        """Let the rows of this data set be those that an epoch shows."""
        self._opened = {shard: rows for shard, rows in self._opened.items() if not schedule.is_done(shard, epoch)}
        rows = self._stored_rows[0].copy()
        offset, locations = len(self._all_stored), list[WeightsLocation]()
        self._new = self._replaced = 0
        came = set(map(schedule.shard, range(schedule.come(epoch - 1) if epoch else 0, schedule.come(epoch))))
        for shard in schedule.shown(epoch):
            view, block = shard
            objects = np.flatnonzero(self.blocks == block)
            if view < self.stored:
                rows[objects] = self._stored_rows[view % len(self.chosen_views), objects]
                continue
            if shard not in self._opened:
                self._opened[shard] = self._open_shard(pool.path(shard), objects)
            location, there = self._opened[shard]
            rows[objects] = np.where(there >= 0, offset + there, rows[objects])
            self._replaced += int((there < 0).sum())
            self._new += int((there >= 0).sum()) if shard in came else 0
            locations.append(location)
            offset += location.shape[0]
        self._weights = self._all_stored.select(locations, rows)

    def _open_shard(self, path: Path, objects: NDArray[np.int64]) -> tuple[WeightsLocation, NDArray[np.int64]]:
        """Where a shard's weights are, and the row of each of these objects in it, -1 of those that failed."""
        shard = ShardReader.unchecked(path)
        row_of = {name: row for row, name in enumerate(shard.column("object_id").tolist())}
        rows = [row_of.get(name, -1) for name in self._object_ids[objects].tolist()]
        return WeightsLocation.of(shard), np.array(rows, dtype=np.int64)


def _end(fitters: Fitters, temporary: Path | None) -> None:
    fitters.stop()
    if temporary is not None:
        shutil.rmtree(temporary, ignore_errors=True)
