"""Pool: the folder by which a trainer and its fitters agree on what to fit, and where fitted shards lie.

Shards are ordinary files, complete or not there: the trainer maps them into memory, so that weights are in the page cache
once for all processes. Fitters may be on other machines that see the folder.
"""

import contextlib
import json
import os
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inr_factory.errors import FactoryError, IntegrityError, ResourceError, UsageError, one_line
from inr_factory.storage.atomic_files import make_folder, write_atomically
from inr_factory.storage.manifest import SHARD_FOLDER, shard_path
from inr_factory.streaming.schedule import Shard

DEMAND, ERROR, JOB, CLAIMS, REPORTS = "demand.json", "error.json", "job.pickle", "claims", "reports"
STALE_SECONDS = 30.0  # after which a claim without a sign of life is another fitter's to take
ERRORS = {kind.__name__: kind for kind in (UsageError, IntegrityError, ResourceError)}


@dataclass(frozen=True)
class Demand:
    """What a trainer asks for.

    Attributes:
        epoch: The epoch that it is in.
        arrived: How many fresh shards it has had in each epoch so far.
        shards: What to fit, in the order of need.
        closed: Whether it has ended.
    """

    epoch: int
    arrived: tuple[int, ...]
    shards: tuple[Shard, ...]
    closed: bool = False


@dataclass(frozen=True)
class Pool:
    """The folder of the agreement, and that of the shards, which is a set's where they are kept."""

    folder: Path
    shards: Path

    def create(self) -> None:
        """Make the folders. What a fitter of an earlier run failed of is forgotten."""
        for folder in (self.folder / CLAIMS, self.folder / REPORTS, self.shards / SHARD_FOLDER):
            make_folder(folder)
        (self.folder / ERROR).unlink(missing_ok=True)
        for report in (self.folder / REPORTS).iterdir():
            report.unlink(missing_ok=True)

    def path(self, shard: Shard) -> Path:
        view, block = shard
        return self.shards / shard_path("train", view, block)

    def publish(self, demand: Demand) -> None:
        write_atomically(self.folder / DEMAND, json.dumps(vars(demand)).encode())

    def demand(self) -> Demand | None:
        """The latest demand; None before the first, and where the folder is gone."""
        try:
            fields: dict[str, Any] = json.loads((self.folder / DEMAND).read_bytes())
        except FileNotFoundError:
            return None
        shards = tuple((view, block) for view, block in fields["shards"])
        return Demand(fields["epoch"], tuple(fields["arrived"]), shards, fields["closed"])

    def claim(self, shard: Shard) -> "Claim | None":
        """Take a shard that is not there yet and that no other fitter makes; None if it is not to be had.

        That a shard is made twice does no harm: both files have the same bytes.
        """
        if self.path(shard).exists():
            return None
        claim = Claim(self.folder / CLAIMS / f"{shard[0]}-{shard[1]}")
        return claim if claim.take() else None

    def report(self, name: str, figures: Mapping[str, float]) -> None:
        """Store what a fitter has done so far."""
        write_atomically(self.folder / REPORTS / f"{name}.json", json.dumps(figures).encode())

    def reports(self) -> list[dict[str, float]]:
        """What each fitter has done so far."""
        found = []
        for path in sorted((self.folder / REPORTS).glob("*.json")):
            with contextlib.suppress(FileNotFoundError, ValueError):
                found.append(json.loads(path.read_bytes()))
        return found

    def fail(self, error: BaseException) -> None:
        """Tell the trainer that fits cannot go further."""
        kind = type(error).__name__ if type(error).__name__ in ERRORS else "FactoryError"
        with contextlib.suppress(OSError):
            write_atomically(self.folder / ERROR, json.dumps({"kind": kind, "message": one_line(error)}).encode())

    def raise_failure(self) -> None:
        """Raise what a fitter failed of."""
        with contextlib.suppress(FileNotFoundError):
            said = json.loads((self.folder / ERROR).read_bytes())
            raise ERRORS.get(said["kind"], FactoryError)(f"fresh views cannot be fitted: {said['message']}")

    def fresh_shards(self) -> Sequence[tuple[Path, Shard]]:
        """The shards of training that lie there."""
        found = []
        for path in (self.shards / SHARD_FOLDER).glob("train-view*-*.h5"):
            view, block = path.stem.removeprefix("train-view").split("-")
            found.append((path, (int(view), int(block))))
        return found


class Claim:
    """A file by which a fitter says that it makes a shard."""

    def __init__(self, path: Path) -> None:
        self.path, self.owner, self._beat = path, f"{socket.gethostname()} {os.getpid()}", 0.0

    def take(self) -> bool:
        """Whether the shard is this fitter's: nobody has it, or who had it has died."""
        for _ in range(2):
            try:
                descriptor = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
            except FileExistsError:
                if not self._is_dead():
                    return False
                self.path.unlink(missing_ok=True)
            else:
                os.write(descriptor, self.owner.encode())
                os.close(descriptor)
                return True
        return False

    def beat(self, *_: object) -> None:
        """Say that the shard is still being made."""
        if (now := time.monotonic()) - self._beat > STALE_SECONDS / 10:
            self._beat = now
            with contextlib.suppress(OSError):
                os.utime(self.path)

    def release(self) -> None:
        self.path.unlink(missing_ok=True)

    def _is_dead(self) -> bool:
        try:
            if time.time() - self.path.stat().st_mtime > STALE_SECONDS:
                return True
            host, _, number = self.path.read_text().partition(" ")
        except FileNotFoundError:
            return True
        if host != socket.gethostname() or not number.isdigit():
            return False
        try:
            os.kill(int(number), 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            pass  # it is another user's
        return False
