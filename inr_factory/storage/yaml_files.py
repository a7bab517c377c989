"""YAML 1.2 files that people write: recipes, sweeps, options of a run. Plain values, no key twice, of bounded size."""

import io
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from inr_factory.errors import UsageError, blame_machine, one_line
from inr_factory.inr.regular_files import read_regular

# More than any such file has; a few lines of aliases can stand for billions of values.
MAX_BYTES, MAX_VALUES, MAX_DEPTH = 1_000_000, 100_000, 100


def load_yaml(path: Path, what: str) -> Any:
    """Read the plain values of a YAML file.

    Args:
        path: the file.
        what: its name in messages.

    Raises:
        UsageError: for a file that is no YAML, has a key twice, names Python objects, or expands to more values than
            anyone writes by hand.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UsageError(f"{what} has more than {MAX_BYTES:,} bytes; is it the right file?")
        text = read_regular(path, MAX_BYTES).decode("utf-8")
    except UsageError:
        raise
    except (OSError, ValueError) as error:
        blame_machine(error, what)
        raise UsageError(f"{what} cannot be read: {error}") from None
    return parse_yaml(text, what)


def parse_yaml(text: str, origin: str) -> Any:
    """As `load_yaml`, for text from `origin`."""
    try:
        fields = YAML(typ="safe", pure=True).load(text)
        _count_values(fields, {})
    except (YAMLError, ValueError) as error:  # ValueError: 2024-13-45 is a date to YAML
        raise UsageError(f"{origin} is not YAML: {_reason(error)}") from None
    except RecursionError:
        raise UsageError(f"{origin} is nested too deeply, or within itself") from None
    return fields


def dump_yaml(fields: Any) -> str:
    """Write plain values as YAML, keys in their order, one a line."""
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False  # type: ignore[assignment]  # ruamel's types know its first value, None, alone
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    text = io.StringIO()
    yaml.dump(fields, text)
    return text.getvalue()


def _reason(error: Exception) -> str:
    """The fault and its position, without the quotations and hints that the parser adds."""
    mark = getattr(error, "problem_mark", None)
    if not isinstance(error, MarkedYAMLError) or mark is None or not error.problem:
        return one_line(error)
    return f"{error.problem.partition(' with value ')[0]} in line {mark.line + 1}, column {mark.column + 1}"


def _count_values(value: Any, counts: dict[int, int], depth: int = 0) -> int:
    """The number of values after every alias is expanded. Raises ValueError for more than MAX_VALUES."""
    if depth > MAX_DEPTH:
        raise RecursionError
    if not isinstance(value, dict | list):
        return 1
    if id(value) not in counts:
        inner = [*value.keys(), *value.values()] if isinstance(value, dict) else value
        counts[id(value)] = 1 + sum(_count_values(each, counts, depth + 1) for each in inner)
        if counts[id(value)] > MAX_VALUES:
            raise ValueError(f"its aliases stand for more than {MAX_VALUES:,} values")
    return counts[id(value)]
