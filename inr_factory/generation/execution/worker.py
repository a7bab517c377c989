"""Worker: reads the objects of one shard, fits them and writes the shard. What every backend runs."""

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from threading import Lock

import numpy as np
import torch

from inr_factory.generation.execution.shard_plan import ShardPlan, ShardTask, make_shard_plan
from inr_factory.generation.execution.source_check import check_signal, check_source, set_fingerprint
from inr_factory.generation.fitting.fit_views import FittedViews, fit_views
from inr_factory.generation.fitting.shape_quality import measure_quality
from inr_factory.generation.fitting.tally import OnProgress, Tally
from inr_factory.generation.recipe import Recipe
from inr_factory.generation.signal_stack import as_index, fact_columns, select_signals
from inr_factory.generation.signals import Item, Signal, SignalError, Source
from inr_factory.generation.sources.registry import open_source
from inr_factory.inr.spec import SirenSpec
from inr_factory.storage.locations import Location
from inr_factory.storage.manifest import Quarantined, ShardEntry, ViewKey
from inr_factory.storage.shards import find_valid_shard, write_shard

_READING = Lock()  # one shard of a process is read at a time, so that a Source need not be safe for threads


@dataclass
class Worker:
    """Makes shards of one set. Opens its source when it makes the first, so that it can be pickled and sent before.

    `source_fingerprint` is the manifest's: every machine must see the same data. `given_source` is a Source written in
    Python, which no recipe opens; it is pickled with the worker.
    """

    recipe: Recipe
    data_root: Location | None
    out: Location
    device: str
    source_fingerprint: str
    given_source: Source | None = None

    @cached_property
    def source(self) -> Source:
        source = self.given_source or open_source(self.recipe.source, self.data_root, self.recipe.version)
        check_source(source, self.source_fingerprint, self.out)
        return source

    @cached_property
    def plan(self) -> ShardPlan:
        return make_shard_plan(self.recipe, self.source)

    @property
    def spec(self) -> SirenSpec:
        return self.recipe.spec.spec(self.source.in_dim, self.source.out_dim)

    def fit(self, keys: Sequence[ViewKey], signals: Sequence[Signal], on_progress: OnProgress) -> FittedViews:
        recipe = self.recipe
        return fit_views(self.spec, keys, signals, recipe.fit, recipe.seed, self.device, on_progress)

    def make(self, task: ShardTask, on_progress: OnProgress | None = None) -> ShardEntry:
        """Fit one view of a block's objects and write the shard. Uses one thread: several workers give the speed."""

        def count_failed(tally: Tally) -> None:
            if on_progress is not None:
                on_progress(tally._replace(done=tally.done + len(read.failed)))

        torch.set_num_threads(1)
        os.environ["IGL_NUM_THREADS"] = "1"
        recipe = self.recipe
        with _READING:
            read = read_signals(self.source, self.plan.blocks[task.split][task.block], task.view, on_progress)
        fitted = self.fit(read.keys, read.signals, count_failed)
        row_of = {key.object_id: row for row, key in enumerate(read.keys)}
        rows = [row_of[key.object_id] for key in fitted.keys]
        signals = select_signals(read.signals, as_index(np.array(rows, dtype=np.int64)))
        columns = measure_quality(fitted.inrs, signals, self.device, recipe.version) | {
            "weights": fitted.flat.numpy(),
            "label": np.array([read.items[row].label for row in rows], dtype=np.int32),
            "object_id": np.array([key.object_id for key in fitted.keys], dtype=object),
            "view": np.full(len(rows), task.view, dtype=np.int32),
            "seed": fitted.seeds,
            "psnr": fitted.psnr,
            "loss": fitted.loss,
            "steps": fitted.steps,
            "status": fitted.status,
            **fact_columns(read.signals, rows),
        }
        attributes = {
            "fingerprint": set_fingerprint(recipe, self.source_fingerprint),
            "engine": fitted.engine,
            "device": torch.device(self.device).type,
            "field": read.signals[0].field if len(read.signals) else "values",
        }
        key = (task.split, task.view, task.block)
        # Another worker or run may have been faster: its shard may be recorded already, and another kind of machine
        # makes other bytes.
        existing = find_valid_shard(self.out, key, self.spec, str(attributes["fingerprint"]))
        return existing or write_shard(self.out, key, self.spec, columns, (*read.failed, *fitted.failures), attributes)


@dataclass(frozen=True)
class ReadSignals:
    """The objects of a shard that have a signal, their keys and signals, and why others have none."""

    items: Sequence[Item]
    keys: Sequence[ViewKey]
    signals: Sequence[Signal]
    failed: Sequence[Quarantined] = ()


def read_signals(
    source: Source, indices: Sequence[int], view: int, on_progress: OnProgress | None = None
) -> ReadSignals:
    """The signals of some items for a view: as one stack where the source has it, else one by one.

    `on_progress` is called before each of those with an empty tally: it may raise, to end the reading.
    """
    items = [source.items[index] for index in indices]
    with contextlib.suppress(SignalError):  # each object gives the reason again, for its record
        stack = source.signal_stack(indices, view) if hasattr(source, "signal_stack") else None
        if stack is not None:
            check_signal(stack[0], source, items[0].object_id)
            return ReadSignals(items, [ViewKey(item.object_id, view) for item in items], stack)
    read: list[tuple[Item, Signal]] = []
    failed = []
    for index, item in zip(indices, items, strict=True):
        if on_progress is not None:
            on_progress(Tally())
        try:
            signal = source.signal(index, view)
        except SignalError as error:
            failed.append(Quarantined(object_id=item.object_id, view=view, reason=str(error)))
            continue
        check_signal(signal, source, item.object_id)
        read.append((item, signal))
    keys = [ViewKey(item.object_id, view) for item, _ in read]
    return ReadSignals([item for item, _ in read], keys, [signal for _, signal in read], failed)
