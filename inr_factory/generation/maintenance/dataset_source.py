"""The source of a set: what its INRs were fitted to, opened by the recipe in its manifest. Nothing is downloaded."""

from pathlib import Path

from inr_factory.errors import FactoryError, UsageError
from inr_factory.generation.execution.source_check import check_source
from inr_factory.generation.recipe import recorded_recipe
from inr_factory.generation.signals import Source
from inr_factory.generation.sources.registry import open_source
from inr_factory.storage.locations import Location, RemoteLocation
from inr_factory.storage.manifest import Manifest
from inr_factory.storage.source_place import remembered_source


def open_recorded_source(
    manifest: Manifest, dataset: Location, data_root: Location | None, check: bool = True
) -> Source:
    """Open the source of a set to look at it.

    Args:
        manifest: the manifest of the set.
        dataset: the folder or URL of the set.
        data_root: folder or URL of the source's files; None for where it was when the set was fitted, else
            $INR_FACTORY_DATA, else ./data.
        check: refuse files that differ from those that the set was made of.

    Raises:
        UsageError: the source is not there, lies in a store that no data_root names, or the set was imported without one.
        IntegrityError: it is not the one of the set.
    """
    if "source" not in manifest.recipe:
        raise UsageError(
            f"{dataset} does not say which collection its objects are from, so nothing can be compared; import it again "
            "with --source"
        )
    recipe = recorded_recipe(manifest.recipe, origin=f"of {dataset}")
    place = data_root or remembered_source(dataset)
    if data_root is None and isinstance(place, RemoteLocation):
        raise UsageError(f"the source is in {place}; --data-root {place} copies it to this machine")
    source = open_source(recipe.source, place, recipe.version, download=False)
    if check:
        check_source(source, manifest.source.fingerprint, dataset)
    return source


def open_dataset_source(
    manifest: Manifest, dataset: Path, data_root: Location | None, check: bool = True
) -> tuple[Source | None, str | None]:
    """`open_recorded_source`, or None and the reason in one line."""
    try:
        return open_recorded_source(manifest, dataset, data_root, check), None
    except FactoryError as error:
        return None, str(error)
