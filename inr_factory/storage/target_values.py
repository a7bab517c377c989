"""Target values: a column of targets from plain values or arrays; what would be cut, lost or guessed is refused.

Shape letters: M objects, K components.
"""

import math
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inr_factory.errors import UsageError, did_you_mean, shorten
from inr_factory.storage.targets import MAX_NAMES, TargetColumn
from inr_factory.storage.targets_record import KINDS, TargetKind

LARGEST_EXACT = 2**53  # beyond it float64 skips whole numbers

# What a value may be, in messages -> the kind of its column.
_KIND_OF: dict[str, TargetKind] = {
    "numbers": "number", "words": "class", "truth values": "class", "lists of words": "labels", "lists of numbers": "vector",
}  # fmt: skip


def column_of(name: str, values: Any, kind: str | None = None, unit: str = "") -> TargetColumn:
    """A column of targets.

    Args:
        name: Of the column.
        values: M values: numbers (number), words or truth values (class), lists of words (labels), or lists of as many
            numbers each (vector); an array (M,) or (M, K) of numbers.
        kind: What they are, where it differs: class takes numbers as names, labels takes words as one label each.
        unit: Of numbers.

    Returns:
        The column, whose classes and labels are sorted.

    Raises:
        UsageError: A value is missing, not finite or of another kind than those before it, or float64 would change it.
    """
    chosen = checked_kind(name, kind)
    if hasattr(values, "detach"):
        values = values.detach().cpu().numpy()
    if isinstance(values, np.ndarray) and values.dtype.kind in "iuf" and values.ndim in (1, 2) and values.size:
        natural: TargetKind = "number" if values.ndim == 1 else "vector"
        if chosen in (None, natural):
            return TargetColumn(name, natural, _exact(name, values), unit=unit)
    if isinstance(values, str | bytes) or not hasattr(values, "__len__") or not hasattr(values, "__iter__"):
        raise UsageError(f"the target {name} must be a list or an array of values, got {shorten(values)}")
    listed = values.tolist() if isinstance(values, np.ndarray) else list(values)
    if not listed or not isinstance(listed, list):
        raise UsageError(f"the target {name} has no values; give one for each object")
    sorts = [_sort(name, row, value) for row, value in enumerate(listed, 1)]
    first = next((sort for sort, value in zip(sorts, listed, strict=True) if not _is_empty(value)), sorts[0])
    for row, (sort, value) in enumerate(zip(sorts, listed, strict=True), 1):
        fits = sort == first or (_is_empty(value) and first == "lists of words")
        if not fits and not (chosen in ("class", "labels") and "lists of numbers" not in (sort, first)):
            raise UsageError(
                f"row {row} of {name} is {shorten(value)}, the {row - 1:,} before are {first}; write all alike, or say "
                f"that they are names (--kind {name}=class, or the header '{name} [class]')"
            )
    return _COLUMNS[chosen or _KIND_OF[first]](name, listed, unit, first)


def checked_kind(name: str, kind: Any) -> TargetKind | None:
    """The kind that a user gave of a column. Raises UsageError for an unknown one."""
    if kind is None:
        return None
    for known in KINDS:
        if kind == known:
            return known
    raise UsageError(f"the target {name} has the kind {shorten(kind)}; {did_you_mean(str(kind)[:100], KINDS)}")


def _is_empty(value: Any) -> bool:
    return isinstance(value, list | tuple | set | frozenset | np.ndarray) and len(value) == 0


def _sort(name: str, row: int, value: Any) -> str:
    """What a value is, as a key of _KIND_OF. Raises UsageError for one that is missing, or no value of any kind."""
    if value is None or (isinstance(value, str) and not value.strip()):
        raise UsageError(f"row {row} of {name} is empty; give every object a value, or leave the column out")
    if isinstance(value, bool | np.bool_):
        return "truth values"
    if isinstance(value, float | Real):  # the first spares most numbers the slow check of the second
        if not math.isfinite(value):
            raise UsageError(
                f"row {row} of {name} is {value}; targets are finite, so give a value or leave the object out"
            )
        return "numbers"
    if isinstance(value, str):
        return "words"
    if isinstance(value, list | tuple | set | frozenset | np.ndarray):
        if all(isinstance(part, str) and part.strip() for part in value):
            return "lists of words"
        if all(isinstance(part, Real) and not isinstance(part, bool) for part in value):
            return "lists of numbers"
    raise UsageError(
        f"row {row} of {name} is {shorten(value)}; expected a number, a word, a list of words or a list of numbers"
    )


