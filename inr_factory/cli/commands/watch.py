"""`status --watch`: progress of the runs on a set, from its manifest: rate, time left, quarantine, missing shards."""

from dataclasses import asdict, dataclass
from time import monotonic, sleep
from typing import TYPE_CHECKING

from inr_factory.cli import terminal
from inr_factory.cli.pace import Pace
from inr_factory.cli.progress_bars import SetProgress
from inr_factory.storage.locations import Location

if TYPE_CHECKING:
    from inr_factory.storage.manifest import Manifest


@dataclass(frozen=True)
class Snapshot:
    """INRs of a set that are stored or in quarantine, of `inrs` in total; missing shards, of `shards` in total.

    Rate and seconds are None where nothing was added lately, or not enough yet to tell.
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

    pace: Pace | None = None
    with SetProgress(str(dataset)) as progress:
        while True:
            manifest = load_manifest(dataset)
            pace = pace or Pace(from_start=manifest.rows == 0)
            snapshot = take_snapshot(manifest, len(manifest.missing(dataset)), pace, monotonic())
            progress(snapshot.done, snapshot.inrs, snapshot.inrs_per_second, snapshot.seconds_left, _rest(snapshot))
            if as_json:
                terminal.print_json(asdict(snapshot), indent=None)
            if not snapshot.missing:
                return
            sleep(every)


def take_snapshot(manifest: "Manifest", missing: int, pace: Pace, now: float) -> Snapshot:
    """A snapshot at the time `now`. `pace` knows those before, and follows this one."""
    quarantined = len(manifest.quarantine)
    inrs = manifest.views * sum(counts.objects for counts in manifest.splits.values())
    shards = manifest.views * sum(counts.blocks for counts in manifest.splits.values())
    done = manifest.rows + quarantined
    pace.add(now, done)
    rate, left = pace.rate(now), pace.seconds_left(now, inrs)
    return Snapshot(done, inrs, quarantined, missing, shards, rate and round(rate, 3), left and round(left, 1))


def _rest(snapshot: Snapshot) -> str:
    return f"{snapshot.missing:,} of {snapshot.shards:,} shards missing, {snapshot.quarantined:,} in quarantine"
