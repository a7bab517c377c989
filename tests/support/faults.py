"""Faults: ways to kill runs and to damage what they wrote, each counting what came of it.

Used small by test_faults.py and large by fault_figures.py. Runs are forked from a process that has loaded torch, one
thread each, so that a start takes milliseconds; every kill is a real SIGKILL of a real process.
"""

import contextlib
import hashlib
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from inr_factory.errors import ResourceError
from inr_factory.generation.execution import local_pool
from inr_factory.generation.execution.fit_dataset import fit_dataset
from inr_factory.generation.execution.fit_plan import plan_fit
from inr_factory.generation.execution.run_settings import FitSettings
from inr_factory.generation.maintenance.integrity_check import check_shards
from inr_factory.generation.recipe import Recipe, check_recipe
from inr_factory.storage import atomic_files
from inr_factory.storage.run_log import LOG_FOLDER
from support.paths import ROOT

ALONE = {"backend": "local", "workers": 1}
PROGRAM = "from inr_factory.cli.main import main; main()"


@dataclass
class Tally:
    """What was done and what was seen; `wrong` names every breach of a promise."""

    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def expect(self, holds: bool, what: str) -> None:
        if not holds:
            self.wrong.append(what)


def small(views: int = 4, **changes: object) -> Recipe:
    """32 digits in blocks of 4, tiny INRs of 20 steps: 9 shards a view, some 25 ms each."""
    fields = {
        "name": "small", "source": {"collection": "digits"}, "limit": 32, "views": views, "shard_objects": 4,
        "spec": {"hidden_dim": 4}, "fit": {"steps": 20, "floor_psnr": -99, "lanes": 4},
    }  # fmt: skip
    return check_recipe(fields | changes, origin="faults")


def arguments(out: Path, views: int = 4, workers: int = 2) -> list[str]:
    """`fit` of the command line that makes the same set as `small`."""
    settings = [
        "shard_objects=4",
        "spec.hidden_dim=4",
        "fit.steps=20",
        "fit.floor_psnr=-99",
        "fit.lanes=4",
        "name=small",
    ]
    command = ["fit", "digits", "--limit", "32", "--views", str(views), "--out", str(out), "--backend", "local"]
    settings += ["spec.omega_0=30", "fit.optimizer=adam", "fit.learning_rate=5e-4", "fit.target_psnr=40", "fit.ridge=5"]
    settings += ["spec.start=siren", "fit.attempts=3"]
    return [*command, "--workers", str(workers), *[word for setting in settings for word in ("--set", setting)]]


def digests(out: Path) -> dict[str, str]:
    """The sha256 of every file of a set, by name, but for the logs of its runs."""
    return {
        str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.parent != out / LOG_FOLDER
    }


def shard_digests(out: Path) -> dict[str, str]:
    return {name: digest for name, digest in digests(out).items() if name.endswith(".h5")}


def make_whole(recipe: Recipe, out: Path) -> dict[str, str]:
    """Make the set without interruption; the digests of its files. Each INR must be there once."""
    torch.set_num_threads(1)
    report = fit_dataset(recipe, out, **ALONE)
    assert report.manifest.rows == 32 * recipe.views
    assert not report.missing
    assert not check_shards(out, report.manifest)
    return digests(out)


def check_whole(tally: Tally, out: Path, whole: dict[str, str], when: str) -> None:
    """A finished set must have the files of the uninterrupted run, byte for byte, and no other."""
    found = digests(out)
    tally.expect(found == whole, f"{when}: {sorted(set(found.items()) ^ set(whole.items()))[:3]}")
    tally.counts["sets that came out identical"] += found == whole


def check_parts(tally: Tally, out: Path, whole: dict[str, str], when: str) -> None:
    """Whatever bears a shard's name in an unfinished set must be that shard, whole."""
    for name, digest in shard_digests(out).items():
        tally.counts["shards looked at after a fault"] += 1
        tally.expect(whole.get(name) == digest, f"{when}: {name} is not the shard of the uninterrupted run")


