"""Aligned copies of sets: the same functions, with the neurons of all INRs brought to those of one template."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from inr_factory.errors import UsageError, did_you_mean
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.stable_hash import fingerprint
from inr_factory.learning.alignment.weight_matching import Match, align, check_match, relative_distance
from inr_factory.learning.data.derived_dataset import Columns, derive_dataset
from inr_factory.storage.fetch_dataset import fetch_dataset
from inr_factory.storage.manifest import Manifest, ShardEntry
from inr_factory.storage.manifest_file import load_manifest
from inr_factory.storage.shards import ShardReader


@dataclass(frozen=True)
class AlignReport:
    """What `align_dataset` did.

    Attributes:
        manifest: The manifest of the copy.
        made: How many shards were written.
        before: Mean relative distance from the template before, over the shards written.
        after: The same after.
    """

    manifest: Manifest
    made: int
    before: float
    after: float


def align_dataset(
    dataset: str | os.PathLike[str],
    out: str | os.PathLike[str],
    match: Match | None = None,
    template: str | None = None,
    *,
    on_shard: Callable[[ShardEntry], None] | None = None,
) -> AlignReport:
    """Store a copy of a set whose INRs are aligned to one of them: the same functions, closer weights.

    Shards that the copy has already stay as they are, so that an interrupted copy, or a set with more views since, is
    completed.

    Args:
        dataset: Folder or URL of the set.
        out: Folder of the copy.
        match: "permutation", "signed", "phase" or "scale", see `align`; by default "scale" for ReLU INRs, "signed" for
            others.
        template: An object's name, of its first view, or NAME@VIEW; else the first INR of the set.
        on_shard: Called with each shard that was written.

    Returns:
        The report.

    Raises:
        UsageError: For an unknown template or match, or an `out` that holds something else.
        IntegrityError: For a shard that is not as recorded.
    """
    root = fetch_dataset(dataset)
    manifest = load_manifest(root)
    fixed, name = find_template(root, manifest, template)
    if match is None:
        match = "scale" if fixed.spec.activation == "relu" else "signed"
    check_match(match, fixed)
    how = f"match={match},template={name}"
    digest = fingerprint(f"{manifest.fingerprint} align {how}", fixed.flatten().numpy())
    distances: list[Tensor] = []

    def change(inrs: INRBatch, columns: Columns, entry: ShardEntry) -> tuple[INRBatch, Columns]:
        aligned = align(inrs, fixed, match)
        distances.append(torch.stack([relative_distance(inrs, fixed), relative_distance(aligned, fixed)]))
        return aligned, columns

    copy = derive_dataset(root, out, f"align:{how}", digest, change, on_shard)
    joined = torch.cat([torch.empty(2, 0), *distances], dim=1)
    before, after = joined.mean(dim=1).tolist() if joined.numel() else (0.0, 0.0)
    return AlignReport(copy, len(distances), before, after)


def find_template(root: Path, manifest: Manifest, template: str | None) -> tuple[INRBatch, str]:
    """The INR (N = 1) that a copy is aligned to, and its name NAME@VIEW."""
    shard, row = find_inr(root, manifest, template or "")
    weights = torch.from_numpy(np.array(shard.column("weights")[row : row + 1]))
    return INRBatch.from_flat(shard.spec, weights), f"{shard.object_ids[row]}@{shard.column('view')[row]}"


def find_inr(root: Path, manifest: Manifest, text: str) -> tuple[ShardReader, int]:
    """Shard and row of the INR that NAME (view 0) or NAME@VIEW names; without a name of the first one."""
    name, at, number = text.rpartition("@")
    if not (at and number.isdecimal()):
        name, number = text, "0"
    view, known = int(number), list[str]()
    for entry in manifest.shards:
        if entry.view != view or not entry.rows:
            continue
        shard = ShardReader(root, entry)
        ids = shard.object_ids
        known += ids[:20]
        if not name or name in ids:
            return shard, ids.index(name) if name else 0
    if not name or not known:
        raise UsageError(f"{root} has no INR of view {view}; run inr-factory status {root}")
    hint = did_you_mean(name, known[:50])
    raise UsageError(f"{root} has no INR of object {name!r}, view {view}; name it as NAME or NAME@VIEW; {hint}")
