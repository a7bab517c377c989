"""Hub runs: uploads trained runs to the Hugging Face Hub, and downloads those of others into the cache or a folder."""

import hashlib
import json
import os
import re
from collections.abc import Callable
from pathlib import Path

from inr_factory.errors import IntegrityError, UsageError, brief, one_line, shorten
from inr_factory.inr.arguments import check_flags, check_hooks
from inr_factory.inr.device import choose_device
from inr_factory.inr.plain_json import parse_json_object
from inr_factory.inr.regular_files import as_path, read_regular
from inr_factory.interop.hugging_face_hub import HubCommit, library_remarks, push_files, resolve_commit
from inr_factory.learning.models.classifier import Classifier
from inr_factory.learning.models.predictor import Predictor
from inr_factory.learning.training.run_card import write_run_card
from inr_factory.learning.training.run_config import BEST, METRICS, RUN
from inr_factory.learning.training.trained_run import MAX_RUN_BYTES, TrainedRun, open_run
from inr_factory.storage.atomic_files import make_folder, staging_folder
from inr_factory.storage.dataset_card import README, is_unedited
from inr_factory.storage.fetch_dataset import HUB
from inr_factory.storage.locations import RemoteLocation, copy_folder
from inr_factory.storage.pull_record import PullRecord, load_pull_record

SHA256 = "sha256"  # in run.json of a run on a hub: that of best.pt
REPO = re.compile(r"(?:hf://)?(?:models/)?([\w.-]+/[\w.-]+)")


def push_run(run: str | Path | TrainedRun, repo: str, *, private: bool = False, revision: str | None = None) -> str:
    """Upload a trained run to the Hugging Face Hub: its best checkpoint, the record of its epochs, and its card.

    The card is written first, see `write_run_card`. Where the set lies on this machine is not uploaded.

    Args:
        run: Folder of a run, or what `train` returned.
        repo: OWNER/NAME of the model on the hub, which is created if it does not exist.
        private: Create it as a private one.
        revision: Branch to upload to, created if it does not exist.

    Returns:
        The URL of the model.

    Raises:
        UsageError: There is no run with a classifier or predictor, no huggingface_hub or token, or the hub refuses.
        IntegrityError: The checkpoint is damaged.
        ResourceError: The hub fails.
    """
    check_flags(private=private)
    name, revision = _name(repo), _revision(revision)
    opened = run if isinstance(run, TrainedRun) else open_run(run)
    card = write_run_card(opened)
    content = read_regular(opened.checkpoint)
    facts = {"meta": opened.meta, SHA256: hashlib.sha256(content).hexdigest()}
    files: dict[str, Path | bytes] = {BEST: content, RUN: json.dumps(facts, indent=2).encode(), README: card}
    if (opened.folder / METRICS).is_file():
        files[METRICS] = opened.folder / METRICS
    message = f"run {opened.folder.absolute().name}"
    return push_files(files, name, kind="model", message=message, private=private, revision=revision)


def pull_run(
    repo: str,
    *,
    out: str | Path | None = None,
    revision: str | None = None,
    on_step: Callable[[str], None] | None = None,
) -> TrainedRun:
    """Download a trained run from the Hugging Face Hub.

    All files are of one commit, which is recorded: later calls use it without a network, until `revision` names another.

    Args:
        repo: OWNER/NAME of the model on the hub.
        out: Folder for the run; else the cache.
        revision: Branch, tag or commit; else the commit that was pulled before, else the hub's default branch.
        on_step: Called with remarks, in one line each.

    Returns:
        The run, which evaluates and predicts.

    Raises:
        UsageError: Without huggingface_hub, for a name or revision that the hub does not have, a model of something else,
            or a folder with something else in it.
        IntegrityError: The checkpoint comes with wrong bytes twice.
        ResourceError: The network, the hub or the disk fails.
    """
    check_hooks(on_step=on_step)
    name, revision = _name(repo), _revision(revision)
    folder = copy_folder(RemoteLocation(f"{HUB}models/{name}")) if out is None else as_path(out, "out")
    before = load_pull_record(folder)
    if before is not None and before.repo != name:
        raise UsageError(f"{folder} was pulled from {before.repo}, not from {name}; choose another --out")
    if before is None and folder.is_dir() and any(folder.iterdir()):
        raise UsageError(f"{folder} has files, but no run of {name}; choose another --out, or empty it")
    if before is None or revision is not None or not (folder / BEST).is_file():
        with library_remarks(on_step or (lambda _: None)):
            wanted = before.commit if before is not None and revision is None else revision
            _fetch(name, wanted, revision, folder)
    return open_run(folder)


