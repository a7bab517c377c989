"""Pull: downloads a set, or some of its views, from the Hugging Face Hub into the cache or a folder."""

import hashlib
import os
import re
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from inr_factory.errors import IntegrityError, UsageError, brief, shorten
from inr_factory.inr.arguments import check_hooks
from inr_factory.inr.regular_files import as_path, read_regular
from inr_factory.interop.hugging_face_hub import HubCommit, library_remarks, resolve_commit
from inr_factory.learning.data.row_selection import choose_shards, choose_views
from inr_factory.storage.atomic_files import locked, make_folder, staging_folder, write_atomically
from inr_factory.storage.card_notes import COMPANIONS
from inr_factory.storage.dataset_card import CROISSANT, README
from inr_factory.storage.fetch_dataset import HUB
from inr_factory.storage.locations import RemoteLocation, copy_folder
from inr_factory.storage.manifest import MANIFEST, ORIGIN, Manifest, ShardEntry, file_size
from inr_factory.storage.manifest_file import load_manifest, record_targets, update_manifest
from inr_factory.storage.pull_record import PullRecord, load_pull_record
from inr_factory.storage.shard_files import collect_shards

RENDERED = ("report.html", "preview.png")  # of the whole set alone
WORKERS = 8
SHARDS_PER_RECORD = 64


@dataclass(frozen=True)
class PullReport:
    """What a pull brought.

    Attributes:
        folder: where the files are.
        url: what `open` takes for them: the folder, or hf://OWNER/NAME for the cache.
        commit: the commit that all files are of.
        fetched: shards that came by this call.
        already_there: shards that were complete before.
        bytes: of shards that came by this call.
        fetched_again: paths of shards that came with wrong bytes at first.
    """

    folder: Path
    url: str
    commit: str
    fetched: int
    already_there: int
    bytes: int
    fetched_again: tuple[str, ...]


def pull_dataset(
    repo: str,
    *,
    out: str | Path | None = None,
    split: str | None = None,
    views: int | Sequence[int] | None = None,
    revision: str | None = None,
    on_progress: Callable[[int, int, int], None] | None = None,
    on_step: Callable[[str], None] | None = None,
) -> PullReport:
    """Download a data set from the Hugging Face Hub, or the shards of a split and of some views.

    Every shard is compared with its sha256 in the manifest before it appears. Shards that are there are not downloaded
    again, so the same call resumes after an interruption, and one with more views adds those. All files are of one
    commit, which is recorded: later calls use it, too, and so does `open("hf://OWNER/NAME")` for the cache.

    Args:
        repo: OWNER/NAME of the repository.
        out: Folder for the set; else the cache, where `open("hf://OWNER/NAME")` finds it.
        split: "train", "val" or "test"; None for all.
        views: How many of the first views, or the views themselves as a list from 0; None for all.
        revision: Branch, tag or commit; else the commit that was pulled before, else the hub's default branch.
        on_progress: Called with the bytes that are there, those of all that is requested, and those that came by this
            call; from any thread, but never twice at a time.
        on_step: Called with remarks, in one line each; from any thread.

    Returns:
        Folder, commit, and counts of shards.

    Raises:
        UsageError: Without huggingface_hub, for a name, split, view or revision that the hub does not have, or a folder
            with something else in it.
        IntegrityError: For a shard that the repository lacks or that comes with wrong bytes twice, or a damaged manifest.
        ResourceError: Where the network, the hub or the disk fails.
    """
    check_hooks(on_progress=on_progress, on_step=on_step)
    repo, say = _name(repo), on_step or (lambda _: None)
    if revision is not None and not (isinstance(revision, str) and revision):
        raise UsageError(f"revision must be a branch, a tag or a commit, got {shorten(revision)}")
    cached = out is None
    folder = copy_folder(RemoteLocation(f"{HUB}datasets/{repo}")) if out is None else as_path(out, "out")
    before = load_pull_record(folder) if cached else _record_of(folder, repo)
    with library_remarks(say):
        source = _source(repo, revision, before)
        manifest = _manifest(source)
        entries, head = _choose(manifest, split, views)
        _check_folder(folder, manifest, cached)
        make_folder(folder)
        if before is not None and before.commit != source.commit:
            say(f"{folder} moves from commit {before.commit[:12]} to {source.commit[:12]}")
            if cached:
                (folder / MANIFEST).unlink(missing_ok=True)  # it would stand for the new commit
        record = before or PullRecord(repo=repo, commit=source.commit)
        record = record.model_copy(update={"commit": source.commit, "revision": revision or record.revision})
        if before is None:
            record.save(folder)  # from then on the folder is known as one that can be continued
        with staging_folder(folder) as staging:
            names = [*COMPANIONS, README, CROISSANT, *(RENDERED if len(entries) == len(manifest.shards) else ())]
            names += [ORIGIN] if cached else []
            moved = before is None or before.commit != source.commit
            _fetch_companions(source, folder, staging, record, names, moved)
            _fetch_targets(source, folder, staging, manifest)
        if cached:
            write_atomically(folder / MANIFEST, manifest.to_json().encode())
        else:
            _record(folder, head, ())
        return _fetch_shards(source, folder, entries, None if cached else head, on_progress, say)


