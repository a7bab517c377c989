"""Run settings: how and where a fit runs, and its report. Without torch."""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from inr_factory.errors import UsageError
from inr_factory.generation.recipe import Recipe
from inr_factory.storage.dataset_card import NO_CARD, CardReport
from inr_factory.storage.locations import Location, parse_location
from inr_factory.storage.manifest import Manifest, Quarantined, Remark, ShardEntry, group_by_reason

Backend = Literal["auto", "ray", "local"]
DEVICES = r"auto|cpu|cuda(:[0-9]{1,3})?"


@dataclass(frozen=True)
class FitSettings:
    """How and where to run; `fit_dataset` explains each. Only the kind of device has an influence on the shards.

    `part` (i, n) is `shard="i/n"`.
    """

    data_root: Location | None = None
    backend: Backend = "auto"
    workers: int | None = None
    address: str | None = None
    device: str = "auto"
    part: tuple[int, int] = (0, 1)

    @property
    def remote(self) -> bool:
        """Whether a Ray cluster at an address makes the shards."""
        return self.backend != "local" and cluster_address(self.address) is not None

    @classmethod
    def checked(
        cls,
        *,
        workers: int | None = None,
        backend: str = "auto",
        address: str | None = None,
        device: str = "auto",
        shard: str = "0/1",
        data_root: str | Path | Location | None = None,
    ) -> "FitSettings":
        """Settings from the keyword arguments of a public function; raises UsageError for a wrong one."""
        if backend not in get_args(Backend):
            raise UsageError(f"--backend must be auto, ray or local, got {backend!r}")
        if not re.fullmatch(DEVICES, str(device)):
            raise UsageError(f"--device must be auto, cpu, cuda or cuda:N, got {str(device)!r}")
        if backend == "ray" and str(device).startswith("cuda:"):
            raise UsageError(f"--device {device} names one GPU, which needs --backend local; got --backend ray")
        if workers is not None and (not isinstance(workers, int) or workers < 1):
            raise UsageError(f"--workers must be at least 1, got {workers!r}")
        root = None if data_root is None else parse_location(data_root)
        return cls(root, backend, workers, address, str(device), _parse_part(shard))  # type: ignore[arg-type]


def cluster_address(given: str | None) -> str | None:
    """The address of a running Ray cluster, else $RAY_ADDRESS; None where Ray is to be started, which Ray calls local."""
    address = (given or os.environ.get("RAY_ADDRESS") or "local").strip()
    return None if address in ("", "local") else address


def _parse_part(text: Any) -> tuple[int, int]:
    number, slash, parts = str(text).partition("/")
    if not (slash and number.isdecimal() and parts.isdecimal()):
        raise UsageError(f"--shard takes i/n, for example 0/4 to 3/4, got {text!r}")
    if int(number) >= int(parts):
        raise UsageError(f"--shard i/n counts from 0 to n - 1, got {text}")
    return int(number), int(parts)


@dataclass(frozen=True)
class FitReport:
    """What a fit did.

    Attributes:
        recipe: with all settings.
        out: folder or store of the set.
        manifest: of the set as it is now.
        made: shards made.
        recovered: valid shards that were on disk without a record, and are recorded now.
        missing: shards of the requested views that are still missing.
        inrs: INRs made or quarantined.
        seconds: duration.
        card: files of the dataset card that were written, or kept because a user edited them.
        made_by: shards made on a GPU by what fitted them, such as "fused on cuda".
        notes: what a user should know about the set, a line each.
    """

    recipe: Recipe = field(repr=False)
    out: Location
    manifest: Manifest = field(repr=False)
    made: int
    recovered: int
    missing: int
    inrs: int
    seconds: float
    card: CardReport = NO_CARD
    made_by: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def entries(self) -> list[ShardEntry]:
        """The recorded shards of the requested views."""
        return [entry for entry in self.manifest.shards if entry.view < self.recipe.views]

    @property
    def remarks(self) -> list[Remark]:
        """What is odd about INRs of the requested views, such as constant signals, shard by shard."""
        return [remark for entry in self.entries for remark in entry.remarks]

    @property
    def quarantined(self) -> list[Quarantined]:
        """Objects of the requested views without an INR, with the reason."""
        return [row for entry in self.entries for row in entry.quarantine]

    @property
    def quarantine_share(self) -> float:
        """Share of the requested INRs that are quarantined, in [0, 1]."""
        quarantined = len(self.quarantined)
        return quarantined / max(1, quarantined + sum(entry.rows for entry in self.entries))

    @property
    def quarantine_excess(self) -> str | None:
        """The sentence that more is in quarantine than `quarantine_threshold` allows, with the commonest reason; or None."""
        threshold = self.recipe.quarantine_threshold
        if self.quarantine_share <= threshold:
            return None
        kind = group_by_reason(self.quarantined)[0]
        return (
            f"{self.quarantine_share:.1%} of the INRs are in quarantine, above quarantine_threshold {threshold:.1%}; the "
            f"reason of {len(kind):,} of {len(self.quarantined):,}, as of {kind[0].object_id}: {kind[0].reason}"
        )
