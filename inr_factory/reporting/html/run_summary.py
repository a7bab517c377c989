"""Run summary: the runs that made a set, from its logs, and the settings of its recipe."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inr_factory.errors import blame_machine, brief
from inr_factory.storage.manifest import Manifest
from inr_factory.storage.run_log import LOG_FOLDER, read_log

MOST_RUNS = 12


@dataclass(frozen=True)
class RunSummary:
    """One run of `fit` on the set by its log; `seconds` and `made` are None for a run that did not end."""

    began: str
    how: str
    made: int | None
    seconds: float | None
    ending: str


def read_runs(root: Path) -> list[RunSummary]:
    """The runs that have logs, in order. Logs may be cut short: what cannot be read is left out."""
    runs = []
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
        runs.append(
            RunSummary(
                str(start.get("time", ""))[:16].replace("T", " "),
                ", ".join(str(each) for each in how if each),
                made if isinstance(made, int) else None,
                float(seconds) if isinstance(seconds, int | float) else None,
                str(end.get("ending", "no end recorded")),
            )
        )
    return runs


def _lines(path: Path) -> Iterable[dict[str, Any]]:
    try:
        return read_log(path)[:10_000]
    except (OSError, ValueError) as error:
        blame_machine(error, path)
        return []


def inrs_per_second(runs: Sequence[RunSummary], manifest: Manifest) -> float | None:
    """INRs per second of wall clock over all runs; None where their logs do not cover every shard."""
    made = sum(run.made or 0 for run in runs)
    seconds = sum(run.seconds or 0.0 for run in runs)
    all_ended = all(run.seconds is not None for run in runs)
    return manifest.rows / seconds if all_ended and seconds > 0 and made == len(manifest.shards) else None


def settings(manifest: Manifest, section: str) -> list[tuple[str, str]]:
    """The recipe's settings of "fit" or "source" that are not None, without limits of what is read, as text."""
    fields = manifest.recipe.get(section)
    given = {name: value for name, value in fields.items() if value is not None} if isinstance(fields, dict) else {}
    bounds = ("collection", "max_pixels", "max_points", "max_bytes", "max_faces")
    return [
        (name, json.dumps(value) if isinstance(value, list | dict) else brief(str(value)))
        for name, value in given.items()
        if name not in bounds
    ]
