"""Status: what a set holds, and which of its shards are missing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from inr_factory.storage.fetch_dataset import dataset_location
from inr_factory.storage.locations import RemoteLocation
from inr_factory.storage.manifest import SPLITS, Manifest, ShardEntry
from inr_factory.storage.manifest_file import load_manifest
from inr_factory.storage.source_place import continue_command


@dataclass(frozen=True)
class SplitSummary:
    """One view of one split.

    `shards` exist of `expected_shards`; PSNRs are in dB, None without an INR; `quality` has medians of other measures.
    """

    split: str
    view: int
    shards: int
    expected_shards: int
    inrs: int
    median_psnr: float | None
    lowest_psnr: float | None
    quarantined: int
    quality: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class StatusReport:
    """The contents of a set: its manifest, one summary for each view of each split, the paths of missing shards, and the
    command that makes them or extends the set."""

    manifest: Manifest
    parts: tuple[SplitSummary, ...]
    missing: tuple[str, ...]
    command: str = ""

    @property
    def bytes(self) -> int:
        return sum(entry.bytes for entry in self.manifest.shards)


def dataset_status(dataset: str | Path | RemoteLocation) -> StatusReport:
    """Summarize what a data set holds and what is missing.

    Args:
        dataset: folder or URL of the set.

    Returns:
        Counts and quality by split and view, and the missing shards.

    Raises:
        UsageError: for a location without a set.
        IntegrityError: for a manifest that is damaged.
    """
    from inr_factory.generation.maintenance.integrity_check import median_quality

    location = dataset_location(dataset)
    manifest = load_manifest(location)
    missing = set(manifest.missing(location))
    present = [entry for entry in manifest.shards if entry.path not in missing]
    parts = summarize_splits(manifest, present)
    for index, part in enumerate(parts):
        entries = [entry for entry in present if (entry.split, entry.view) == (part.split, part.view)]
        parts[index] = SplitSummary(**{**vars(part), "quality": median_quality(location, entries)})
    command = continue_command(location, manifest, bool(missing))
    return StatusReport(manifest, tuple(parts), tuple(sorted(missing)), command)


def summarize_splits(manifest: Manifest, present: Sequence[ShardEntry]) -> list[SplitSummary]:
    """A summary for each view of each split, views first, from the shards that exist."""
    summaries = []
    for view in range(manifest.views):
        for split in (split for split in SPLITS if split in manifest.splits):
            entries = [entry for entry in present if (entry.split, entry.view) == (split, view)]
            levels = [entry.psnr for entry in entries if entry.psnr]
            summaries.append(
                SplitSummary(
                    split, view, len(entries), manifest.splits[split].blocks, sum(entry.rows for entry in entries),
                    median(level.median for level in levels) if levels else None,
                    min((level.min for level in levels), default=None),
                    sum(len(entry.quarantine) for entry in entries),
                )
            )  # fmt: skip
    return summaries
