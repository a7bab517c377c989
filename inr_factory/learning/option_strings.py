"""Options: frozen settings that are written as `name:key=value,key=value` in recipes and on the command line."""

import json
import re
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from inr_factory.errors import UsageError, did_you_mean, shorten

if TYPE_CHECKING:
    from importlib.metadata import EntryPoints


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
KindT = TypeVar("KindT")
PartT = TypeVar("PartT")


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

    def types_of(option: type[OptionT]) -> dict[str, Any]:
        types = typing.get_type_hints(option)
        return {field.name: types[field.name] for field in fields(option)}

    name, values = read_settings(text, known, what, types_of, lambda option: str(option()))
    return known[name](**values)


def read_settings(
    text: str,
    known: Mapping[str, KindT],
    what: str,
    types_of: Callable[[KindT], Mapping[str, Any]],
    example: Callable[[KindT], str],
) -> tuple[str, dict[str, Any]]:
    """The name and the given settings of an option's text. `types_of` gives the types of the settings of a known kind,
    float, int, bool or a Literal of words, `example` a text of it. Raises UsageError as `parse_option`."""
    if not isinstance(text, str):
        raise UsageError(f"a {what} is named by text, got {type(text).__name__}")
    name, colon, pairs = split_pairs(text)
    if name not in known:
        words = [
            f"{each}:{key}={name}"
            for each in known
            for key, type_ in types_of(known[each]).items()
            if name in typing.get_args(type_)
        ]
        hint = f"did you mean {words[0]!r}?" if words else did_you_mean(name, known)
        raise UsageError(f"unknown {what} {name!r}; {hint}")
    kind = known[name]
    if colon and not pairs:
        raise UsageError(f"{text!r} ends after the colon; write {example(kind)}")
    types, values = types_of(kind), dict[str, Any]()
    for key, equals, value in pairs:
        if key not in types:
            near = did_you_mean(key, types) if types else "it has no keys"
            raise UsageError(f"{name} has no key {key!r}; {near}")
        if not equals or not value or key in values:
            raise UsageError(f"{name} takes each key once as key=value, got {text!r}; write {example(kind)}")
        values[key] = _read(value, types[key], name, key)
    return name, values


def read_joined(
    text: str,
    single: Callable[[str], PartT],
    compose: Callable[[tuple[PartT, ...]], PartT],
    one_of: Callable[[tuple[PartT, ...]], PartT],
    sometimes: Callable[[PartT, float], PartT],
) -> PartT:
    """Read `a+b`, `a|b`, `a@0.5` and brackets: the grammar of transforms. `single` reads a text without these signs."""
    tokens = re.findall(r"[()+|]|@[^()+|@]*|[^()+|@]+", text)
    tokens = [token.strip() for token in tokens if token.strip()]

    def joined(joint: str = "+") -> PartT:
        parts: list[PartT] = []
        while not parts or (tokens and tokens[0] == joint and tokens.pop(0)):
            parts.append(joined("|") if joint == "+" else probable())
        if len(parts) == 1:
            return parts[0]
        return compose(tuple(parts)) if joint == "+" else one_of(tuple(parts))

    def probable() -> PartT:
        if not tokens or tokens[0] in ")+|" or tokens[0].startswith("@"):
            raise UsageError(f"a transform is missing in {text!r}; write for example permute+noise:scale=0.3")
        token = tokens.pop(0)
        part = joined() if token == "(" else single(token)
        if token == "(" and (not tokens or tokens.pop(0) != ")"):
            raise UsageError(f"a closing bracket is missing in {text!r}")
        if tokens and tokens[0].startswith("@"):
            share = tokens.pop(0)[1:]
            try:
                probability = float(share)
            except ValueError:
                raise UsageError(f"write a probability after @, got {share!r} in {text!r}") from None
            part = sometimes(part, probability)
        return part

    result = joined()
    if tokens:
        raise UsageError(f"{text!r} cannot be read from {tokens[0]!r} on; join transforms by + or |, keys by commas")
    return result


def split_pairs(text: str) -> tuple[str, bool, list[tuple[str, bool, str]]]:
    """The grammar `name:key=value,key=value`: the name, whether a colon follows, and (key, whether = follows, value) of
    each pair, without surrounding spaces."""
    name, colon, rest = (part.strip() for part in text.partition(":"))
    pairs = [[part.strip() for part in pair.partition("=")] for pair in rest.split(",")] if rest else []
    return name, bool(colon), [(key, bool(equals), value) for key, equals, value in pairs]


def own_encoders() -> "EntryPoints":
    """The entry points by which installed packages name encoders of their own, without loading them."""
    from importlib.metadata import entry_points  # takes 0.05 s

    return entry_points(group="inr_factory.encoders")


def parse_model(text: str) -> tuple[str, dict[str, Any]]:
    """Name and options of a model, `name` or `name:key=value,key=value`; values are numbers, true, false, null or words.

    The encoder checks names and values. Raises UsageError for a pair without "=".
    """
    if not isinstance(text, str):
        raise UsageError(
            f"a model is given as text, such as 'dws' or 'ng_t:num_layers=2', got {type(text).__name__}; "
            "a network of your own is a class of inr.Encoder with a name"
        )
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
    _check_word(getattr(option, key), typing.get_type_hints(type(option))[key], option.name, key)


def _check_word(value: Any, words: Any, name: str, key: str) -> None:
    known = typing.get_args(words)
    if not isinstance(value, str) or value not in known:
        raise UsageError(f"{name}: {key} must be one of {', '.join(known)}, got {shorten(value)}")


def _read(text: str, kind: Any, name: str, key: str) -> float | int | bool | str:
    where = f"{name}:{key}"
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
    if typing.get_origin(kind) is typing.Literal:
        _check_word(text, kind, name, key)
    return text


def _write(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
