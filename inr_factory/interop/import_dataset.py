"""Imports: other projects' INRs as a set of ours, shard by shard, so that an import that was cut short goes on.

With a sidecar an export comes back as the set that it was; what has none is foreign_set.py's.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inr_factory.errors import IntegrityError, UsageError
from inr_factory.inr.batch import INRBatch
from inr_factory.interop.conventions import from_convention
from inr_factory.interop.export import format_of
from inr_factory.interop.format import ForeignRow, Format
from inr_factory.interop.import_foreign import ForeignImport
from inr_factory.interop.import_options import ImportOptions, ImportReport, open_or_create_set, stack_contents
from inr_factory.interop.sidecar import SIDECAR, SavedShard, Sidecar, load_sidecar
from inr_factory.storage.dataset_card import keep_card_of_whole
from inr_factory.storage.manifest import ShardEntry, shard_path
from inr_factory.storage.manifest_file import update_manifest
from inr_factory.storage.shards import typed_columns, write_shard


def import_folder(
    root: Path,
    name: str,
    out: Path,
    options: ImportOptions,
    on_shard: Callable[[ShardEntry], None] | None = None,
) -> ImportReport:
    """Make a set in folder out of what lies in folder root in the format of that name.

    Raises UsageError for what is not said, or an out that holds another set; IntegrityError for files that are damaged,
    foreign or mixed, and for a convention that does not show the images.
    """
    format_ = format_of(name)
    if out.exists() and root.exists() and out.resolve() == root.resolve():
        raise UsageError(f"{out} is what is imported; the set needs a folder of its own")
    sidecar = load_sidecar(root) if options.use_sidecar and root.is_dir() else None
    if sidecar is None:
        report = ForeignImport(root, format_, options).make(out, on_shard)
    else:
        report = _restore(root, format_, out, sidecar, options, on_shard)
    keep_card_of_whole(out, report.manifest)
    return report


def _restore(
    root: Path,
    format_: Format,
    out: Path,
    sidecar: Sidecar,
    options: ImportOptions,
    on_shard: Callable[[ShardEntry], None] | None,
) -> ImportReport:
    """The set that was exported, each row checked against the checksum that it had."""
    if sidecar.format != format_.name:
        raise UsageError(f"{root / SIDECAR} says that this is {sidecar.format}; give --from {sidecar.format}")
    if options.names_convention:
        raise UsageError(f"{SIDECAR} says what the numbers mean; leave the convention out, or give --no-sidecar")
    manifest, written = sidecar.manifest, sidecar.convention
    spec = manifest.siren_spec
    dims = (spec.in_dim, *(outputs for outputs, _ in spec.layer_shapes))
    hints = replace(options.hints, dims=dims)
    there = open_or_create_set(out, manifest)
    missing, made = set(there.missing(out)), 0
    for shard in sidecar.shards:
        if shard_path(shard.split, shard.view, shard.block) not in missing:
            continue
        columns = {name: column.array() for name, column in shard.columns.items()}
        checksums = columns.pop("checksum")
        members = _members_of(shard, columns)
        theirs = stack_contents(format_.read(root, members, hints), members, dims, written.convention)
        ours = from_convention(theirs, written.convention)
        columns["weights"] = INRBatch(spec, ours.weights, ours.biases).flatten().numpy()
        wrong = np.flatnonzero(typed_columns(columns)["checksum"] != checksums)
        if wrong.size:
            raise IntegrityError(
                f"{members[int(wrong[0])].path} is not what was exported (its checksum differs); export it again, or "
                "give --no-sidecar to take it as it is"
            )
        attributes = {name: str(value) for name, value in shard.attributes.items()}
        entry = write_shard(out, (shard.split, shard.view, shard.block), spec, columns, shard.quarantine, attributes)
        there, made = update_manifest(out, there.head, [entry]), made + 1
        if on_shard is not None:
            on_shard(entry)
    return ImportReport(there, made, (f"{SIDECAR} says what the files lack: this is the set that was exported",))


def _members_of(shard: SavedShard, columns: dict[str, NDArray[Any]]) -> list[ForeignRow]:
    rows = zip(columns["object_id"].tolist(), columns["label"].tolist(), shard.files, shard.rows, strict=True)
    return [ForeignRow(name, shard.split, shard.view, int(label), path, row) for name, label, path, row in rows]
