"""Derived sets: a set whose INRs are those of another, changed, with the same rows, splits and views.

Shape letters: n rows of a shard.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from inr_factory.errors import UsageError
from inr_factory.inr.batch import INRBatch
from inr_factory.storage.atomic_files import remove_stale_temporaries
from inr_factory.storage.dataset_card import update_card_if_complete
from inr_factory.storage.manifest import MANIFEST, Derived, Manifest, ShardEntry
from inr_factory.storage.manifest_file import load_manifest, update_manifest
from inr_factory.storage.shards import ShardReader, write_shard
from inr_factory.storage.targets import copy_targets

Columns = dict[str, NDArray[Any]]
Change = Callable[[INRBatch, Columns, ShardEntry], tuple[INRBatch, Columns]]
"""INRs of a shard, its columns and its entry -> other INRs, and all columns that they have besides their weights."""


def derive_dataset(
    root: Path,
    out: str | os.PathLike[str],
    how: str,
    digest: str,
    change: Change,
    on_shard: Callable[[ShardEntry], None] | None = None,
) -> Manifest:
    """Write the shards of a derived set that it lacks, and return its manifest.

    Args:
        root: the set.
        out: folder of the derived set.
        how: the operation, as its manifest says it.
        digest: fingerprint of the derived set: of all that its weights depend on.
        change: changes the INRs of a shard, on the CPU.
        on_shard: called with each shard that was written.

    Raises:
        UsageError: `out` is the set itself, or holds another one.
        IntegrityError: A shard of the set is not as recorded.
    """
    out, manifest = Path(out), load_manifest(root)
    derived = Derived(of=manifest.fingerprint, how=how)
    copy = manifest.model_copy(update={"fingerprint": digest, "derived": derived, "shards": (), "targets": None})
    verb = how.partition(":")[0]
    if root.resolve() == out.resolve():
        raise UsageError(f"{out} is the set itself; what {verb} makes of it needs a folder of its own")
    if (out / MANIFEST).exists() and load_manifest(out).fingerprint != copy.fingerprint:
        raise UsageError(f"{out} holds another set, or one that {verb} made in another way; choose another folder")
    remove_stale_temporaries(out)
    update_manifest(out, copy)
    copy = copy_targets(root, manifest, out)
    missing = set(copy.missing(out))
    for entry in (entry for entry in manifest.shards if entry.path in missing):
        shard = ShardReader(root, entry)
        columns = {column: np.array(shard.column(column)) for column in shard.column_names if column != "checksum"}
        columns["object_id"] = np.array(shard.object_ids, dtype=object)
        inrs, columns = change(INRBatch.from_flat(shard.spec, torch.from_numpy(columns["weights"])), columns, entry)
        columns = {**columns, "weights": inrs.flatten().numpy()}
        kept = {key: str(shard.attributes[key]) for key in ("engine", "device") if key in shard.attributes}
        key = (entry.split, entry.view, entry.block)
        attributes = kept | {"fingerprint": digest, "derived": how}
        written = write_shard(out, key, shard.spec, columns, shard.quarantine, attributes)
        copy = update_manifest(out, copy, [written])
        if on_shard is not None:
            on_shard(written)
    update_card_if_complete(out, copy)
    return copy
