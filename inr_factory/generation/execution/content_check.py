"""Content check: refuses objects that have changed since other views, or other blocks, of a set were fitted.

A set keeps a digest of what each row's object was read from (storage/shard_contents.py). Only what may have changed is
read again: SOURCE_FILES in the folder of the set holds size, mtime and ctime of the files, and is no part of the set.
"""

import contextlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from inr_factory.errors import FactoryError, UsageError, shorten
from inr_factory.generation.recipe import Recipe
from inr_factory.inr.plain_json import parse_json
from inr_factory.inr.regular_files import read_regular
from inr_factory.storage.atomic_files import write_atomically
from inr_factory.storage.locations import Location, RemoteLocation, local_folder
from inr_factory.storage.manifest import Manifest, ShardEntry, file_size, shard_path

if TYPE_CHECKING:
    from inr_factory.generation.execution.shard_plan import ShardPlan, ShardTask
    from inr_factory.generation.signals import Signal, Source
    from inr_factory.storage.manifest import ViewKey
    from inr_factory.storage.shards import ShardReader

SOURCE_FILES = ".source-files.json"
GONE = -1.0  # differs from every digest
MAX_FILES = 200_000  # of which the state is kept: their number takes a second to read and to compare

Stat = list[int]


class SourceFiles(NamedTuple):
    """The files of a source by their paths below `root`: size, mtime and ctime in nanoseconds."""

    root: str
    files: dict[str, Stat]

    @classmethod
    def of(cls, root: str | Path, paths: Iterable[str]) -> "SourceFiles":
        """The state of those files below `root` that exist."""
        folder = os.path.abspath(Path(root).expanduser())
        return cls(folder, {path: state for path in paths if (state := _stat(os.path.join(folder, path))) is not None})

    def changed_since(self, saved: "SourceFiles") -> set[str]:
        """The paths of files that were not there or had another state."""
        return {path for path, state in self.files.items() if state != saved.files.get(path)}


def _stat(path: str) -> Stat | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def load_source_files(out: Location) -> SourceFiles | None:
    """The state of the files from which the set in `out` was last fitted; None where it is not known."""
    if isinstance(out, RemoteLocation) or not (out / SOURCE_FILES).is_file():
        return None
    try:
        root, files = parse_json(read_regular(out / SOURCE_FILES))
        return SourceFiles(str(root), dict(files))
    except (OSError, ValueError, TypeError, RecursionError):
        return None


def save_source_files(out: Location, state: SourceFiles | None) -> None:
    """Keep the state of files for the next run. A folder that cannot be written to does not matter."""
    if state is None or isinstance(out, RemoteLocation) or load_source_files(out) == state:
        return
    with contextlib.suppress(OSError):
        write_atomically(out / SOURCE_FILES, json.dumps(state).encode())


def _path(source: Any, index: int) -> str:
    return os.path.relpath(str(source.paths[index]), str(source.root))


def state_of_source(source: "Source", indices: Iterable[int]) -> SourceFiles | None:
    """The state of the files of some items; None for a source that is not in files, or in too many."""
    root = getattr(source, "root", None)
    if root is None or not getattr(source, "paths", None):
        return None
    used = sorted({_path(source, index) for index in indices})
    return SourceFiles.of(root, used) if len(used) <= MAX_FILES else None


def check_contents_of_complete(
    recipe: Recipe, manifest: Manifest, out: Location, data_root: Location | None, source: "Source | None"
) -> SourceFiles | None:
    """Raise UsageError if the files of a complete set's source have changed, as far as their state is known.

    The source is opened only where a size or a time differs. A `source` that is given is compared object by object.

    Returns:
        The state of the files if it has to be kept; None if nothing differs or nothing is known.
    """
    if source is not None:
        from inr_factory.generation.execution.source_check import check_source

        check_source(source, manifest.source.fingerprint, out)
        check_contents(manifest, out, source, range(len(source.items)))
        return None
    saved = load_source_files(out)
    if saved is None or isinstance(data_root, RemoteLocation):
        return None
    now = SourceFiles.of(saved.root if data_root is None else data_root, saved.files)
    if not now.changed_since(saved):
        return None
    from inr_factory.generation.sources.registry import open_source

    try:
        source = open_source(recipe.source, Path(now.root), recipe.version)
    except FactoryError:  # it is another folder now, and nothing is missing in the set
        return None
    check_contents(manifest, out, source, range(len(source.items)))
    return now


def content_number(content: bytes | str | int) -> float:
    """The digest that a row holds, of what `Source.content` gives: a digest below 2**52 stays as it is."""
    from inr_factory.inr.stable_hash import content_digest

    if isinstance(content, int) and 0 <= content < 2**52:
        return float(content)
    return float(content_digest(content if isinstance(content, bytes) else str(content)))


def read_contents(
    source: "Source", indices: Sequence[int], keys: "Sequence[ViewKey]", signals: "Sequence[Signal]"
) -> dict[str, float]:
    """The digests of what the items of a block were just read from, by the names of the objects.

    `keys` and `signals` are those of the objects that have a signal. Others are included; their digest is GONE if they
    cannot be read. Empty for a Source without digests.
    """
    from inr_factory.generation.execution.signal_reading import read_content
    from inr_factory.generation.signal_stack import SignalStack
    from inr_factory.generation.signals import SignalError

    if not hasattr(source, "content"):
        return {}
    known: dict[str, int | None] = {}
    if not isinstance(signals, SignalStack):  # which has none, and would make a Signal for each
        known = {key.object_id: signal.content for key, signal in zip(keys, signals, strict=True)}
    contents = {}
    for index in indices:
        name = source.items[index].object_id
        try:
            content = known.get(name)
            contents[name] = content_number(read_content(source, index) if content is None else content)
        except SignalError:
            contents[name] = GONE
    return contents


