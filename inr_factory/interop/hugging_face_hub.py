"""Hugging Face Hub: uploads a complete set or other files to a repository, and downloads files. The only module that imports huggingface_hub.

$HF_ENDPOINT names another hub, $HF_TOKEN (or `hf auth login`) identifies the user.
"""

import contextlib
import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inr_factory.errors import DISK_FULL, FactoryError, IntegrityError, ResourceError, UsageError, needs_extra, one_line
from inr_factory.generation.maintenance.integrity_check import check_manifest, check_shards
from inr_factory.generation.maintenance.targets_check import check_targets
from inr_factory.storage.card_notes import COMPANIONS as OF_MAKER
from inr_factory.storage.dataset_card import CROISSANT, README, update_card
from inr_factory.storage.fetch_dataset import fetch_dataset
from inr_factory.storage.manifest import MANIFEST, ORIGIN, SHARD_FOLDER, Manifest, ShardEntry
from inr_factory.storage.manifest_file import load_manifest

# Sent after the shards, so that a manifest on a hub lists only shards that exist.
COMPANIONS = (*OF_MAKER, README, CROISSANT, ORIGIN, "report.html", "preview.png", MANIFEST)
SHARDS_PER_COMMIT = 64


@dataclass(frozen=True)
class PushReport:
    """The URL of the set, shards sent by this call, and shards that the repository had before."""

    url: str
    sent: int
    already_there: int


def push_dataset(
    dataset: str | Path,
    repo: str,
    *,
    private: bool = False,
    revision: str | None = None,
    on_shard: Callable[[ShardEntry], None] | None = None,
    on_step: Callable[[str], None] = lambda _: None,
) -> PushReport:
    """Upload a complete data set to the Hugging Face Hub.

    Every shard is checked first. Shards that the repository has already, by their sha256, are not sent again, so an
    interrupted upload resumes with the same call. Nothing is deleted there.

    Args:
        dataset: folder or URL of the set.
        repo: OWNER/NAME of the repository, which is created if it does not exist.
        private: create it as a private one.
        revision: branch to upload to, created if it does not exist.
        on_shard: called after each shard that was checked.
        on_step: called with a line of progress after each commit.

    Returns:
        The URL, and counts of shards.

    Raises:
        UsageError: without huggingface_hub or a token, where the hub refuses, or the repository holds another set.
        IntegrityError: for a set that is incomplete or damaged.
        ResourceError: where the hub fails.
    """
    root = fetch_dataset(dataset)
    manifest = load_manifest(root)
    hub = _library_with_token()
    check_complete(root, manifest, on_shard)
    update_card(root, manifest)
    with _hub_errors(repo):
        api, url = _open_repository(hub, repo, "dataset", private, revision)
        uploaded = _files_on_hub(hub, api, url.repo_id, revision, SHARD_FOLDER, ".h5")
    foreign = sorted(set(uploaded) - {entry.path for entry in manifest.shards})
    if foreign:
        raise UsageError(
            f"{repo} has {foreign[0]}, which {root} has not; push into a repository or --revision of its own"
        )
    todo = [entry for entry in manifest.shards if uploaded.get(entry.path) != entry.sha256]

    def commit(names: Sequence[str], message: str) -> None:
        operations = [hub.CommitOperationAdd(name, str(root / name)) for name in names]
        with _hub_errors(repo):
            api.create_commit(
                url.repo_id, operations, commit_message=message, repo_type="dataset", revision=revision, num_threads=2
            )

    for start in range(0, len(todo), SHARDS_PER_COMMIT):
        part = todo[start : start + SHARDS_PER_COMMIT]
        commit([entry.path for entry in part], f"{len(part)} shards of {manifest.name}")
        on_step(f"{start + len(part):,} of {len(todo):,} shards sent")
    targets = () if manifest.targets is None else (manifest.targets.path,)
    names = [name for name in (*targets, *COMPANIONS) if (root / name).is_file()]
    commit(names, f"record and card of {manifest.name}")
    return PushReport(str(url), len(todo), len(manifest.shards) - len(todo))


def files_on_hub(repo: str, suffix: str, *, private: bool, revision: str | None) -> list[str]:
    """Files of the suffix in a data set's repository, which exists from now on. Raises as `push_files` does."""
    hub = _library_with_token()
    with _hub_errors(repo):
        api, url = _open_repository(hub, repo, "dataset", private, revision)
        return sorted(_files_on_hub(hub, api, url.repo_id, revision, None, suffix))


