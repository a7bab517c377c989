"""Worker: reads the objects of one shard, fits them and writes the shard. What every backend runs."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from inr_factory.errors import FactoryError, ResourceError, UsageError, machine_fault
from inr_factory.generation.augmentation import Drawn, draw_changes
from inr_factory.generation.execution.content_check import check_other_views, read_contents
from inr_factory.generation.execution.shard_plan import ShardPlan, ShardTask, make_shard_plan
from inr_factory.generation.execution.signal_reading import expected_facts, read_signals
from inr_factory.generation.execution.source_check import NUMBER, check_objects, check_source, set_fingerprint
from inr_factory.generation.fitting.failure_hint import without_hint
from inr_factory.generation.fitting.fit_views import FittedViews, fit_views
from inr_factory.generation.fitting.shape_quality import measure_quality
from inr_factory.generation.fitting.tally import OnProgress, Tally
from inr_factory.generation.recipe import Recipe
from inr_factory.generation.signal_stack import as_index, fact_columns, inside_shares, select_signals
from inr_factory.generation.signals import Signal, Source
from inr_factory.generation.sources.registry import open_source
from inr_factory.inr.spec import SirenSpec
from inr_factory.storage.locations import Location
from inr_factory.storage.manifest import Quarantined, ShardEntry, ViewKey
from inr_factory.storage.shard_contents import CONTENT
from inr_factory.storage.shards import find_valid_shard, write_shard

_READING = Lock()  # one shard of a process is read at a time, so that a Source need not be safe for threads


@dataclass(frozen=True)
class ShardRows:
    """Columns of fitted objects, those in quarantine that could not be read or not be fitted, attributes of the shard."""

    columns: dict[str, NDArray[Any]]
    unread: Sequence[Quarantined]
    unfitted: Sequence[Quarantined]
    attributes: dict[str, str]


@dataclass
class Worker:
    """Makes shards of one set. Opens its source when it makes the first, so that it can be pickled and sent before.

    `source_fingerprint` is the manifest's: every machine must see the same data. `given_source` is a Source written in
    Python, which no recipe opens; it is pickled with the worker. Without `quality` shapes have no columns of how well
    they are shown, which cost time.
    """

    recipe: Recipe
    data_root: Location | None
    out: Location
    device: str
    source_fingerprint: str
    given_source: Source | None = None
    quality: bool = True

    @cached_property
    def source(self) -> Source:
        source = self.given_source or open_source(self.recipe.source, self.data_root, self.recipe.version)
        check_objects(source)
        check_source(source, self.source_fingerprint, self.out)
        return source

    @cached_property
    def plan(self) -> ShardPlan:
        return make_shard_plan(self.recipe, self.source)

    @cached_property
    def facts(self) -> Mapping[str, str] | None:
        return expected_facts(self.source, [index for blocks in self.plan.blocks.values() for index in blocks[0]])

    @property
    def spec(self) -> SirenSpec:
        return self.recipe.spec.spec(self.source.in_dim, self.source.out_dim)

    def fit(self, keys: Sequence[ViewKey], signals: Sequence[Signal], on_progress: OnProgress) -> FittedViews:
        recipe = self.recipe
        return fit_views(self.spec, keys, signals, recipe.fit, recipe.seed, self.device, on_progress)

    def change(self, task: ShardTask, object_id: str) -> Drawn:
        """The numbers by which an object's signal is changed for a shard."""
        changes = getattr(self.recipe.source, "changes", ())
        return draw_changes(changes, self.recipe.seed, object_id, task.view, task.split)

    def make(self, task: ShardTask, on_progress: OnProgress | None = None) -> ShardEntry:
        """Fit one view of a block's objects and write the shard. Uses one thread: several workers give the speed.

        Raises ResourceError where the machine fails: memory, disk or network.
        """
        try:
            return self._make(task, on_progress)
        except Exception as error:
            if isinstance(error, FactoryError) or (reason := machine_fault(error)) is None:
                raise
            remedy = "use fewer --workers or free memory" if "memory" in reason else "see to it"
            raise ResourceError(f"{task.path} cannot be made on this machine: {reason}; {remedy}, run again") from error

    def _make(self, task: ShardTask, on_progress: OnProgress | None) -> ShardEntry:
        rows = self.rows(task, self.plan.blocks[task.split][task.block], on_progress)
        key = (task.split, task.view, task.block)
        # Another worker or run may have been faster: its shard may be recorded already, and another kind of machine
        # makes other bytes.
        existing = find_valid_shard(self.out, key, self.spec, rows.attributes["fingerprint"])
        if existing is not None:
            return existing
        entry = write_shard(self.out, key, self.spec, rows.columns, (*rows.unread, *rows.unfitted), rows.attributes)
        try:  # again: another worker may have written another view meanwhile
            self._check_contents(
                task, dict(zip(rows.columns["object_id"], rows.columns.get(CONTENT, ()), strict=False))
            )
        except UsageError:
            if isinstance(self.out, Path):
                (self.out / entry.path).unlink(missing_ok=True)
            raise
        return entry

    def _check_contents(self, task: ShardTask, contents: Mapping[str, float]) -> None:
        fingerprint = set_fingerprint(self.recipe, self.source_fingerprint)
        check_other_views(self.out, task, self.recipe.views, fingerprint, contents)

    def rows(self, task: ShardTask, indices: Sequence[int], on_progress: OnProgress | None = None) -> ShardRows:
        """Read and fit those of a shard's objects that are at `indices` of the source's items."""

        def count_failed(tally: Tally) -> None:
            if on_progress is not None:
                on_progress(tally._replace(done=tally.done + len(read.failed)))

        torch.set_num_threads(1)
        os.environ["IGL_NUM_THREADS"] = "1"
        recipe = self.recipe
        with _READING:
            read = read_signals(self.source, indices, task.view, on_progress, self.facts, partial(self.change, task))
            contents = read_contents(self.source, indices, read.keys, read.signals) if recipe.version >= 2 else {}
        self._check_contents(task, contents)
        fitted = self.fit(read.keys, read.signals, count_failed)
        row_of = {key.object_id: row for row, key in enumerate(read.keys)}
        rows = [row_of[key.object_id] for key in fitted.keys]
        signals = select_signals(read.signals, as_index(np.array(rows, dtype=np.int64)))
        columns: dict[str, NDArray[Any]] = {}
        if self.quality:
            columns |= measure_quality(fitted.inrs, signals, self.device, recipe.version, task.view)
        if recipe.version >= 2 and fitted.engine != "none":
            columns |= {"explained": fitted.explained, **inside_shares(signals)}
        columns |= {
            "weights": fitted.flat.numpy(),
            "label": np.array([read.items[row].label for row in rows], dtype=np.int32),
            "object_id": np.array([key.object_id for key in fitted.keys], dtype=object),
            "view": np.full(len(rows), task.view, dtype=np.int32),
            "seed": fitted.seeds,
            "psnr": fitted.psnr,
            "loss": fitted.loss,
            "steps": fitted.steps,
            "status": fitted.status,
        }
        facts = fact_columns(read.signals, rows)
        # Of a source of one's own some objects may have 3 where others have 3.5.
        floats = {name for name, kind in (self.facts or {}).items() if kind == NUMBER}
        facts |= {name: facts[name].astype(np.float64) for name in floats & facts.keys()}
        assert columns.keys().isdisjoint(facts), f"facts would replace columns: {columns.keys() & facts.keys()}"
        columns |= facts
        if contents:
            columns[CONTENT] = np.array([contents[key.object_id] for key in fitted.keys], dtype=np.float64)
        attributes = {
            "fingerprint": set_fingerprint(recipe, self.source_fingerprint),
            "engine": fitted.engine,
            "device": torch.device(self.device).type,
            "field": read.signals[0].field if len(read.signals) else "values",
        }
        return ShardRows(columns, read.failed, _reasons(fitted.failures, self.recipe.version), attributes)


def _reasons(failures: Sequence[Quarantined], version: int) -> Sequence[Quarantined]:
    """Failures with the reasons that sets of a version store."""
    if version > 1:
        return failures
    return [row.model_copy(update={"reason": without_hint(row.reason)}) for row in failures]
