"""The command line: its verbs by name, and what becomes of their failures."""

import os
import signal
import sys
from collections.abc import Iterable
from importlib import import_module
from typing import NoReturn

import typer
from typer.exceptions import TyperException

from inr_factory.errors import DISK_FULL, FactoryError, ResourceError, UsageError

EXAMPLES = """Make data sets of implicit neural representations (INRs), learn from their weights.

\b
  inr-factory fit digits                    SIRENs of 1,797 scans, two each
  inr-factory show inrs/digits              see them beside their sources
  inr-factory train inrs/digits --mixup mixup    a classifier of weights
"""
INTERRUPTED = 130

# Each verb and the room of commands that has it. Only the room that is asked for is loaded: the others' libraries
# take seconds.
VERBS = {
    "fit": "fit",
    **dict.fromkeys(("status", "verify", "show"), "look"),
    "report": "report",
    **dict.fromkeys(("card", "push"), "share"),
    **dict.fromkeys(("repair", "merge"), "mend"),
    **dict.fromkeys(("train", "evaluate", "predict"), "learn"),
    "pretrain": "pretrain",
    "sweep": "sweep",
    **dict.fromkeys(("align", "augment_report"), "weights"),
    **dict.fromkeys(("recipes", "doctor"), "machine"),
    "benchmark": "benchmark",
}


def program(verbs: Iterable[str] = VERBS) -> typer.Typer:
    """The command line with these verbs."""
    app = typer.Typer(
        help=EXAMPLES,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(lambda: None)  # without one, a single verb would be the whole program
    for verb in verbs:
        app.command()(getattr(import_module(f"inr_factory.commands.{VERBS[verb]}"), verb))
    return app


def main() -> NoReturn:
    """Run the command of sys.argv and leave with its exit code; see README for what the codes mean."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # also where SIGINT is ignored, as in background jobs
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """The exit code of a command. Failures are one line on stderr; $INR_FACTORY_DEBUG=1 gives tracebacks, too."""
    debug = os.environ.get("INR_FACTORY_DEBUG", "") not in ("", "0")
    asked = [verb for verb in VERBS if arguments[:1] == [verb.replace("_", "-")]]
    command = typer.main.get_command(program(asked or VERBS))
    try:
        code = int(command.main(arguments, prog_name="inr-factory", standalone_mode=False) or 0)
    except TyperException as error:
        _complain(f"{getattr(error, 'format_message', error.__str__)()} (inr-factory --help)")
        return UsageError.exit_code
    except FactoryError as error:
        if debug:
            raise
        _complain(str(error))
        return error.exit_code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if debug:
            raise
        if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in DISK_FULL):
            _complain(f"the machine ran out of memory or disk: {error or 'no memory'}; make room and run again")
            return ResourceError.exit_code
        text = " ".join(str(error).split())
        _complain(f"internal error, {type(error).__name__}: {text} (INR_FACTORY_DEBUG=1 shows where; please report it)")
        return 1
    if code == INTERRUPTED:
        _complain("interrupted; a data set or a run that was being made goes on from there by the same command")
    return code


def _complain(line: str) -> None:
    sys.stderr.write(f"inr-factory: {' '.join(line.split())}\n")
