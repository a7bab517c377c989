"""Splits: the splits.json of peers, which names the files of each split, and in one of its kinds their labels.

Two kinds are in use: {"train": [paths], ...} (multi-view) and {"train": {"path": [...], "label": [...]}, ...}
(DWSNets, neural graphs). Paths are of the machine that wrote them, so that only their last parts are compared.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from inr_factory.errors import IntegrityError, UsageError, one_line
from inr_factory.interop.format import ForeignRow, Hints, ListedFiles, file_inside
from inr_factory.storage.manifest import SPLITS

MAX_SPLITS_BYTES = 512 * 2**20


def find_splits(root: Path, hints: Hints) -> Path | None:
    """The splits file that is asked for, or the one in the folder; None where there is none."""
    if hints.splits is not None:
        if not hints.splits.is_file():
            raise UsageError(f"there is no splits file {hints.splits}")
        return hints.splits
    found = sorted(root.glob("*splits.json"))
    if (root / "splits.json") in found:
        return root / "splits.json"
    if len(found) > 1:
        raise UsageError(f"{root} has several splits files ({found[0].name}, {found[1].name}); name one with --splits")
    return found[0] if found else None


def load_splits(path: Path) -> dict[str, list[tuple[str, int | None]]]:
    """Path and label of each file of each split. IntegrityError where the file is something else."""
    checked = file_inside(path.parent, path.name, MAX_SPLITS_BYTES)
    try:
        fields = json.loads(checked.read_text(encoding="utf-8"))
        found: dict[str, list[tuple[str, int | None]]] = {}
        for split in SPLITS:
            listed = fields.get(split, [])
            paths, labels = (listed["path"], listed.get("label")) if isinstance(listed, dict) else (listed, None)
            labels = [None] * len(paths) if labels is None else [int(label) for label in labels]
            if not isinstance(paths, list) or not all(isinstance(name, str) for name in paths):
                raise ValueError(f"{split} is not a list of paths")
            found[split] = list(zip(paths, labels, strict=True))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OSError) as error:
        raise IntegrityError(f"{path} is not a splits file of lists of paths: {one_line(error)}") from None
    if not any(found.values()):
        raise IntegrityError(f"{path} names no file of split {', '.join(SPLITS)}")
    return found


def apply_splits(members: Sequence[ForeignRow], path: Path, tail: int, allow_missing: bool) -> ListedFiles:
    """The members that the splits file names, by the last `tail` parts of their paths, in its splits and with its labels.

    IntegrityError for a path with `..`, a file named twice, one that is missing, or a label that contradicts the layout.
    """
    known = {PurePosixPath(member.path).parts[-tail:]: member for member in members}
    taken: dict[str, ForeignRow] = {}
    missing, remarks = [], []
    for split, entries in load_splits(path).items():
        for name, label in entries:
            parts = PurePosixPath(name).parts
            if ".." in parts:
                raise IntegrityError(f"{path.name} names {name[:200]!r}, which leads out of the set")
            member = known.get(parts[-tail:])
            if member is None:
                missing.append(name)
                continue
            if member.path in taken:
                raise IntegrityError(f"{path.name} names {member.path} twice")
            if None not in (label, member.label) and label != member.label:
                raise IntegrityError(f"{path.name} says label {label} of {member.path}, its path says {member.label}")
            taken[member.path] = replace(member, split=split, label=member.label if label is None else label)
    if missing and not allow_missing:
        raise IntegrityError(
            f"{len(missing):,} of the files that {path.name} names are not there, first {missing[0][:200]}; complete the "
            "download, or give --allow-missing"
        )
    if missing:
        remarks.append(f"{len(missing):,} files that {path.name} names are not there")
    if len(taken) < len(members):
        remarks.append(f"{len(members) - len(taken):,} files are in no split of {path.name} and are left out")
    return ListedFiles(list(taken.values()), remarks)


def splits_json(rows: Sequence[tuple[str, str, int]], flat: bool, prefix: str = "") -> bytes:
    """The content of a splits.json of rows (split, path, label): `flat` lists of paths, or with labels."""
    fields: dict[str, object] = {}
    for split in SPLITS:
        mine = [(prefix + path, label) for row_split, path, label in rows if row_split == split]
        paths = [path for path, _ in mine]
        fields[split] = paths if flat else {"path": paths, "label": [label for _, label in mine]}
    return json.dumps(fields).encode()
