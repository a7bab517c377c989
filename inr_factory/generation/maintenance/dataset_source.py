"""The source of a set: what its INRs were fitted to, opened by the recipe in its manifest."""

from pathlib import Path

from inr_factory.errors import FactoryError
from inr_factory.generation.execution.source_check import check_source
from inr_factory.generation.recipe import recorded_recipe
from inr_factory.generation.signals import Source
from inr_factory.generation.sources.registry import open_source
from inr_factory.storage.locations import Location
from inr_factory.storage.manifest import Manifest


def open_dataset_source(
    manifest: Manifest, dataset: Path, data_root: Location | None, check: bool = True
) -> tuple[Source | None, str | None]:
    """Open the source of a set, or say why it cannot be opened.

    Args:
        manifest: the manifest of the set.
        dataset: the folder of the set, for messages.
        data_root: folder or URL of the source's files; None for $INR_FACTORY_DATA, else ./data.
        check: refuse files that differ from those that the set was made of.

    Returns:
        The source and None, or None and the reason in one line.
    """
    try:
        recipe = recorded_recipe(manifest.recipe, origin=f"of {dataset}")
        source = open_source(recipe.source, data_root, recipe.version)
        if check:
            check_source(source, manifest.source.fingerprint, dataset)
    except FactoryError as error:
        return None, str(error)
    return source, None
