"""Source checks: is a source the one of a set, and is one written in Python usable."""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any, TypeGuard, get_args

import numpy as np
from torch import Tensor

from inr_factory.errors import IntegrityError, UsageError, one_line, shorten
from inr_factory.generation.fitting.shape_quality import EARLIER_QUALITIES
from inr_factory.generation.recipe import Recipe
from inr_factory.generation.signal_stack import SignalStack
from inr_factory.generation.signals import Field, Item, Signal, Source, Truth
from inr_factory.storage.locations import Location
from inr_factory.storage.manifest import SPLITS
from inr_factory.storage.shard_contents import CONTENT
from inr_factory.storage.shards import COLUMN_TYPES

MEMBERS = ("name", "version", "licence", "in_dim", "out_dim", "classes", "items", "fingerprint", "signal")

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
UNSTORABLE = re.compile(r"[\x00\ud800-\udfff]")  # NUL ends a text in HDF5, so that "x" and "x\0" are one
MAX_TEXT, MAX_NAME, MAX_DIM, MAX_WHOLE = 1_000, 4_096, 64, 2**31 - 1

# Columns that a worker computes; a fact of their name would replace them. Sources of one's own have no later measures.
RESERVED = frozenset({*COLUMN_TYPES, "object_id", "inside", CONTENT, "explained", *EARLIER_QUALITIES})
WHOLE, NUMBER = "whole number", "number"


def set_fingerprint(recipe: Recipe, source_fingerprint: str) -> str:
    """The fingerprint of recipe and source that a set's shards carry."""
    return f"{recipe.fingerprint}-{source_fingerprint}"


def check_source(source: Source, fingerprint: str, out: Location) -> None:
    """Raise IntegrityError unless the source is the one that the set in `out` was begun with."""
    if source.fingerprint != fingerprint:
        raise IntegrityError(
            f"{out} was begun with other {source.name} data (fingerprint {fingerprint}, now {source.fingerprint}); "
            "put the same data back, or choose another folder: another --out, or out in Python"
        )


def is_given(source: Source) -> bool:
    """Whether a source was written by a user, in Python, and not by this package."""
    return type(source).__module__.partition(".")[0] != "inr_factory"


def check_objects(source: Any) -> None:
    """Raise UsageError, in one line that names the object, unless a source has the members of a Source, and its objects
    can be distinguished and stored. The cost for a million objects is a second."""
    absent = [name for name in MEMBERS if name not in dir(source)]
    if absent:
        raise UsageError(f"source must be a Source, got {type(source).__name__} without {', '.join(absent)}")
    members = {name: _member(source, name) for name in MEMBERS}
    for name in ("name", "fingerprint"):
        _check_line(members[name], f"source.{name}")
    for name in ("version", "licence"):
        if not isinstance(members[name], str) or UNSTORABLE.search(members[name]):
            raise UsageError(f"source.{name} must be text, got {shorten(members[name])}")
    if _member(source, "fingerprint") != members["fingerprint"]:
        raise UsageError("source.fingerprint differs from call to call; it must change only with the content")
    for name in ("in_dim", "out_dim"):
        if not _is_whole(members[name]) or not 1 <= members[name] <= MAX_DIM:
            raise UsageError(f"source.{name} must be a whole number from 1 to {MAX_DIM}, got {shorten(members[name])}")
    if is_given(source):
        check_classes(members["classes"], "source.classes")
    items = members["items"]
    if not hasattr(items, "__len__") or not hasattr(items, "__getitem__"):
        raise UsageError(f"source.items must be a list or tuple of Items, got {type(items).__name__}")
    listed = list(items)
    _check_items(source, listed, len(members["classes"]))
    if is_given(source) and (len(items) != len(listed) or list(_member(source, "items")) != listed):
        raise UsageError("source.items differs from call to call; give the same objects in the same order each time")


