"""Fitters as threads of this process, for tests: the same loop without the seconds that a process takes to start."""

import contextlib
from threading import Thread

from inr_factory.streaming.fitter import serve
from inr_factory.streaming.fitters import Fitters


class FitterThreads(Fitters):
    def start(self):
        where = (str(self.pool.folder), str(self.pool.shards))
        self.threads = [Thread(target=_serve, args=(*where, number)) for number in range(self.count)]
        for thread in self.threads:
            thread.start()

    def check(self):
        self.pool.raise_failure()

    def stop(self):
        super().stop()
        for thread in self.threads:
            thread.join()


def _serve(folder, shards, number):
    with contextlib.suppress(Exception):  # the pool has it
        serve(folder, shards, number)
