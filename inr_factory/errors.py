"""Errors that a user can mend, each with the exit code that the command line gives it."""

import difflib
import errno
from collections.abc import Iterable

# What the system says when no more can be written: the disk, a quota, a limit of file sizes.
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class FactoryError(Exception):
    """A failure told in one line: what was expected, what came, what to do."""

    exit_code = 1


class UsageError(FactoryError, ValueError):
    """The command, the recipe or the input does not say what is needed."""

    exit_code = 2


class IntegrityError(FactoryError, ValueError):
    """A file is not what its record says: truncated, edited, foreign or of another format."""

    exit_code = 4


class ResourceError(FactoryError, OSError):
    """The machine ran out of something: disk, memory, a GPU."""

    exit_code = 5


class PartialError(FactoryError):
    """Some of the work is done and kept; the same command goes on with the rest."""

    exit_code = 75


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """What to say of an unknown word: the nearest known one, or all of them."""
    known = sorted(known)
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"


def one_line(error: BaseException) -> str:
    """Somebody else's message as one line of moderate length."""
    return " ".join(str(error).split())[:200] or type(error).__name__
