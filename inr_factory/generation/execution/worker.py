"""Worker: reads the objects of one shard, fits them and writes the shard. What every backend runs."""

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
from inr_factory.generation.signals import Signal, SignalError, Source
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
        source = self.given_source or open_source(self.recipe.source, self.data_root)
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
                on_progress(tally._replace(done=tally.done + len(failed)))

        torch.set_num_threads(1)
        os.environ["IGL_NUM_THREADS"] = "1"
        with _READING:
            source, recipe = self.source, self.recipe
            indices = self.plan.blocks[task.split][task.block]
            signals, keys, failed = read_signals(source, indices, task.view)
        inputs = [signal for _, signal in signals]
        fitted = self.fit(keys, inputs, count_failed)
        by_id = {source.items[index].object_id: (source.items[index].label, signal) for index, signal in signals}
        rows = [by_id[key.object_id] for key in fitted.keys]
        facts = sorted({name for _, signal in signals for name in signal.facts})
        columns = measure_quality(fitted.inrs, [signal for _, signal in rows], self.device) | {
            "weights": fitted.inrs.flatten().numpy(),
            "label": np.array([label for label, _ in rows], dtype=np.int32),
            "object_id": np.array([key.object_id for key in fitted.keys], dtype=object),
            "view": np.full(len(rows), task.view, dtype=np.int32),
            "seed": fitted.seeds,
            "psnr": fitted.psnr,
            "loss": fitted.loss,
            "steps": fitted.steps,
            "status": fitted.status,
            **{name: np.array([signal.facts[name] for _, signal in rows]) for name in facts},
        }
        attributes = {
            "fingerprint": set_fingerprint(recipe, self.source_fingerprint),
            "engine": fitted.engine,
            "device": torch.device(self.device).type,
            "field": signals[0][1].field if signals else "values",
        }
        key = (task.split, task.view, task.block)
        # Another worker or run may have been faster: its shard may be recorded already, and another kind of machine
        # makes other bytes.
        existing = find_valid_shard(self.out, key, self.spec, str(attributes["fingerprint"]))
        return existing or write_shard(self.out, key, self.spec, columns, (*failed, *fitted.failures), attributes)


def read_signals(
    source: Source, indices: tuple[int, ...], view: int
) -> tuple[list[tuple[int, Signal]], list[ViewKey], list[Quarantined]]:
    """(index, signal) and key of every object that has a signal, and the reasons why others have none."""
    signals, keys, failed = [], [], []
    for index in indices:
        object_id = source.items[index].object_id
        try:
            signal = source.signal(index, view)
        except SignalError as error:
            failed.append(Quarantined(object_id=object_id, view=view, reason=str(error)))
            continue
        check_signal(signal, source, object_id)
        signals.append((index, signal))
        keys.append(ViewKey(object_id, view))
    return signals, keys, failed