def refuse_changed(source: "Source", index: int, shard: "ShardReader", row: int) -> None:
    """Raise SignalError if the content of an item is no longer that from which a row of a shard was fitted."""
    from inr_factory.generation.execution.signal_reading import read_content
    from inr_factory.generation.signals import SignalError
    from inr_factory.storage.shard_contents import CONTENT

    if not hasattr(source, "content") or CONTENT not in shard.column_names:
        return
    if abs(content_number(read_content(source, index)) - float(shard.column(CONTENT)[row])) > 0:  # not where it is NaN
        raise SignalError("its content has changed since the set was fitted")


def check_other_views(
    out: Location, task: "ShardTask", views: int, fingerprint: str, contents: Mapping[str, float]
) -> None:
    """Raise UsageError for an object of a block that was read from another content for another view of the set.

    The shards of other views are looked at until all objects are found; those of a store only of lower views, since
    each has to be fetched.
    """
    from inr_factory.storage.shard_contents import different_objects, shard_contents

    wanted = dict(contents)
    for view in range(task.view if isinstance(out, RemoteLocation) else views):
        path = shard_path(task.split, view, task.block)
        if view == task.view or not wanted or file_size(out / path) is None:
            continue
        with contextlib.suppress(FileNotFoundError), local_folder(out, path) as folder:
            known = shard_contents(folder / path, fingerprint)
            if different := different_objects(known, wanted):
                raise changed_error(out, different)
            wanted = {name: content for name, content in wanted.items() if name not in known}


def check_contents(manifest: Manifest, out: Location, source: "Source", indices: Sequence[int]) -> None:
    """Raise UsageError if the content of some items is no longer that from which the set in `out` was fitted.

    Files are read if their state differs from that at the last fit; where it is not known, workers compare what they
    read for further views. The objects of a Source of one's own are compared all.
    """
    from inr_factory.generation.execution.signal_reading import read_content
    from inr_factory.generation.execution.source_check import is_given
    from inr_factory.generation.signals import SignalError
    from inr_factory.storage.shard_contents import shard_contents

    if isinstance(out, RemoteLocation):
        return
    if is_given(source):
        _check_labels(manifest, out, source)
    if not hasattr(source, "content"):
        return
    state = state_of_source(source, indices)
    if not is_given(source):
        saved = load_source_files(out)
        if state is None or saved is None:
            return
        changed = state.changed_since(saved)
        indices = [index for index in indices if _path(source, index) in changed]
    wanted = {source.items[index].object_id: index for index in indices}
    different = []
    for entry in manifest.shards:
        if not wanted:
            break
        for name, recorded in shard_contents(out / entry.path, manifest.fingerprint).items():
            if (index := wanted.pop(name, None)) is not None:
                with contextlib.suppress(SignalError):  # it is gone, not changed
                    if content_number(read_content(source, index)) != recorded:
                        different.append(name)
    if different:
        raise changed_error(out, different)


def _check_labels(manifest: Manifest, out: Path, source: "Source") -> None:
    """Raise UsageError unless the objects of a Source of one's own are those of the set, with the same labels."""
    from inr_factory.storage.shard_contents import shard_contents

    labels, classes = {item.object_id: item.label for item in source.items}, tuple(source.classes)
    if classes != manifest.classes:
        raise _other_source(f"{out} has the classes {shorten(manifest.classes)}, the source now {shorten(classes)}")
    for entry in manifest.shards:
        for name, label in shard_contents(out / entry.path, manifest.fingerprint, "label").items():
            if labels.get(name) != label:
                now = f"the label {labels[name]}" if name in labels else "no such object"
                raise _other_source(f"{out} has {name} with the label {label}, the source now has {now}")


def check_counts(manifest: Manifest, out: Location, source: "Source", plan: "ShardPlan") -> None:
    """Raise UsageError unless a Source of one's own has as many objects as the set in `out` was begun with."""
    from inr_factory.generation.execution.source_check import is_given

    before, now = (sum(split.objects for split in splits.values()) for splits in (manifest.splits, plan.splits))
    if is_given(source) and plan.splits != manifest.splits:
        raise _other_source(f"{out} was begun with {before:,} objects, the source now gives {now:,} or other splits")


def _other_source(what: str) -> UsageError:
    return UsageError(f"{what}; give the same objects, or another fingerprint and another --out")


def check_recovered(out: Location, manifest: Manifest, recovered: Sequence[ShardEntry]) -> None:
    """Raise UsageError if unrecorded shards were fitted to another content of an object than the other shards."""
    if not recovered or isinstance(out, RemoteLocation):
        return
    from inr_factory.storage.shard_contents import content_conflicts

    blocks = {(entry.split, entry.block) for entry in recovered}
    entries = [entry for entry in manifest.with_entries(recovered).shards if (entry.split, entry.block) in blocks]
    for conflict in content_conflicts((out, entry) for entry in entries):
        raise UsageError(f"{conflict}; inr-factory repair {out} sets the second aside and fits it again")


def changed_error(out: Location, names: Sequence[str]) -> UsageError:
    """The refusal of objects whose content differs from that in the set."""
    more = f" and {len(names) - 3:,} more objects" if len(names) > 3 else ""
    return UsageError(
        f"the content of {', '.join(sorted(names)[:3])}{more} has changed since {out} was fitted; put the old files back and run "
        "again, or fit the new ones into another --out"
    )
