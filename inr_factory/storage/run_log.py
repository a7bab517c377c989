"""Run log: one small file for each run on a set: when and how it started, which workers died, how it ended.

DATASET/logs/TIME-HOST-PID.log holds one JSON object a line. People read it, and runs find one another by it. Nothing in
a set depends on it, and it may be removed at any time.
"""

import contextlib
import json
import os
import re
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any

from inr_factory.errors import redact
from inr_factory.inr.plain_json import parse_json_object
from inr_factory.inr.regular_files import read_regular
from inr_factory.storage.atomic_files import writer_alive, writer_name
from inr_factory.storage.locations import Location, RemoteLocation
from inr_factory.storage.manifest import check_inside

LOG_FOLDER = "logs"
BEAT_SECONDS = 10.0
MAX_LOG_BYTES = 2**26
SILENT_SECONDS = 60.0  # a run without a heartbeat for this time counts as dead


class RunLog:
    """The log of this run on the set in folder root.

    Args:
        root: the set's folder, or its location in a store.
        part: (i, n), the part of the shards that this run makes.
        facts: how it runs: workers, device, versions.
    """

    def __init__(self, root: Location, part: tuple[int, int], **facts: Any) -> None:
        now = datetime.now(UTC)
        check_inside(root, root / LOG_FOLDER)
        self.path = root / LOG_FOLDER / f"{now:%Y%m%dT%H%M%S.%f}Z-{writer_name()}.log"
        self.part = part
        self.due = 0.0
        self.lines: list[str] = []
        self.note("start", part=list(part), **facts)

    def note(self, event: str, **facts: Any) -> None:
        """Add a line. Where that fails, for instance on a full disk, the run continues and reports the disk itself."""
        line = json.dumps({"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event, **facts})
        line = redact(line)
        with contextlib.suppress(OSError):
            if isinstance(self.path, RemoteLocation):  # stores cannot append to a file
                self.lines.append(line)
                self.path.write_bytes("".join(f"{each}\n" for each in self.lines).encode())
                return
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(line + "\n")

    def beat(self) -> None:
        """Set the file's modification time, at most every ten seconds, as the heartbeat of this run."""
        if isinstance(self.path, Path) and monotonic() >= self.due:
            self.due = monotonic() + BEAT_SECONDS
            with contextlib.suppress(OSError):  # it may be removed
                os.utime(self.path)

    def others(self) -> list[str]:
        """Names HOST-PID of other runs on the same part of the set that are alive by their logs; none for stores."""
        if isinstance(self.path, RemoteLocation):
            return []
        with contextlib.suppress(OSError):
            os.utime(self.path)
            now = self.path.stat().st_mtime  # by the clock of the file system, which is the same for all
            return [name for path in self.path.parent.glob("*.log") if (name := self._alive_run(path, now))]
        return []

    def _alive_run(self, path: Path, now: float) -> str | None:
        name = re.fullmatch(r"[0-9T.]+Z-(\w+-\d{1,9})", path.stem)
        if path == self.path or name is None or writer_alive(name[1]) is False:
            return None
        try:
            if now - path.stat().st_mtime > SILENT_SECONDS:
                return None
            lines = read_log(path)
        except (OSError, ValueError):
            return None
        same = bool(lines) and lines[0].get("part") == list(self.part)
        return name[1] if same and lines[-1].get("event") != "end" else None


def read_log(path: Path) -> list[dict[str, Any]]:
    """The lines of a log, without those that are torn. Raises OSError or ValueError where it cannot be read."""
    lines = []
    for line in read_regular(path, MAX_LOG_BYTES).splitlines():
        with contextlib.suppress(ValueError):
            lines.append(parse_json_object(line))
    return lines
