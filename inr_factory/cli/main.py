"""The command line: its verbs by name, and what becomes of their failures."""

import os
import signal
import sys
import traceback
from collections.abc import Collection, Sequence
from importlib import import_module
from keyword import iskeyword
from typing import Annotated, NoReturn

import typer
from typer.exceptions import TyperException

from inr_factory.cli import terminal
from inr_factory.cli.completion import offer_words
from inr_factory.cli.lazy_help import signature_of
from inr_factory.errors import DISK_FULL, FactoryError, ResourceError, UsageError

EXAMPLES = """Make data sets of implicit neural representations (INRs), learn from their weights.

\b
  inr-factory fit digits                    SIRENs of 1,797 scans, two each
  inr-factory show inrs/digits              see them beside their sources
  inr-factory train inrs/digits --mixup mixup    a classifier of weights
"""
INTERRUPTED = 130
COMPLETION = "_INR_FACTORY_COMPLETE"  # set by a shell that asks what may come next

# Each verb and the room of commands that has it. Only the room that is asked for is loaded: the others' libraries
# take seconds.
VERBS = {
    "fit": "fit",
    **dict.fromkeys(("repair", "merge"), "mend"),
    **dict.fromkeys(("align", "augment_report"), "weights"),
    **dict.fromkeys(("status", "verify", "show"), "look"),
    "report": "report",
    "compare": "compare",
    **dict.fromkeys(("train", "evaluate", "predict"), "learn"),
    "pretrain": "pretrain",
    "sweep": "sweep",
    **dict.fromkeys(("card", "push"), "share"),
    **dict.fromkeys(("import", "export"), "exchange"),
    **dict.fromkeys(("recipes", "doctor"), "machine"),
    "benchmark": "benchmark",
}

# Under which heading of the first help screen each verb stands.
PANELS = {
    **dict.fromkeys(("fit", "repair", "merge", "align"), "Make"),
    **dict.fromkeys(("status", "verify", "show", "report", "compare", "augment_report"), "Look"),
    **dict.fromkeys(("train", "evaluate", "predict", "pretrain", "sweep"), "Learn"),
    **dict.fromkeys(("import", "export", "card", "push"), "Share"),
    **dict.fromkeys(("recipes", "doctor", "benchmark"), "This program"),
}


def program(loaded: Collection[str] = VERBS, described: Collection[str] = ()) -> typer.Typer:
    """The command line: of the verbs that are not `loaded` it knows what they are for, and of those that are `described`
    their options, too, which is all that help and completion need."""
    app = typer.Typer(
        help=EXAMPLES,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_everywhere)
    for verb, room in VERBS.items():
        name = f"{verb}_" if iskeyword(verb) else verb
        if verb in loaded:
            function = getattr(import_module(f"inr_factory.cli.commands.{room}"), name)
        else:
            function = signature_of(room, name, parameters=verb in described)
        offer_words(function)
        app.command(verb.replace("_", "-"), rich_help_panel=PANELS.get(verb))(function)
    return app


def _say_version(asked: bool) -> None:
    if asked:
        from importlib import metadata  # a tenth of a second, which completion does not need

        terminal.tell(f"inr-factory {metadata.version('inr-factory')}")
        raise typer.Exit


def _everywhere(
    version: Annotated[
        bool, typer.Option("--version", help="print the version", is_eager=True, callback=_say_version)
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="no progress: results and errors only")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="errors with their tracebacks")] = False,
) -> None:
    """Options before the verb; `run` reads quiet and debug itself, since they may stand after the verb, too."""


def main() -> NoReturn:
    """Run the command of sys.argv and leave with its exit code; see README for what the codes mean."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # also where SIGINT is ignored, as in background jobs
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """The exit code of a command. Failures are one line on stderr; --debug or $INR_FACTORY_DEBUG=1 gives tracebacks."""
    debug = "--debug" in arguments or os.environ.get("INR_FACTORY_DEBUG", "") not in ("", "0")
    terminal.be_quiet(not {"--quiet", "-q"}.isdisjoint(arguments))
    asked = [verb for verb in [_verb_of(arguments)] if verb]
    helps = COMPLETION in os.environ or not {"-h", "--help"}.isdisjoint(arguments)
    command = typer.main.get_command(program([], asked) if helps else program(asked))
    assert isinstance(command, typer.core.TyperGroup)
    for verb in command.commands.values():
        verb.params += [option for option in command.params if option.name in ("quiet", "debug")]
        for option in verb.params[-2:]:
            option.expose_value = False
    try:
        code = int(command.main(arguments, prog_name="inr-factory", standalone_mode=False) or 0)
    except TyperException as error:
        near = getattr(error, "possibilities", None)  # of an unknown option
        told = f"{error.message}; did you mean {near[0]!r}?" if near else _told(error)
        _complain(f"{told} ({_help_command(arguments)})")
        return UsageError.exit_code
    except FactoryError as error:
        if debug:
            traceback.print_exc()
        _complain(str(error))
        return error.exit_code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if debug:
            traceback.print_exc()
        if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in DISK_FULL):
            _complain(f"the machine ran out of memory or disk: {error or 'no memory'}; make room and run again")
            return ResourceError.exit_code
        text = " ".join(str(error).split())
        _complain(f"internal error, {type(error).__name__}: {text} (--debug shows where; please report it)")
        return 1
    if code == INTERRUPTED:
        _complain("interrupted; a data set or a run that was being made goes on from there by the same command")
    return code


def _told(error: TyperException) -> str:
    return str(getattr(error, "format_message", error.__str__)())


def _verb_of(arguments: Sequence[str]) -> str | None:
    """The verb, as VERBS has it, that a command names, or the line that a shell wants completed."""
    line = os.environ.get("COMP_WORDS") or os.environ.get("_TYPER_COMPLETE_ARGS") or ""
    words = line.split()[1:] if COMPLETION in os.environ else arguments
    word = next((word for word in words if not word.startswith("-")), "")
    return next((verb for verb in VERBS if verb.replace("_", "-") == word), None)


def _help_command(arguments: Sequence[str]) -> str:
    return " ".join(filter(None, ("inr-factory", (_verb_of(arguments) or "").replace("_", "-"), "--help")))


def _complain(line: str) -> None:
    terminal.warn(f"inr-factory: {' '.join(line.split())}")
