"""Hostile readers: read a hostile file in a process of its own and watch the process.

Watched are the time, the memory, whether a file outside is opened (by inotify, which sees C libraries, too), whether
code ran, and the message.
"""

import ctypes
import hashlib
import json
import os
import resource
import select
import signal
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from inr_factory.errors import FactoryError
from inr_factory.generation.geometry.mesh_files import read_mesh
from inr_factory.generation.geometry.point_cloud_files import read_points
from inr_factory.generation.maintenance.integrity_check import check_manifest, check_shards
from inr_factory.generation.recipe import ImageSource, load_recipe
from inr_factory.generation.signals import SignalError
from inr_factory.generation.sources.hdf5_point_clouds import find_blocks, list_blocks, read_block_row
from inr_factory.generation.sources.image_files import file_signal
from inr_factory.learning.data.dataset import INRDataset
from inr_factory.learning.models.checkpoint import load_classifier
from inr_factory.learning.training.sweep_config import load_sweep, runs_of
from inr_factory.storage.manifest import ShardEntry
from inr_factory.storage.manifest_file import load_manifest
from inr_factory.storage.shards import ShardReader
from support.hostile_files import MARK, SECRET, SHARD, Hostile

SECONDS, MEMORY = 10, 2**30
IN_OPEN, IN_ACCESS = 0x20, 0x1


@dataclass(frozen=True)
class Outcome:
    """What reading gave: `message` of the refusal, None where the file was read; `breaches` should be empty."""

    message: str | None
    seconds: float
    memory: int
    breaches: tuple[str, ...]


def _shard(folder: Path) -> None:
    """Read it as a run recovers it, then as a foreign manifest records it; the second decides where both refuse."""
    path = folder / SHARD
    try:
        ShardReader.unrecorded(path)
    except FactoryError:
        content = b"" if path.is_symlink() else path.read_bytes()
        entry = ShardEntry(
            path=SHARD, split="train", view=1, block=2, rows=5, bytes=len(content),
            sha256=hashlib.sha256(content).hexdigest(), psnr=None, mean_steps=None,
        )  # fmt: skip
        shard = ShardReader(folder, entry)
        shard.check_rows()


def _block(folder: Path) -> None:
    _, rows = list_blocks(folder, find_blocks(folder))
    for row in rows[:3]:
        read_block_row(row)


def _image(folder: Path) -> None:
    path = next(folder.iterdir())
    for config in (ImageSource(collection="image_folder"), ImageSource(collection="image_folder", size=16)):
        try:
            file_signal(path, config)
        except SignalError:
            if config.size is not None:
                raise


def _manifest(folder: Path) -> None:
    manifest = load_manifest(folder)
    manifest.missing(folder)
    faults = [*check_manifest(folder, manifest), *check_shards(folder, manifest)]
    INRDataset(folder)
    if faults:
        raise FactoryError(faults[0].reason)


def _recipe(folder: Path) -> None:
    load_recipe(str(folder / "mine.yaml"))


READERS: dict[str, Callable[[Path], object]] = {
    "shard": _shard,
    "block": _block,
    "checkpoint": lambda folder: load_classifier(folder / "best.pt"),
    "image": _image,
    "mesh": lambda folder: read_mesh(_only(folder).name, _only(folder).read_bytes(), 1_000_000),
    "cloud": lambda folder: read_points(_only(folder).name, _only(folder).read_bytes(), 1_000_000),
    "recipe": _recipe,
    "sweep": lambda folder: runs_of(load_sweep(folder / "grid.yaml"), folder),
    "manifest": _manifest,
}


def _only(folder: Path) -> Path:
    return next(folder.iterdir())


def read_watched(case: Hostile, folder: Path, outside: Path, seconds: float = SECONDS) -> Outcome:
    """Make the file in folder, then read it in a forked process with 4 GiB, killed after `seconds`."""
    folder.mkdir()
    outside.mkdir()
    (outside / SECRET).write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(9000))
    case.make(folder, outside)
    watch = _watch(outside)
    read_end, write_end = os.pipe()
    began = time.monotonic()
    pid = os.fork()
    if not pid:
        _child(READERS[case.reader], folder, write_end)
    os.close(write_end)
    breaches, text = [], b""
    while select.select([read_end], [], [], max(0.0, began + seconds - time.monotonic()))[0]:
        part = os.read(read_end, 65536)
        text += part
        if not part:
            break
    else:
        breaches.append(f"not done after {seconds} s")
        os.kill(pid, signal.SIGKILL)
    elapsed = time.monotonic() - began
    os.close(read_end)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    result = json.loads(text) if text and code == 0 else {"message": None, "memory": 0, "kind": f"died with {code}"}
    if result["kind"] not in ("read", "refused"):
        breaches.append(f"{result['kind']}: {result['message']}"[:300])
    if result["kind"] == "read" and not case.harmless:
        breaches.append("it was read")
    if result["message"] is not None and ("\n" in result["message"] or not 0 < len(result["message"]) < 1000):
        breaches.append(f"not one line: {result['message'][:200]!r}")
    if result["memory"] > MEMORY:
        breaches.append(f"{result['memory'] / 2**20:.0f} MiB")
    if _opened(watch):
        breaches.append("a file outside was opened")
    if (outside / MARK).exists() or (folder / MARK).exists() or Path(MARK).exists():
        breaches.append("code ran")
    os.close(watch)
    return Outcome(result["message"], elapsed, result["memory"], tuple(breaches))


def _child(reader: Callable[[Path], object], folder: Path, pipe: int) -> None:
    code = 1
    try:
        quiet = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(quiet, stream)
        resource.setrlimit(resource.RLIMIT_AS, (_status("VmSize") + 4 * MEMORY,) * 2)
        Path("/proc/self/clear_refs").write_text("5")  # the peak of memory counts from here
        before = _status("VmRSS")
        message, kind = None, "read"
        try:
            reader(folder)
        except (FactoryError, SignalError) as error:
            message, kind = str(error), "refused"
        except BaseException as error:
            message, kind = str(error)[:500], f"{type(error).__name__}"
        result = {"message": message and message[:2000], "kind": kind, "memory": max(0, _status("VmHWM") - before)}
        os.write(pipe, json.dumps(result).encode())
        code = 0
    finally:
        os._exit(code)


def _status(name: str) -> int:
    """Bytes of this process, from /proc."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(name)).split()[1])


def _watch(folder: Path) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    watch = libc.inotify_init1(os.O_NONBLOCK)
    assert watch >= 0
    for path in [folder, *folder.rglob("*")]:
        assert libc.inotify_add_watch(watch, os.fsencode(path), IN_OPEN | IN_ACCESS) >= 0
    return int(watch)


def _opened(watch: int) -> bool:
    """Whether a file in the folder was opened; opening the folder itself, as a listing does, does not count."""
    try:
        events, offset = os.read(watch, 65536), 0
    except BlockingIOError:
        return False
    while offset < len(events):
        _, mask, _, length = struct.unpack_from("iIII", events, offset)
        if not mask & 0x40000000:  # IN_ISDIR
            return True
        offset += 16 + length
    return False
