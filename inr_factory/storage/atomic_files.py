"""Atomic files: written completely or not at all, one writer at a time, without leftovers of writers that died."""

import contextlib
import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from inr_factory.errors import DISK_FULL, ResourceError, UsageError
from inr_factory.inr.regular_files import check_regular, is_replaced
from inr_factory.storage.locations import Location, RemoteLocation
from inr_factory.storage.manifest import SHARD_FOLDER, check_inside

WRITE_ATTEMPTS = 3
LOCK = ".manifest.lock"
POLL_SECONDS = 0.01
STAGING = ".staging-"


@contextlib.contextmanager
def locked(root: Location) -> Iterator[bool]:
    """Keep other runs out of the set in folder root meanwhile.

    Yields:
        False where nothing can be locked: in stores, and in some network file systems.
    """
    if isinstance(root, RemoteLocation):
        yield False
        return
    check_inside(root, root / LOCK)
    from filelock import FileLock

    # Soft locks would stay behind a writer that died on another machine.
    lock = FileLock(root / LOCK, poll_interval=POLL_SECONDS, fallback_to_soft=False)
    try:
        lock.acquire()
    except (OSError, NotImplementedError):
        yield False
        return
    try:
        yield True
    finally:
        with contextlib.suppress(OSError):  # Windows removes no open file; a waiting run notices that it is gone
            os.unlink(root / LOCK)
        lock.release()


def write_atomically(path: Location, content: bytes) -> None:
    """Write a file so that it is complete or as before, also after a crash: temporary name, fsync, rename.

    Args:
        path: the file, in a folder that exists, or in a store.
        content: all its bytes.

    Raises:
        ResourceError: where the disk is full. The temporary file is removed on any failure.
    """
    if isinstance(path, RemoteLocation):
        path.write_bytes(content)
        return
    if is_replaced(path):
        check_regular(path)  # raises: what stands there was not made by this program, and stays
    for attempt in range(WRITE_ATTEMPTS):
        temporary = temporary_name(path, secrets.token_hex(4))
        try:
            with open(temporary, "xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
            break
        except FileNotFoundError:
            # Another machine may take it for an orphan: clocks differ, and process ids of containers do.
            if attempt + 1 == WRITE_ATTEMPTS or not path.parent.is_dir():
                raise
        except OSError as error:
            temporary.unlink(missing_ok=True)
            if error.errno in DISK_FULL:
                raise ResourceError(
                    f"the disk is full: {path} needs {len(content):,} bytes; free some space and run again"
                ) from None
            raise
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    if os.name == "nt":  # Windows opens no folders
        return
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def make_folder(path: Location) -> None:
    """Make a folder for results, with those above it. Raises UsageError where a file is in its place."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise UsageError(f"{path} is a file, or lies in one, and should be a folder; choose another --out") from None


def temporary_name(path: Path, token: str) -> Path:
    """A name in the folder of path that `remove_stale_temporaries` knows; token is 8 hex digits."""
    return path.with_name(f".{path.name}.{writer_name()}.{token}.tmp")


def remove_stale_temporaries(root: Location, max_age: float = 3600) -> int:
    """Remove temporary files whose writers are gone, and return how many.

    A writer on this machine is gone when its process is. One on another machine counts as gone when its file is
    `max_age` seconds old, or as far in the future: a clock was set back. A writer that lives after all writes its file
    again. Only files with a `temporary_name` are removed.
    """
    removed = 0
    if isinstance(root, RemoteLocation):
        return removed
    for path in [*root.glob(".*.tmp"), *(root / SHARD_FOLDER).glob(".*.tmp")]:
        name = re.fullmatch(r"\..+\.(\w+-\d{1,9})\.[0-9a-f]{8}\.tmp", path.name)
        if name is None:
            continue
        alive = writer_alive(name[1])
        try:
            stale = not alive if alive is not None else abs(time.time() - path.stat().st_mtime) > max_age
        except FileNotFoundError:
            continue
        if stale:
            path.unlink(missing_ok=True)
            removed += 1
    return removed


@contextlib.contextmanager
def staging_folder(root: Path) -> Iterator[Path]:
    """A folder in root, not made yet, for files that are not complete. It is removed, as those of dead writers are."""
    for path in root.glob(f"{STAGING}*"):
        if writer_alive(path.name.removeprefix(STAGING).rpartition(".")[0]) is False:
            shutil.rmtree(path, ignore_errors=True)
    folder = root / f"{STAGING}{writer_name()}.{secrets.token_hex(4)}"
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def writer_name() -> str:
    """The name of this process in names of files: HOST-PID."""
    return f"{_host()}-{os.getpid()}"


def writer_alive(name: str) -> bool | None:
    """Whether the process of that name lives; None for one on another machine."""
    host, _, pid = name.rpartition("-")
    if host != _host():
        return None
    import psutil

    try:
        return bool(psutil.Process(int(pid)).status() != psutil.STATUS_ZOMBIE)  # a zombie writes no more
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9]", "_", socket.gethostname())
