"""Run log: a small file for each run on a set: when it began and how, what died, how it ended.

DATASET/logs/TIME-HOST-PID.log, one JSON object a line. It is for people, and for runs to see one another; nothing in a
set hangs on it, and it may be removed at any time.
"""

import contextlib
import json
import os
import re
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any

from inr_factory.storage.atomic_files import writer_alive, writer_name
from inr_factory.storage.locations import Location, RemoteLocation

LOG_FOLDER = "logs"
BEAT_SECONDS = 10.0
SILENT_SECONDS = 60.0  # a run that was not heard for so long is taken for dead


class RunLog:
    """The log of this run on the set in folder root. `facts` say how it runs, `part` which of its shards."""

    def __init__(self, root: Location, part: tuple[int, int], **facts: Any) -> None:
        now = datetime.now(UTC)
        self.path = root / LOG_FOLDER / f"{now:%Y%m%dT%H%M%S.%f}Z-{writer_name()}.log"
        self.part = part
        self.due = 0.0
        self.lines: list[str] = []
        self.note("start", part=list(part), **facts)

    def note(self, event: str, **facts: Any) -> None:
        """Add a line. Where that fails, on a full disk for instance, the run goes on: it tells of the disk itself."""
        line = json.dumps({"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event, **facts})
        with contextlib.suppress(OSError):
            if isinstance(self.path, RemoteLocation):  # a store has no way to add to a file
                self.lines.append(line)
                self.path.write_bytes("".join(f"{each}\n" for each in self.lines).encode())
                return
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(line + "\n")

    def beat(self) -> None:
        """Say, at most every ten seconds, that this run is still at work: the file's time of change says it."""
        if isinstance(self.path, Path) and monotonic() >= self.due:
            self.due = monotonic() + BEAT_SECONDS
            with contextlib.suppress(OSError):  # it may be removed
                os.utime(self.path)

    def others(self) -> list[str]:
        """Names HOST-PID of other runs that are at work on the same part of the set now, by their logs; of a store none."""
        if isinstance(self.path, RemoteLocation):
            return []
        with contextlib.suppress(OSError):
            os.utime(self.path)
            now = self.path.stat().st_mtime  # by the clock of the file system, which is the same for all
            return [name for path in self.path.parent.glob("*.log") if (name := self._at_work(path, now))]
        return []

    def _at_work(self, path: Path, now: float) -> str | None:
        name = re.fullmatch(r"[0-9T.]+Z-(\w+-\d{1,9})", path.stem)
        if path == self.path or name is None or writer_alive(name[1]) is False:
            return None
        try:
            if now - path.stat().st_mtime > SILENT_SECONDS:
                return None
            lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        except (OSError, ValueError):
            return None
        same = bool(lines) and lines[0].get("part") == list(self.part)
        return name[1] if same and lines[-1].get("event") != "end" else None
