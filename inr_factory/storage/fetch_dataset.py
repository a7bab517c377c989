"""Fetching a set: the location that a user names, and a local folder that holds all of it."""

import os
from pathlib import Path

from inr_factory.errors import IntegrityError, UsageError
from inr_factory.inr.regular_files import as_path
from inr_factory.storage.atomic_files import write_atomically
from inr_factory.storage.locations import Location, RemoteLocation, fetch_file, parse_location
from inr_factory.storage.manifest import MANIFEST, ORIGIN
from inr_factory.storage.manifest_file import load_manifest
from inr_factory.storage.pull_record import pinned_location
from inr_factory.storage.shard_files import fetch_shards

HUB = "hf://"


def dataset_location(dataset: str | os.PathLike[str] | RemoteLocation) -> Location:
    """The folder or the remote location of a set.

    Args:
        dataset: A path, or a URL of a store that fsspec knows. "hf://OWNER/NAME" is a data set repository of the
            Hugging Face Hub, at the commit that `pull` brought to the cache of this machine, if it did.

    Returns:
        A Path, or a RemoteLocation for a URL.

    Raises:
        UsageError: For anything else, or a URL that cannot be opened here.
    """
    if isinstance(dataset, RemoteLocation):
        return dataset
    if not isinstance(dataset, str | os.PathLike):
        raise UsageError(f"a data set is named by its folder or URL, got {type(dataset).__name__}")
    as_path(dataset, "a data set")
    text = os.fspath(dataset)
    if not text.startswith(HUB):
        return parse_location(text)
    if text.removeprefix(HUB).partition("/")[0] not in ("datasets", "models", "spaces"):
        text = f"{HUB}datasets/{text.removeprefix(HUB)}"
    location = parse_location(text)
    return pinned_location(location) if isinstance(location, RemoteLocation) else location


def fetch_dataset(dataset: str | os.PathLike[str] | RemoteLocation) -> Path:
    """A local folder that holds a whole set.

    Args:
        dataset: As `dataset_location` takes it.

    Returns:
        The folder itself, or for a remote set a copy of its manifest, targets and all of its shards.

    Raises:
        UsageError: For a location without a set.
        IntegrityError: For a set that is not as recorded.
        ResourceError: Where the store fails.
    """
    location = dataset_location(dataset)
    if isinstance(location, Path):
        return location
    manifest = load_manifest(location)
    folder = fetch_shards(location, manifest.shards)
    if (record := manifest.targets) is not None:
        from inr_factory.storage.targets import checked_image  # loads h5py, which few sets need here

        try:
            checked_image(folder, record)
        except IntegrityError:
            write_atomically(folder / record.path, checked_image(location, record))
    write_atomically(folder / MANIFEST, manifest.to_json().encode())  # a run may have recorded more meanwhile
    if (location / ORIGIN).is_file():
        fetch_file(location / ORIGIN, folder / ORIGIN)
    return folder
