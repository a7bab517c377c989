"""`status --watch`: how far the runs on a set are, seen from the set alone: rate, time left, quarantine, what is missing."""

from collections import deque
from dataclasses import asdict, dataclass
from time import monotonic, sleep
from typing import TYPE_CHECKING

from inr_factory.cli import terminal
from inr_factory.cli.progress_bars import SetProgress
from inr_factory.storage.locations import Location

if TYPE_CHECKING:
    from inr_factory.storage.manifest import Manifest

RATE_LOOKS = 60  # the rate is that of the last so many looks


@dataclass(frozen=True)
class Look:
    """What is in a set: INRs that are stored or in quarantine, of `inrs` in all; shards that are missing of `shards`.
    Rate and seconds are None where nothing was added lately."""

    done: int
    inrs: int
    quarantined: int
    missing: int
    shards: int
    inrs_per_second: float | None = None
    seconds_left: float | None = None


def watch_set(dataset: Location, every: float, as_json: bool) -> None:
    """Look at the manifest every so many seconds until no shard is missing: a bar on a terminal, lines in a log file,
    or a JSON object a look on stdout."""
    from inr_factory.storage.manifest_file import load_manifest

    looks: deque[tuple[float, int]] = deque(maxlen=RATE_LOOKS)
    with SetProgress(str(dataset)) as progress:
        while True:
            manifest = load_manifest(dataset)
            look = look_at(manifest, len(manifest.missing(dataset)), looks, monotonic())
            progress(look.done, look.inrs, look.inrs_per_second, look.seconds_left, _rest(look))
            if as_json:
                terminal.print_json(asdict(look), indent=None)
            if not look.missing:
                return
            sleep(every)


def look_at(manifest: "Manifest", missing: int, looks: deque[tuple[float, int]], now: float) -> Look:
    """A look at a set at the time `now`; `looks`, the (time, INRs done) of those before, is added to."""
    quarantined = len(manifest.quarantine)
    inrs = manifest.views * sum(counts.objects for counts in manifest.splits.values())
    shards = manifest.views * sum(counts.blocks for counts in manifest.splits.values())
    done = manifest.rows + quarantined
    looks.append((now, done))
    (since, before), rate = looks[0], None
    if done > before and now > since:
        rate = (done - before) / (now - since)
    left = (inrs - done) / rate if rate else None
    return Look(done, inrs, quarantined, missing, shards, rate and round(rate, 3), left and round(left, 1))


def _rest(look: Look) -> str:
    return f"{look.missing:,} of {look.shards:,} shards missing, {look.quarantined:,} in quarantine"
