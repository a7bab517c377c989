"""Retry of quarantine: objects that could not be read are read again, and fitted into their shards if they can be.

A shard is replaced in one step. Its record is taken out of the manifest before and put back after: the manifest is right
at every instant, and a run that dies between leaves a complete shard, which the next `fit` or `repair` records.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inr_factory.errors import IntegrityError, UsageError
from inr_factory.generation.execution.progress_recorder import FitProgress, ProgressRecorder
from inr_factory.generation.execution.run_fit import device_of, run_tasks
from inr_factory.generation.execution.run_settings import FitSettings
from inr_factory.generation.execution.shard_plan import ShardTask, make_shard_plan
from inr_factory.generation.execution.source_check import check_objects, check_source
from inr_factory.generation.execution.worker import ShardRows, Worker
from inr_factory.generation.fitting.tally import OnProgress
from inr_factory.generation.recipe import OwnSource, recorded_recipe
from inr_factory.generation.signals import Source
from inr_factory.generation.sources.registry import open_source
from inr_factory.storage.manifest import Manifest, Quarantined, ShardEntry
from inr_factory.storage.manifest_file import forget_shard
from inr_factory.storage.run_log import RunLog
from inr_factory.storage.shards import ShardReader, typed_columns, write_shard

WRITTEN = ("quarantine", "attributes_checksum")  # attributes that a new shard computes


def may_be_read(row: Quarantined) -> bool:
    """Whether a row of the quarantine was perhaps never fitted: a fit that ended has a PSNR."""
    return row.psnr is None


def retry_quarantine(
    root: Path,
    manifest: Manifest,
    settings: FitSettings,
    source: Source | None = None,
    on_progress: Callable[[FitProgress], None] | None = None,
) -> tuple[Manifest, int]:
    """Read the objects of a complete set that could not be read, and fit those that now can be.

    Rows of other objects keep their bytes. On the kind of machine that made the set, the shards are those that a run
    without the fault would have made.

    Args:
        root: folder of the set.
        manifest: its manifest.
        settings: how to fit.
        source: the Source of a set whose source is a Source written in Python.
        on_progress: called with a `FitProgress` while objects are fitted.

    Returns:
        The manifest as it is now, and how many INRs left the quarantine.

    Raises:
        UsageError: the set is a copy, its source is not available, or another kind of device made a shard.
        IntegrityError: the source is not the set's.
        ResourceError: the machine cannot read an object.
    """
    if manifest.derived is not None:
        raise UsageError(f"{root} is a copy ({manifest.derived.how}); retry the quarantine of the set it was made from")
    entries = [entry for entry in manifest.shards if any(map(may_be_read, entry.quarantine))]
    if not entries:
        return manifest, 0
    recipe = recorded_recipe(manifest.recipe, origin=f"of {root}")
    own_source = source if isinstance(recipe.source, OwnSource) else None
    source = own_source or open_source(recipe.source, settings.data_root, recipe.version)
    check_objects(source)
    check_source(source, manifest.source.fingerprint, root)
    tasks = [ShardTask(entry.split, entry.view, entry.block) for entry in entries]
    device = device_of(settings)
    log = RunLog(root, settings.part, backend=settings.backend, device=device, retries=len(tasks))
    shards = make_shard_plan(recipe, source)
    recorder = ProgressRecorder(root, manifest, shards, tasks, {task.path for task in tasks}, log, on_progress)
    worker = RetryWorker(recipe, settings.data_root, root, device, manifest.source.fingerprint, own_source)
    ending = "stopped"
    try:
        run_tasks(worker, tasks, recorder.pending_tasks(), settings, recorder.listener)
        recorder.finish()
        ending = "complete"
    finally:
        recorder.write_record()
        log.note("end", ending=ending, made=len(recorder.made))
    before = sum(len(entry.quarantine) for entry in entries)
    return recorder.manifest, before - sum(len(entry.quarantine) for entry in recorder.made)


@dataclass
class RetryWorker(Worker):
    """A worker that adds rows to shards: those of objects in quarantine that can be read now."""

    def _make(self, task: ShardTask, on_progress: OnProgress | None) -> ShardEntry:
        assert isinstance(self.out, Path)
        shard = ShardReader.unrecorded(self.out / task.path)
        block = self.plan.blocks[task.split][task.block]
        place = {self.source.items[index].object_id: number for number, index in enumerate(block)}
        retried = {row.object_id for row in shard.quarantine if may_be_read(row)}
        if unknown := retried - place.keys():
            raise IntegrityError(f"{task.path} has {min(unknown)} in quarantine, which its block of the source lacks")
        rows = self.rows(task, [block[place[name]] for name in sorted(retried, key=place.__getitem__)], on_progress)
        if not len(rows.columns["seed"]):
            return shard.describe()
        _check_same_kind(shard, rows)
        unfitted = [row for row in shard.quarantine if row.object_id not in retried]
        quarantine = [*rows.unread, *sorted([*unfitted, *rows.unfitted], key=lambda row: place[row.object_id])]
        columns = _merged(shard, rows, place)
        kept = {name: text for name, text in shard.attributes.items() if name not in WRITTEN}
        attributes = rows.attributes if not len(shard) else kept
        forget_shard(self.out, task.path)
        return write_shard(self.out, shard.key, shard.spec, columns, quarantine, attributes)


def _check_same_kind(shard: ShardReader, rows: ShardRows) -> None:
    for name in ("device", "engine"):
        if len(shard) and shard.attributes[name] != rows.attributes[name]:
            raise UsageError(
                f"{shard.path.name} was fitted with {name} {shard.attributes[name]}, this run uses {rows.attributes[name]}; a "
                "shard is of one kind: retry with --device as the set was fitted"
            )


def _merged(shard: ShardReader, rows: ShardRows, place: dict[str, int]) -> dict[str, NDArray[Any]]:
    """The columns of the shard and of the new rows, in the order of the objects."""
    if not len(shard):
        return rows.columns
    new = typed_columns(rows.columns)
    names = [name for name in shard.column_names if name != "checksum"]
    if lost := set(names) - new.keys():
        raise UsageError(
            f"{shard.path.name} has the column {min(lost)}, which this version does not make; use that one"
        )
    objects = [*shard.object_ids, *(str(name) for name in rows.columns["object_id"])]
    order = sorted(range(len(objects)), key=lambda row: place[objects[row]])
    columns: dict[str, NDArray[Any]] = {"object_id": np.array(objects, dtype=object)[order]}
    for name in names:
        if name != "object_id":
            columns[name] = np.concatenate([np.array(shard.column(name)), new[name]])[order]
    return columns