def push_files(
    files: Mapping[str, Path | bytes], repo: str, *, kind: str, message: str, private: bool, revision: str | None
) -> str:
    """Upload a few files to a repository of a kind, "model" or "dataset", by one commit.

    Args:
        files: path in the repository -> file, or its content.
        repo: OWNER/NAME, which is created if it does not exist.
        kind: of the repository.
        message: of the commit.
        private: create it as a private one.
        revision: branch to upload to, created if it does not exist.

    Returns:
        The URL of the repository.

    Raises:
        UsageError: without huggingface_hub or a token, or where the hub refuses.
        ResourceError: where the hub fails.
    """
    hub = _library_with_token()
    operations = [
        hub.CommitOperationAdd(name, str(content) if isinstance(content, Path) else content)
        for name, content in files.items()
    ]
    with _hub_errors(repo):
        api, url = _open_repository(hub, repo, kind, private, revision)
        api.create_commit(url.repo_id, operations, commit_message=message, repo_type=kind, revision=revision)
    return str(url)


def check_complete(root: Path, manifest: Manifest, on_shard: Callable[[ShardEntry], None] | None = None) -> None:
    """Raise IntegrityError for the first thing that `verify` would name, or for shards that are missing."""
    missing = manifest.missing(root)
    if missing:
        raise IntegrityError(
            f"{root} lacks shards ({len(missing):,}, first {missing[0]}); only a complete set is pushed: fit them first"
        )
    faults = check_manifest(root, manifest) + check_shards(root, manifest, on_shard)
    faults += check_targets(root, manifest, bool(faults))
    if faults:
        raise IntegrityError(
            f"{len(faults)} of the set's files are damaged: {faults[0].reason}; only a complete set is pushed"
        )


def _library() -> Any:
    with needs_extra("hub"):
        import huggingface_hub
    return huggingface_hub


def _library_with_token() -> Any:
    """The library, without bars where nobody sees them. Raises UsageError without a token."""
    hub = _library()
    if hub.get_token() is None:
        raise UsageError("no token for the hub; set HF_TOKEN to one that may write, or run: hf auth login")
    if not sys.stderr.isatty():
        hub.utils.disable_progress_bars()
    return hub


def _open_repository(hub: Any, repo: str, kind: str, private: bool, revision: str | None) -> tuple[Any, Any]:
    """The library's API, and the URL of the repository, which exists from now on, and so does its branch."""
    api = hub.HfApi(library_name="inr-factory")
    url = api.create_repo(repo, repo_type=kind, private=private or None, exist_ok=True)
    if revision is not None:
        api.create_branch(url.repo_id, branch=revision, repo_type=kind, exist_ok=True)
    return api, url


def _files_on_hub(
    hub: Any, api: Any, repo: str, revision: str | None, folder: str | None, suffix: str
) -> dict[str, str]:
    """The sha256 of each file of the suffix that the data set's repository has in a folder; None is all of it."""
    try:
        entries = list(api.list_repo_tree(repo, folder, recursive=True, revision=revision, repo_type="dataset"))
    except hub.errors.EntryNotFoundError:
        return {}
    files = [each for each in entries if each.path.endswith(suffix)]
    return {each.path: each.lfs.sha256 if each.lfs is not None else "" for each in files}


@contextlib.contextmanager
def _hub_errors(repo: str) -> Iterator[None]:
    """Turns the many exceptions of the library into one line."""
    try:
        yield
    except FactoryError:
        raise
    except Exception as error:
        reason = " ".join(f"{error} {error.__cause__ or ''}".split())[:300]
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status in (401, 403, 404) or (status is None and isinstance(error, ValueError)):
            raise UsageError(f"the hub refuses {repo}: {reason}; check its name and what the token may do") from error
        raise ResourceError(
            f"the hub failed at {repo} ({type(error).__name__}: {reason}); what was sent stays, run again"
        ) from error


@dataclass(frozen=True)
class HubCommit:
    """One commit of a repository of a kind, "dataset" or "model"; its files never change."""

    repo: str
    commit: str
    kind: str = "dataset"

    def download(self, name: str, folder: Path, on_bytes: Callable[[int], None] = lambda _: None) -> None:
        """Download a file to folder/name, complete or not at all. A transfer that breaks off is continued.

        Args:
            name: path of the file in the repository.
            folder: a folder for downloads; the library leaves files of its own in it.
            on_bytes: called with the number of bytes that came; what it raises ends the download.

        Raises:
            FileNotFoundError: where the commit has no such file.
            UsageError: where the hub refuses.
            ResourceError: where the network, the hub or the disk fails.
        """
        hub = _library()
        for last in (False, True):
            with _download_errors(hub, self.repo, self.kind):
                try:
                    hub.hf_hub_download(
                        self.repo, name, repo_type=self.kind, revision=self.commit, local_dir=folder,
                        cache_dir=folder, tqdm_class=_progress_class(on_bytes), library_name="inr-factory",
                    )  # fmt: skip
                    return
                except OSError as error:
                    if last or not _is_passing(error):
                        raise


