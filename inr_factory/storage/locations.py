"""Locations: where a set or a source lies: a folder, or a URL of a store that fsspec knows. The only module that imports it.

A folder stays a pathlib.Path. A URL becomes a `RemoteLocation`, which has the methods of Path that a set needs. A file
appears in a store completely or not at all: object stores write it so; elsewhere it is renamed when it is complete.
"""

import contextlib
import os
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from inr_factory.errors import FactoryError, ResourceError, UsageError, did_you_mean, one_line, redact, shorten
from inr_factory.inr.regular_files import read_regular
from inr_factory.inr.stable_hash import fingerprint

ATOMIC_PROTOCOLS = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oci", "oss", "memory"}
RETRY_SECONDS = (0.5, 2.0)
CHANGED = ("mtime", "LastModified", "last_modified", "updated", "created")  # what stores call the time of a change

ResultT = TypeVar("ResultT")


@dataclass(frozen=True)
class RemoteLocation:
    """A file or a folder in a store, by its URL. Every method raises ResourceError where the store fails."""

    url: str

    def __truediv__(self, name: str) -> "RemoteLocation":
        return RemoteLocation(f"{self.url}/{name}")

    def __str__(self) -> str:
        return redact(self.url)

    @property
    def name(self) -> str:
        return self.url.rpartition("/")[2]

    @property
    def parent(self) -> "RemoteLocation":
        return RemoteLocation(self.url.rpartition("/")[0])

    def absolute(self) -> "RemoteLocation":
        return self

    def expanduser(self) -> "RemoteLocation":
        return self

    def mkdir(self, parents: bool = False, exist_ok: bool = False) -> None:
        """Do nothing: stores have a folder as soon as it holds a file."""

    def exists(self) -> bool:
        try:
            with self._store() as (store, path):
                store.info(path)  # store.exists would return False where the store is down
        except FileNotFoundError:
            return False
        return True

    def is_file(self) -> bool:
        return self.size() is not None

    def is_dir(self) -> bool:
        return not self.is_file() and self.exists()

    def size(self) -> int | None:
        """The number of bytes of a file; None where there is none."""
        try:
            with self._store() as (store, path):
                info = store.info(path)
        except FileNotFoundError:
            return None
        return int(info["size"]) if info["type"] == "file" else None

    def sizes(self) -> dict[str, int]:
        """List this folder and its folders once: path below this folder -> number of bytes, of every file."""
        return {name: int(info["size"]) for name, info in self.infos().items()}

    def infos(self) -> dict[str, dict[str, Any]]:
        """As `sizes`, with all that the store says of each file."""
        try:
            with self._store() as (store, path):
                infos = store.find(path, detail=True)
        except FileNotFoundError:
            return {}
        start = len(path.rstrip("/")) + 1
        return {name[start:]: info for name, info in infos.items()}

    def read_bytes(self) -> bytes:
        return self._retry(lambda store, path: bytes(store.cat_file(path)))

    def read_text(self, encoding: str = "utf-8") -> str:
        return self.read_bytes().decode(encoding)

    def write_bytes(self, content: bytes) -> None:
        """Write a file, and retry if that fails; the file is complete or as before."""
        self._retry(lambda store, path: self._put(store, path, content))

    def _retry(self, act: Callable[[Any, str], ResultT]) -> ResultT:
        """Return act(store, path); retry after a pause while the store fails."""
        for pause in RETRY_SECONDS:
            with contextlib.suppress(ResourceError), self._store() as (store, path):
                return act(store, path)
            time.sleep(pause)
        with self._store() as (store, path):
            return act(store, path)

    def _put(self, store: Any, path: str, content: bytes) -> None:
        if self.url.partition("://")[0] in ATOMIC_PROTOCOLS:
            store.pipe_file(path, content)
            store.invalidate_cache()
            return  # the size is not checked: another run may have written the file since
        folder, _, name = path.rpartition("/")
        temporary = f"{folder}/.{name}.{secrets.token_hex(8)}.tmp"
        store.makedirs(folder, exist_ok=True)
        try:
            store.pipe_file(temporary, content)
            if store.info(temporary)["size"] != len(content):
                raise OSError("the file was written partly")
            store.mv(temporary, path)
        except BaseException:
            with contextlib.suppress(Exception):  # the first failure is raised below
                store.rm_file(temporary)
            raise
        store.invalidate_cache()
        if store.info(path)["size"] != len(content):
            raise OSError("the file was written partly")

    @contextlib.contextmanager
    def _store(self) -> Iterator[tuple[Any, str]]:
        """The file system and the path in it. The many errors of store libraries become ResourceError."""
        import fsspec

        try:
            store, path = fsspec.core.url_to_fs(self.url)
            store.invalidate_cache()  # other machines write to it
            yield store, path
        except (FileNotFoundError, FactoryError):
            raise
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise ResourceError(
                f"{self.url}: the store failed ({reason}); complete shards are kept, run again"
            ) from error


