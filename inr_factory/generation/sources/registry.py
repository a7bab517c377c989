"""Sources: opens the collection that a recipe names, images or shapes."""

from inr_factory.errors import UsageError
from inr_factory.generation.recipe import ImageSource, OwnSource, ShapeSource
from inr_factory.generation.signals import Source
from inr_factory.storage.locations import Location, RemoteLocation, fetch_tree


def open_source(config: ImageSource | ShapeSource | OwnSource, data_root: Location | None = None) -> Source:
    """The collection, its files looked for below `data_root` (default: $INR_FACTORY_DATA, else ./data).

    Files of a store are copied to this machine, once. Cheap enough that each process of a cluster opens its own.
    UsageError where the data are not to be had, or are those of a Source of somebody's own, IntegrityError where a
    file of an official set is damaged, each naming the place.
    """
    if isinstance(config, OwnSource):
        raise UsageError(
            "a set of collection own was made of a Source written in Python, which no recipe can open; go on with it "
            "from there: fit_dataset(recipe, out, source=...)"
        )
    if isinstance(data_root, RemoteLocation):
        data_root = fetch_tree(data_root)
    if isinstance(config, ShapeSource):
        from inr_factory.generation.sources.shape_collections import (
            open_shapes,  # geometry libraries take a second to import
        )

        return open_shapes(config, data_root)
    from inr_factory.generation.sources.image_collections import open_source as open_images

    return open_images(config, data_root)
