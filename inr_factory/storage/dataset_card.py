"""Card: README.md and croissant.json of a set, for people, for hubs and for programs that read either.

Both are functions of the set's record alone. Each bears a mark: which record it describes, and a seal over its own text,
by which one that a user has edited is known and left alone.
"""

import errno
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from inr_factory.errors import IntegrityError
from inr_factory.inr.stable_hash import fingerprint
from inr_factory.storage.atomic_files import write_atomically
from inr_factory.storage.card_croissant import croissant
from inr_factory.storage.card_readme import abstract, readme
from inr_factory.storage.locations import Location, local_folder
from inr_factory.storage.manifest import Manifest, check_inside

README, CROISSANT = "README.md", "croissant.json"
# What is written where a user has edited the file itself.
BESIDE = {README: "README.inr-factory.md", CROISSANT: "croissant.inr-factory.json"}
SEAL = re.compile(r"record=([0-9a-f]{16}) seal=([0-9a-f]{16})")


@dataclass(frozen=True)
class Card:
    """Names of the files written now, and of those that a user has edited, so that theirs stay and ours lie beside."""

    written: tuple[str, ...] = ()
    edited: tuple[str, ...] = ()


NO_CARD = Card()


def keep_card_of_whole(root: Location, manifest: Manifest, missing: Collection[str] | None = None) -> Card:
    """`keep_card` of a set that has all its shards, where its folder can be written; else nothing is done.

    `missing` are the paths of its missing shards, where the caller knows them.
    """
    if manifest.missing(root) if missing is None else missing:
        return NO_CARD
    try:
        return keep_card(root, manifest)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):  # a finished set may lie where nobody may write
            return NO_CARD
        raise


def keep_card(root: Location, manifest: Manifest) -> Card:
    """Write the card of the set in folder root, unless one of this record is there already.

    croissant.json comes first and README.md last: a run that dies between leaves the old README.md, and the next one
    writes both. Of a card that is there only README.md is read, so that a finished set is seen quickly. Raises
    IntegrityError where a shard cannot be read or a file of the card is a link out of the set.
    """
    record = fingerprint(manifest.to_json())
    if _is_current(root, record):
        return NO_CARD
    columns = _columns(root, manifest)
    texts = {
        CROISSANT: _sealed(
            croissant(manifest, columns, abstract(manifest), f"{manifest.fingerprint}; {_mark(record)}{'0' * 16}")
        ),
        README: _sealed(readme(manifest, columns, f"inr-factory card: {_mark(record)}{'0' * 16}")),
    }
    written, edited = [], []
    for name, text in texts.items():
        there = _read(root, name)
        if there is not None and not _is_ours(there):
            edited.append(name)
            name = BESIDE[name]
            there = _read(root, name)
        if there != text:
            write_atomically(root / name, text.encode())
            written.append(name)
    return Card(tuple(written), tuple(edited))


def _is_current(root: Location, record: str) -> bool:
    names = [name for name in (README, BESIDE[README]) if _mark(record) in (_read(root, name) or "")]
    return bool(names) and any((root / name).is_file() for name in (CROISSANT, BESIDE[CROISSANT]))


def _read(root: Location, name: str) -> str | None:
    check_inside(root, root / name)
    try:
        return (root / name).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError:
        return ""  # no text of ours


def _mark(record: str) -> str:
    return f"record={record} seal="


def _sealed(text: str) -> str:
    """The text with its seal, a digest of itself with zeros in its place, in its mark."""
    empty = SEAL.sub(lambda found: f"{_mark(found[1])}{'0' * 16}", text)
    return SEAL.sub(lambda found: f"{_mark(found[1])}{fingerprint(empty)}", text)


def _is_ours(text: str) -> bool:
    return SEAL.search(text) is not None and _sealed(text) == text


def _columns(root: Location, manifest: Manifest) -> Mapping[str, str]:
    """The columns of the set's shards, weights first, and numpy's letter for their kind; of a shard that has rows."""
    from inr_factory.storage.shards import ShardReader  # h5py, which a finished set does not need

    entry = next((entry for entry in manifest.shards if entry.rows), None)
    if entry is None:
        return {}
    try:
        with local_folder(root, entry.path) as folder:
            shard = ShardReader(folder, entry, check=False)
            kinds = {name: shard.column(name).dtype.kind for name in shard.column_names}
    except FileNotFoundError:
        raise IntegrityError(f"{entry.path} is recorded but missing; inr-factory fit makes it again") from None
    first = [name for name in ("weights", "label", "object_id", "view") if name in kinds]
    return {name: kinds[name] for name in [*first, *sorted(set(kinds) - set(first))]}
