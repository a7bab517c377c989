"""Fit image: one image file, fitted as the INRs of a set were."""

from pathlib import Path

from inr_factory.errors import UsageError
from inr_factory.generation.fitting.fit_views import fit_views
from inr_factory.generation.recipe import ImageSource, recorded_recipe
from inr_factory.generation.signals import SignalError
from inr_factory.generation.sources.image_files import file_signal
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.device import choose_device
from inr_factory.inr.threads import one_thread
from inr_factory.storage.manifest import Manifest, ViewKey


def fit_image(path: Path, manifest: Manifest, size: tuple[int, int], device: str = "auto") -> INRBatch:
    """Fit an image file by the recipe of a set, at the height and width of its images, cropped and resized to them.

    Args:
        path: The file. Its name is part of the seed, so that the same file gives the same INR.
        manifest: That of the set.
        size: Height and width.
        device: auto, cpu, cuda or cuda:N.

    Returns:
        The INR (N = 1), on the CPU.

    Raises:
        UsageError: The set was not fitted by a recipe, or not to images; the file is no image, or its fit failed.
    """
    spec = manifest.siren_spec
    if (spec.in_dim, spec.out_dim) not in ((2, 1), (2, 3)):
        raise UsageError(f"{path} can be compared with INRs of images, those of {manifest.name} are {spec}")
    if manifest.recipe.get("fit", {}).get("engine", "none") == "none":  # it was imported
        raise UsageError(
            f"{manifest.name} does not record how its INRs were fitted; fit the image as they were, in Python by inr.fit, "
            "and search for its INR"
        )
    recipe = recorded_recipe(manifest.recipe, origin=f"of {manifest.name}")
    kept = recipe.source.model_dump(include={"background", "value_range"})
    kept = kept if recipe.source.collection == "image_folder" else {}
    config = ImageSource(collection="image_folder", size=size, mode="grey" if spec.out_dim == 1 else "rgb", **kept)
    try:
        signal = file_signal(path, config)
    except SignalError as error:
        raise UsageError(f"{path}: {error}") from None
    with one_thread():
        key = ViewKey(path.name, 0)
        fitted = fit_views(spec, [key], [signal], recipe.fit, recipe.seed, choose_device(device))
    if fitted.failures:
        raise UsageError(f"{path} was not fitted: {fitted.failures[0].reason}; choose another image")
    return fitted.inrs
