"""Fit targets: what the objects of a source stand for, checked, and written into the set that is fitted to them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from inr_factory.errors import UsageError, did_you_mean, shorten
from inr_factory.generation.signals import Source
from inr_factory.storage.add_targets import spread, with_further_targets
from inr_factory.storage.locations import Location
from inr_factory.storage.manifest import Manifest
from inr_factory.storage.target_values import column_of
from inr_factory.storage.targets import TargetTable, read_targets, update_targets


def source_targets(source: Source, indices: Sequence[int] | None = None) -> TargetTable | None:
    """The targets of the objects of a source, of those at the indices; None where it has none.

    Kinds and names of classes are those of all its objects, so that a set keeps them when it grows.

    Raises UsageError where objects have different names of targets, or values of different kinds.
    """
    items = source.items
    first = next((item for item in items if item.targets), None)
    if first is None:
        return None
    for item in items:
        if not isinstance(item.targets, Mapping) or item.targets.keys() != first.targets.keys():
            names = ", ".join(map(str, item.targets)) if isinstance(item.targets, Mapping) else shorten(item.targets)
            raise UsageError(
                f"object {item.object_id} has the targets {names or 'none'}, {first.object_id} has "
                f"{', '.join(map(str, first.targets))}; give all objects the same"
            )
    units: Any = getattr(source, "target_units", None) or {}
    if not isinstance(units, Mapping):
        raise UsageError(f"source.target_units must be a mapping of names to units, got {shorten(units)}")
    for name in units:
        if name not in first.targets:
            raise UsageError(f"source.target_units has {shorten(name)}; {did_you_mean(str(name)[:100], first.targets)}")
    columns = [column_of(name, [i.targets[name] for i in items], unit=units.get(name, "")) for name in first.targets]
    chosen = list(range(len(items))) if indices is None else sorted(indices)
    ids = tuple(items[index].object_id for index in chosen)
    return TargetTable(ids, tuple(spread(column, np.array(chosen, dtype=np.int64)) for column in columns))


def check_source_targets(out: Location, saved: Manifest, table: TargetTable | None) -> None:
    """Raise UsageError where a set has another value of a target than its source."""
    if table is not None:
        with_further_targets(read_targets(out, saved), table, out, "its source")


def write_source_targets(out: Location, manifest: Manifest, table: TargetTable | None) -> Manifest:
    """Give a set, whose manifest is on disk, the targets of its source; any number of runs may do so. Returns the
    manifest that is on disk now."""
    if table is None:
        return manifest
    return update_targets(out, lambda before: with_further_targets(before, table, out, "its source"))
