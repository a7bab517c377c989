"""The command line: its verbs, and the message and exit code of each failure."""

import math
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from keyword import iskeyword
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.exceptions import TyperException

from inr_factory.cli import terminal
from inr_factory.cli.completion import offer_words
from inr_factory.cli.help_layout import HELP, Program, Verb, add_options, shorten_types
from inr_factory.cli.training_options import CHOICES
from inr_factory.errors import (
    FactoryError,
    MissingExtraWarning,
    QuarantineWarning,
    ResourceError,
    UsageError,
    machine_fault,
)
from inr_factory.inr.version import __version__

EXAMPLES = """Make data sets of implicit neural representations (INRs), train on their weights.

\b
  inr-factory fit digits                    SIRENs of 1,797 scans, two each
  inr-factory show inrs/digits              draw them next to their sources
  inr-factory train inrs/digits             a classifier of weights
"""
INTERRUPTED = 130
LEAST_MEMORY, SMALL_MEMORY = 256 * 2**20, 4 * 2**30  # bytes; numpy alone takes half of the least

# Headings of the first help screen, each with its verbs and the modules of cli/commands that hold them. These modules
# import torch, h5py and the like inside their functions: help and completion load all of them in a tenth of a second.
PANELS = {
    "Make": {"fit": "fit", "learn_start": "learn_start", "repair": "repair", "merge": "repair", "align": "align", "targets": "targets"},
    "Look": {
        "status": "inspect_dataset", "verify": "inspect_dataset", "show": "inspect_dataset", "report": "report",
        "compare": "compare", "augment_report": "align",
    },
    "Learn": {"train": "train", "evaluate": "evaluate", "predict": "evaluate", "pretrain": "pretrain", "embed": "embed",
        "search": "search", "edit": "edit", "sweep": "sweep",
    },
    "Share": {"import": "import_export", "export": "import_export", "card": "publish", "push": "publish", "pull": "publish"},
    "This program": {
        "recipes": "environment", "doctor": "environment", "cache": "environment", "benchmark": "benchmark",
        "version": "environment",
    },
}  # fmt: skip
VERBS = tuple(verb for verbs in PANELS.values() for verb in verbs)


def program() -> Program:
    """The command line with all its verbs."""
    app = typer.Typer(
        cls=Program,
        help=EXAMPLES,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": HELP, "max_content_width": 100},
    )
    app.callback()(_global_options)
    functions: dict[str, Any] = {}
    for verb, module in (item for verbs in PANELS.values() for item in verbs.items()):
        name = f"{verb}_" if iskeyword(verb) else verb
        function = getattr(import_module(f"inr_factory.cli.commands.{module}"), name)
        offer_words(function)
        functions[verb.replace("_", "-")] = function
        app.command(verb.replace("_", "-"), cls=Verb)(function)
    group = typer.main.get_command(app)
    assert isinstance(group, Program)
    group.panels = {panel: [verb.replace("_", "-") for verb in verbs] for panel, verbs in PANELS.items()}
    for name, function in functions.items():
        command: Any = group.commands[name]
        command.choices = CHOICES.get(name, {})
        add_options(command, [option for option in group.params if option.name in ("quiet", "debug")])
        shorten_types(command, function)
    shorten_types(group, _global_options)
    return group


def _print_version(requested: bool) -> None:
    if requested:
        terminal.print_result(f"inr-factory {__version__}")
        raise typer.Exit


def _global_options(
    version: Annotated[
        bool, typer.Option("--version", help="print the version", is_eager=True, callback=_print_version)
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="no progress: results and errors only")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="errors with their tracebacks")] = False,
) -> None:
    """Options before the verb; `run` reads quiet and debug itself, since they may also follow the verb."""


def main() -> NoReturn:
    """Run the command of sys.argv and leave with its exit code; docs/commands.md says what the codes mean."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # also where SIGINT is ignored, as in background jobs
    if _memory_limit() < LEAST_MEMORY:  # libraries end the process themselves where they cannot be loaded
        _log_failure(
            f"the machine allows {_memory_limit():,} bytes of memory (ulimit -v), {LEAST_MEMORY:,} are the least"
        )
        sys.exit(ResourceError.exit_code)
    if _memory_limit() < SMALL_MEMORY:  # OpenBLAS hangs, or interrupts the process, where its threads get no memory
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # Threads of torch that wait keep a core busy, which slows training where other jobs run: docs/results/options.md.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    sys.exit(run(sys.argv[1:]))


def _memory_limit() -> float:
    """The bytes of memory that this process may map."""
    if os.name == "nt":
        return math.inf
    import resource

    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return math.inf if limit == resource.RLIM_INFINITY else limit


def _memory_is_used_up() -> bool:
    """Whether this process has once mapped nine tenths of what it may map, as far as the system tells."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return False
    peak = next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmPeak:")), 0)
    return peak * 1024 > 0.9 * _memory_limit()


def run(arguments: list[str]) -> int:
    """The exit code of a command. Failures are one line on stderr; --debug or $INR_FACTORY_DEBUG=1 gives tracebacks."""
    debug = "--debug" in arguments or os.environ.get("INR_FACTORY_DEBUG", "") not in ("", "0")
    terminal.set_quiet(not {"--quiet", "-q"}.isdisjoint(arguments))
    try:
        with _warnings_as_lines():
            code = int(program().main(arguments or ["--help"], prog_name="inr-factory", standalone_mode=False) or 0)
    except TyperException as error:
        near = getattr(error, "possibilities", None)  # of an unknown option
        message = f"{error.message}; did you mean {near[0]!r}?" if near else _message_of(error)
        _log_failure(f"{message} ({_help_command(arguments)})")
        return UsageError.exit_code
    except FactoryError as error:
        if debug:
            traceback.print_exc()
        _log_failure(str(error))
        return error.exit_code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if debug:
            traceback.print_exc()
        reason = machine_fault(error)
        if reason is None and isinstance(error, SystemError) and _memory_is_used_up():
            reason = f"out of memory ({error})"  # as the interpreter fails where it can make no exception
        if reason is not None:
            _log_failure(f"the machine failed: {reason}; see to it and run again")
            return ResourceError.exit_code
        text = " ".join(str(error).split())
        _log_failure(f"internal error, {type(error).__name__}: {text} (--debug shows where; please report it)")
        return 1
    if not arguments:
        return UsageError.exit_code  # help was asked for by nothing
    if code == INTERRUPTED:
        _log_failure("interrupted; run the same command again to resume")
    return code


@contextmanager
def _warnings_as_lines() -> Iterator[None]:
    """Show each MissingExtraWarning once, as a line without file and line number; `fit` itself says what is in quarantine."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", QuarantineWarning)
        show, shown = warnings.showwarning, set[str]()

        def show_line(message: Warning | str, category: type[Warning], *rest: Any) -> None:
            if category is not MissingExtraWarning:
                show(message, category, *rest)
            elif str(message) not in shown:
                shown.add(str(message))
                terminal.log_info(str(message))

        warnings.showwarning = show_line  # type: ignore[assignment]
        yield


def _message_of(error: TyperException) -> str:
    return str(getattr(error, "format_message", error.__str__)())


def _help_command(arguments: Sequence[str]) -> str:
    """The command that explains the verb of a command line."""
    word = next((word for word in arguments if not word.startswith("-")), "")
    known = word.replace("-", "_") in VERBS
    return f"inr-factory {word} --help" if known else "inr-factory --help"


def _log_failure(line: str) -> None:
    terminal.log_error(f"inr-factory: {' '.join(line.split())}")
