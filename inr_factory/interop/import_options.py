"""Import options: what a user knows of a foreign set, what an import returns, and how both kinds of import begin."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from inr_factory.errors import IntegrityError, UsageError
from inr_factory.generation.recipe import Recipe
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.mlp_layers import stack_layers
from inr_factory.interop.convention_check import ConventionCheck
from inr_factory.interop.conventions import Convention
from inr_factory.interop.format import Contents, ForeignRow, Hints
from inr_factory.storage.atomic_files import remove_stale_temporaries
from inr_factory.storage.locations import Location
from inr_factory.storage.manifest import MANIFEST, Manifest
from inr_factory.storage.manifest_file import load_manifest, update_manifest


@dataclass(frozen=True)
class ImportOptions:
    """The options of `import_dataset`, parsed. None: as the convention has it. `classes` are names or their number."""

    convention: str | None = None
    omega_0: float | None = None
    first_omega_0: float | None = None
    output_bias: float | None = None
    order: str | None = None
    targets: str | None = None
    activation: str | None = None
    frequencies: int | None = None
    first_frequency: float | None = None
    coordinates: bool | None = None
    hints: Hints = field(default_factory=Hints)
    source: Recipe | None = None
    data_root: Location | None = None
    unchecked: bool = False
    classes: tuple[str, ...] | int | None = None
    size: tuple[int, int] | None = None
    shard_objects: int = 500

    @property
    def names_convention(self) -> bool:
        return self.convention is not None or any(value is not None for value in self.convention_parts.values())

    @property
    def convention_parts(self) -> dict[str, Any]:
        """The arguments of `complete_convention` but its name."""
        names = (
            "omega_0", "output_bias", "order", "targets", "first_omega_0", "activation", "frequencies",
            "first_frequency", "coordinates",
        )  # fmt: skip
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class ImportReport:
    """The result of an import.

    `manifest` describes the set, `made` counts the shards written by this call, `remarks` are for the user, and
    `check` compares renderings with the source, where there was one.
    """

    manifest: Manifest
    made: int
    remarks: tuple[str, ...]
    check: ConventionCheck | None = None


def parse_dims(spec: str | Sequence[int] | None) -> tuple[int, ...] | None:
    """2-32-32-1, or 3-512x4-1 for four layers of 512, or the numbers themselves; the first is that of the first layer's
    inputs."""
    if spec is None:
        return None
    dims: list[int] = []
    for part in spec.split("-") if isinstance(spec, str) else map(str, spec):
        match = re.fullmatch(r"(\d{1,5})(?:x(\d{1,2}))?", part)
        if match is None or int(match[1]) == 0:
            raise UsageError(f"--spec takes dims as 2-32-32-1 or 3-512x4-1, got {spec!r}")
        dims += [int(match[1])] * int(match[2] or 1)
    if len(dims) < 3:
        raise UsageError(f"--spec needs one or more hidden layers between inputs and outputs, got {spec!r}")
    return tuple(dims)


def parse_classes(classes: str | int | Sequence[str] | None) -> tuple[str, ...] | int | None:
    """A number of classes, or their names, separated by commas if they are one string."""
    if classes is None:
        return None
    names = [name.strip() for name in str(classes).split(",")] if isinstance(classes, str | int) else list(classes)
    if len(names) == 1 and names[0].isdigit() and 1 <= int(names[0]) <= 100_000:
        return int(names[0])
    if len(names) < 2 or not all(names) or len(set(names)) < len(names):
        raise UsageError(f"--classes takes a number, or different names with commas, got {classes!r}")
    return tuple(names)


def parse_size(size: str | tuple[int, int] | None) -> tuple[int, int] | None:
    """HEIGHTxWIDTH, or the two numbers."""
    if size is None:
        return None
    match = re.fullmatch(r"(\d{1,4})x(\d{1,4})", size if isinstance(size, str) else "x".join(map(str, size)))
    if match is None or "0" in match.groups():
        raise UsageError(f"--size takes HEIGHTxWIDTH, got {size!r}")
    return int(match[1]), int(match[2])


def open_or_create_set(out: Path, manifest: Manifest) -> Manifest:
    """The set in folder out, created if there is none. UsageError where it is another."""
    if (out / MANIFEST).exists() and load_manifest(out).fingerprint != manifest.fingerprint:
        raise UsageError(f"{out} holds another set; choose another --out")
    remove_stale_temporaries(out)
    return update_manifest(out, manifest)


def stack_contents(
    contents: Contents, rows: Sequence[ForeignRow], dims: tuple[int, ...], convention: Convention
) -> INRBatch:
    """The layers as one batch in the foreign convention. IntegrityError names the first INR of other dims."""
    for layers, row in zip(contents.layers, rows, strict=True):
        if layers.dims != dims:
            actual, expected = ("-".join(map(str, each)) for each in (layers.dims, dims))
            raise IntegrityError(f"{row.path} is {actual}, the others are {expected}; a set has INRs of one kind")
    try:
        return stack_layers(convention.spec(dims), list(contents.layers))
    except UsageError:  # of a convention
        raise
    except ValueError as error:
        raise IntegrityError(f"these are no INRs that a set can hold: {error}") from None
