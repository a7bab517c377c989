"""The command line, run in this process: exit code, stdout and stderr."""

from inr_factory.cli.main import run


def outcome(capsys, *arguments):
    """Exit code, stdout and stderr of a command."""
    capsys.readouterr()
    code = run([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def failure(capsys, *arguments):
    """Exit code and the one line of a command that fails."""
    code, out, err = outcome(capsys, *arguments)
    assert "Traceback" not in err + out
    line = err.strip().splitlines()[-1]
    assert line.startswith("inr-factory: ")
    return code, line
