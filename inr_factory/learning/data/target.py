"""Target: what a network learns to say of INRs besides the class of a set: a column of its targets, or a fact of its rows.

Shape letters: N INRs, K outputs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inr_factory.errors import UsageError, did_you_mean, shorten
from inr_factory.storage.locations import Location
from inr_factory.storage.manifest import Manifest
from inr_factory.storage.shards import COLUMN_TYPES, ShardReader
from inr_factory.storage.targets import read_targets
from inr_factory.storage.targets_record import TargetKind

PSNR, FACTS = "psnr", "facts."


class NoTargetError(UsageError):
    """A set has no target of that name."""


@dataclass(frozen=True)
class Target:
    """What a network learns to say of each INR.

    Attributes:
        name: Of a column of the set's targets, "psnr", or "facts.NAME".
        kind: "class"; "labels", of which each INR has any number; "number"; "vector".
        names: Names of the classes, of the K labels or of the components of a vector; empty for a number.
        unit: Of numbers, "" where there is none.
    """

    name: str
    kind: TargetKind
    names: tuple[str, ...] = ()
    unit: str = ""

    @property
    def is_numeric(self) -> bool:
        return self.kind in ("number", "vector")

    def describe(self) -> dict[str, Any]:
        """What runs and checkpoints record of it, as JSON."""
        return {"name": self.name, "kind": self.kind, "names": list(self.names), "unit": self.unit}


def read_target(
    name: str, root: Location, manifest: Manifest, shards: Sequence[ShardReader], object_ids: NDArray[np.str_]
) -> tuple[Target, NDArray[Any]]:
    """The target of a name, and its values: (N,) int64 class numbers, else (N, K) float64, of all rows of the shards.

    Raises NoTargetError for a name that the set does not have, UsageError for objects without a value and facts that are not
    finite.
    """
    if not isinstance(name, str):
        raise UsageError(f"a target is given by its name, got {shorten(name)}")
    if name == PSNR or name.startswith(FACTS):
        values = _fact(name.removeprefix(FACTS), manifest, shards)
        if wrong := int((~(finite := np.isfinite(values))).sum()):
            raise UsageError(
                f"{name} of {manifest.name} is NaN or infinite in {wrong} rows, first {object_ids[finite.argmin()]}; "
                "it cannot be a target: fit a set without these objects, or take another target"
            )
        return Target(name, "number", unit="dB" if name == PSNR else ""), values[:, None]
    table = read_targets(root, manifest)
    known = [] if table is None else [column.name for column in table.columns]
    if table is None or name not in known:
        facts = [FACTS + fact for fact in _facts(shards)]
        raise NoTargetError(
            f"{manifest.name} has no target {shorten(name)}; {did_you_mean(name, [*known, PSNR, *facts])}"
        )
    column = table.column(name)
    distinct, index = np.unique(object_ids, return_inverse=True)
    values = column.values[table.rows_of(distinct.tolist(), name)[index]]
    target = Target(name, column.kind, column.names, column.unit)
    return target, values if column.kind == "class" else values.reshape(len(values), -1).astype(np.float64)


def _facts(shards: Sequence[ShardReader]) -> list[str]:
    names = set(shards[0].column_names) if shards else set()
    return sorted(names - {*COLUMN_TYPES, "object_id", "content"})


def _fact(name: str, manifest: Manifest, shards: Sequence[ShardReader]) -> NDArray[np.float64]:
    for shard in shards:
        if name != PSNR and name not in (known := _facts([shard])):
            raise NoTargetError(
                f"{shard.path.name} of {manifest.name} has no fact {shorten(name)}; {did_you_mean(name, known)}"
            )
    return np.concatenate([np.array(shard.column(name), dtype=np.float64) for shard in shards])