def _exact(name: str, values: Any) -> NDArray[np.float64]:
    """Numbers as float64. Raises UsageError for one that is not finite, or that float64 would change."""
    given = np.asarray(values)
    if given.dtype.kind == "O":
        given = np.array([[_whole(name, row, part) for part in _parts(value)] for row, value in enumerate(values, 1)])
        given = given[:, 0] if not isinstance(values[0], list | tuple | np.ndarray) else given
    exact = given.astype(np.float64)
    finite = np.isfinite(exact)
    changed = exact != given if given.dtype.kind == "f" else (given > LARGEST_EXACT) | (given < -LARGEST_EXACT)
    for wrong, why in ((~finite, "targets are finite"), (changed, "float64 would change it")):
        if wrong.any():
            row = int(np.argwhere(wrong)[0][0])
            raise UsageError(
                f"row {row + 1} of {name} is {given[row]}; {why}, so give another value, or make it a name (kind class)"
            )
    return np.ascontiguousarray(exact)


def _parts(value: Any) -> Any:
    return value if isinstance(value, list | tuple | np.ndarray) else [value]


def _whole(name: str, row: int, value: Any) -> float:
    if isinstance(value, Integral) and abs(int(value)) > LARGEST_EXACT:
        raise UsageError(f"row {row} of {name} is {value}; float64 would change it, so make it a name (kind class)")
    return float(value)


def _numbers(name: str, values: list[Any], unit: str, sort: str) -> TargetColumn:
    if sort != "numbers":
        raise UsageError(f"the target {name} has {sort}, expected numbers; row 1 is {shorten(values[0])}")
    return TargetColumn(name, "number", _exact(name, values), unit=unit)


def _vectors(name: str, values: list[Any], unit: str, sort: str) -> TargetColumn:
    if sort != "lists of numbers":
        raise UsageError(f"the target {name} has {sort}, expected lists of numbers; row 1 is {shorten(values[0])}")
    for row, value in enumerate(values, 1):
        if len(value) != len(values[0]):
            raise UsageError(
                f"row {row} of {name} has {len(value)} numbers, row 1 has {len(values[0])}; vectors are of one length (are "
                f"they labels? --kind {name}=labels)"
            )
    return TargetColumn(name, "vector", _exact(name, values), unit=unit)


def _classes(name: str, values: list[Any], unit: str, sort: str) -> TargetColumn:
    if sort not in ("numbers", "words", "truth values"):
        raise UsageError(f"the target {name} has {sort}, expected one class an object; row 1 is {shorten(values[0])}")
    words = [_word(value) for value in values]
    names = ("false", "true") if sort == "truth values" and set(words) <= {"false", "true"} else _sorted_names(words)
    index = {word: number for number, word in enumerate(names)}
    _check_count(name, names)
    return TargetColumn(name, "class", np.array([index[word] for word in words], dtype=np.int64), names, unit)


def _labels(name: str, values: list[Any], unit: str, sort: str) -> TargetColumn:
    lists = [
        [_word(part) for part in _parts(list(value) if isinstance(value, set | frozenset) else value)]
        for value in values
    ]
    names = _sorted_names([word for words in lists for word in words])
    if not names:
        raise UsageError(f"the target {name} has no label at all; leave the column out")
    if len(names) * len(lists) > 2**31:
        raise UsageError(f"the target {name} has {len(names):,} labels for {len(lists):,} objects, too many to hold")
    index = {word: number for number, word in enumerate(names)}
    _check_count(name, names)
    table = np.zeros((len(lists), len(names)), dtype=bool)
    for row, words in enumerate(lists):
        table[row, [index[word] for word in words]] = True
    return TargetColumn(name, "labels", table, names, unit)


_COLUMNS = {"number": _numbers, "vector": _vectors, "class": _classes, "labels": _labels}


def _check_count(name: str, names: Sequence[str]) -> None:
    if len(names) > MAX_NAMES:
        raise UsageError(
            f"the target {name} has {len(names):,} classes, at most {MAX_NAMES:,} can be; leave the column out"
        )


def _word(value: Any) -> str:
    if isinstance(value, bool | np.bool_):
        return str(bool(value)).lower()
    if isinstance(value, str):
        return str(value)
    return str(int(value)) if float(value).is_integer() and isinstance(value, Integral) else repr(float(value))


def _sorted_names(words: Sequence[str]) -> tuple[str, ...]:
    """Distinct words in their order; whole numbers by value, so that 10 comes after 9."""
    names = set(words)
    plain = all(word.isascii() and word.removeprefix("-").isdigit() and len(word) < 20 for word in names)
    return tuple(sorted(names, key=lambda word: (int(word), word)) if plain else sorted(names))
