"""Verify: is a set complete and undamaged, and do its INRs still render what they were fitted to."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from inr_factory.errors import UsageError
from inr_factory.generation.maintenance.dataset_source import open_recorded_source
from inr_factory.generation.maintenance.integrity_check import Fault, check_manifest, check_remote, check_shards
from inr_factory.generation.maintenance.render_check import RenderReport, render_shards
from inr_factory.generation.maintenance.targets_check import check_targets
from inr_factory.storage.locations import Location, RemoteLocation, parse_location
from inr_factory.storage.manifest import Manifest, ShardEntry
from inr_factory.storage.manifest_file import load_manifest
from inr_factory.storage.shard_files import fetch_shards
from inr_factory.storage.shards import made_by


@dataclass(frozen=True)
class VerifyReport:
    """What a verification found.

    Attributes:
        manifest: of the set.
        faults: what is wrong with the record, with shards, or with INRs.
        valid: how many recorded shards have no fault.
        missing: paths of shards that are not made yet.
        rendered: comparison of the INRs with their source; None if not requested, or if the shards have faults.
        made_by: number of valid shards by what fitted them, such as "fused on cuda"; shards of several engines agree
            within rounding, not bit by bit. Empty for a set in a store.
    """

    manifest: Manifest
    faults: tuple[Fault, ...]
    valid: int
    missing: tuple[str, ...]
    rendered: RenderReport | None
    made_by: dict[str, int]


def verify_dataset(
    dataset: str | Path | Location,
    *,
    render: bool = False,
    data_root: str | Path | Location | None = None,
    on_shard: Callable[[ShardEntry], None] | None = None,
) -> VerifyReport:
    """Check the record, every shard and the targets of a set against their checksums and, with `render`, the INRs against the source.

    Args:
        dataset: folder or URL of the set.
        render: whether to render every INR again at the points that it was fitted to.
        data_root: folder or URL of the source's files, for `render`; default where they were when the set was fitted.
        on_shard: called with each shard's entry when it has been checked, and again when it has been rendered.

    Returns:
        All faults, which are no exceptions; `repair_dataset` removes them.

    Raises:
        UsageError: if there is no set, or `render` finds no source.
        IntegrityError: if the manifest cannot be read, or the source is not the set's.
    """
    root = parse_location(dataset)
    manifest = load_manifest(root)
    record_faults = check_manifest(root, manifest)
    if isinstance(root, RemoteLocation):
        shard_faults = check_remote(root, manifest, on_shard)
    else:
        shard_faults = check_shards(root, manifest, on_shard)
    shard_faults += check_targets(root, manifest, bool(shard_faults))
    invalid = {fault.path for fault in shard_faults} & {entry.path for entry in manifest.shards}
    faults, rendered = record_faults + shard_faults, None
    if render and not faults:
        if manifest.derived is not None and manifest.derived.how.startswith("edit:"):
            raise UsageError(
                f"{root} was edited ({manifest.derived.how}), so that its INRs show something else than the source; verify "
                "it without --render"
            )
        source = open_recorded_source(manifest, root, None if data_root is None else parse_location(data_root))
        rendered, faults = render_shards(fetch_shards(root, manifest.shards), manifest, source, on_shard)
    valid = [entry for entry in manifest.shards if entry.path not in invalid]
    missing = tuple(manifest.missing(root))
    return VerifyReport(manifest, tuple(faults), len(valid), missing, rendered, made_by(root, valid))
