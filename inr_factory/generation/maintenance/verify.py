"""Audit: is a set whole, and do its INRs still give what they were fitted to.

Shape letters: N INRs, P points, O values.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from inr_factory.errors import FactoryError, IntegrityError, UsageError
from inr_factory.generation.fitting.shape_quality import QUALITIES
from inr_factory.generation.recipe import check_recipe
from inr_factory.generation.signals import Field, Signal, SignalError, Source
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.metrics import psnr
from inr_factory.storage.locations import Location, RemoteLocation, local_folder
from inr_factory.storage.manifest import MANIFEST, ORIGIN, SHARD_FOLDER, Manifest, ShardEntry, shard_path
from inr_factory.storage.manifest_file import load_origin
from inr_factory.storage.shards import ShardReader

# A root mean square error computed again, in other batches, on another device or with phases shifted, may differ by
# rounding: by this share and this amount.
RMSE_RTOL, RMSE_ATOL = 1e-3, 1e-5
CHUNK_VALUES = 2**24


@dataclass(frozen=True)
class Fault:
    """What is wrong with one shard, or with the record itself."""

    path: str
    reason: str


@dataclass(frozen=True)
class Rendered:
    """The outcome of rendering INRs again: the largest differences from what the shards say, and their median PSNR."""

    inrs: int
    max_psnr_gap: float
    median_psnr: float


def check_manifest(root: Location, manifest: Manifest) -> list[Fault]:
    """Faults of the record itself: of what it says beside its shards, and of the places that it gives them."""
    return check_head(root, manifest) + check_places(manifest)


def check_head(root: Location, manifest: Manifest) -> list[Fault]:
    """Faults of what the record says beside its shards: against origin.json, and its recipe against its fingerprint."""
    faults: list[Fault] = []
    try:
        origin = load_origin(root)
    except IntegrityError as error:
        faults, origin = [Fault(ORIGIN, str(error))], None
    field = None if origin is None else _altered(manifest, origin)
    if field is not None:
        faults.append(Fault(MANIFEST, f"{MANIFEST} says another {field} than {ORIGIN}; inr-factory repair decides"))
    if manifest.derived is None and "source" in manifest.recipe:
        try:
            fingerprint = check_recipe(manifest.recipe, origin=f"of {root}").fingerprint
            if not manifest.fingerprint.startswith(fingerprint):
                faults.append(Fault(MANIFEST, f"{MANIFEST} has a recipe that its fingerprint does not stand for"))
        except UsageError as error:
            faults.append(Fault(MANIFEST, f"{MANIFEST}: {error}"))
    return faults


def check_places(manifest: Manifest) -> list[Fault]:
    """Faults of entries that name another shard than they describe, one that the set does not have, or one twice."""
    faults: list[Fault] = []
    places = set(manifest.shard_names())
    seen: set[str] = set()
    for entry in manifest.shards:
        right = shard_path(entry.split, entry.view, entry.block)
        if entry.path != right or entry.path not in places or entry.path in seen:
            faults.append(Fault(MANIFEST, f"{MANIFEST} has {entry.path} in a place that is not its own"))
        seen.add(entry.path)
    return faults


def _altered(manifest: Manifest, origin: Manifest) -> str | None:
    """The field in which the two differ. A run that dies at the wrong moment leaves more views in the origin alone."""
    if manifest.views < origin.views:
        origin = origin.with_views(manifest.views).model_copy(update={"software": manifest.software})
    return manifest.difference(origin)


def check_shard(root: Path, manifest: Manifest, entry: ShardEntry) -> None:
    """Size, sha256, layout, row checksums, whether it is this set's, and all that its entry says of it.

    Raises IntegrityError that names the shard.
    """
    with ShardReader(root, entry, check=True) as shard:
        shard.check_rows()
        if not belongs(shard, manifest):
            raise IntegrityError(f"{entry.path} is a shard of another set")
        again = shard.describe_as(entry.bytes, entry.sha256).model_dump()
        for name, said in entry.model_dump().items():
            if again[name] != said:
                raise IntegrityError(f"{entry.path}: the manifest says {name} {said}, the shard {again[name]}"[:400])


def belongs(shard: ShardReader, manifest: Manifest) -> bool:
    """Whether a shard is of the set that a manifest describes."""
    return shard.attributes.get("fingerprint") == manifest.fingerprint and shard.spec == manifest.siren_spec


def check_shards(root: Path, manifest: Manifest, on_shard: Callable[[ShardEntry], None] | None = None) -> list[Fault]:
    """Faults of all recorded shards, see `check_shard`. Files in the shard folder that no record names are faults, too."""
    faults = []
    for entry in manifest.shards:
        try:
            check_shard(root, manifest, entry)
        except FactoryError as error:
            faults.append(Fault(entry.path, str(error)))
        except OSError as error:
            faults.append(Fault(entry.path, f"{entry.path} cannot be read: {error.strerror}"))
        if on_shard is not None:
            on_shard(entry)
    known = {entry.path for entry in manifest.shards}
    for path in sorted((root / SHARD_FOLDER).glob("*.h5")):
        name = f"{SHARD_FOLDER}/{path.name}"
        if name not in known:
            faults.append(Fault(name, unrecorded(name)))
    return faults


def check_remote(
    root: RemoteLocation, manifest: Manifest, on_shard: Callable[[ShardEntry], None] | None = None
) -> list[Fault]:
    """Faults of a set in a store, as `check_shards` finds them: every shard is fetched, looked at and forgotten."""
    faults = []
    for entry in manifest.shards:
        alone = manifest.model_copy(update={"shards": (entry,)})
        try:
            with local_folder(root, entry.path) as folder:
                faults += check_shards(folder, alone, on_shard)
        except FileNotFoundError:
            faults += check_shards(Path(os.devnull), alone, on_shard)
    known = {entry.path for entry in manifest.shards}
    there = [f"{SHARD_FOLDER}/{name}" for name in sorted((root / SHARD_FOLDER).sizes()) if name.endswith(".h5")]
    return faults + [Fault(name, unrecorded(name)) for name in there if name not in known]


def unrecorded(name: str) -> str:
    return f"{name} is not recorded; inr-factory repair records it or sets it aside"


def median_quality(root: Location, entries: Sequence[ShardEntry]) -> dict[str, float]:
    """Medians over the INRs of some shards of what they say of quality beside the PSNR; none for images and
    of sets in a store, which would have to be fetched."""
    if isinstance(root, RemoteLocation):
        return {}
    shards = [ShardReader(root, entry, check=False) for entry in entries if entry.rows]
    names = [name for name in QUALITIES if shards and all(name in shard.column_names for shard in shards)]
    columns = {name: np.concatenate([shard.column(name) for shard in shards]) for name in names}
    return {name: round(float(np.nanmedian(c)), 4) for name, c in columns.items() if not np.isnan(c).all()}


def render_shards(
    root: Path, manifest: Manifest, source: Source, on_shard: Callable[[ShardEntry], None] | None = None
) -> tuple[Rendered, list[Fault]]:
    """Render every stored INR at its signal's points and compare its loss with the one stored.

    A shard has a fault if an INR's loss differs by more than rounding explains, or its object is not in the source.
    """
    index_of = {item.object_id: index for index, item in enumerate(source.items)}
    faults, gaps, levels = [], [0.0], []
    for entry in manifest.shards:
        try:
            shard = ShardReader(root, entry, check=False)
            inrs = INRBatch.from_flat(shard.spec, torch.from_numpy(np.array(shard.column("weights"))))
            signals = [_signal(source, index_of, object_id) for object_id in shard.object_ids]
            loss = mean_squared_errors(inrs, signals).numpy()
            peak = torch.tensor([signal.peak for signal in signals])
            stored = shard.column("loss")
            again, before = (psnr(torch.from_numpy(np.maximum(x, 1e-20)), peak).numpy() for x in (loss, stored))
            levels.append(again)
            gaps.append(float(np.abs(again - before).max(initial=0.0)))
            gap = np.abs(np.sqrt(loss) - np.sqrt(stored))
            wrong = np.flatnonzero(~(gap <= RMSE_RTOL * np.sqrt(stored) + RMSE_ATOL))
            if wrong.size:
                row = int(wrong[0])
                raise IntegrityError(
                    f"{entry.path}: {wrong.size} INRs do not give what they were fitted to; row {row} "
                    f"({shard.object_ids[row]}) has {again[row]:.2f} dB, the shard says {before[row]:.2f}"
                )
        except FactoryError as error:
            faults.append(Fault(entry.path, str(error)))
        if on_shard is not None:
            on_shard(entry)
    median = float(np.median(np.concatenate(levels))) if any(map(len, levels)) else float("nan")
    return Rendered(sum(map(len, levels)), max(gaps), median), faults


def mean_squared_errors(inrs: INRBatch, signals: list[Signal]) -> Tensor:
    """(N,) mean squared error of each INR at the points of its signal, in pieces that fit into memory."""
    if not signals:
        return torch.empty(0)
    if not _alike(signals):
        pairs = ((inrs.select(slice(at, at + 1)), signal) for at, signal in enumerate(signals))
        return torch.stack(
            [
                (as_targets(inr(signal.coords)[0], signal.field) - signal.targets).square().mean()
                for inr, signal in pairs
            ]
        )
    coords, targets = signals[0].coords, torch.stack([signal.targets for signal in signals])
    size = max(1, CHUNK_VALUES // (len(coords) * inrs.spec.hidden_dim))
    parts = [
        (inrs.select(slice(at, at + size))(coords) - targets[at : at + size]).square().mean(dim=(1, 2))
        for at in range(0, len(inrs), size)
    ]
    return torch.cat(parts)


def as_targets(values: Tensor, field: Field) -> Tensor:
    """What INRs say in the terms of their targets: for occupancies the probability of the logit that they give."""
    return torch.sigmoid(values) if field == "occupancy" else values


def _alike(signals: list[Signal]) -> bool:
    return all(signal.coords is signals[0].coords for signal in signals)


def _signal(source: Source, index_of: dict[str, int], object_id: str) -> Signal:
    if object_id not in index_of:
        raise IntegrityError(f"{source.name} has no object {object_id}; is --data-root the set's own?")
    try:
        return source.signal(index_of[object_id])
    except SignalError as error:
        raise IntegrityError(f"{object_id} can no longer be read: {error}") from None
