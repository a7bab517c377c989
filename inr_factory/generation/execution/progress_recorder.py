"""Ledger: what a run of the factory still has to make; hears from its workers, tells how far they are, and records."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from time import monotonic

from inr_factory.generation.execution.local_pool import Listener
from inr_factory.generation.execution.shard_plan import Plan, ShardTask
from inr_factory.generation.fitting.tally import Tally
from inr_factory.storage.locations import Location
from inr_factory.storage.manifest import Manifest, ShardEntry, file_size
from inr_factory.storage.manifest_file import record_until_visible, update_manifest
from inr_factory.storage.run_log import RunLog
from inr_factory.storage.shards import whole_shard

RECORD_SECONDS = 1.0
RECORD_SHARE = 0.02  # of a run's time, at most, goes into records: they take longer the more shards a set has


@dataclass
class Progress:
    """How far a run is: `inrs` to make or put in quarantine, what is done of them, and what people should know."""

    inrs: int
    tally: Tally = field(default_factory=Tally)
    notes: list[str] = field(default_factory=list)

    @property
    def mean_psnr(self) -> float | None:
        return self.tally.psnr_sum / self.tally.good if self.tally.good else None


class Ledger:
    """The shards of `tasks` on their way into the set in folder out. `broken` are paths where a file lies already that
    is no shard of this set."""

    def __init__(
        self,
        out: Location,
        manifest: Manifest,
        plan: Plan,
        tasks: Sequence[ShardTask],
        broken: set[str],
        log: RunLog,
        on_progress: Callable[[Progress], None] | None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.out, self.manifest, self.plan, self.on_progress = out, manifest, plan, on_progress
        self.tasks, self.broken, self.log, self.clock = list(tasks), broken, log, clock
        self.progress = Progress(sum(map(self._inrs, self.tasks)))
        self.so_far: dict[ShardTask, Tally] = {}
        self.made: list[ShardEntry] = []
        self.recorded = 0
        self.elsewhere: list[ShardTask] = []
        self.due = clock() + RECORD_SECONDS
        self.listener = Listener(self._hear, self._done, self._death)
        others = log.others()
        if others:  # in the same order, two would be at the same shard all the time
            random.SystemRandom().shuffle(self.tasks)
            self.progress.notes.append(
                f"{', '.join(others)} is at work on this set, too; what one makes the other leaves out"
            )
        self._hear_all()

    def todo(self) -> Iterator[ShardTask]:
        """The tasks, each looked at when a worker asks for one: what another run has made meanwhile is left out."""
        for task in self.tasks:
            if task.path in self.broken or file_size(self.out / task.path) is None:
                yield task
            else:
                self.elsewhere.append(task)
                self.progress.inrs -= self._inrs(task)

    def write_record(self) -> None:
        """Record what was made since the last time."""
        started = self.clock()
        if self.recorded < len(self.made):
            self.manifest = update_manifest(self.out, self.manifest, self.made[self.recorded :])
            self.recorded = len(self.made)
        now = self.clock()
        self.due = now + max(RECORD_SECONDS, (now - started) / RECORD_SHARE)

    def finish(self) -> int:
        """Record all for good, also what another run made of these tasks and has not recorded; how many of those."""
        self.manifest = update_manifest(self.out, self.manifest)
        known = {entry.path for entry in self.manifest.shards}
        left = [task for task in self.elsewhere if task.path not in known]
        adopted = [entry for task in left if (entry := adopt(self.out, task, self.manifest)) is not None]
        self.manifest = record_until_visible(self.out, self.manifest, [*self.made, *adopted])
        self.recorded = len(self.made)
        return len(adopted)

    def _inrs(self, task: ShardTask) -> int:
        return len(self.plan.blocks[task.split][task.block])

    def _hear(self, task: ShardTask, tally: Tally) -> None:
        before = self.so_far.get(task, Tally())
        self.so_far[task] = tally
        self.progress.tally = self.progress.tally.plus(tally).minus(before)
        self._hear_all()

    def _hear_all(self) -> None:
        self.log.beat()
        if self.on_progress is not None:
            self.on_progress(self.progress)

    def _done(self, task: ShardTask, entry: ShardEntry) -> None:
        self.made.append(entry)
        mean = entry.psnr.mean if entry.psnr else 0.0
        steps = round((entry.mean_steps or 0) * entry.rows)
        self._hear(task, Tally(entry.rows + len(entry.quarantine), entry.rows, mean * entry.rows, steps))
        del self.so_far[task]
        if self.clock() >= self.due:
            self.write_record()

    def _death(self, task: ShardTask, reason: str) -> None:
        self.log.note("death", shard=task.path, reason=reason)
        self.progress.notes.append(f"a worker died at {task.path} ({reason}); its shard begins anew")
        self._hear(task, Tally())


def adopt(out: Location, task: ShardTask, manifest: Manifest) -> ShardEntry | None:
    """The entry of a shard that lies there whole, as a run leaves it that was killed before it could record it."""
    key = (task.split, task.view, task.block)
    return whole_shard(out, key, manifest.siren_spec, manifest.fingerprint)
