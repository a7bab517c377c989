"""Fault figures: kills runs a thousand times, fills disks and damages files, and prints what came of it.

python tests/system/fault_figures.py              # some 20 minutes on two busy cores
    python tests/system/fault_figures.py --only hostile
python tests/system/fault_figures.py --share 0.1  # a tenth of it
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[levels]) for levels in (1, 2)]

from support.faults import (  # noqa: E402
    ALONE,
    Tally,
    check_whole,
    fill_disk,
    forked,
    kill_program,
    kill_runs,
    kill_workers,
    make_whole,
    small,
    start_program,
)
from support.faults import exit_code as end  # noqa: E402
from support.file_mutations import mutate_files  # noqa: E402
from support.mutations import mutate_caches, mutate_manifests, mutate_shards  # noqa: E402

from inr_factory.generation.execution import fit_plan, run_fit  # noqa: E402
from inr_factory.generation.execution.fit_dataset import fit_dataset  # noqa: E402
from inr_factory.generation.execution.progress_recorder import FitProgress  # noqa: E402


def main() -> int:
    """Do all; 0 where every promise was held."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--share", type=float, default=1.0, help="of the full numbers")
    parser.add_argument("--only", action="append", help="only this part; repeatable")
    parser.add_argument("--folder", type=Path, help="where sets are made; else a temporary folder")
    given = parser.parse_args()

    def share(number: int) -> int:
        return max(1, round(number * given.share))

    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        folder, tally = Path(name), Tally()
        recipe, out = small(), folder / "whole"
        whole = make_whole(recipe, out)
        chance = random.Random(0)
        parts: dict[str, Callable[[], None]] = {
            "runs": lambda: kill_runs(tally, _new(folder, "runs"), recipe, whole, share(730)),
            "workers": lambda: kill_workers(tally, _new(folder, "workers"), recipe, whole, share(262)),
            "program": lambda: _kill_programs(tally, folder, whole, chance, share(8), share(4)),
            "disk": lambda: _fill(tally, folder, whole, chance, share(50)),
            "shards": lambda: mutate_shards(tally, out, folder, share(600)),
            "manifests": lambda: mutate_manifests(tally, out, folder, share(100)),
            "files": lambda: mutate_files(tally, folder / "files", share(900)),
            "caches": lambda: mutate_caches(tally, folder, share(100)),
            "workers 1, 2, 4, any order, ten restarts": lambda: _same_bits(tally, folder, whole),
        }
        parts["two programs at once, HOME not writable"] = lambda: _two_at_once(tally, folder / "two", whole)
        parts["hostile"] = lambda: _hostile(tally, _new(folder, "hostile"))
        began = time.monotonic()
        for what, do in parts.items():
            if given.only and what not in given.only:
                continue
            started, before = time.monotonic(), len(tally.wrong)
            do()
            print(f"{what}: {time.monotonic() - started:.0f} s, {len(tally.wrong) - before} breaches", flush=True)
    kills = sum(
        count
        for name, count in tally.counts.items()
        if name in ("runs killed", "workers killed", "programs killed by SIGKILL")
    )
    print(f"\nSIGKILLs: {kills}")
    for what, count in sorted(tally.counts.items()):
        print(f"{what}: {count}")
    print(f"breaches: {len(tally.wrong)}")
    for wrong in tally.wrong[:20]:
        print(f"  {wrong}")
    print(f"{time.monotonic() - began:.0f} s")
    return int(bool(tally.wrong))


def _new(folder: Path, name: str) -> Path:
    (folder / name).mkdir()
    return folder / name


def _kill_programs(
    tally: Tally, folder: Path, whole: dict[str, str], chance: random.Random, kills: int, others: int
) -> None:
    signals = [signal.SIGKILL] * kills + [signal.SIGINT] * others + [signal.SIGTERM] * others
    for index, number in enumerate(signals):
        shards = 1 if index % 4 else 0  # also before anything is made
        wait = chance.uniform(0, 0.3) if shards else chance.uniform(0, 6)
        kill_program(tally, folder / f"killed-{index}", whole, number, wait, shards)


