"""Jobs: what a run of `fit` is asked, what it did, and whether there is anything to do at all, which is told without torch."""

from dataclasses import dataclass
from time import monotonic
from typing import Literal

from inr_factory.errors import UsageError
from inr_factory.generation.recipe import Recipe, check_recipe
from inr_factory.storage.atomic_files import remove_stale_temporaries
from inr_factory.storage.dataset_card import NO_CARD, Card, keep_card_of_whole
from inr_factory.storage.locations import Location
from inr_factory.storage.manifest import MANIFEST, Manifest
from inr_factory.storage.manifest_file import load_manifest, load_origin

Backend = Literal["ray", "local"]


@dataclass(frozen=True)
class Settings:
    """How and where to run. Nothing here decides what the shards hold, but for the kind of device.

    `workers` None is one a GPU or core; `part` (i, n) makes every n-th shard from the i-th on.
    """

    data_root: Location | None = None
    backend: Backend = "ray"
    workers: int | None = None
    address: str | None = None
    device: str = "auto"
    part: tuple[int, int] = (0, 1)

    def __post_init__(self) -> None:
        number, parts = self.part
        if not 0 <= number < parts:
            raise UsageError(f"--shard i/n counts from 0 to n - 1, got {number}/{parts}")
        if self.workers is not None and self.workers < 1:
            raise UsageError(f"--workers must be at least 1, got {self.workers}")


@dataclass(frozen=True)
class FitReport:
    """What a run did: the set as it is now, shards it made and found whole, shards that are still missing, its card."""

    manifest: Manifest
    made: int
    adopted: int
    missing: int
    inrs: int
    seconds: float
    card: Card = NO_CARD


def finished(recipe: Recipe, out: Location) -> FitReport | None:
    """The report of a run that finds every shard recorded and there; None where something is to be made.

    Reads the manifest, the sizes of the shards and the card, which is written where it is missing, no more; what is
    inside is `verify`'s to check. Raises UsageError where `out` holds another recipe's set, IntegrityError for a manifest that is damaged.
    """
    started = monotonic()
    found = load_set(recipe, out)
    remove_stale_temporaries(out)
    if found is None or missing_paths(found, recipe.views, out):
        return None
    card = keep_card_of_whole(out, found)
    return FitReport(found, 0, 0, 0, 0, monotonic() - started, card)


def load_set(recipe: Recipe, out: Location) -> Manifest | None:
    """The manifest in folder out, None if there is none; UsageError if it is another recipe's."""
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file; --out takes a folder")
    # Without its manifest, origin.json still says whose set it is.
    manifest = load_manifest(out) if (out / MANIFEST).exists() else load_origin(out)
    if manifest is None:
        return None
    if manifest.derived is not None and manifest.derived.how.startswith("import:"):
        raise UsageError(
            f"{out} was imported ({manifest.derived.how.removeprefix('import:')}) and cannot be fitted further; choose another --out"
        )
    if manifest.derived is not None:
        raise UsageError(
            f"{out} is a copy ({manifest.derived.how}); fit the set it was made from, or choose another --out"
        )
    theirs = check_recipe(manifest.recipe, origin=f"of {out}")
    if theirs.fingerprint != recipe.fingerprint:
        raise UsageError(
            f"{out} holds a set of another recipe ({theirs.name}: {recipe.difference(theirs)}); choose another --out"
        )
    if not manifest.fingerprint.startswith(theirs.fingerprint):
        raise UsageError(
            f"{out} was made by a version whose recipes had other settings (fingerprint {manifest.fingerprint}); go on with "
            "that version, or choose another --out"
        )
    return manifest


def missing_paths(manifest: Manifest, views: int, out: Location) -> set[str]:
    """Paths of the shards of the first `views` views that are not both recorded and there."""
    return set(manifest.with_views(views).missing(out))
