"""Pull record: which commit of which repository of a hub a folder was pulled from."""

from pathlib import Path

from pydantic import Field, ValidationError

from inr_factory.errors import IntegrityError, validation_message
from inr_factory.inr.regular_files import read_regular
from inr_factory.storage.atomic_files import write_atomically
from inr_factory.storage.locations import PinnedLocation, RemoteLocation, copy_folder
from inr_factory.storage.manifest import Record

PULLED = "pulled.json"
MAX_RECORD_BYTES = 2**20


class PullRecord(Record):
    """Where a folder was pulled from.

    Attributes:
        repo: OWNER/NAME.
        revision: the branch, tag or commit that was requested; None for the hub's default.
        commit: the commit that it stood for, of which all files are.
        companions: sha256 of the files besides manifest and shards, as they were pulled.
    """

    repo: str
    revision: str | None = None
    commit: str = Field(pattern=r"^[0-9a-f]{40}$")
    companions: dict[str, str] = Field(default_factory=dict)

    def save(self, folder: Path) -> None:
        """Write the record of a folder."""
        write_atomically(folder / PULLED, (self.model_dump_json(indent=2) + "\n").encode())


def load_pull_record(folder: Path) -> PullRecord | None:
    """The record of a folder; None for one that was not pulled. Raises IntegrityError for a damaged one."""
    path = folder / PULLED
    try:
        return PullRecord.model_validate_json(read_regular(path, MAX_RECORD_BYTES))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValidationError as error:
        raise IntegrityError(f"{path} is damaged: {validation_message(error)}; remove it and pull again") from None


def pinned_location(remote: RemoteLocation) -> RemoteLocation:
    """A set of a hub at the commit that was pulled into the cache; the set itself where none was."""
    folder = copy_folder(remote)
    record = load_pull_record(folder)
    return remote if record is None else PinnedLocation(f"{remote.url}@{record.commit}", folder)