def _name(repo: object) -> str:
    """OWNER/NAME of a repository that was named with or without hf://."""
    name = re.fullmatch(r"(?:hf://)?(?:datasets/)?([\w.-]+/[\w.-]+)", repo) if isinstance(repo, str) else None
    if name is None:
        remedy = "; what follows @ is the revision" if isinstance(repo, str) and "@" in repo else ""
        raise UsageError(f"a data set of the hub is named OWNER/NAME, got {brief(repo)}{remedy}")
    return name[1]


def _record_of(folder: Path, repo: str) -> PullRecord | None:
    """What was pulled into a folder before. Raises UsageError where something else is in it."""
    record = load_pull_record(folder)
    if record is not None and record.repo != repo:
        raise UsageError(f"{folder} was pulled from {record.repo}, not from {repo}; choose another --out")
    if record is None and file_size(folder / MANIFEST) is None and folder.is_dir() and any(folder.iterdir()):
        raise UsageError(f"{folder} has files, but no set that could grow; choose another --out, or empty it")
    return record


def _source(repo: str, revision: str | None, before: PullRecord | None) -> HubCommit:
    if before is not None and revision is None:
        return HubCommit(repo, before.commit)
    try:
        return resolve_commit(repo, revision, MANIFEST)
    except FileNotFoundError:
        raise _no_set(repo) from None


def _manifest(source: HubCommit) -> Manifest:
    with tempfile.TemporaryDirectory() as folder:
        try:
            source.download(MANIFEST, Path(folder))
            return load_manifest(Path(folder))
        except FileNotFoundError:
            raise _no_set(source.repo) from None
        except IntegrityError as error:
            raise IntegrityError(str(error).replace(folder, f"{HUB}{source.repo}")) from None


def _no_set(repo: str) -> UsageError:
    return UsageError(f"{repo} has no {MANIFEST}, so it is no set of INR Factory; inr-factory push uploads one")


def _choose(
    manifest: Manifest, split: str | None, views: int | Sequence[int] | None
) -> tuple[list[ShardEntry], Manifest]:
    """The requested shards, view by view, and the head of the manifest of a set that has these views."""
    chosen = choose_views(views, manifest)
    splits = [name for name, part in manifest.splits.items() if part.objects] if split is None else [split]
    entries = [entry for each in splits for entry in choose_shards(each, chosen, manifest)[0]]
    return sorted(entries, key=lambda entry: entry.view), manifest.head.with_views(max(chosen) + 1)


def _check_folder(folder: Path, manifest: Manifest, cached: bool) -> None:
    """Raise UsageError where the folder holds another set, or shards that are others at this commit."""
    if cached or file_size(folder / MANIFEST) is None:
        return
    saved, entries = load_manifest(folder), {entry.path: entry for entry in manifest.shards}
    if saved.fingerprint != manifest.fingerprint:
        raise UsageError(f"{folder} holds another set ({saved.name}); choose another --out")
    for entry in saved.shards:
        if entry.path in entries and entries[entry.path].sha256 != entry.sha256:
            raise UsageError(f"{folder} holds another {entry.path} than the hub; choose another --out")


