"""Source place: where the files of a set's source were, kept in the folder of the set on this machine alone.

It is no part of the set: fingerprints, checks, copies, exports and pushes leave it out.
"""

import contextlib
import json
import os
import shlex
from pathlib import Path
from urllib.parse import urlsplit

from inr_factory.inr.plain_json import parse_json_object
from inr_factory.inr.regular_files import read_regular
from inr_factory.storage.atomic_files import write_atomically
from inr_factory.storage.locations import Location, RemoteLocation, parse_location
from inr_factory.storage.manifest import Manifest
from inr_factory.storage.pull_record import load_pull_record

SOURCE_PLACE = ".source.json"
MAX_BYTES = 65_536
WITHOUT_FILES = ("digits", "primitives")


def remembered_source(dataset: Location) -> Location | None:
    """The data root from which the set in this folder was last fitted.

    None where nothing is recorded, where the record cannot be read, or where the folder is no longer there.
    """
    if isinstance(dataset, RemoteLocation):
        return None
    path = dataset / SOURCE_PLACE
    try:
        if not path.is_file() or path.stat().st_size > MAX_BYTES:
            return None
        place = parse_location(parse_json_object(read_regular(path, MAX_BYTES))["data_root"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):  # a UsageError is a ValueError
        return None
    return place if isinstance(place, RemoteLocation) or (place.is_absolute() and place.is_dir()) else None


def continue_command(dataset: Location, manifest: Manifest, missing: bool = False, views: int | None = None) -> str:
    """The command that makes what is missing of a set, or adds to it: `views` in all, or with a larger limit.

    What is `missing` of a set that was pulled is on the hub.
    """
    text = str(dataset)
    name = shlex.quote(text if os.sep in text else f"{os.curdir}{os.sep}{text}")  # never a built-in recipe or an option
    pulled = load_pull_record(dataset) if missing and isinstance(dataset, Path) else None
    if pulled is not None:
        return f"inr-factory pull {pulled.repo} --views {manifest.views} --out {name}"
    if manifest.derived is not None:
        return f"inr-factory {manifest.derived.how.partition(':')[0]}, by which it was made"
    collection = manifest.recipe.get("source", {}).get("collection")
    if collection == "own":
        return f"in Python: inr_factory.fit_dataset({str(dataset)!r}, source=...{f', views={views}' if views else ''})"
    known = collection in WITHOUT_FILES or remembered_source(dataset) is not None
    return f"inr-factory fit {name}{'' if known else ' --data-root FOLDER'}{f' --views {views}' if views else ''}"


def remember_source(dataset: Location, data_root: Location) -> None:
    """Record the data root that a set is fitted from. Sets in stores, and passwords in URLs, are left alone."""
    if isinstance(dataset, RemoteLocation):
        return
    if isinstance(data_root, RemoteLocation):
        text = data_root.url
        if urlsplit(text).password is not None:
            return
    else:
        text = os.path.abspath(data_root.expanduser())
    content = (json.dumps({"data_root": text}) + "\n").encode()
    path = dataset / SOURCE_PLACE
    with contextlib.suppress(OSError):  # a folder that cannot be written to matters elsewhere, not here
        if not path.is_file() or read_regular(path) != content:
            write_atomically(path, content)
