"""Main guard: detects scripts that start worker processes without `if __name__ == "__main__":`."""

import multiprocessing
import os

UNGUARDED = 77  # exit code of a worker that ran such a script


def exit_if_importing_main() -> None:
    """End a worker process that is importing the script which started it, and through it would start workers again."""
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        os._exit(UNGUARDED)
