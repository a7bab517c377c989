"""Summary: what a set is and how it was made, in words and numbers, as its record and its logs say."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from inr_factory.storage.manifest import SPLITS, Manifest, ShardEntry
from inr_factory.storage.run_log import LOG_FOLDER

MOST_RUNS = 12


@dataclass(frozen=True)
class SplitSummary:
    """One view of one split: shards that are there of those there should be, INRs, dB, what is in quarantine."""

    split: str
    view: int
    shards: int
    of: int
    inrs: int
    median_psnr: float | None
    lowest_psnr: float | None
    quarantined: int


def parts(manifest: Manifest, present: Sequence[ShardEntry]) -> list[SplitSummary]:
    found = []
    for split in (split for split in SPLITS if split in manifest.splits):
        for view in range(manifest.views):
            entries = [entry for entry in present if (entry.split, entry.view) == (split, view)]
            levels = [entry.psnr for entry in entries if entry.psnr]
            middle = median(level.median for level in levels) if levels else None
            lowest = min((level.min for level in levels), default=None)
            bad = sum(len(entry.quarantine) for entry in entries)
            of = manifest.splits[split].blocks
            found.append(SplitSummary(split, view, len(entries), of, sum(e.rows for e in entries), middle, lowest, bad))
    return found


@dataclass(frozen=True)
class RunSummary:
    """One run of `fit` on the set by its log; `seconds` and `made` are None of one that did not come to its end."""

    began: str
    how: str
    made: int | None
    seconds: float | None
    ending: str


def read_runs(root: Path) -> list[RunSummary]:
    """The runs of which the set keeps logs, the first first. Logs are for people and may be cut short: what cannot be
    read of them is left out."""
    found = []
    for path in sorted((root / LOG_FOLDER).glob("*.log")):
        lines = list(_lines(path))
        starts = [line for line in lines if line.get("event") == "start"]
        if not starts:
            continue
        start, end = starts[0], next((line for line in lines if line.get("event") == "end"), {})
        workers = start.get("workers")
        how = [
            start.get("backend"),
            start.get("device"),
            f"{workers} {'worker' if workers == 1 else 'workers'}" if workers else None,
        ]
        deaths = sum(line.get("event") == "death" for line in lines)
        how += [f"{deaths} workers died" if deaths else None]
        made, seconds = end.get("made"), end.get("seconds")
        found.append(
            RunSummary(
                str(start.get("time", ""))[:16].replace("T", " "),
                ", ".join(str(each) for each in how if each),
                made if isinstance(made, int) else None,
                float(seconds) if isinstance(seconds, int | float) else None,
                str(end.get("ending", "no end recorded")),
            )
        )
    return found


def _lines(path: Path) -> Iterable[dict[str, Any]]:
    try:
        for line in path.read_text(encoding="utf-8").splitlines()[:10_000]:
            fields = json.loads(line)
            if isinstance(fields, dict):
                yield fields
    except (OSError, ValueError):
        return


def inrs_per_second(runs: Sequence[RunSummary], manifest: Manifest) -> float | None:
    """INRs a second of wall clock over all runs, where their logs stand for every shard; else None."""
    made = sum(run.made or 0 for run in runs)
    seconds = sum(run.seconds or 0.0 for run in runs)
    whole = all(run.seconds is not None for run in runs)
    return manifest.rows / seconds if whole and seconds > 0 and made == len(manifest.shards) else None


def settings(manifest: Manifest, section: str) -> list[tuple[str, str]]:
    """The recipe's settings of "fit" or "source" that are not left open, but for bounds of what is read, as words."""
    fields = manifest.recipe.get(section)
    shown = {name: value for name, value in fields.items() if value is not None} if isinstance(fields, dict) else {}
    bounds = ("collection", "max_pixels", "max_points", "max_bytes", "max_faces")
    return [
        (name, json.dumps(value) if isinstance(value, list | dict) else str(value))
        for name, value in shown.items()
        if name not in bounds
    ]
