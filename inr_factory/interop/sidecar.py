"""Sidecar: the JSON file of an export that holds what its format cannot: spec, conventions, names, splits, PSNRs.

With it an import restores the exported set; each row is checked against its checksum.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import SerializerFunctionWrapHandler, ValidationError, model_serializer

from inr_factory.errors import IntegrityError, UsageError, blame_machine, one_line, validation_message
from inr_factory.inr.plain_json import parse_json_object
from inr_factory.inr.regular_files import read_regular
from inr_factory.inr.stable_hash import fingerprint
from inr_factory.interop.conventions import Convention, Targets
from inr_factory.interop.foreign_files import file_inside
from inr_factory.storage.manifest import Manifest, Quarantined, Record
from inr_factory.storage.shards import ShardReader

SIDECAR = "inr_factory.json"
KIND, VERSION = "inr-factory export", 1
MAX_SIDECAR_BYTES = 2**30

# Written with every shard; all other attributes are kept.
SHARD_ATTRIBUTES = {
    "format_version", "split", "view", "block", "spec", "parameters", "conventions", "quarantine", "attributes_checksum",
}  # fmt: skip


class SavedColumn(Record):
    """A column of a shard: its type on disk, and its values; None stands for NaN."""

    type: str
    values: tuple[Any, ...]

    @classmethod
    def of(cls, column: NDArray[Any]) -> "SavedColumn":
        if column.dtype.kind in "SO":
            return cls(
                type="text", values=tuple(v.decode() if isinstance(v, bytes) else str(v) for v in column.tolist())
            )
        values = tuple(None if value != value else value for value in column.tolist())
        return cls(type=column.dtype.str, values=values)

    def array(self) -> NDArray[Any]:
        if self.type == "text":
            return np.array([str(value) for value in self.values], dtype=object)
        return np.array([np.nan if value is None else value for value in self.values], dtype=np.dtype(self.type))


class SavedShard(Record):
    """One shard of the set: its columns without the weights, and the file and row of each INR."""

    split: str
    view: int
    block: int
    sha256: str
    attributes: dict[str, str | int]
    quarantine: tuple[Quarantined, ...]
    columns: dict[str, SavedColumn]
    files: tuple[str, ...]
    rows: tuple[int, ...]


class SavedConvention(Record):
    """The convention of the files' numbers; see conventions.py. Activation and encoding are those of the set's spec."""

    name: str
    omega_0: float
    output_bias: float
    order: str
    targets: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    first_omega_0: float | None = None
    extent: float = 1.0
    aspect: float = 1.0

    @model_serializer(mode="wrap")
    def _without_defaults(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without fields that older exports do not have, where they are at their defaults."""
        newer = {"first_omega_0": None, "extent": 1.0, "aspect": 1.0}
        return {name: value for name, value in handler(self).items() if name not in newer or value != newer[name]}

    @classmethod
    def of(cls, convention: Convention) -> "SavedConvention":
        assert convention.targets is not None, "a convention is complete before it is written down"
        assert convention.omega_0 is not None, "a convention is complete before it is written down"
        assert convention.output_bias is not None, "a convention is complete before it is written down"
        return cls(
            name=convention.name, omega_0=convention.omega_0, output_bias=convention.output_bias, order=convention.order,
            targets=convention.targets.name, mean=convention.targets.mean, std=convention.targets.std,
            first_omega_0=convention.first_omega_0, extent=convention.extent, aspect=convention.aspect or 1.0,
        )  # fmt: skip

    @property
    def convention(self) -> Convention:
        targets = Targets(self.targets, self.mean, self.std)
        return Convention(
            self.name, self.omega_0, self.output_bias, self.order, targets,  # type: ignore[arg-type]
            first_omega_0=self.first_omega_0, extent=self.extent, aspect=self.aspect,
        )  # fmt: skip


class Sidecar(Record):
    """All of an export but its weights. `identity` is a hash of what was exported and how, without rows and files."""

    kind: str = KIND
    version: int = VERSION
    format: str
    convention: SavedConvention
    manifest: Manifest
    identity: str
    shards: tuple[SavedShard, ...]
    preview: bool = False

    def to_bytes(self) -> bytes:
        newer = None if self.preview else {"preview"}  # without what older exports do not have
        return (
            json.dumps(self.model_dump(mode="json", exclude=newer), separators=(",", ":"), allow_nan=False) + "\n"
        ).encode()


def export_identity(
    format_name: str, convention: SavedConvention, manifest: Manifest, sha256s: Sequence[str], preview: bool = False
) -> str:
    """16 hex digits over format, convention, the set's head and its shards, and whether it has previews."""
    facts = [format_name, convention.model_dump(mode="json"), manifest.head.model_dump(mode="json"), list(sha256s)]
    facts += ["preview"] if preview else []
    return fingerprint(json.dumps(facts, sort_keys=True))


def describe_shard(shard: ShardReader, sha256: str, written: Sequence[tuple[str, int]]) -> SavedShard:
    """The sidecar's entry of a shard whose rows were written to these files and rows."""
    columns = {
        name: SavedColumn.of(np.asarray(shard.column(name)))
        for name in shard.column_names
        if name not in ("weights", "object_id")
    }
    columns["object_id"] = SavedColumn.of(np.array(shard.object_ids, dtype=object))
    kept = {name: value for name, value in shard.attributes.items() if name not in SHARD_ATTRIBUTES}
    split, view, block = shard.key
    return SavedShard(
        split=split, view=view, block=block, sha256=sha256, attributes=kept, quarantine=shard.quarantine, columns=columns,
        files=tuple(path for path, _ in written), rows=tuple(row for _, row in written),
    )  # fmt: skip


def load_sidecar(root: Path) -> Sidecar | None:
    """The sidecar in an export's folder, or None. IntegrityError where it is damaged or contradicts itself, UsageError
    where it has a later version."""
    if not (root / SIDECAR).exists():
        return None
    path = file_inside(root, SIDECAR, MAX_SIDECAR_BYTES)
    try:
        fields = parse_json_object(read_regular(path))
        if not isinstance(fields, dict) or fields.get("kind") != KIND:
            raise ValueError("it is not of an export")
        if fields.get("version") != VERSION:
            raise UsageError(
                f"{path} has version {fields.get('version')}, this program reads {VERSION}; install a newer one"
            )
        sidecar = Sidecar.model_validate(fields)
        _ = sidecar.manifest.siren_spec
        sidecar.manifest.check_size()
        for shard in sidecar.shards:
            lengths = {len(column.values) for column in shard.columns.values()} | {len(shard.files), len(shard.rows)}
            if len(lengths) != 1 or "checksum" not in shard.columns:
                raise ValueError(
                    f"the columns of {shard.split}, view {shard.view}, block {shard.block} differ in length"
                )
        hashes = [shard.sha256 for shard in sidecar.shards]
        said = (sidecar.format, sidecar.convention, sidecar.manifest, hashes, sidecar.preview)
        if export_identity(*said) != sidecar.identity:
            raise ValueError("it says something else than what was exported")
    except ValidationError as error:
        raise IntegrityError(
            f"{path} is damaged: {validation_message(error)[:200]}; --no-sidecar goes without it"
        ) from None
    except UsageError:
        raise
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        blame_machine(error, path)
        raise IntegrityError(f"{path} is damaged: {one_line(error)}; --no-sidecar goes without it") from None
    return sidecar
