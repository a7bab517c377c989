"""Aligned copies: a set again, its INRs unchanged as functions, their neurons brought to those of one template."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from inr_factory.errors import UsageError, did_you_mean
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.stable_hash import fingerprint
from inr_factory.learning.alignment.weight_matching import Match, align, relative_distance
from inr_factory.storage.atomic_files import remove_stale_temporaries
from inr_factory.storage.dataset_card import keep_card_of_whole
from inr_factory.storage.manifest import MANIFEST, Derived, Manifest, ShardEntry
from inr_factory.storage.manifest_file import load_manifest, update_manifest
from inr_factory.storage.shards import ShardReader, write_shard


@dataclass(frozen=True)
class AlignReport:
    """What was done: shards written, and the mean relative distance from the template before and after (these shards)."""

    manifest: Manifest
    made: int
    before: float
    after: float


def align_dataset(
    root: Path,
    out: Path,
    match: Match = "signed",
    template: str | None = None,
    on_shard: Callable[[ShardEntry], None] | None = None,
) -> AlignReport:
    """Store a copy of the set in folder root, aligned to one of its INRs, in folder out.

    `template` is an object's name, of its first view, or NAME@VIEW; else the first INR of the set. Shards that the
    copy has already are left as they are, so that an interrupted copy, or a set with more views since, is completed.
    Raises UsageError for an unknown template, or an `out` that holds something else.
    """
    manifest = load_manifest(root)
    fixed, name = find_template(root, manifest, template)
    how = f"match={match},template={name}"
    digest = fingerprint(f"{manifest.fingerprint} align {how}", fixed.flatten().numpy())
    derived = Derived(of=manifest.fingerprint, how=f"align:{how}")
    copy = manifest.model_copy(update={"fingerprint": digest, "derived": derived, "shards": ()})
    if root.resolve() == out.resolve():
        raise UsageError(f"{out} is the set itself; an aligned copy needs a folder of its own")
    if (out / MANIFEST).exists() and load_manifest(out).fingerprint != copy.fingerprint:
        raise UsageError(f"{out} holds another set, or a copy aligned in another way; choose another --out")
    remove_stale_temporaries(out)
    copy = update_manifest(out, copy)
    missing, before, after = set(copy.missing(out)), [], []
    todo = [entry for entry in manifest.shards if entry.path in missing]
    for entry in todo:
        shard = ShardReader(root, entry)
        columns = {column: np.array(shard.column(column)) for column in shard.column_names if column != "checksum"}
        columns["object_id"] = np.array(shard.object_ids, dtype=object)
        inrs = INRBatch.from_flat(shard.spec, torch.from_numpy(columns["weights"]))
        aligned = align(inrs, fixed, match)
        before.append(relative_distance(inrs, fixed))
        after.append(relative_distance(aligned, fixed))
        columns["weights"] = aligned.flatten().numpy()
        kept = {key: str(shard.attributes[key]) for key in ("engine", "device") if key in shard.attributes}
        attributes = kept | {"fingerprint": copy.fingerprint, "derived": derived.how}
        made = write_shard(
            out, (entry.split, entry.view, entry.block), shard.spec, columns, shard.quarantine, attributes
        )
        copy = update_manifest(out, copy, [made])
        if on_shard is not None:
            on_shard(made)
    keep_card_of_whole(out, copy)
    means = [float(torch.cat(parts).mean()) if any(map(len, parts)) else 0.0 for parts in (before, after)]
    return AlignReport(copy, len(todo), *means)


def find_template(root: Path, manifest: Manifest, template: str | None) -> tuple[INRBatch, str]:
    """The INR (N = 1) that a copy is aligned to, and its name NAME@VIEW."""
    name, _, number = (template or "").partition("@")
    if number and not number.isdigit():
        raise UsageError(f"--template takes NAME or NAME@VIEW, got {template!r}")
    view = int(number or 0)
    known: list[str] = []
    for entry in manifest.shards:
        if entry.view != view or not entry.rows:
            continue
        shard = ShardReader(root, entry)
        ids = shard.object_ids
        known += ids[:20]
        if not name or name in ids:
            row = ids.index(name) if name else 0
            weights = torch.from_numpy(np.array(shard.column("weights")[row : row + 1]))
            return INRBatch.from_flat(shard.spec, weights), f"{ids[row]}@{view}"
    if not name or not known:
        raise UsageError(f"{root} has no INR of view {view} to align to; run inr-factory status {root}")
    raise UsageError(f"{root} has no INR of object {name!r}, view {view}; {did_you_mean(name, known)}")