def check_classes(classes: Any, what: str) -> None:
    """Raise UsageError unless the names of classes are lines of text that differ."""
    if isinstance(classes, str) or not isinstance(classes, Sequence):
        raise UsageError(f"{what} must be a tuple of names, got {shorten(classes)}")
    for label, name in enumerate(classes):
        _check_line(name, f"{what}[{label}]")
    name, count = Counter(classes).most_common(1)[0] if classes else ("", 1)
    if count > 1:
        raise UsageError(f"{what} has {count} classes named {name!r}; each needs a name of its own")


def _check_line(text: Any, what: str) -> None:
    if not isinstance(text, str) or not text.strip() or CONTROL.search(text) or len(text) > MAX_TEXT:
        raise UsageError(f"{what} must be a line of text, got {shorten(text)}")


def _check_items(source: Source, items: Sequence[Any], num_classes: int) -> None:
    # Texts of file names are made printable where they are shown; what no file of ours can hold is refused for all.
    unwanted = CONTROL if is_given(source) else UNSTORABLE
    for index, item in enumerate(items):
        if not isinstance(item, Item):
            raise UsageError(f"source.items[{index}] must be an Item, got {type(item).__name__}")
        name, label = item.object_id, item.label
        if not isinstance(name, str) or not name or unwanted.search(name) or len(name) > MAX_NAME:
            raise UsageError(
                f"source.items[{index}] has the object_id {shorten(name)}, expected 1 to {MAX_NAME:,} characters, none of "
                "them control characters or surrogates"
            )
        if not _is_whole(label) or not 0 <= label < (num_classes or MAX_WHOLE):
            named = f", source.classes has {num_classes} names" if num_classes else ", expected a whole number from 0"
            raise UsageError(f"object {name} has the label {shorten(label)}{named}; labels are whole numbers from 0")
        if item.split not in (*SPLITS, None):
            raise UsageError(f"object {name} has the split {item.split!r}, expected {', '.join(SPLITS)} or None")
    names = [item.object_id for item in items]
    if len(set(names)) < len(names):
        name, count = Counter(names).most_common(1)[0]
        raise UsageError(f"source.items has {count} objects named {name}; each needs a name of its own")


