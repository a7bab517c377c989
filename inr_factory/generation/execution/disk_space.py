"""Disk space: how much a fit needs, and whether there is enough."""

import shutil
from collections.abc import Sequence

from inr_factory.errors import ResourceError
from inr_factory.generation.execution.shard_plan import ShardPlan, ShardTask
from inr_factory.storage.locations import Location, RemoteLocation
from inr_factory.storage.manifest import Manifest


def estimate_bytes(manifest: Manifest, plan: ShardPlan, tasks: Sequence[ShardTask]) -> int:
    """Approximate size of the tasks' shards on disk, in bytes."""
    rows = sum(map(plan.num_objects, tasks))
    return rows * (4 * manifest.siren_spec.num_parameters + 80) + len(tasks) * 20_000


def check_disk(out: Location, needed: int) -> int | None:
    """Free bytes where `out` is or will be; None for a store. Raises ResourceError if fewer than `needed` are free."""
    if isinstance(out, RemoteLocation):
        return None
    folder = out.absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise ResourceError(
            f"the set needs about {needed / 1e6:,.1f} MB, {folder} has {free / 1e6:,.1f} MB free; free some space or "
            "choose another --out"
        )
    return free
