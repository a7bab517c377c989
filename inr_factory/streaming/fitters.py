"""Fitters: starts the processes that fit fresh views, replaces those that die, and ends them."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from inr_factory.errors import FactoryError
from inr_factory.streaming.pool import Pool

MAX_DEATHS = 5  # one after the other without a new shard in between
STOP_SECONDS = 5.0
TAIL_BYTES = 4_000


class Fitters:
    """`count` processes of this machine or, with the address of a Ray cluster, one that keeps `count` of them there."""

    def __init__(self, pool: Pool, count: int, address: str | None) -> None:
        self.pool, self.count, self.address = pool, count, address
        self._deaths, self._made = 0, 0
        self._processes: dict[int, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        for number in range(1 if self.address else self.count):
            self._start(number)

    def check(self) -> None:
        """Replace those that died. Raises FactoryError where they die again and again, or what one of them failed of."""
        self.pool.raise_failure()
        for number, process in list(self._processes.items()):
            if process.poll() is None:
                continue
            self.pool.raise_failure()  # it may have said so in between
            made = int(sum(report["inrs"] for report in self.pool.reports()))
            self._deaths = 1 if made > self._made else self._deaths + 1
            self._made = made
            if self._deaths > MAX_DEATHS:
                raise FactoryError(
                    f"fitters of fresh views died {self._deaths} times in a row (exit code {process.returncode}); the last "
                    f"one said: {self._last_words(number)}"
                )
            self._start(number)

    def stop(self) -> None:
        """End all of them; what they were making is given up."""
        if (demand := self.pool.demand()) is not None:
            self.pool.publish(replace(demand, closed=True))  # for those on other machines
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes = {}

    def _start(self, number: int) -> None:
        where = [str(self.count), self.address] if self.address else [str(number)]
        arguments = [str(self.pool.folder), str(self.pool.shards), str(os.getpid()), *where]
        with open(self._log(number), "ab") as log:
            self._processes[number] = subprocess.Popen(
                [sys.executable, "-m", "inr_factory.streaming", *arguments],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=_environment(),
            )  # fmt: skip

    def _log(self, number: int) -> Path:
        return self.pool.folder / f"fitter-{number}.log"

    def _last_words(self, number: int) -> str:
        lines = self._log(number).read_bytes()[-TAIL_BYTES:].decode(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "nothing")


def _environment() -> dict[str, str]:
    """That of this process, with the folders from which it imports, and one thread a fitter; not the ranks of training."""
    paths = os.pathsep.join(dict.fromkeys(path or os.getcwd() for path in sys.path))
    ranks = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
    kept = {name: value for name, value in os.environ.items() if name not in ranks}
    return kept | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