def forked(action: Callable[[], int | None]) -> int:
    """Run an action in a forked process, quietly, and give its process id; its exit code is what the action gives."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        quiet = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(quiet, stream)
        code = action() or 0
    except ResourceError as error:
        code = error.exit_code
    finally:
        os._exit(code)


def exit_code(pid: int) -> int:
    """Wait for a process; negative where a signal ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def kill_runs(tally: Tally, folder: Path, recipe: Recipe, whole: dict[str, str], kills: int, seed: int = 0) -> None:
    """SIGKILL runs (driver and worker in one process) at random moments, and start the next in the same folder."""
    chance, done, number = random.Random(seed), 0, 0
    out = folder / "run-0"
    while done < kills:
        pid = forked(lambda out=out: fit_dataset(recipe, out, **ALONE).missing)
        time.sleep(chance.expovariate(1 / 0.25))
        os.kill(pid, signal.SIGKILL)
        code = exit_code(pid)
        if code == -signal.SIGKILL:
            done += 1
            tally.counts["runs killed"] += 1
            check_parts(tally, out, whole, f"kill {done}")
        else:
            tally.expect(code == 0, f"a run ended with {code}")
        if not plan_fit(recipe, out, FitSettings()).complete:
            continue
        tally.expect(
            exit_code(forked(lambda out=out: fit_dataset(recipe, out, **ALONE).made)) == 0, "a whole set was refitted"
        )
        check_whole(tally, out, whole, f"after {done} kills")
        shutil.rmtree(out)
        number += 1
        out = folder / f"run-{number}"
    tally.expect(
        exit_code(forked(lambda: fit_dataset(recipe, out, **ALONE).missing)) == 0, "the last run left shards out"
    )
    check_whole(tally, out, whole, "at the end of all kills")


def kill_workers(tally: Tally, folder: Path, recipe: Recipe, whole: dict[str, str], kills: int, seed: int = 0) -> None:
    """SIGKILL workers at random moments of a driver that makes one set after the other with two of them.

    The driver forks its workers from a server that has loaded torch, instead of spawning them.
    """
    chance, enough = random.Random(seed), folder / "enough"

    def drive() -> int:
        os.setsid()
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(
            [
                "inr_factory.generation.execution.worker",
                "inr_factory.generation.sources.image_collections",
                "sklearn.datasets",
            ]
        )
        local_pool.multiprocessing.get_context = lambda _: context  # type: ignore[assignment]
        number = 0
        while not enough.exists():
            with contextlib.suppress(ResourceError):  # five workers dead at one shard end a run; the next resumes
                number += not fit_dataset(recipe, folder / f"set-{number}", backend="local", workers=2).missing
        return 0

    driver, killed = forked(drive), 0
    while killed < kills:
        time.sleep(chance.uniform(0.15, 0.6))
        workers = _workers(driver)
        if workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(chance.choice(workers), signal.SIGKILL)
                killed += 1
    tally.counts["workers killed"] += killed
    enough.touch()
    tally.expect(exit_code(driver) == 0, "a driver whose workers were killed failed")
    for out in sorted(folder.glob("set-*")):
        check_parts(tally, out, whole, "workers killed")
        tally.expect(
            exit_code(forked(lambda out=out: fit_dataset(recipe, out, **ALONE).missing)) == 0, "shards were left out"
        )
        check_whole(tally, out, whole, f"{out.name} after {killed} workers were killed")
        shutil.rmtree(out)


def _workers(driver: int) -> list[int]:
    """Workers of a driver: what the server of its session has forked."""
    members = {pid: parent for pid, parent, session in processes() if session == driver}
    servers = [pid for pid, parent in members.items() if parent == driver and "forkserver" in _command(pid)]
    return [pid for pid, parent in members.items() if parent in servers]


def _command(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    return ""


def processes() -> list[tuple[int, int, int]]:
    """(process, parent, session) of all processes that are not zombies."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError, IndexError, ValueError):
                state, parent, _, session = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
                if state != "Z":
                    found.append((int(folder.name), int(parent), int(session)))
    return found


def start_program(out: Path, home: str | None = None) -> subprocess.Popen[str]:
    """The command line, fitting the set, in a session of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment |= {} if home is None else {"HOME": home}
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments(out)], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
        start_new_session=True, env=environment, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip


def kill_program(
    tally: Tally, out: Path, whole: dict[str, str], kill_signal: signal.Signals, wait: float, shards: int = 1
) -> None:
    """Kill the real program, with two spawned workers, `wait` seconds after it has made `shards` shards; then start it
    again at once, while the old workers die, and let it finish."""
    program = start_program(out)
    deadline = time.monotonic() + 120
    while len(list((out / "data").glob("*.h5"))) < shards and program.poll() is None:
        tally.expect(time.monotonic() < deadline, "a run made nothing in two minutes")
        time.sleep(0.005)
    time.sleep(wait)
    killed, began = program.poll() is None, time.monotonic()
    program.send_signal(kill_signal)
    successor = forked(lambda: fit_dataset(small(), out, **ALONE).missing) if kill_signal == signal.SIGKILL else None
    _, said = program.communicate(timeout=60)
    seconds = time.monotonic() - began
    if killed and program.returncode != 0:
        tally.counts[f"programs killed by {kill_signal.name}"] += 1
    if killed and kill_signal != signal.SIGKILL and program.returncode != 0:
        tally.expect(program.returncode == 130, f"{kill_signal.name}: exit {program.returncode}: {said[-200:]}")
        tally.expect(seconds < 5, f"{kill_signal.name}: left after {seconds:.1f} s")
        tally.counts["slowest exit, ms"] = max(tally.counts["slowest exit, ms"], round(1000 * seconds))
    while any(session == program.pid for _, _, session in processes()) and time.monotonic() - began < 10:
        time.sleep(0.05)
    left = [pid for pid, _, session in processes() if session == program.pid]
    tally.expect(not left, f"{kill_signal.name}: processes {left} live on after 10 s")
    check_parts(tally, out, whole, kill_signal.name)
    if successor is not None:
        tally.expect(exit_code(successor) == 0, "the run beside dying workers failed")
    tally.expect(exit_code(forked(lambda: fit_dataset(small(), out, **ALONE).missing)) == 0, "a run left shards out")
    check_whole(tally, out, whole, f"after {kill_signal.name}")


def fill_disk(tally: Tally, out: Path, recipe: Recipe, whole: dict[str, str], room: int, ways: str) -> None:
    """Let the disk be full after `room` bytes, by injection ("write") or a limit of the size of files ("limit"), then
    free it and go on."""

    def full() -> int:
        if ways == "limit":
            import resource

            resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
        else:
            left = [room]
            atomic_files.open = lambda path, mode: _Scarce(path, mode, left)  # type: ignore[attr-defined]
        return fit_dataset(recipe, out, **ALONE).missing

    code = exit_code(forked(full))
    tally.expect(code == ResourceError.exit_code, f"a disk full after {room} bytes ended a run with {code}")
    tally.counts[f"disks full ({ways})"] += 1
    tally.expect(not list(out.rglob("*.tmp")), "a full disk left temporary files")
    check_parts(tally, out, whole, f"disk full after {room} bytes")
    tally.expect(exit_code(forked(lambda: fit_dataset(recipe, out, **ALONE).missing)) == 0, "a run left shards out")
    check_whole(tally, out, whole, f"after a disk full after {room} bytes")


class _Scarce:
    """A file on a disk with so many bytes left: what fits is written, then comes ENOSPC."""

    def __init__(self, path: Path, mode: str, left: list[int]) -> None:
        self.file, self.left = open(path, mode), left  # noqa: SIM115

    def __enter__(self) -> "_Scarce":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def write(self, content: bytes) -> None:
        self.file.write(content[: self.left[0]])
        if len(content) > self.left[0]:
            raise OSError(28, "No space left on device")
        self.left[0] -= len(content)

    def flush(self) -> None:
        self.file.flush()

    def fileno(self) -> int:
        return self.file.fileno()
