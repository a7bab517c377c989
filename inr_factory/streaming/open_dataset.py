"""Open: a data set by its folder, its URL, or the name of a set that this machine can make without a network."""

import os
from collections.abc import Sequence
from pathlib import Path

from inr_factory.inr.stable_hash import fingerprint
from inr_factory.learning.data.dataset import INRDataset
from inr_factory.storage.locations import Location, cache_folder
from inr_factory.storage.manifest import MANIFEST, file_size
from inr_factory.storage.manifest_file import load_manifest

BY_NAME = ("digits",)  # recipes whose source is installed and whose fits take seconds


def open_dataset(
    path: str | os.PathLike[str] | Location,
    split: str = "train",
    views: int | Sequence[int] | None = None,
    classes: str | int | Sequence[str | int] | None = None,
    min_psnr: float | None = None,
    max_psnr: float | None = None,
    *,
    label_noise: tuple[float, int] | None = None,
    labels_per_class: int | None = None,
    label_seed: int = 0,
    target: str | None = None,
    check: bool = True,
    in_memory: bool = False,
) -> INRDataset:
    """Open one split of a data set.

    Args:
        path: Folder or URL of the set, as for INRDataset. "digits" without such a folder is two views of scikit-learn's
            scans (17 MB): the first call fits them into the cache in seconds, later calls open them.
        split: "train", "val" or "test".
        views: How many of the first views, or the views themselves as a list from 0; None for all.
        classes: Names or numbers of classes; None for all.
        min_psnr: The lowest PSNR in dB, inclusive.
        max_psnr: The highest PSNR in dB, inclusive.
        label_noise: As for INRDataset.
        labels_per_class: As for INRDataset.
        label_seed: As for INRDataset.
        target: As for INRDataset.
        check: Compare the sha256 of the shards, and not only their sizes.
        in_memory: Copy the active rows into memory when the first is read.

    Returns:
        The data set, a torch Dataset.

    Raises:
        UsageError: For a folder without a set, for what the set does not have, or a subset without rows.
        IntegrityError: For a shard that is not as recorded.
    """
    if isinstance(path, str) and path in BY_NAME and not os.path.lexists(path):
        path = _cached_set(path)
    return INRDataset(
        path, split, views, classes, min_psnr, max_psnr, label_noise=label_noise, labels_per_class=labels_per_class,
        label_seed=label_seed, target=target, check=check, in_memory=in_memory,
    )  # fmt: skip


def _cached_set(name: str) -> Path:
    """The folder of a built-in recipe's set in the cache, which is fitted where it is missing or not complete."""
    from inr_factory.generation.recipe import load_recipe

    recipe = load_recipe(name)
    folder = cache_folder() / f"{name}-{fingerprint(recipe.model_dump_json())}"
    if file_size(folder / MANIFEST) is None or load_manifest(folder).missing(folder):
        from inr_factory.generation.execution.fit_dataset import fit_dataset

        # In this process, so that a script needs no main guard; on the CPU, so that all machines have the same set.
        fit_dataset(recipe, folder, backend="local", workers=1, device="cpu")
    return folder