def _hostile(tally: Tally, folder: Path) -> None:
    from support.hostile_files import all_cases
    from support.hostile_readers import read_watched

    slowest, largest = 0.0, 0
    for number, case in enumerate(all_cases()):
        new = _new(folder, str(number))
        outcome = read_watched(case, new / "inside", new / "outside")
        tally.wrong += [f"{case.reader}, {case.name}: {breach}" for breach in outcome.breaches]
        tally.counts["hostile files"] += 1
        tally.counts["hostile files refused in one line"] += outcome.message is not None and not outcome.breaches
        slowest, largest = max(slowest, outcome.seconds), max(largest, outcome.memory)
    print(f"hostile files: at most {slowest:.1f} s and {largest / 2**20:.0f} MiB each")


def _two_at_once(tally: Tally, out: Path, whole: dict[str, str]) -> None:
    programs = [start_program(out, home="/proc/nowhere") for _ in range(2)]
    for program in programs:
        _, said = program.communicate(timeout=240)
        tally.expect(program.returncode == 0, f"one of two programs ended with {program.returncode}: {said[-200:]}")
    check_whole(tally, out, whole, "two programs at once")


def _fill(tally: Tally, folder: Path, whole: dict[str, str], chance: random.Random, count: int) -> None:
    size = sum(path.stat().st_size for path in (folder / "whole").rglob("*") if path.is_file())
    for number in range(count):
        limited = number % 5 == 4
        room = chance.randrange(1, 13_000) if limited else chance.randrange(size)
        fill_disk(tally, folder / f"full-{number}", small(), whole, room, "limit" if limited else "write")
    disk = _new(folder, "disk")
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(disk)], capture_output=True, check=False
    ).returncode:
        print("no tmpfs can be mounted here: the disk was full by injection and limits alone")
        return
    try:
        code = end(forked(lambda: _unchecked(disk / "set")))
        tally.expect(code == 5, f"a full tmpfs ended a run with {code}")
        tally.expect(not list(disk.rglob("*.tmp")), "a full tmpfs has temporary files left")
        subprocess.run(["mount", "-o", "remount,size=4m", str(disk)], check=True)
        tally.expect(
            end(forked(lambda: fit_dataset(small(), disk / "set", **ALONE).missing)) == 0, "a run left shards out"
        )
        check_whole(tally, disk / "set", whole, "after a full tmpfs")
        tally.counts["disks full (tmpfs)"] += 1
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def _unchecked(out: Path) -> int:
    """A run that does not check the disk space first."""
    run_fit.check_disk = lambda *_: 0  # type: ignore[assignment]
    return fit_dataset(small(), out, **ALONE).missing


def _same_bits(tally: Tally, folder: Path, whole: dict[str, str]) -> None:
    in_order, order = fit_plan._tasks_of_part, random.Random(1)
    for workers in (1, 2, 4):
        out = folder / f"workers-{workers}"
        fit_dataset(small(), out, backend="local", workers=workers)
        check_whole(tally, out, whole, f"{workers} workers")
    fit_plan._tasks_of_part = lambda *given: order.sample(tasks := in_order(*given), len(tasks))  # type: ignore[assignment]
    out = folder / "restarts"
    for _ in range(10):
        began: list[int] = []

        def stop(state: FitProgress, began: list[int] = began) -> None:
            began.append(state.tally.done)
            if state.tally.done - began[0] >= 12:
                raise KeyboardInterrupt

        try:
            fit_dataset(small(), out, **ALONE, on_progress=stop)
        except KeyboardInterrupt:
            tally.counts["restarts"] += 1
    fit_dataset(small(), out, **ALONE)
    fit_plan._tasks_of_part = in_order
    check_whole(tally, out, whole, "shuffled, after ten restarts")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
