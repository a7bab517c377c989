"""Atomic files appear complete or not at all, and what dead writers left is removed."""

import errno
import os
import subprocess
import sys
import time

import pytest
from filelock import FileLock, Timeout

from inr_factory.errors import ResourceError
from inr_factory.storage import atomic_files
from inr_factory.storage.atomic_files import (
    STAGING,
    remove_stale_temporaries,
    staging_folder,
    write_atomically,
    writer_name,
)
from inr_factory.storage.locations import parse_location
from inr_factory.storage.manifest import MANIFEST


def temporaries(root):
    return [path.name for path in root.rglob("*.tmp")]


def test_a_file_is_written_and_replaced(tmp_path):
    path = tmp_path / "file"

    for content in (b"one", b"", b"three"):
        write_atomically(path, content)
        assert path.read_bytes() == content
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (OSError(errno.ENOSPC, "full"), ResourceError),
        (OSError(errno.EDQUOT, "over quota"), ResourceError),
        (OSError(errno.EIO, "broken"), OSError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
def test_a_write_that_fails_leaves_the_old_content_and_nothing_else(tmp_path, monkeypatch, step, failure, kind):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    seen = []

    def fail(*_):
        seen.append(temporaries(tmp_path))
        raise failure

    monkeypatch.setattr(atomic_files.os, step, fail)
    with pytest.raises(kind) as caught:
        write_atomically(path, b"new")

    assert isinstance(caught.value, ResourceError) == (kind is ResourceError)
    assert len(seen[0]) == 1, "it was not written to a temporary file"
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_full_disk_says_what_was_needed(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(atomic_files.os, "fsync", fail)
    with pytest.raises(ResourceError, match=r"the disk is full: .*file needs 1,500 bytes; free some space"):
        write_atomically(tmp_path / "file", b"x" * 1500)


@pytest.fixture
def dead_pid():
    process = subprocess.Popen([sys.executable, "-S", "-c", ""])
    process.wait()
    return process.pid


def test_only_temporaries_of_dead_writers_are_removed(tmp_path, dead_pid, monkeypatch):
    (tmp_path / "data").mkdir()
    host = atomic_files._host()
    gone = [f".{MANIFEST}.{host}-{dead_pid}.0123abcd.tmp", f"data/.x.h5.{host}-{dead_pid}.0123abcd.tmp"]
    kept = [
        f".{MANIFEST}.{host}-{os.getpid()}.0123abcd.tmp",
        f"data/.x.h5.{host}-{os.getppid()}.0123abcd.tmp",
        f".{MANIFEST}.elsewhere-{dead_pid}.0123abcd.tmp",
        ".notes.tmp", ".a.b.tmp", "notes.tmp", f".x.{host}-{dead_pid}.0123abcd", f".x.{host}-{dead_pid}.notes.tmp",
        f".x.{host}-99999999999.0123abcd.tmp", "data/x.h5", MANIFEST,
    ]  # fmt: skip
    for name in gone + kept:
        (tmp_path / name).touch()
    old = [name for name in kept if "elsewhere" not in name]
    for name in old:
        os.utime(tmp_path / name, (0, 0))

    assert remove_stale_temporaries(tmp_path) == 2
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert left == sorted(kept)
    assert remove_stale_temporaries(tmp_path) == 0


def test_temporaries_of_another_machine_are_removed_when_they_are_old(tmp_path):
    path = tmp_path / f".{MANIFEST}.elsewhere-1.0123abcd.tmp"
    path.touch()

    assert remove_stale_temporaries(tmp_path) == 0
    os.utime(path, (time.time() - 4000,) * 2)
    assert remove_stale_temporaries(tmp_path, max_age=5000) == 0
    assert remove_stale_temporaries(tmp_path) == 1


def test_a_writer_that_is_killed_leaves_a_name_that_is_removed(tmp_path, monkeypatch, dead_pid):
    monkeypatch.setattr(atomic_files.os, "getpid", lambda: dead_pid)
    kept = []

    def snatch(temporary, path):
        kept.append((temporary, temporary.read_bytes()))

    monkeypatch.setattr(atomic_files.os, "replace", snatch)
    write_atomically(tmp_path / "odd.name-1.h5", b"half")
    monkeypatch.undo()

    assert temporaries(tmp_path) == [kept[0][0].name]
    assert remove_stale_temporaries(tmp_path) == 1


def test_a_zombie_counts_as_dead(tmp_path):
    """A zombie still has its process id."""
    process = subprocess.Popen([sys.executable, "-S", "-c", ""])
    deadline = time.monotonic() + 20
    while not _is_zombie(process.pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    (tmp_path / f".x.{atomic_files._host()}-{process.pid}.0123abcd.tmp").touch()

    assert remove_stale_temporaries(tmp_path) == 1
    process.wait()


def _is_zombie(pid):
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] == "Z"


def test_one_lock_keeps_others_out_and_leaves_no_file(tmp_path):
    code = f"""
import pathlib, sys
from inr_factory.storage.atomic_files import locked
with locked(pathlib.Path({str(tmp_path)!r})) as exclusive:
    print(exclusive, flush=True)
    sys.stdin.readline()
"""
    other = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline() == "True\n"
    held = FileLock(tmp_path / atomic_files.LOCK, timeout=0)
    with pytest.raises(Timeout):
        held.acquire()
    other.communicate("go on\n")

    with atomic_files.locked(tmp_path) as exclusive:
        assert exclusive
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EBADF])
def test_where_nothing_can_be_locked_work_goes_on_without(tmp_path, monkeypatch, code):
    def refuse(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("fcntl.flock", refuse)
    with atomic_files.locked(tmp_path) as exclusive:
        assert not exclusive
    with atomic_files.locked(parse_location("memory://locks/set")) as exclusive:
        assert not exclusive


def test_a_staging_folder_goes_with_its_writer_and_so_do_those_of_the_dead(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    host = writer_name().rpartition("-")[0]
    names = {"dead": f"{STAGING}{host}-{dead.pid}.00000000", "other": f"{STAGING}elsewhere-1.00000000"}
    for name in (*names.values(), ".staging"):
        (tmp_path / name / "data").mkdir(parents=True)
    with staging_folder(tmp_path) as first, staging_folder(tmp_path) as second:
        assert first != second
        (first / "data").mkdir(parents=True)
        with staging_folder(tmp_path):
            assert first.is_dir(), "its writer lives"
    assert {path.name for path in tmp_path.iterdir()} == {names["other"], ".staging"}
