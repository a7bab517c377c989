"""Options: frozen settings that are written as `name:key=value,key=value` in recipes and on the command line."""

import json
import re
import typing
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, TypeVar

from inr_factory.errors import UsageError, did_you_mean, shorten


@dataclass(frozen=True)
class Option:
    """Settings with a short name. `str()` writes them with all their values, `parse_option` reads that back.

    A subclass is a frozen dataclass whose fields are float, int, bool or one of a few words, each with a default,
    and which checks them in __post_init__.
    """

    name: ClassVar[str]

    def __str__(self) -> str:
        values = ",".join(f"{field.name}={_write(getattr(self, field.name))}" for field in fields(self))
        return f"{self.name}:{values}" if values else self.name


OptionT = TypeVar("OptionT", bound=Option)


def parse_option(text: str, known: Mapping[str, type[OptionT]], what: str) -> OptionT:
    """Read an option from text; settings that are not given have their defaults.

    Args:
        text: `name` or `name:key=value,key=value`. Values are numbers, words, or true and false.
        known: The options by their names.
        what: What errors call the kind of option.

    Returns:
        The option; `str()` of it is such a text again.

    Raises:
        UsageError: For an unknown name or key, with the nearest known one, and for a value that does not fit.
    """
    if not isinstance(text, str):
        raise UsageError(f"a {what} is named by text, got {type(text).__name__}")
    name, colon, pairs = split_pairs(text)
    if name not in known:
        raise UsageError(f"unknown {what} {name!r}; {did_you_mean(name, known)}")
    option = known[name]
    keys = {field.name for field in fields(option)}
    if colon and not pairs:
        raise UsageError(f"{text!r} ends after the colon; write {_example(option)}")
    types, values = typing.get_type_hints(option), {}
    for key, equals, value in pairs:
        if key not in keys:
            near = did_you_mean(key, keys) if keys else "it has no keys"
            raise UsageError(f"{name} has no key {key!r}; {near}")
        if not equals or not value or key in values:
            raise UsageError(f"{name} takes each key once as key=value, got {text!r}; write {_example(option)}")
        values[key] = _read(value, types[key], f"{name}:{key}")
    return option(**values)


def split_pairs(text: str) -> tuple[str, bool, list[tuple[str, bool, str]]]:
    """The grammar `name:key=value,key=value`: the name, whether a colon follows, and (key, whether = follows, value) of
    each pair, without surrounding spaces."""
    name, colon, rest = (part.strip() for part in text.partition(":"))
    pairs = [[part.strip() for part in pair.partition("=")] for pair in rest.split(",")] if rest else []
    return name, bool(colon), [(key, bool(equals), value) for key, equals, value in pairs]


def parse_model(text: str) -> tuple[str, dict[str, Any]]:
    """Name and options of a model, `name` or `name:key=value,key=value`; values are numbers, true, false, null or words.

    The encoder checks names and values. Raises UsageError for a pair without "=".
    """
    if not isinstance(text, str):
        raise UsageError(f"a model is given as text, such as 'dws' or 'ng_t:num_layers=2', got {text!r}")
    name, _, pairs = split_pairs(text)
    options: dict[str, Any] = {}
    for key, equals, value in pairs:
        if not (key or equals):  # a trailing comma
            continue
        if not equals:
            raise UsageError(f"--model takes name:key=value,key=value, got {text!r}")
        try:
            options[key] = json.loads(value.lower())
        except json.JSONDecodeError:
            options[key] = value
    return name, options


def check_number(option: Option, key: str, low: float, high: float) -> None:
    """Raise UsageError unless option.key is a number (not NaN) in [low, high]."""
    value = getattr(option, key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise UsageError(f"{option.name}: {key} must be a number from {low:g} to {high:g}, got {shorten(value)}")


def check_integer(option: Option, key: str, low: int, high: int) -> None:
    """Raise UsageError unless option.key is a whole number in [low, high]."""
    value = getattr(option, key)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise UsageError(f"{option.name}: {key} must be a whole number from {low} to {high}, got {shorten(value)}")


def check_flag(option: Option, key: str) -> None:
    """Raise UsageError unless option.key is True or False."""
    value = getattr(option, key)
    if not isinstance(value, bool):
        raise UsageError(f"{option.name}: {key} must be true or false, got {shorten(value)}")


def check_word(option: Option, key: str) -> None:
    """Raise UsageError unless option.key is one of the words that its Literal type lists."""
    value, known = getattr(option, key), typing.get_args(typing.get_type_hints(type(option))[key])
    if not isinstance(value, str) or value not in known:
        raise UsageError(f"{option.name}: {key} must be one of {', '.join(known)}, got {shorten(value)}")


def _read(text: str, kind: Any, where: str) -> float | int | bool | str:
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise UsageError(f"{where} must be true or false, got {text!r}")
        return text.lower() == "true"
    if kind is int:
        if not re.fullmatch(r"[+-]?\d{1,9}", text):
            raise UsageError(f"{where} must be a whole number, got {text!r}")
        return int(text)
    if kind is float:
        try:
            return float(text)
        except ValueError:
            raise UsageError(f"{where} must be a number, got {text!r}") from None
    return text


def _write(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _example(option: type[Option]) -> str:
    return str(option())
