"""Targets check: faults of the targets of a set, and the file that a repair keeps."""

from pathlib import Path

from inr_factory.errors import IntegrityError
from inr_factory.generation.maintenance.integrity_check import Fault
from inr_factory.storage.add_targets import fitted_objects
from inr_factory.storage.locations import Location
from inr_factory.storage.manifest import Manifest
from inr_factory.storage.passed_over import name_some
from inr_factory.storage.targets import describe_targets, newest_targets, read_targets, targets_files
from inr_factory.storage.targets_record import TargetsRecord


def check_targets(root: Location, manifest: Manifest, faulty: bool) -> list[Fault]:
    """Faults of the targets: against their record, objects that lack a row, and files that no manifest names.

    Objects are those of the shards, which are not read where some are faulty, or in a store.
    """
    if not isinstance(root, Path) and manifest.targets is None:
        return []
    recorded = manifest.targets.path if manifest.targets is not None else ""
    faults = [
        Fault(path.name, f"{path.name} is not recorded; inr-factory repair sets it aside")
        for path in (targets_files(root) if isinstance(root, Path) else ())
        if path.name != recorded
    ]
    try:
        table = read_targets(root, manifest)
    except IntegrityError as error:
        return [*faults, Fault(recorded, str(error))]
    if table is not None and isinstance(root, Path) and not faulty:
        absent = sorted(fitted_objects(root, manifest) - set(table.object_ids))
        if absent:
            what = f"{recorded} has no row of {len(absent):,} objects: {name_some(absent)}"
            faults.append(Fault(recorded, f"{what}; join a table that has them"))
    return faults


def sort_targets(root: Path, saved: Manifest | None) -> tuple[TargetsRecord | None, list[Fault]]:
    """The record of the targets that a set keeps, and the faults of all other files of targets.

    It keeps those that its manifest names, or where these are damaged or no manifest is left, the newest that are valid.
    """
    recorded = saved.targets if saved is not None else None
    valid: dict[str, TargetsRecord] = {}
    faults = []
    for path in targets_files(root):
        try:
            valid[path.name] = describe_targets(path)
        except IntegrityError as error:
            faults.append(Fault(path.name, str(error)))
    if recorded is not None and recorded.path not in {*valid, *(fault.path for fault in faults)}:
        faults.append(Fault(recorded.path, f"{recorded.path} is recorded but missing; join the targets again"))
    kept = None
    if recorded is not None and valid.get(recorded.path) == recorded:
        kept = recorded
    elif valid and (saved is None or recorded is not None):
        kept = newest_targets(root)
    faults += [Fault(name, f"{name} is not recorded") for name in valid if kept is None or name != kept.path]
    return kept, faults
