"""Errors that a user can fix, each with its exit code on the command line, and the wording of messages."""

import difflib
import errno
import re
import unicodedata
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import ValidationError

# System errors for a full disk, an exhausted quota or a limit on file sizes.
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

# System errors that no content of a file causes: those of memory, disks, mounts, rights, limits and networks.
MACHINE_ERRORS = frozenset(getattr(errno, name) for name in ["ENOSPC", "EDQUOT", "EFBIG", "ENOMEM", "EIO", "EMFILE", "ENFILE", "ESTALE", "EINTR", "EAGAIN", "EACCES", "EPERM", "EROFS", "EBUSY", "ENODEV", "ENXIO", "EREMOTEIO", "ENOLCK", "EUCLEAN", "EBADMSG", "ENOBUFS", "EHOSTDOWN", "EHOSTUNREACH", "ENETDOWN", "ENETUNREACH", "ENETRESET", "ECONNABORTED", "ECONNRESET", "ECONNREFUSED", "ENOTCONN", "ETIMEDOUT", "EPROTO"] if hasattr(errno, name))  # fmt: skip

# How C++, torch, zlib, Pillow, threads and loaders of libraries say that memory is short, without a MemoryError.
NO_MEMORY = re.compile(
    r"bad_alloc|(can't|cannot|could not|failed to) allocate|(out of|insufficient|not enough|no) memory|"
    r"memory allocation|can't start new thread|failed to map segment|^Error -4\b",
    re.IGNORECASE,
)
# Names of the errors of clients of networks that are no OSError with a number.
NETWORK = re.compile(r"Connect|Timeout|Disconnected|IncompleteRead|URLError|gaierror|NameResolution|Protocol")


# Names of URL queries that hold a secret.
_SECRETS = r"[\w.-]*(?:token|secret|password|passwd|signature|credential|api_?key|access_?key)[\w.-]*|sig|pwd|auth|key"


class FactoryError(Exception):
    """A failure, described in one line: what was expected, what came, and what to do."""

    exit_code = 1

    def __init__(self, message: str = "") -> None:
        super().__init__(redact(message))

    def __str__(self) -> str:
        """The message in one line, whatever values it quotes."""
        return " ".join(line.strip() for line in super().__str__().splitlines())


class UsageError(FactoryError, ValueError):
    """A command, an argument, a recipe or an input file is wrong or incomplete."""

    exit_code = 2


class MissingExtraError(UsageError):
    """An optional dependency is not installed."""


class MissingExtraWarning(UserWarning):
    """Something optional was left out, since its dependency is not installed."""


class QuarantineWarning(UserWarning):
    """More INRs of a set are in quarantine than its recipe's quarantine_threshold allows."""


class IntegrityError(FactoryError, ValueError):
    """A file differs from its record: it is truncated, edited, foreign or of another format."""

    exit_code = 4


class ResourceError(FactoryError, OSError):
    """The machine lacks something: disk, memory or a GPU."""

    exit_code = 5


class PartialError(FactoryError):
    """Part of the work is done and kept; the same command resumes it."""

    exit_code = 75


def machine_fault(error: BaseException, outer: BaseException | None = None) -> str | None:
    """Why an error is a fault of the machine (memory, disk, limits, rights, network), in one line; None for any other.

    An error that another wraps counts too, through `__cause__` and `__context__`: a decoder's "cannot be read" may be
    memory that ran out. A missing file is no such fault, nor is any other error that content can cause. `outer` is an
    error that was being handled before, which does not count.
    """
    chain: BaseException | None = error
    while chain is not None and chain is not outer:
        if (reason := _own_fault(chain)) is not None:
            return reason
        wraps = not (isinstance(chain, OSError) and chain.errno)  # what the system says wraps nothing
        chain = chain.__cause__ or (chain.__context__ if wraps else None)
    return None


def _own_fault(error: BaseException) -> str | None:
    if isinstance(error, MemoryError):
        return f"out of memory ({one_line(error)})"
    if isinstance(error, ResourceError):
        return one_line(error)
    if isinstance(error, FactoryError) or not isinstance(error, Exception):
        return None
    code = getattr(error, "code", None) or getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(code, int) and 400 <= code < 500 and code not in (408, 429):
        return None  # a server that answers says something about the object
    if isinstance(error, OSError) and error.errno in MACHINE_ERRORS:
        name = f": {error.filename}" if error.filename else ""
        return f"{error.strerror}{name}"
    if any(NETWORK.search(kind.__name__) for kind in type(error).__mro__):
        return f"{type(error).__name__}: {one_line(error)}"
    of_library = isinstance(error, RuntimeError | ImportError) or type(error).__module__ == "zlib"
    of_library |= isinstance(error, OSError) and error.errno is None
    text = re.sub(r"'[^'\\s]+'", "", str(error))  # without names of files, which may be anything
    return f"out of memory ({one_line(error)})" if of_library and NO_MEMORY.search(text) else None


