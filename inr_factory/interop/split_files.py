"""Split files: the splits.json of other projects, which names the files of each split and may hold their labels.

Two kinds are in use: {"train": [paths], ...} (multi-view) and {"train": {"path": [...], "label": [...]}, ...}
(DWSNets, neural graphs). Paths are those of the machine that wrote them, so only their last parts are compared.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from inr_factory.errors import IntegrityError, UsageError, blame_machine, one_line
from inr_factory.inr.plain_json import parse_json_object
from inr_factory.inr.regular_files import read_regular
from inr_factory.interop.foreign_files import file_inside, whole_number
from inr_factory.interop.format import ForeignRow, Hints, ListedFiles
from inr_factory.storage.manifest import SPLITS

MAX_SPLITS_BYTES = 512 * 2**20


def find_splits(root: Path, hints: Hints) -> Path | None:
    """The requested splits file, otherwise the one in the folder; None where there is none."""
    if hints.splits is not None:
        if not hints.splits.exists():
            raise UsageError(f"there is no splits file {hints.splits}")
        return hints.splits
    files = sorted(root.glob("*splits.json"))
    if (root / "splits.json") in files:
        return root / "splits.json"
    if len(files) > 1:
        raise UsageError(f"{root} has several splits files ({files[0].name}, {files[1].name}); name one with --splits")
    return files[0] if files else None


def load_splits(path: Path) -> dict[str, list[tuple[str, int | None]]]:
    """Path and label of each file of each split. IntegrityError where the file is something else."""
    checked = file_inside(path.parent, path.name, MAX_SPLITS_BYTES)
    try:
        fields = parse_json_object(read_regular(checked))
        splits: dict[str, list[tuple[str, int | None]]] = {}
        for split in SPLITS:
            files = fields.get(split, [])
            paths, labels = (files["path"], files.get("label")) if isinstance(files, dict) else (files, None)
            labels = [None] * len(paths) if labels is None else [whole_number(label) for label in labels]
            if not isinstance(paths, list) or not all(isinstance(name, str) for name in paths):
                raise ValueError(f"{split} is not a list of paths")
            splits[split] = list(zip(paths, labels, strict=True))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OSError) as error:
        blame_machine(error, path)
        raise IntegrityError(f"{path} is not a splits file of lists of paths: {one_line(error)}") from None
    if not any(splits.values()):
        raise IntegrityError(f"{path} names no file of split {', '.join(SPLITS)}")
    return splits


def apply_splits(rows: Sequence[ForeignRow], path: Path, path_parts: int, allow_missing: bool) -> ListedFiles:
    """The rows that the splits file names, by the last `path_parts` parts of their paths, with its splits and labels.

    IntegrityError for a path with `..`, a file named twice or missing, or a label that contradicts the path.
    """
    by_path = {PurePosixPath(row.path).parts[-path_parts:]: row for row in rows}
    chosen: dict[str, ForeignRow] = {}
    missing, remarks = [], []
    for split, entries in load_splits(path).items():
        for name, label in entries:
            parts = PurePosixPath(name).parts
            if ".." in parts:
                raise IntegrityError(f"{path.name} names {name[:200]!r}, which leads out of the set")
            row = by_path.get(parts[-path_parts:])
            if row is None:
                missing.append(name)
                continue
            if row.path in chosen:
                raise IntegrityError(f"{path.name} names {row.path} twice")
            if None not in (label, row.label) and label != row.label:
                raise IntegrityError(f"{path.name} says label {label} of {row.path}, its path says {row.label}")
            chosen[row.path] = replace(row, split=split, label=row.label if label is None else label)
    if missing and not allow_missing:
        raise IntegrityError(
            f"{len(missing):,} of the files that {path.name} names are not there, first {missing[0][:200]}; complete the "
            "download, or give --allow-missing"
        )
    if missing:
        remarks.append(f"{len(missing):,} files that {path.name} names are not there")
    if len(chosen) < len(rows):
        remarks.append(f"{len(rows) - len(chosen):,} files are in no split of {path.name} and are left out")
    return ListedFiles(list(chosen.values()), remarks)


def splits_json(rows: Sequence[tuple[str, str, int]], plain: bool, prefix: str = "") -> bytes:
    """The content of a splits.json of rows (split, path, label): `plain` lists of paths, otherwise with labels."""
    fields: dict[str, object] = {}
    for split in SPLITS:
        paths = [prefix + path for row_split, path, _ in rows if row_split == split]
        labels = [label for row_split, _, label in rows if row_split == split]
        fields[split] = paths if plain else {"path": paths, "label": labels}
    return json.dumps(fields).encode()
