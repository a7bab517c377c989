"""Source checks: is a source the one of a set, and is one written in Python usable."""

from collections import Counter
from typing import Any

from inr_factory.errors import IntegrityError, UsageError
from inr_factory.generation.recipe import Recipe
from inr_factory.generation.signals import Item, Signal, Source
from inr_factory.storage.locations import Location
from inr_factory.storage.manifest import SPLITS

MEMBERS = ("name", "version", "licence", "in_dim", "out_dim", "classes", "items", "fingerprint", "signal")


def set_fingerprint(recipe: Recipe, source_fingerprint: str) -> str:
    """The fingerprint of recipe and source that a set's shards carry."""
    return f"{recipe.fingerprint}-{source_fingerprint}"


def check_source(source: Source, fingerprint: str, out: Location) -> None:
    """Raise IntegrityError unless the source is the one that the set in `out` was begun with."""
    if source.fingerprint != fingerprint:
        raise IntegrityError(
            f"{out} was begun with other {source.name} data (fingerprint {fingerprint}, now {source.fingerprint}); "
            "put the same data back, or fit into another --out"
        )


def check_given_source(source: Any) -> None:
    """Raise UsageError unless an object has the members of a Source, and its items can be told apart and stored."""
    absent = [name for name in MEMBERS if name not in dir(source)]
    if absent:
        raise UsageError(f"source must be a Source, got {type(source).__name__} without {', '.join(absent)}")
    for index, item in enumerate(source.items):
        if not isinstance(item, Item):
            raise UsageError(f"source.items[{index}] must be an Item, got {type(item).__name__}")
        if source.classes and not 0 <= item.label < len(source.classes):
            raise UsageError(
                f"object {item.object_id} has the label {item.label}, source.classes has {len(source.classes)} names"
            )
        if item.split not in (*SPLITS, None):
            raise UsageError(
                f"object {item.object_id} has the split {item.split!r}, expected {', '.join(SPLITS)} or None"
            )
    name, count = Counter(item.object_id for item in source.items).most_common(1)[0] if len(source.items) else ("", 1)
    if count > 1:
        raise UsageError(f"source.items has {count} objects named {name}; each needs a name of its own")


def check_signal(signal: Any, source: Source, object_id: str) -> None:
    """Raise UsageError unless a source's signal fits its dimensions."""
    if not isinstance(signal, Signal):
        raise UsageError(f"{source.name}: signal() of {object_id} must be a Signal, got {type(signal).__name__}")
    dims = signal.coords.shape[1], signal.targets.shape[1]
    if dims != (source.in_dim, source.out_dim):
        raise UsageError(
            f"{source.name}: the signal of {object_id} has {dims[0]} coordinates and {dims[1]} values a point, "
            f"the source says in_dim {source.in_dim} and out_dim {source.out_dim}"
        )