def _record(folder: Path, head: Manifest, entries: Sequence[ShardEntry]) -> None:
    """Write shards that are there into the manifest of a folder."""
    saved = update_manifest(folder, head, entries)
    if saved.targets != head.targets:
        with locked(folder):
            record_targets(folder, load_manifest(folder), head.targets)


def _fetch_companions(
    source: HubCommit, folder: Path, staging: Path, record: PullRecord, names: Sequence[str], moved: bool
) -> None:
    """Download files for people. Those that a user has edited stay, and so does what is of this commit."""
    hashes = dict(record.companions)
    for name in names:
        path = folder / name
        saved = hashlib.sha256(read_regular(path)).hexdigest() if path.is_file() else None
        if saved is not None and not (moved and saved == hashes.get(name)):
            continue
        try:
            source.download(name, staging)
        except FileNotFoundError:
            continue
        hashes[name] = hashlib.sha256(read_regular(staging / name)).hexdigest()
        os.replace(staging / name, path)
    record.model_copy(update={"companions": hashes}).save(folder)


def _fetch_targets(source: HubCommit, folder: Path, staging: Path, manifest: Manifest) -> None:
    """Download the file of targets, if the set has one that is not there yet."""
    if (record := manifest.targets) is None:
        return
    from inr_factory.storage.targets import checked_image  # loads h5py

    try:
        checked_image(folder, record)
    except IntegrityError:
        try:
            source.download(record.path, staging)
        except FileNotFoundError:
            raise _lacks(source, record.path) from None
        write_atomically(folder / record.path, checked_image(staging, record))


def _fetch_shards(
    source: HubCommit,
    folder: Path,
    entries: Sequence[ShardEntry],
    head: Manifest | None,
    on_progress: Callable[[int, int, int], None] | None,
    say: Callable[[str], None],
) -> PullReport:
    """Download the shards that are not there; with a head, record them in the folder's manifest."""
    progress = _Progress(sum(entry.bytes for entry in entries), on_progress or (lambda *_: None))
    fetched: dict[str, bool] = {}
    ready: list[ShardEntry] = []
    again: list[str] = []

    def fetch(entry: ShardEntry, staging: Path) -> None:
        try:
            source.download(entry.path, staging, progress.came)
        except FileNotFoundError:
            raise _lacks(source, entry.path) from None

    def note(entry: ShardEntry, was_fetched: bool) -> None:
        fetched[entry.path] = was_fetched
        ready.append(entry)
        progress.ready(entry.bytes, was_fetched)
        if head is not None and len(ready) == SHARDS_PER_RECORD:
            _record(folder, head, ready)
            ready.clear()

    def note_damage(entry: ShardEntry) -> None:
        again.append(entry.path)
        progress.lost(entry.bytes)
        say(f"{entry.path} came with other bytes than recorded; it is fetched again")

    try:
        collect_shards(
            folder, entries, fetch, workers=WORKERS, stop=progress.stop, on_shard=note, on_damaged=note_damage
        )
    finally:
        if head is not None and ready:
            _record(folder, head, ready)
    count = sum(fetched.values())
    url = f"{HUB}{source.repo}" if head is None else str(folder)
    return PullReport(folder, url, source.commit, count, len(fetched) - count, progress.arrived, tuple(sorted(again)))


def _lacks(source: HubCommit, path: str) -> IntegrityError:
    return IntegrityError(f"{path} is recorded, but {source.repo} lacks it at this commit; it has to be pushed again")


class _Progress:
    """Counts bytes for `on_progress`, from all threads. When `stop` is set the next bytes end their download."""

    def __init__(self, total: int, report: Callable[[int, int, int], None]) -> None:
        self.total, self.report = total, report
        self.done, self.arrived = 0, 0
        self.stop, self.lock = threading.Event(), threading.Lock()

    def came(self, count: int) -> None:
        if self.stop.is_set():
            raise InterruptedError("the pull has ended")
        self._add(count, count)

    def ready(self, count: int, fetched: bool) -> None:
        self._add(0 if fetched else count, 0)

    def lost(self, count: int) -> None:
        self._add(-count, 0)

    def _add(self, done: int, arrived: int) -> None:
        with self.lock:
            self.done += done
            self.arrived += arrived
            self.report(min(self.done, self.total), self.total, self.arrived)
