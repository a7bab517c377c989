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
from inr_factory.storage.atomic_files import remove_stale_temporaries
from inr_factory.storage.dataset_card import update_card_if_complete
from inr_factory.storage.fetch_dataset import fetch_dataset
from inr_factory.storage.manifest import MANIFEST, Derived, Manifest, ShardEntry
from inr_factory.storage.manifest_file import load_manifest, update_manifest
from inr_factory.storage.shards import ShardReader, write_shard
from inr_factory.storage.targets import copy_targets


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
    root, out = fetch_dataset(dataset), Path(out)
    manifest = load_manifest(root)
    fixed, name = find_template(root, manifest, template)
    if match is None:
        match = "scale" if fixed.spec.activation == "relu" else "signed"
    check_match(match, fixed)
    how = f"match={match},template={name}"
    digest = fingerprint(f"{manifest.fingerprint} align {how}", fixed.flatten().numpy())
    derived = Derived(of=manifest.fingerprint, how=f"align:{how}")
    copy = manifest.model_copy(update={"fingerprint": digest, "derived": derived, "shards": (), "targets": None})
    if root.resolve() == out.resolve():
        raise UsageError(f"{out} is the set itself; an aligned copy needs a folder of its own")
    if (out / MANIFEST).exists() and load_manifest(out).fingerprint != copy.fingerprint:
        raise UsageError(f"{out} holds another set, or a copy aligned in another way; choose another --out")
    remove_stale_temporaries(out)
    update_manifest(out, copy)
    copy = copy_targets(root, manifest, out)
    missing, distances = set(copy.missing(out)), []
    for entry in (entry for entry in manifest.shards if entry.path in missing):
        written, distance_2N = _align_shard(ShardReader(root, entry), entry, fixed, match, copy, out)
        distances.append(distance_2N)
        copy = update_manifest(out, copy, [written])
        if on_shard is not None:
            on_shard(written)
    update_card_if_complete(out, copy)
    joined = torch.cat([torch.empty(2, 0), *distances], dim=1)
    before, after = joined.mean(dim=1).tolist() if joined.numel() else (0.0, 0.0)
    return AlignReport(copy, len(distances), before, after)


def _align_shard(
    shard: ShardReader, entry: ShardEntry, fixed: INRBatch, match: Match, copy: Manifest, out: Path
) -> tuple[ShardEntry, Tensor]:
    """Write one shard of the copy: its entry, and (2, N) relative distances before and after."""
    columns = {column: np.array(shard.column(column)) for column in shard.column_names if column != "checksum"}
    columns["object_id"] = np.array(shard.object_ids, dtype=object)
    inrs = INRBatch.from_flat(shard.spec, torch.from_numpy(columns["weights"]))
    aligned = align(inrs, fixed, match)
    columns["weights"] = aligned.flatten().numpy()
    assert copy.derived is not None
    kept = {key: str(shard.attributes[key]) for key in ("engine", "device") if key in shard.attributes}
    attributes = kept | {"fingerprint": copy.fingerprint, "derived": copy.derived.how}
    key = (entry.split, entry.view, entry.block)
    written = write_shard(out, key, shard.spec, columns, shard.quarantine, attributes)
    return written, torch.stack([relative_distance(inrs, fixed), relative_distance(aligned, fixed)])


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
