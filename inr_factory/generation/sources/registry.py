"""Sources: opens the collection that a recipe names, images or shapes."""

from inr_factory.errors import UsageError
from inr_factory.generation.recipe import RECIPE_VERSION, ImageSource, OwnSource, ShapeSource
from inr_factory.generation.signals import Source
from inr_factory.storage.locations import Location, RemoteLocation, fetch_tree


def open_source(
    config: ImageSource | ShapeSource | OwnSource,
    data_root: Location | None = None,
    version: int = RECIPE_VERSION,
    download: bool = True,
) -> Source:
    """Open the collection that a recipe names. Cheap enough that each process of a cluster opens its own.

    Args:
        config: The `source` of a recipe.
        data_root: Folder or URL of the collection's files; None is $INR_FACTORY_DATA, else ./data. Files of a store
            are copied to this machine once.
        version: The version of the recipe, which decides what its collections give.
        download: Whether an official set that is missing is downloaded.

    Returns:
        A `Source` of images or shapes.

    Raises:
        UsageError: The data are missing, or the collection is `own`, whose Source exists only in Python.
        IntegrityError: A file of an official set is damaged.
    """
    if isinstance(config, OwnSource):
        raise UsageError(
            "the set was made in Python, from arrays or a Source, and does not keep them; continue in Python, by the same "
            "fit(...).save(out) or fit_dataset(recipe, out, source=...)"
        )
    if isinstance(data_root, RemoteLocation):
        data_root = fetch_tree(data_root)
    if isinstance(config, ShapeSource):
        # Geometry libraries take a second to import.
        from inr_factory.generation.sources.shape_collections import open_shapes

        return open_shapes(config, data_root, version)
    from inr_factory.generation.sources.image_collections import open_source as open_images

    return open_images(config, data_root, version, download)


def source_place(config: ImageSource | ShapeSource | OwnSource, data_root: Location | None) -> Location | None:
    """The folder or URL from which `open_source` reads the files of a collection; None for one without files."""
    if config.collection in ("digits", "primitives", "own"):
        return None
    from inr_factory.generation.sources.image_collections import default_data_root

    return default_data_root() if data_root is None else data_root
