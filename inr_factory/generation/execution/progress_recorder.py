"""Progress recorder: which shards a fit still has to make, how far it is, and the record of what it made."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from time import monotonic

from inr_factory.generation.execution.shard_plan import ShardPlan, ShardTask
from inr_factory.generation.execution.worker_events import Listener
from inr_factory.generation.fitting.tally import Tally
from inr_factory.storage.locations import Location
from inr_factory.storage.manifest import Manifest, ShardEntry, file_size
from inr_factory.storage.manifest_file import record_until_visible, update_manifest
from inr_factory.storage.run_log import RunLog
from inr_factory.storage.shards import find_valid_shard

RECORD_SECONDS = 1.0
RECORD_SHARE = 0.02  # of a run's time at most: a record takes longer the more shards a set has


@dataclass
class FitProgress:
    """State of a running fit: `inrs` to make or quarantine, the tally of those done, notes for people."""

    inrs: int
    tally: Tally = field(default_factory=Tally)
    notes: list[str] = field(default_factory=list)

    @property
    def mean_psnr(self) -> float | None:
        return self.tally.psnr_sum / self.tally.good if self.tally.good else None


class ProgressRecorder:
    """Follows the shards of `tasks` until they are recorded in the set at `out`.

    `broken` are paths of existing files that are no shards of this set; `notes` are those of the first report.
    """

    def __init__(
        self,
        out: Location,
        manifest: Manifest,
        plan: ShardPlan,
        tasks: Sequence[ShardTask],
        broken: set[str],
        log: RunLog,
        on_progress: Callable[[FitProgress], None] | None,
        clock: Callable[[], float] = monotonic,
        notes: Sequence[str] = (),
    ) -> None:
        self.out, self.manifest, self.plan, self.on_progress = out, manifest, plan, on_progress
        self.tasks, self.broken, self.log, self.clock = list(tasks), broken, log, clock
        self.progress = FitProgress(sum(map(plan.num_objects, self.tasks)), notes=[*notes])
        self.tallies: dict[ShardTask, Tally] = {}
        self.made: list[ShardEntry] = []
        self.recorded = 0
        self.made_by_others: list[ShardTask] = []
        self.due = clock() + RECORD_SECONDS
        self.listener = Listener(self._on_tally, self._on_done, self._on_death)
        others = log.others()
        if others:  # in the same order, two runs would make the same shards all the time
            random.SystemRandom().shuffle(self.tasks)
            self.progress.notes.append(f"{', '.join(others)} also fits this set; each run skips what the other makes")
        self._publish()

    def pending_tasks(self) -> Iterator[ShardTask]:
        """The tasks; each is checked when a worker requests it, and skipped if another run made it meanwhile."""
        for task in self.tasks:
            if task.path in self.broken or file_size(self.out / task.path) is None:
                yield task
            else:
                self.made_by_others.append(task)
                self.progress.inrs -= self.plan.num_objects(task)

    def write_record(self) -> None:
        """Record the shards made since the last record."""
        started = self.clock()
        if self.recorded < len(self.made):
            self.manifest = update_manifest(self.out, self.manifest, self.made[self.recorded :])
            self.recorded = len(self.made)
        now = self.clock()
        self.due = now + max(RECORD_SECONDS, (now - started) / RECORD_SHARE)

    def finish(self) -> int:
        """Record everything, also shards of these tasks that another run made and has not recorded; returns their
        number."""
        recovered: list[ShardEntry] = []
        if self.made_by_others:
            known = {entry.path for entry in update_manifest(self.out, self.manifest).shards}
            unrecorded = [task for task in self.made_by_others if task.path not in known]
            recovered = recover_unrecorded_shards(self.out, unrecorded, self.manifest)
        self.manifest = record_until_visible(self.out, self.manifest, [*self.made, *recovered])
        self.recorded = len(self.made)
        return len(recovered)

    def _on_tally(self, task: ShardTask, tally: Tally) -> None:
        before = self.tallies.get(task, Tally())
        self.tallies[task] = tally
        self.progress.tally = self.progress.tally.plus(tally).minus(before)
        self._publish()

    def _publish(self) -> None:
        self.log.beat()
        if self.on_progress is not None:
            self.on_progress(self.progress)

    def _on_done(self, task: ShardTask, entry: ShardEntry) -> None:
        self.made.append(entry)
        mean = entry.psnr.mean if entry.psnr else 0.0
        steps = round((entry.mean_steps or 0) * entry.rows)
        self._on_tally(task, Tally(entry.rows + len(entry.quarantine), entry.rows, mean * entry.rows, steps))
        del self.tallies[task]
        if self.clock() >= self.due:
            self.write_record()

    def _on_death(self, task: ShardTask, reason: str) -> None:
        self.log.note("death", shard=task.path, reason=reason)
        self.progress.notes.append(f"a worker died at {task.path} ({reason}); its shard restarts")
        self._on_tally(task, Tally())


def recover_unrecorded_shards(out: Location, tasks: Sequence[ShardTask], manifest: Manifest) -> list[ShardEntry]:
    """Entries of valid shards on disk, as a run leaves them that was killed before it could record them."""
    spec, fingerprint = manifest.siren_spec, manifest.fingerprint
    entries = (find_valid_shard(out, (task.split, task.view, task.block), spec, fingerprint) for task in tasks)
    return [entry for entry in entries if entry is not None]
