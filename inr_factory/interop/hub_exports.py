"""Hub exports: uploads an export to Parquet to the Hugging Face Hub, which shows its rows."""

from collections.abc import Callable
from pathlib import Path

from inr_factory.errors import UsageError, brief
from inr_factory.inr.arguments import check_flags, check_hooks
from inr_factory.inr.regular_files import as_path
from inr_factory.interop.file_per_shard import MAX_FILE_BYTES
from inr_factory.interop.foreign_files import file_inside
from inr_factory.interop.hugging_face_hub import SHARDS_PER_COMMIT, files_on_hub, push_files
from inr_factory.interop.sidecar import SIDECAR, load_sidecar
from inr_factory.storage.dataset_card import README


def push_export(
    export: str | Path,
    repo: str,
    *,
    private: bool = False,
    revision: str | None = None,
    on_step: Callable[[str], None] | None = None,
) -> str:
    """Upload an export to Parquet to the Hugging Face Hub, which shows its rows.

    The sidecar comes last. Nothing is deleted there; the same call resumes.

    Args:
        export: Folder that `export_dataset` wrote with `to="parquet"`.
        repo: OWNER/NAME of the repository, which is created if it does not exist.
        private: Create it as a private one.
        revision: Branch to upload to, created if it does not exist.
        on_step: Called with a line of progress after each commit.

    Returns:
        The URL of the repository.

    Raises:
        UsageError: There is no such export, no huggingface_hub or token, the hub refuses, or the repository has Parquet
            files of something else.
        IntegrityError: A file of the export is missing or lies outside it, or its sidecar is damaged.
        ResourceError: The hub fails.
    """
    check_flags(private=private)
    check_hooks(on_step=on_step)
    root = as_path(export, "the export")
    sidecar = load_sidecar(root) if root.is_dir() else None
    if sidecar is None or sidecar.format != "parquet":
        raise UsageError(
            f"{brief(str(root))} is no export to Parquet; inr-factory export DATASET --to parquet makes one"
        )
    names = sorted({name for shard in sidecar.shards for name in shard.files})
    targets = () if sidecar.manifest.targets is None else (sidecar.manifest.targets.path,)
    rest = [*targets, *(name for name in (README, SIDECAR) if (root / name).is_file())]
    paths = {name: file_inside(root, name, MAX_FILE_BYTES) for name in (*names, *rest)}
    on_hub = files_on_hub(repo, ".parquet", private=private, revision=revision)
    foreign = [name for name in on_hub if name not in names]
    if foreign:
        raise UsageError(
            f"{repo} has {foreign[0]}, which {root} has not; push into a repository or --revision of its own"
        )
    parts = [names[start : start + SHARDS_PER_COMMIT] for start in range(0, len(names), SHARDS_PER_COMMIT)]
    for number, part in enumerate([*parts, rest]):
        files: dict[str, Path | bytes] = {name: paths[name] for name in part}
        message = f"{len(part)} files of {sidecar.manifest.name}"
        url = push_files(files, repo, kind="dataset", message=message, private=private, revision=revision)
        if on_step is not None and number < len(parts):
            on_step(f"{sum(map(len, parts[: number + 1])):,} of {len(names):,} files sent")
    return url
