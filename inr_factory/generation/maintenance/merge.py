"""Merge: sets of one recipe and source that were made apart, brought into one.

Parts of an array job (`fit --shard i/n`) in folders of their own, or sets with different views: all have one
fingerprint, so that their shards fit together as they are.
"""

import hashlib
import os
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from inr_factory.errors import FactoryError, UsageError
from inr_factory.generation.maintenance.verify import Fault
from inr_factory.generation.recipe import check_recipe
from inr_factory.storage.atomic_files import remove_stale_temporaries, temporary_name, write_atomically
from inr_factory.storage.dataset_card import keep_card_of_whole
from inr_factory.storage.manifest import MANIFEST, Manifest, ShardEntry, file_size
from inr_factory.storage.manifest_file import load_manifest, update_manifest
from inr_factory.storage.shards import ShardReader


@dataclass(frozen=True)
class Merged:
    """The set as it is now; shards brought in, there before, and still missing; which parts gave other bytes for a
    shard than the part before them; shards that no part has whole."""

    manifest: Manifest
    taken: int
    there: int
    missing: int
    differing: tuple[str, ...]
    faults: tuple[Fault, ...]


def merge_sets(
    parts: Sequence[Path], out: Path, copy: bool = False, on_shard: Callable[[ShardEntry], None] | None = None
) -> Merged:
    """Bring the shards of all parts into the set in folder out, by hard links where the file system allows, unless `copy`.

    Each shard is checked against its part's record before it is taken; of a damaged one another part's is taken, and
    where parts differ in a shard (made on different devices) the first part's. What is there and recorded stays, so
    that a merge that was cut short goes on, and a second one does nothing. Raises UsageError where a part, or what is
    in out, is another set's.
    """
    sets = {part: load_manifest(part) for part in parts}
    if not sets:
        raise UsageError("merge takes the folders of at least one set")
    if (out / MANIFEST).exists():
        sets = {out: load_manifest(out)} | sets
    first_part, first = next(iter(sets.items()))
    for part, manifest in sets.items():
        _check_same(first_part, first, part, manifest)
    widest = max(sets.values(), key=lambda manifest: manifest.views)
    remove_stale_temporaries(out)
    there = update_manifest(out, widest.head)
    done = {entry.path for entry in there.shards if file_size(out / entry.path) == entry.bytes}
    offers = _offers({part: manifest for part, manifest in sets.items() if not _same_folder(part, out)})
    before, taken, faults, unrecorded = len(done), 0, list[Fault](), list[ShardEntry]()
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
                update_manifest(out, widest.head, unrecorded)
                unrecorded, due = [], monotonic() + 1
    finally:
        if unrecorded:
            update_manifest(out, widest.head, unrecorded)
    merged = load_manifest(out)
    keep_card_of_whole(out, merged)
    return Merged(merged, taken, before, len(merged.missing(out)), tuple(differing), tuple(faults))


def _check_same(first_part: Path, first: Manifest, part: Path, manifest: Manifest) -> None:
    field = manifest.with_views(first.views).difference(
        first.model_copy(update={"software": manifest.software, "name": manifest.name})
    )
    free = {"quarantine_threshold", "name", "views"}
    if field == "recipe" and {**first.recipe, **{key: manifest.recipe.get(key) for key in free}} == manifest.recipe:
        field = None
    if field is None:
        return
    why = f"another {field}"
    if field in ("recipe", "spec", "fingerprint") and "source" in first.recipe and "source" in manifest.recipe:
        mine, theirs = (check_recipe(each.recipe, origin=f"of {part}") for each in (manifest, first))
        told = mine.difference(theirs)
        why = (
            f"{told}"
            if told != "nothing"
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
    """Bring one shard in from the first part that has it whole; its faults are told if none has."""
    found = []
    for part, entry in offered:
        try:
            ShardReader(part, entry, check=True)
        except (FactoryError, OSError) as error:
            found.append(Fault(entry.path, f"{part}: {error}"))
            continue
        target = out / entry.path
        if os.path.lexists(target) and _sha256(target) != entry.sha256:
            faults.append(Fault(entry.path, f"{target} is there, unrecorded and other; move it away, or repair {out}"))
            return None
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            _bring(part / entry.path, target, copy)
        return entry
    faults += found
    return None


def _bring(source: Path, target: Path, copy: bool) -> None:
    if not copy:
        temporary = temporary_name(target, secrets.token_hex(4))
        try:
            os.link(source.resolve(), temporary)
            os.replace(temporary, target)
            return
        except OSError:  # another file system, or one without hard links
            temporary.unlink(missing_ok=True)
    write_atomically(target, source.read_bytes())


def _sha256(path: Path) -> str | None:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None
