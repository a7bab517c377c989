"""Merge: sets of one recipe and source, made separately, become one.

They have one fingerprint, so that their shards fit together unchanged.
"""

import contextlib
import hashlib
import os
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from inr_factory.errors import IntegrityError, UsageError, blame_machine
from inr_factory.generation.maintenance.integrity_check import Fault
from inr_factory.generation.maintenance.repair import require_folder
from inr_factory.generation.recipe import recorded_recipe
from inr_factory.inr.regular_files import open_regular, read_regular
from inr_factory.storage.add_targets import with_further_targets
from inr_factory.storage.atomic_files import remove_stale_temporaries, temporary_name, write_atomically
from inr_factory.storage.dataset_card import update_card_if_complete
from inr_factory.storage.manifest import MANIFEST, Manifest, ShardEntry, file_size
from inr_factory.storage.manifest_file import load_manifest, update_manifest
from inr_factory.storage.shard_contents import content_conflicts
from inr_factory.storage.shards import ShardReader
from inr_factory.storage.targets import TargetTable, read_targets, update_targets


@dataclass(frozen=True)
class MergeReport:
    """What a merge did.

    Attributes:
        manifest: of the merged set as it is now.
        taken: shards brought in.
        present: shards that it had before.
        missing: shards that it still lacks.
        differing: paths of shards whose bytes differ among the parts.
        faults: shards that no part has in valid form.
    """

    manifest: Manifest
    taken: int
    present: int
    missing: int
    differing: tuple[str, ...]
    faults: tuple[Fault, ...]


def merge_datasets(
    parts: Sequence[str | Path],
    out: str | Path,
    *,
    copy: bool = False,
    on_shard: Callable[[ShardEntry], None] | None = None,
) -> MergeReport:
    """Bring the shards of sets of one recipe and source into one set.

    Each shard is checked against its part's record; a damaged one is taken from another part. Where parts differ in a
    shard (made on different devices), the first part's is taken. Shards that `out` has stay, so that an interrupted
    merge can be repeated.

    Args:
        parts: folders of sets, for example those of an array job (`fit --shard i/n`), or of different views.
        out: folder of the merged set; may be one of the parts.
        copy: whether to copy shards; else they are hard links where the file system allows.
        on_shard: called with each shard's entry.

    Returns:
        Counts, differences, faults, and the manifest.

    Raises:
        UsageError: if a part, or what is in `out`, is another set's, or has another value of a target.
        IntegrityError: if a manifest is damaged.
    """
    out = require_folder(out)
    sets = {folder: load_manifest(folder) for folder in map(require_folder, parts)}
    if not sets:
        raise UsageError("merge takes the folders of at least one set")
    if (out / MANIFEST).exists():
        sets = {out: load_manifest(out)} | sets
    first_part, first = next(iter(sets.items()))
    for part, manifest in sets.items():
        _check_same(first_part, first, part, manifest)
    present_shards = [(part, entry) for part, manifest in sets.items() for entry in manifest.shards]
    for conflict in content_conflicts(present_shards):
        raise UsageError(
            f"{conflict.folder / conflict.path} was fitted to another content of {conflict.object_id} than "
            f"{conflict.earlier}; fit one of the parts again from the files of the other"
        )
    widest = max(sets.values(), key=lambda manifest: (len(manifest.limits), manifest.views))
    widest = widest.with_views(max(manifest.views for manifest in sets.values())).origin
    targets: TargetTable | None = None
    for part, manifest in sets.items():
        if (table := read_targets(part, manifest)) is not None:
            targets = with_further_targets(targets, table, first_part, str(part))
    remove_stale_temporaries(out)
    before = update_manifest(out, widest)
    update_targets(out, lambda _: targets)
    done = {entry.path for entry in before.shards if file_size(out / entry.path) == entry.bytes}
    offers = _offers({part: manifest for part, manifest in sets.items() if not _same_folder(part, out)})
    present, taken, faults, unrecorded = len(done), 0, list[Fault](), list[ShardEntry]()
    differing = [path for path, offered in offers.items() if len({entry.sha256 for _, entry in offered}) > 1]
    due = monotonic() + 1
    try:
        for path, offered in offers.items():
            if path not in done:
                entry = _take(offered, out, copy, faults)
                if entry is not None:
                    unrecorded.append(entry)
                    taken += 1
            if on_shard is not None:
                on_shard(offered[0][1])
            if unrecorded and monotonic() >= due:
                update_manifest(out, widest, unrecorded)
                unrecorded, due = [], monotonic() + 1
    finally:
        if unrecorded:
            update_manifest(out, widest, unrecorded)
    merged = load_manifest(out)
    missing = merged.missing(out)
    update_card_if_complete(out, merged, missing)
    return MergeReport(merged, taken, present, len(missing), tuple(differing), tuple(faults))


def _check_same(first_part: Path, first: Manifest, part: Path, manifest: Manifest) -> None:
    field = manifest.with_views(first.views).difference(
        first.model_copy(
            update={"software": manifest.software, "name": manifest.name, "passed_over": manifest.passed_over}
        )
    )
    if field is None:
        return
    why = f"another {field}"
    if field in ("recipe", "spec", "fingerprint") and "source" in first.recipe and "source" in manifest.recipe:
        one, other = (recorded_recipe(each.recipe, origin=f"of {part}") for each in (manifest, first))
        if field == "recipe" and one.fingerprint == other.fingerprint:
            with contextlib.suppress(ValueError):  # limits by which one of the two did not grow
                manifest.grown_like(first)
                return
        difference = one.difference(other)
        why = (
            difference
            if difference != "nothing"
            else f"source data {manifest.source.fingerprint}, {first.source.fingerprint} there"
        )
    raise UsageError(
        f"{part} is not of the same set as {first_part} ({why}); merge takes parts of one recipe and source"
    )


def _same_folder(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve()


def _offers(sets: dict[Path, Manifest]) -> dict[str, list[tuple[Path, ShardEntry]]]:
    """For each shard the parts that have it, in their order."""
    offers: dict[str, list[tuple[Path, ShardEntry]]] = {}
    for part, manifest in sets.items():
        for entry in manifest.shards:
            offers.setdefault(entry.path, []).append((part, entry))
    return dict(sorted(offers.items()))


def _take(offered: list[tuple[Path, ShardEntry]], out: Path, copy: bool, faults: list[Fault]) -> ShardEntry | None:
    """Bring one shard in from the first part that has it in valid form; adds to the faults if none has."""
    invalid = []
    for part, entry in offered:
        try:
            ShardReader(part, entry, check=True)
        except (IntegrityError, OSError) as error:
            blame_machine(error, part / entry.path)
            invalid.append(Fault(entry.path, f"{part}: {error}"))
            continue
        target = out / entry.path
        if os.path.lexists(target) and _sha256(target) != entry.sha256:
            faults.append(
                Fault(entry.path, f"{target} exists, unrecorded and different; move it away, or repair {out}")
            )
            return None
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            _link_or_copy(part / entry.path, target, copy)
        return entry
    faults += invalid
    return None


def _link_or_copy(source: Path, target: Path, copy: bool) -> None:
    if not copy:
        temporary = temporary_name(target, secrets.token_hex(4))
        try:
            os.link(source.resolve(), temporary)
            os.replace(temporary, target)
            temporary.unlink(missing_ok=True)  # two names of one file: the rename did nothing
            return
        except OSError:  # another file system, or one without hard links
            temporary.unlink(missing_ok=True)
    write_atomically(target, read_regular(source))


def _sha256(path: Path) -> str | None:
    try:
        with open_regular(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        blame_machine(error, path)
        return None