def blame_machine(error: BaseException, subject: object) -> None:
    """Raise ResourceError where an error of reading `subject` is a fault of the machine, which says nothing about it."""
    if isinstance(error, ResourceError):
        raise error
    if (reason := machine_fault(error)) is not None:
        raise ResourceError(f"{subject} cannot be read on this machine: {reason}; see to it and run again") from None


@contextmanager
def needs_extra(extra: str, alternative: str = "") -> Iterator[None]:
    """Import optional dependencies: `with needs_extra("ray"): import ray`.

    Args:
        extra: the extra of this package that installs them.
        alternative: what works without them, the end of the message.

    Raises:
        MissingExtraError: one of them cannot be imported.
    """
    try:
        yield
    except ImportError as error:
        package = (error.name or extra).partition(".")[0]
        broken = "" if isinstance(error, ModuleNotFoundError) else f", which cannot be imported ({one_line(error)})"
        remedy = f'pip install "inr-factory[{extra}]"{alternative}'
        raise MissingExtraError(f"this needs {package}{broken}: {remedy}") from None


def require_extra(extra: str, *modules: str) -> None:
    """Check, without importing them, that the modules of an extra are installed; MissingExtraError where one is not."""
    with needs_extra(extra):
        for module in modules:
            if find_spec(module) is None:
                raise ModuleNotFoundError(name=module)


@contextmanager
def skip_without_extra(what: str) -> Iterator[None]:
    """Leave something out, with a MissingExtraWarning, where its optional dependency is not installed."""
    try:
        yield
    except MissingExtraError as error:
        warnings.warn(f"no {what}: {error}", MissingExtraWarning, stacklevel=3)


def redact(text: str) -> str:
    """Text without the passwords and tokens of the URLs in it: the part before @, and the values of secret queries."""
    if "://" not in text:
        return text
    text = re.sub(r"(://(?:datasets/)?)(?:[^/\s'\"]+|[^/@\s'\"]*:[^@\s'\"]*)@", r"\1***@", text)
    return re.sub(rf"([?&](?:{_SECRETS})=)[^&\s'\",;)]+", r"\1***", text, flags=re.IGNORECASE)


def printable(text: str) -> str:
    """Text of others for one line: control characters, line breaks, marks that turn the direction of writing and lone
    surrogates are written as escapes, which neither a terminal nor a page follows."""
    if text.isprintable():
        return text
    return "".join(character if _is_plain(character) else _escape(character) for character in text)


def _is_plain(character: str) -> bool:
    return unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Zl", "Zp") or character in "\u200c\u200d"


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode() if character not in "\n\t\r" else repr(character)[1:-1]


def csv_cell(text: str) -> str:
    """Text of others for a cell of a table: as `printable`, and no spreadsheet takes it for a formula. Numbers stay."""
    text = printable(text)
    return f"'{text}" if re.match(r"[=@]|[+-](?![0-9.]+(e[+-]?[0-9]+)?$)", text) else text


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint for an unknown word: the nearest known one, or all of them."""
    known = sorted(known)
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"


def one_line(error: BaseException) -> str:
    """The message of a library's error as one line of at most 200 characters."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def validation_message(error: "ValidationError", ignored: Collection[str | int] = ()) -> str:
    """The first fault of a pydantic validation in one line: the dotted key without parts that are ignored, what was
    expected, what came."""
    fault = error.errors()[0]
    return describe_fault(".".join(str(part) for part in fault["loc"] if part not in ignored), fault)


def describe_fault(key: str, fault: Mapping[str, Any]) -> str:
    """One of the faults that `ValidationError.errors` lists, in one line that calls its key `key`."""
    prefix = f"{key}: " if key else ""
    if fault["type"] == "missing":
        return f"the key {key!r} is missing"
    if fault["type"] == "extra_forbidden":
        return f"no key {key!r}"
    if fault["type"] == "value_error":
        return f"{prefix}{one_line(fault['ctx']['error'])}"
    if fault["type"] == "literal_error":
        known = [word.strip(" '") for word in fault["ctx"]["expected"].replace(" or ", ", ").split(",")]
        return f"{prefix}unknown value {shorten(fault['input'])}; {did_you_mean(str(fault['input'])[:100], known)}"
    message = fault["msg"]
    return f"{prefix}{message[:1].lower()}{message[1:]}, got {shorten(fault['input'])}"


def shorten(value: Any) -> str:
    """The repr of a value, of which a message shows at most 100 characters."""
    try:
        text = repr(value)
    except ValueError:  # a whole number of more than 4,300 digits
        text = f"a {type(value).__name__}"
    return text if len(text) <= 100 else f"{text[:100]}…"


def brief(value: Any) -> str:
    """A value in a sentence: text as it is, anything else as its repr, of which at most 100 characters are shown."""
    return value if isinstance(value, str) and len(value) <= 100 else shorten(value)
