"""Import options: what a user says of a foreign set, what an import answers, and how both kinds of it begin."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from inr_factory.errors import IntegrityError, UsageError
from inr_factory.generation.recipe import Recipe
from inr_factory.inr.batch import INRBatch
from inr_factory.interop.convention_check import ConventionCheck
from inr_factory.interop.conventions import Convention
from inr_factory.interop.format import Contents, ForeignRow, Hints
from inr_factory.interop.state_dicts import stack_layers
from inr_factory.storage.atomic_files import remove_stale_temporaries
from inr_factory.storage.locations import Location
from inr_factory.storage.manifest import MANIFEST, Manifest
from inr_factory.storage.manifest_file import load_manifest, update_manifest


@dataclass(frozen=True)
class ImportOptions:
    """What a user says of a foreign set. None: as its convention has it. `classes` are names, or how many there are.

    `source` is the recipe whose objects these are; with it PSNRs are measured, and the convention is checked unless
    `unchecked`. `size` (height, width) is that of the images, where no source says it.
    """

    convention: str | None = None
    omega_0: float | None = None
    output_bias: float | None = None
    order: str | None = None
    targets: str | None = None
    hints: Hints = field(default_factory=Hints)
    use_sidecar: bool = True
    source: Recipe | None = None
    data_root: Location | None = None
    unchecked: bool = False
    classes: tuple[str, ...] | int | None = None
    size: tuple[int, int] | None = None
    shard_objects: int = 500

    @property
    def names_convention(self) -> bool:
        given = (self.convention, self.omega_0, self.output_bias, self.order, self.targets)
        return any(value is not None for value in given)


@dataclass(frozen=True)
class ImportReport:
    """The set as it is, how many shards were written now, what the user should know, and how the INRs render."""

    manifest: Manifest
    made: int
    remarks: tuple[str, ...]
    verdict: ConventionCheck | None = None


def open_or_create_set(out: Path, manifest: Manifest) -> Manifest:
    """The set in folder out, begun if there is none. UsageError where it is another."""
    if (out / MANIFEST).exists() and load_manifest(out).fingerprint != manifest.fingerprint:
        raise UsageError(f"{out} holds another set; choose another --out")
    remove_stale_temporaries(out)
    return update_manifest(out, manifest)


def stack_contents(
    contents: Contents, members: Sequence[ForeignRow], dims: tuple[int, ...], convention: Convention
) -> INRBatch:
    """What was read, in their terms. IntegrityError names the first INR of other dims."""
    for layers, member in zip(contents.layers, members, strict=True):
        if layers.dims != dims:
            came, expected = ("-".join(map(str, each)) for each in (layers.dims, dims))
            raise IntegrityError(f"{member.path} is {came}, the others are {expected}; a set has INRs of one kind")
    try:
        return stack_layers(convention.spec(dims), list(contents.layers))
    except ValueError as error:
        raise IntegrityError(f"these are no INRs that a set can hold: {error}") from None