def _is_whole(value: Any) -> TypeGuard[int]:
    """Whether a value is an integer of Python or numpy. Truth values are none, nor are floats without a fraction."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def _member(source: Source, name: str) -> Any:
    try:
        return getattr(source, name)
    except Exception as error:
        raise UsageError(f"source.{name} raised {type(error).__name__}: {one_line(error)}") from error


def check_signal(
    signal: Any,
    source: Source,
    object_id: str,
    facts: Mapping[str, str] | None = None,
    in_range: Tensor | None = None,
) -> None:
    """Raise UsageError, which names the object, unless a shard can hold a source's signal.

    `facts` are the `fact_kinds` that each signal must have; coords that are the tensor `in_range` are not looked through.
    """
    where = f"{source.name}: the signal of {object_id}"
    if not isinstance(signal, Signal):
        raise UsageError(f"{source.name}: signal() of {object_id} must be a Signal, got {type(signal).__name__}")
    _check_dims(where, source, signal.coords.shape[1], signal.targets.shape[1])
    _check_values(where, signal, signal.coords if signal.coords is not in_range else None)
    if signal.field not in get_args(Field):
        raise UsageError(f"{where} has the field {shorten(signal.field)}, expected one of {', '.join(get_args(Field))}")
    if signal.truth is not None and not _is_truth(signal.truth):
        raise UsageError(
            f"{where} has the truth {shorten(signal.truth)}; expected a Truth of a shape in space, of tensors coords "
            "(Q, 3), targets (Q, 1) and surface (S, 3)"
        )
    _check_facts(where, signal.facts, facts)


def check_stack(
    stack: SignalStack, source: Source, items: Sequence[Item], facts: Mapping[str, str] | None = None
) -> None:
    """As `check_signal`, for the signals of all these items at once."""
    where = f"{source.name}: the signals of {items[0].object_id} and following"
    if not isinstance(stack, SignalStack) or len(stack) != len(items):
        got = f"{len(stack)} signals" if isinstance(stack, SignalStack) else type(stack).__name__
        raise UsageError(
            f"{source.name}: signal_stack() of {len(items)} objects must be a SignalStack of them, got {got}"
        )
    shape = tuple(stack.coords.shape)
    if stack.values.dim() != 3 or shape[:-1] not in (stack.values.shape[1:2], stack.values.shape[:2]):
        raise UsageError(
            f"{where} have coords {tuple(stack.coords.shape)} and values {tuple(stack.values.shape)}, expected (P, I) or "
            "(N, P, I) and (N, P, O)"
        )
    _check_dims(where, source, stack.coords.shape[-1], stack.values.shape[-1])
    _check_values(where, stack, stack.coords)
    if is_given(source) and not stack.values.isfinite().all():
        row = int((~stack.values.isfinite()).flatten(1).any(1).nonzero()[0])
        raise UsageError(f"{source.name}: the signal of {items[row].object_id} has values that are NaN or infinite")
    _check_facts(where, stack.facts, facts)


def _check_dims(where: str, source: Source, coords: int, values: int) -> None:
    if (coords, values) != (source.in_dim, source.out_dim):
        raise UsageError(
            f"{where} has {coords} coordinates and {values} values a point, the source says in_dim {source.in_dim} and "
            f"out_dim {source.out_dim}"
        )


def _check_values(where: str, signal: Signal | SignalStack, coords: Tensor | None) -> None:
    if not (isinstance(signal.peak, Real) and 0 < signal.peak < math.inf):
        raise UsageError(f"{where} has the peak {shorten(signal.peak)}; it must be above 0, the range of the targets")
    if coords is not None and (reach := float(coords.abs().max())) > 1 + 1e-6:
        raise UsageError(f"{where} has coords up to {reach:g} from 0; they must lie in [-1, 1]: shift and divide them")


def _is_truth(truth: Any) -> bool:
    parts = [(truth.coords, 3), (truth.targets, 1), (truth.surface, 3)] if isinstance(truth, Truth) else [(None, 0)]
    return all(isinstance(part, Tensor) and part.dim() == 2 and part.shape[1] == width for part, width in parts)


def fact_kinds(signal: Signal | SignalStack) -> dict[str, str]:
    """The names of a signal's facts, and whether each is a whole number or any number."""
    return {name: WHOLE if isinstance(fact, Integral) else NUMBER for name, fact in signal.facts.items()}


def _check_facts(where: str, facts: Mapping[str, Any], expected: Mapping[str, str] | None) -> None:
    if not isinstance(facts, Mapping):
        raise UsageError(f"{where} has the facts {shorten(facts)}, expected numbers by their names")
    for name, fact in facts.items():
        if not isinstance(name, str) or not re.fullmatch(
            r"[^./\x00-\x1f\x7f-\x9f\ud800-\udfff][^/\x00-\x1f\x7f-\x9f\ud800-\udfff]{0,99}", name
        ):
            raise UsageError(
                f"{where} has a fact {shorten(name)}; names of facts are text without / and control characters"
            )
        if name in RESERVED:
            raise UsageError(f"{where} has a fact {name}, which is a column of every shard; give it another name")
        if isinstance(fact, Integral | np.bool_):
            if not -MAX_WHOLE - 1 <= int(fact) <= MAX_WHOLE:
                raise UsageError(f"{where} has the fact {name} = {fact}, which does not fit into 32 bits; give a float")
        elif not isinstance(fact, Real) or not (math.isfinite(fact) or (name == "volume" and math.isnan(fact))):
            raise UsageError(f"{where} has the fact {name} = {shorten(fact)}; facts are finite numbers")
    if expected is None:
        return
    if facts.keys() != expected.keys():
        raise UsageError(
            f"{where} has the facts {', '.join(sorted(facts)) or 'none'}, the first object has "
            f"{', '.join(sorted(expected)) or 'none'}; all objects need the same"
        )
    for name, fact in facts.items():
        if expected[name] == WHOLE and not isinstance(fact, Integral | np.bool_):
            raise UsageError(
                f"{where} has the fact {name} = {fact}, the first object a whole number; give floats for all"
            )
