"""Dataset card: README.md and croissant.json of a set, for people, for hubs and for programs that read either.

Both depend on the set's manifest and its card notes alone. Each holds a marker: a fingerprint of what it describes, and a
self-checksum, by which a file that a user has edited is recognised and left as it is.
"""

import errno
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from inr_factory.errors import IntegrityError
from inr_factory.inr.stable_hash import fingerprint
from inr_factory.storage.atomic_files import write_atomically
from inr_factory.storage.card_croissant import croissant
from inr_factory.storage.card_notes import NO_NOTES, load_card_notes
from inr_factory.storage.card_readme import abstract, readme
from inr_factory.storage.fetch_dataset import dataset_location
from inr_factory.storage.locations import Location, RemoteLocation, local_folder, read_file
from inr_factory.storage.manifest import Manifest, check_inside
from inr_factory.storage.manifest_file import load_manifest

MAX_CARD_BYTES = 2**28
CARD_VERSION = 2  # 2 has types of columns, names of classes, and the spec for programs
README, CROISSANT = "README.md", "croissant.json"
# The name of the new version where a user has edited the file.
ALTERNATE_NAMES = {README: "README.inr-factory.md", CROISSANT: "croissant.inr-factory.json"}
MARKER = re.compile(r"record=([0-9a-f]{16}) seal=([0-9a-f]{16})")


@dataclass(frozen=True)
class CardReport:
    """What `write_card` did.

    Attributes:
        written: names of the files that were written.
        edited: names of the files that a user has edited. They stay; the new version has its alternate name.
    """

    written: tuple[str, ...] = ()
    edited: tuple[str, ...] = ()


NO_CARD = CardReport()


def write_card(dataset: str | os.PathLike[str] | RemoteLocation) -> CardReport:
    """Write README.md and croissant.json of a set, as a complete `fit` does.

    Args:
        dataset: folder or URL of the set.

    Returns:
        The files written, none where the card is up to date, and the files that a user has edited, which stay.

    Raises:
        UsageError: for a folder without a set.
        IntegrityError: where the manifest or a shard is damaged, or a file of the card is a link out of the set.
    """
    root = dataset_location(dataset)
    return update_card(root, load_manifest(root))


def update_card_if_complete(root: Location, manifest: Manifest, missing: Collection[str] | None = None) -> CardReport:
    """Update the card of a set that has all its shards and whose folder can be written; else do nothing.

    `missing` are the paths of its missing shards, where the caller knows them.
    """
    if manifest.missing(root) if missing is None else missing:
        return NO_CARD
    try:
        return update_card(root, manifest)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):  # a complete set may be read-only
            return NO_CARD
        raise


def update_card(root: Location, manifest: Manifest) -> CardReport:
    """Write the card of the set in folder root, unless it describes this manifest and the set's notes already.

    croissant.json is written first and README.md last: a run that dies between leaves the old README.md, and the next
    run writes both. Of an existing card only README.md is read, which keeps runs on a complete set quick. Raises
    IntegrityError where a shard cannot be read or a file of the card is a link out of the set.
    """
    notes = load_card_notes(root)
    said = "" if notes == NO_NOTES else notes.model_dump_json()
    record = fingerprint(f"{CARD_VERSION} {manifest.to_json()}{said}")
    if _is_current(root, record):
        return NO_CARD
    columns = shard_columns(root, manifest)
    texts = {
        CROISSANT: with_checksum(
            croissant(
                manifest, columns, abstract(manifest), f"{manifest.fingerprint}; {marker(record)}{'0' * 16}", notes
            )
        ),
        README: with_checksum(readme(manifest, columns, f"inr-factory card: {marker(record)}{'0' * 16}", notes)),
    }
    written, edited = [], []
    for name, text in texts.items():
        saved = _read(root, name)
        if saved is not None and not is_unedited(saved):
            edited.append(name)
            name = ALTERNATE_NAMES[name]
            saved = _read(root, name)
        if saved != text:
            write_atomically(root / name, text.encode())
            written.append(name)
    return CardReport(tuple(written), tuple(edited))


def _is_current(root: Location, record: str) -> bool:
    names = [name for name in (README, ALTERNATE_NAMES[README]) if marker(record) in (_read(root, name) or "")]
    return bool(names) and any((root / name).is_file() for name in (CROISSANT, ALTERNATE_NAMES[CROISSANT]))


def _read(root: Location, name: str) -> str | None:
    check_inside(root, root / name)
    try:
        return read_file(root / name, MAX_CARD_BYTES).decode("utf-8")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError:
        return ""  # a file of the user's


def marker(record: str) -> str:
    """What a card of this record has before its self-checksum."""
    return f"record={record} seal="


def with_checksum(text: str) -> str:
    """The text with its self-checksum in the marker: the fingerprint of the text with zeros in its place."""
    empty = MARKER.sub(lambda match: f"{marker(match[1])}{'0' * 16}", text)
    return MARKER.sub(lambda match: f"{marker(match[1])}{fingerprint(empty)}", text)


def is_unedited(text: str) -> bool:
    """Whether a card is as `with_checksum` made it."""
    return MARKER.search(text) is not None and with_checksum(text) == text


def shard_columns(root: Location, manifest: Manifest) -> Mapping[str, str]:
    """The columns of the set's shards, weights first, and their types: string, or as numpy calls them."""
    from inr_factory.storage.shards import ShardReader  # loads h5py, which a complete set does not need

    entry = next((entry for entry in manifest.shards if entry.rows), None)
    if entry is None:
        return {}
    try:
        with local_folder(root, entry.path) as folder:
            shard = ShardReader(folder, entry, check=False)
            types = {name: shard.column(name).dtype for name in shard.column_names}
    except FileNotFoundError:
        raise IntegrityError(f"{entry.path} is recorded but missing; inr-factory fit makes it again") from None
    first = [name for name in ("weights", "label", "object_id", "view") if name in types]
    names = [*first, *sorted(set(types) - set(first))]
    return {name: "string" if types[name].kind == "S" else types[name].name for name in names}