@dataclass(frozen=True)
class PinnedLocation(RemoteLocation):
    """A file or a folder of a store at one revision, whose bytes never change, so that its copy is as good.

    `copy` is the file's copy on this machine, or the folder of copies. Records are read from there where they are, also
    without a network. Shards are not: `fetch_shards` compares their copies with the record.
    """

    copy: Path

    def __truediv__(self, name: str) -> "PinnedLocation":
        return PinnedLocation(f"{self.url}/{name}", self.copy / name)

    def size(self) -> int | None:
        return self.copy.stat().st_size if self._is_copied() else super().size()

    def read_bytes(self) -> bytes:
        return read_regular(self.copy) if self._is_copied() else super().read_bytes()

    def _is_copied(self) -> bool:
        return self.copy.suffix != ".h5" and self.copy.is_file()


Location = Path | RemoteLocation


def parse_location(text: str | Path | RemoteLocation) -> Location:
    """Return the location that a path or a URL names.

    Args:
        text: a path, or a URL such as s3://BUCKET/FOLDER; file:// names a local path.

    Raises:
        UsageError: for anything else, a URL without a folder, or one that fsspec cannot open on this machine.
    """
    if not isinstance(text, str | os.PathLike | RemoteLocation):
        raise UsageError(f"a location must be a path or a URL, got {shorten(text)}")
    if isinstance(text, RemoteLocation) or "://" not in str(text):
        return text if isinstance(text, RemoteLocation) else Path(text)
    protocol, _, rest = str(text).partition("://")
    if not rest.strip("/"):
        raise UsageError(f"{text} names a store, but no folder in it; give {protocol}://BUCKET/FOLDER")
    if protocol in ("file", "local"):
        return Path(rest)
    if protocol == "hf" and ":" in rest.partition("@")[0]:  # which messages of the hub's library would show
        raise UsageError("hf:// takes OWNER/NAME without a user's name and password; HF_TOKEN opens private sets")
    import fsspec

    try:
        fsspec.get_filesystem_class(protocol)
    except ValueError:
        known = fsspec.available_protocols()
        raise UsageError(f"{text}: no store {protocol}://; {did_you_mean(protocol, known)}") from None
    except ImportError as error:
        raise UsageError(f"{text}: {one_line(error)}") from None
    return RemoteLocation(str(text).rstrip("/"))


def read_file(path: Location, max_bytes: int | None = None) -> bytes:
    """The bytes of a file of a set. Raises FileNotFoundError where there is none, and as `read_regular`."""
    return path.read_bytes() if isinstance(path, RemoteLocation) else read_regular(path, max_bytes)


def cache_folder() -> Path:
    """The folder of copies of remote files: $INR_FACTORY_CACHE, else inr_factory in the user's cache folder."""
    chosen = os.environ.get("INR_FACTORY_CACHE")
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(chosen) if chosen else home / "inr_factory"


def copy_folder(remote: RemoteLocation) -> Path:
    """The local folder for copies of files of a remote folder."""
    if isinstance(remote, PinnedLocation):
        return remote.copy
    return cache_folder() / f"{remote.name or 'root'}-{fingerprint(remote.url)}"


def fetch_file(remote: RemoteLocation, path: Path) -> None:
    """Copy a remote file; it appears complete, also where several processes fetch it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = remote.read_bytes()
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", delete=False) as file:
        file.write(content)
    os.replace(file.name, path)


def fetch_tree(remote: RemoteLocation) -> Path:
    """Copy all files of a remote folder, but for those that have a copy of the same size and, where the store says when
    a file was changed, of the same time; return the local folder.

    Raises UsageError where the remote folder has no files.
    """
    folder, infos = copy_folder(remote), remote.infos()
    if not infos:
        raise UsageError(f"{remote} has no files; give a folder of a store")
    for name, info in infos.items():
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()):
            raise UsageError(f"{remote} has a file {name!r} that would lie outside of its folder")
        status, changed = path.stat() if path.is_file() else None, _milliseconds(info)
        if status is None or status.st_size != info["size"] or changed not in (None, status.st_mtime_ns // 10**6):
            fetch_file(remote / name, path)
            if changed is not None:
                os.utime(path, ns=(changed * 10**6, changed * 10**6))
    return folder


def _milliseconds(info: dict[str, Any]) -> int | None:
    """When a file of a store was changed, in milliseconds; None where the store does not say it."""
    changed = next((info[key] for key in CHANGED if info.get(key)), None)
    with contextlib.suppress(ValueError):
        changed = datetime.fromisoformat(changed) if isinstance(changed, str) else changed
    changed = changed.timestamp() if isinstance(changed, datetime) else changed
    return int(changed * 1000) if isinstance(changed, int | float) else None


@contextlib.contextmanager
def local_folder(root: Location, name: str) -> Iterator[Path]:
    """Yield a local folder that holds the file `name` of root: root itself, or a copy of that file alone.

    Raises FileNotFoundError for a remote file that does not exist.
    """
    if isinstance(root, Path):
        yield root
        return
    with tempfile.TemporaryDirectory() as folder:
        fetch_file(root / name, Path(folder) / name)
        yield Path(folder)
