"""YAML files that people write: recipes, sweeps, options of a run. Plain values, each key once, of bounded size."""

from pathlib import Path
from typing import Any

import yaml

from inr_factory.errors import UsageError, one_line

# More than any such file has; a few lines of aliases can stand for billions of values.
MAX_BYTES, MAX_VALUES, MAX_DEPTH = 1_000_000, 100_000, 100


def load_yaml(path: Path, what: str) -> Any:
    """The plain values of a YAML file, `what` it is called in messages. UsageError for one that is no YAML, has a key
    twice, asks for Python objects, or unfolds to more than anyone writes by hand."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UsageError(f"{what} has more than {MAX_BYTES:,} bytes; is it the right file?")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{what} cannot be read: {error}") from None
    return parse_yaml(text, what)


def parse_yaml(text: str, origin: str) -> Any:
    """As `load_yaml`, for text that comes from `origin`."""
    try:
        fields = yaml.load(text, _EachKeyOnce)
        _unfolded(fields, {})
    except (yaml.YAMLError, ValueError) as error:  # ValueError: 2024-13-45 is a date to YAML
        raise UsageError(f"{origin} is not YAML: {one_line(error)}") from None
    except RecursionError:
        raise UsageError(f"{origin} is nested too deeply, or within itself") from None
    return fields


class _EachKeyOnce(yaml.SafeLoader):
    """YAML forbids a key that stands twice in one mapping; PyYAML keeps the last."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._checked: set[int] = set()

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        if id(node) not in self._checked:  # afterwards it holds what it was merged with, too
            self._checked.add(id(node))
            keys: set[tuple[str, str]] = set()
            for key, _ in node.value:
                if not isinstance(key, yaml.ScalarNode):
                    continue
                if (key.tag, key.value) in keys:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key.value!r} stands twice; take one out", key.start_mark
                    )
                keys.add((key.tag, key.value))
        super().flatten_mapping(node)


def _unfolded(value: Any, known: dict[int, int], depth: int = 0) -> int:
    """How many values there are once every alias is written out; ValueError for more than MAX_VALUES."""
    if depth > MAX_DEPTH:
        raise RecursionError
    if not isinstance(value, dict | list):
        return 1
    if id(value) not in known:
        inner = [*value.keys(), *value.values()] if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(_unfolded(each, known, depth + 1) for each in inner)
        if known[id(value)] > MAX_VALUES:
            raise ValueError(f"its aliases stand for more than {MAX_VALUES:,} values")
    return known[id(value)]