def resolve_commit(repo: str, revision: str | None, name: str, kind: str = "dataset") -> HubCommit:
    """The commit that a branch or a tag stands for.

    Args:
        repo: OWNER/NAME.
        revision: branch, tag or commit; None for the default of the hub.
        name: a file that it has.
        kind: of the repository, "dataset" or "model".

    Raises:
        FileNotFoundError: where there is no such file.
        UsageError: without huggingface_hub, or where the hub refuses.
        ResourceError: where the network or the hub fails.
    """
    hub = _library()
    with _download_errors(hub, repo, kind):
        url = hub.hf_hub_url(repo, name, repo_type=kind, revision=revision)
        try:
            metadata = hub.get_hf_file_metadata(url, library_name="inr-factory")
        except OSError as error:
            if not _is_passing(error):
                raise
            metadata = hub.get_hf_file_metadata(url, library_name="inr-factory", retry_on_errors=True)
    if metadata.commit_hash is None:
        raise UsageError(f"what answers for {repo} is no hub (it names no commit); check HF_ENDPOINT")
    return HubCommit(repo, metadata.commit_hash, kind)


@contextlib.contextmanager
def library_remarks(on_step: Callable[[str], None]) -> Iterator[None]:
    """Hand what the library logs, such as pauses that the hub asks for, to a function instead of to stderr."""

    class Remarks(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            on_step(" ".join(record.getMessage().split())[:300])

    logger = logging.getLogger("huggingface_hub")
    handlers, logger.handlers = logger.handlers, [Remarks()]
    try:
        yield
    finally:
        logger.handlers = handlers


def _is_passing(error: OSError) -> bool:
    """Whether a failure of a request may be gone at the next: a busy hub, or fewer bytes than it announced."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    return type(error) is OSError and error.errno is None if status is None else status in (408, 429) or status >= 500


def _progress_class(on_bytes: Callable[[int], None]) -> type:
    """What the library takes for a class of tqdm: it reports bytes alone."""

    class Progress:
        total: float | None = None

        def __init__(self, *_: object, **__: object) -> None:
            pass

        def __enter__(self) -> "Progress":
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def update(self, count: float | None = 1) -> None:
            on_bytes(int(count or 0))

        def _ignore(self, *_: object, **__: object) -> None:
            pass

        close = refresh = update_transfer = set_postfix_str = set_transfer_postfix_str = set_description = _ignore

    return Progress


@contextlib.contextmanager
def _download_errors(hub: Any, repo: str, kind: str) -> Iterator[None]:
    """Turns the exceptions of a download into one line. FileNotFoundError for a file that the commit lacks."""
    try:
        yield
    except FactoryError:
        raise
    except Exception as error:
        cause = error.__cause__ if isinstance(error, hub.errors.LocalEntryNotFoundError) else None
        raise _as_one_line(hub, repo, kind, cause or error) from error


def _as_one_line(hub: Any, repo: str, kind: str, error: BaseException) -> OSError | UsageError:
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, hub.errors.RevisionNotFoundError):
        return UsageError(f"{repo} has no such revision; name a branch, a tag or a commit of it")
    if isinstance(error, hub.errors.RepositoryNotFoundError):
        return UsageError(
            f"the hub has no {'data set' if kind == 'dataset' else kind} {repo} that you may read; check the name, and HF_TOKEN for a private one"
        )
    if isinstance(error, hub.errors.EntryNotFoundError) and status == 404:
        return FileNotFoundError(f"{repo} lacks it")
    if isinstance(error, OSError) and error.errno in DISK_FULL:
        return ResourceError("the disk is full; free some space and run again: what came stays")
    if status in (401, 403) or (status is None and isinstance(error, ValueError)):
        return UsageError(f"the hub refuses {repo}: {one_line(error)}; check its name and HF_TOKEN")
    return ResourceError(
        f"{repo} cannot be read from the hub ({type(error).__name__}: {one_line(error)}); check the network and "
        "HF_ENDPOINT, and run again: what came stays"
    )