def load_model(run: str | Path, device: str = "auto") -> Classifier | Predictor:
    """Load the network of a trained run: a torch module that takes an INRBatch.

    Args:
        run: Folder of a run, a checkpoint, or "hf://OWNER/NAME" of a model of the Hugging Face Hub, which is downloaded
            once; "hf://OWNER/NAME@REVISION" is a branch, tag or commit of it.
        device: "auto", "cpu", "cuda" or "cuda:N".

    Returns:
        The classifier or predictor, in evaluation mode.

    Raises:
        UsageError: There is no such run, or it has no classifier.
        IntegrityError: The checkpoint is damaged.
        ResourceError: The network, the hub or the disk fails.
    """
    choose_device(device)
    if isinstance(run, str) and run.startswith(HUB):
        repo, _, revision = run.partition("@")
        return pull_run(repo, revision=revision or None).model(device)
    return open_run(run).model(device)


def _name(repo: object) -> str:
    """OWNER/NAME of a model that was named with or without hf://."""
    found = REPO.fullmatch(repo) if isinstance(repo, str) else None
    if found is None:
        raise UsageError(f"a model of the hub is named OWNER/NAME, got {brief(repo)}")
    return found[1]


def _revision(revision: object) -> str | None:
    if revision is not None and not (isinstance(revision, str) and revision):
        raise UsageError(f"revision must be a branch, a tag or a commit, got {shorten(revision)}")
    return revision


def _fetch(name: str, wanted: str | None, revision: str | None, folder: Path) -> None:
    """Bring the files of a run to a folder: complete, or none."""
    try:
        source = resolve_commit(name, wanted, RUN, "model")
    except FileNotFoundError:
        raise UsageError(f"{name} has no {RUN}, so it is no run of INR Factory; inr-factory push uploads one") from None
    make_folder(folder)
    with staging_folder(folder) as staging:
        _fetch_checkpoint(source, staging)
        present = [RUN]
        for companion in (METRICS, README):
            try:
                source.download(companion, staging)
            except FileNotFoundError:
                continue
            present.append(companion)
        card = folder / README
        if card.is_file() and not is_unedited(read_regular(card).decode("utf-8", "replace")):
            present.remove(README)  # the user's
        (folder / BEST).unlink(missing_ok=True)  # a folder without it is fetched again
        PullRecord(repo=name, commit=source.commit, revision=revision).save(folder)
        for each in (*present, BEST):
            os.replace(staging / each, folder / each)


def _fetch_checkpoint(source: HubCommit, staging: Path) -> None:
    """Download run.json and the checkpoint that it records, once more where its bytes are wrong."""
    source.download(RUN, staging)
    try:
        facts = parse_json_object(read_regular(staging / RUN, MAX_RUN_BYTES))
    except ValueError as error:
        raise IntegrityError(
            f"{RUN} of {source.repo} is damaged: {one_line(error)}; it has to be pushed again"
        ) from None
    for _ in range(2):
        try:
            source.download(BEST, staging)
        except FileNotFoundError:
            raise IntegrityError(f"{source.repo} lacks {BEST} at this commit; it has to be pushed again") from None
        if hashlib.sha256(read_regular(staging / BEST)).hexdigest() == facts.get(SHA256):
            return
        (staging / BEST).unlink()
    raise IntegrityError(
        f"{BEST} of {source.repo} came with other bytes than recorded, twice; pull again, or push it again"
    )
