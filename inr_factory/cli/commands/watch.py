"""`status --watch`: progress of the runs on a set, from its manifest: rate, time left, quarantine, missing shards."""

from collections import deque
from dataclasses import asdict, dataclass
from time import monotonic, sleep
from typing import TYPE_CHECKING

from inr_factory.cli import terminal
from inr_factory.cli.progress_bars import SetProgress
from inr_factory.storage.locations import Location

if TYPE_CHECKING:
    from inr_factory.storage.manifest import Manifest

RATE_SNAPSHOTS = 60  # over which the rate is measured


@dataclass(frozen=True)
class Snapshot:
    """INRs of a set that are stored or in quarantine, of `inrs` in total; missing shards, of `shards` in total.

    Rate and seconds are None where nothing was added lately.
    """

    done: int
    inrs: int
    quarantined: int
    missing: int
    shards: int
    inrs_per_second: float | None = None
    seconds_left: float | None = None


def watch_set(dataset: Location, every: float, as_json: bool) -> None:
    """Read the manifest every `every` seconds until no shard is missing: a bar on a terminal, lines in a log file, or
    JSON objects on stdout."""
    from inr_factory.storage.manifest_file import load_manifest

    snapshots: deque[tuple[float, int]] = deque(maxlen=RATE_SNAPSHOTS)
    with SetProgress(str(dataset)) as progress:
        while True:
            manifest = load_manifest(dataset)
            snapshot = take_snapshot(manifest, len(manifest.missing(dataset)), snapshots, monotonic())
            progress(snapshot.done, snapshot.inrs, snapshot.inrs_per_second, snapshot.seconds_left, _rest(snapshot))
            if as_json:
                terminal.print_json(asdict(snapshot), indent=None)
            if not snapshot.missing:
                return
            sleep(every)


def take_snapshot(manifest: "Manifest", missing: int, snapshots: deque[tuple[float, int]], now: float) -> Snapshot:
    """A snapshot at the time `now`. `snapshots` has the (time, INRs done) of those before; this one is appended."""
    quarantined = len(manifest.quarantine)
    inrs = manifest.views * sum(counts.objects for counts in manifest.splits.values())
    shards = manifest.views * sum(counts.blocks for counts in manifest.splits.values())
    done = manifest.rows + quarantined
    snapshots.append((now, done))
    (since, before), rate = snapshots[0], None
    if done > before and now > since:
        rate = (done - before) / (now - since)
    left = (inrs - done) / rate if rate else None
    return Snapshot(done, inrs, quarantined, missing, shards, rate and round(rate, 3), left and round(left, 1))


def _rest(snapshot: Snapshot) -> str:
    return f"{snapshot.missing:,} of {snapshot.shards:,} shards missing, {snapshot.quarantined:,} in quarantine"
