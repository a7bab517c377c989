"""Places: where a set or a source lies: a folder, or a URL of a store that fsspec knows. The only module that imports it.

A folder stays a pathlib.Path, with all its speed. Of a URL there is a `Remote`, which has those of Path's methods that
a set needs. A file appears in a store whole or not at all: object stores put it so; elsewhere it is given its name when
it is complete.
"""

import contextlib
import os
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from inr_factory.errors import FactoryError, ResourceError, UsageError, did_you_mean
from inr_factory.inr.stable_hash import fingerprint

PUT_WHOLE = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oci", "oss", "memory"}
RETRY_SECONDS = (0.5, 2.0)

ResultT = TypeVar("ResultT")


@dataclass(frozen=True)
class Remote:
    """A file or a folder in a store, by its URL. Raises ResourceError where the store does not do what it is asked."""

    url: str

    def __truediv__(self, name: str) -> "Remote":
        return Remote(f"{self.url}/{name}")

    def __str__(self) -> str:
        return self.url

    @property
    def name(self) -> str:
        return self.url.rpartition("/")[2]

    @property
    def parent(self) -> "Remote":
        return Remote(self.url.rpartition("/")[0])

    def absolute(self) -> "Remote":
        return self

    def expanduser(self) -> "Remote":
        return self

    def mkdir(self, parents: bool = False, exist_ok: bool = False) -> None:
        """Nothing: a folder is there when something is in it."""

    def exists(self) -> bool:
        try:
            with self._store() as (store, path):
                store.info(path)  # store.exists would say no, too, where the store is down
        except FileNotFoundError:
            return False
        return True

    def is_file(self) -> bool:
        return self.size() is not None

    def is_dir(self) -> bool:
        return not self.is_file() and self.exists()

    def size(self) -> int | None:
        """Bytes of a file; None where there is none."""
        try:
            with self._store() as (store, path):
                found = store.info(path)
        except FileNotFoundError:
            return None
        return int(found["size"]) if found["type"] == "file" else None

    def sizes(self) -> dict[str, int]:
        """Name, below this folder, and bytes of every file in it and in its folders; by one listing."""
        try:
            with self._store() as (store, path):
                found = store.find(path, detail=True)
        except FileNotFoundError:
            return {}
        start = len(path.rstrip("/")) + 1
        return {name[start:]: int(each["size"]) for name, each in found.items()}

    def read_bytes(self) -> bytes:
        return self._again(lambda store, path: bytes(store.cat_file(path)))

    def read_text(self, encoding: str = "utf-8") -> str:
        return self.read_bytes().decode(encoding)

    def write_bytes(self, content: bytes) -> None:
        """Put a file, again if that fails; it is there whole or as it was before."""
        self._again(lambda store, path: self._put(store, path, content))

    def _again(self, act: Callable[[Any, str], ResultT]) -> ResultT:
        """What an act on the store gives, tried again, after a pause, while the store fails."""
        for pause in RETRY_SECONDS:
            with contextlib.suppress(ResourceError), self._store() as (store, path):
                return act(store, path)
            time.sleep(pause)
        with self._store() as (store, path):
            return act(store, path)

    def _put(self, store: Any, path: str, content: bytes) -> None:
        if self.url.partition("://")[0] in PUT_WHOLE:
            store.pipe_file(path, content)
            store.invalidate_cache()
            return  # whole; another run may have put its own since
        folder, _, name = path.rpartition("/")
        temporary = f"{folder}/.{name}.{secrets.token_hex(8)}.tmp"
        store.makedirs(folder, exist_ok=True)
        try:
            store.pipe_file(temporary, content)
            if store.info(temporary)["size"] != len(content):
                raise OSError("only a part was written")
            store.mv(temporary, path)
        except BaseException:
            with contextlib.suppress(Exception):  # it fails, and says so below
                store.rm_file(temporary)
            raise
        store.invalidate_cache()
        if store.info(path)["size"] != len(content):
            raise OSError("only a part was written")

    @contextlib.contextmanager
    def _store(self) -> Iterator[tuple[Any, str]]:
        """The file system and the path in it. What libraries of stores raise is of many kinds; here it becomes one."""
        import fsspec

        try:
            store, path = fsspec.core.url_to_fs(self.url)
            store.invalidate_cache()  # other machines write, too
            yield store, path
        except (FileNotFoundError, FactoryError):
            raise
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise ResourceError(
                f"{self.url}: the store failed ({reason}); what is complete stays, run again"
            ) from error


Place = Path | Remote


def place(text: str | Path | Remote) -> Place:
    """The place that a path or a URL names. Raises UsageError for a URL that fsspec cannot open here."""
    if isinstance(text, Remote) or "://" not in str(text):
        return text if isinstance(text, Remote) else Path(text)
    protocol, _, rest = str(text).partition("://")
    if not rest.strip("/"):
        raise UsageError(f"{text} names a store, but no place in it; give {protocol}://PLACE/FOLDER")
    if protocol in ("file", "local"):
        return Path(rest)
    import fsspec

    try:
        fsspec.get_filesystem_class(protocol)
    except ValueError:
        known = fsspec.available_protocols()
        raise UsageError(f"{text}: no store {protocol}://; {did_you_mean(protocol, known)}") from None
    except ImportError as error:
        raise UsageError(f"{text}: {' '.join(str(error).split())}") from None
    return Remote(str(text).rstrip("/"))


def cache_folder() -> Path:
    """Where copies of remote files are kept: $INR_FACTORY_CACHE, else inr_factory in the user's cache folder."""
    chosen = os.environ.get("INR_FACTORY_CACHE")
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(chosen) if chosen else home / "inr_factory"


def copy_of(remote: Remote) -> Path:
    """The folder that holds copies of files of a remote folder."""
    return cache_folder() / f"{remote.name or 'root'}-{fingerprint(remote.url)}"


def fetch_file(remote: Remote, path: Path) -> None:
    """Copy a remote file; it appears whole, also where several processes fetch it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = remote.read_bytes()
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", delete=False) as file:
        file.write(content)
    os.replace(file.name, path)


def fetch_tree(remote: Remote) -> Path:
    """A copy of all files of a remote folder; those that are there already, of the same size, are not fetched again.

    Raises UsageError where the folder has no files.
    """
    folder, sizes = copy_of(remote), remote.sizes()
    if not sizes:
        raise UsageError(f"{remote} has no files; give a folder of a store")
    for name, size in sizes.items():
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()):
            raise UsageError(f"{remote} has a file {name!r} that would lie outside of its folder")
        if not path.is_file() or path.stat().st_size != size:
            fetch_file(remote / name, path)
    return folder


@contextlib.contextmanager
def near(root: Place, name: str) -> Iterator[Path]:
    """Meanwhile, a local folder in which the file `name` of root lies: root itself, or a copy of that file alone.

    Raises FileNotFoundError for a remote file that is not there.
    """
    if isinstance(root, Path):
        yield root
        return
    with tempfile.TemporaryDirectory() as folder:
        fetch_file(root / name, Path(folder) / name)
        yield Path(folder)
